//! Every setting there is: its name, its default, what it does. The page `docs/node-settings.md` and `corten-node --help` are made of it.
//!
//! A test holds it equal to what is really read, and to the list of the proxy that this one stands in for.

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does what it does in ztunnel.
    Istio,
    /// It is of this program.
    Corten,
    /// Setting it ends the program with a message that says what to do instead.
    Refused,
    /// It has no effect, in ztunnel as here.
    NoEffect,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The variable. A name that ends in `*` stands for all that begin so.
    pub name: &'static str,
    /// Its value when it is not set; empty: none.
    pub default: &'static str,
    /// What becomes of it.
    pub state: State,
    /// What it does.
    pub meaning: &'static str,
}

const fn istio(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        default,
        state: State::Istio,
        meaning,
    }
}

const fn corten(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        default,
        state: State::Corten,
        meaning,
    }
}

/// All of them, by subject.
pub const SETTINGS: &[(&str, &[Setting])] = &[
    (
        "Who and where",
        &[
            istio(
                "POD_NAME",
                "",
                "this proxy's own pod; with the next two it also answers tunnels to itself on port 15008, so that its metrics can be read through the mesh",
            ),
            istio("POD_NAMESPACE", "", "its namespace"),
            istio("SERVICE_ACCOUNT", "", "its service account"),
            istio("INSTANCE_IP", "1.1.1.1", "its address, told to the control plane"),
            Setting {
                name: "TRUST_DOMAIN",
                default: "",
                state: State::NoEffect,
                meaning: "identities are of the trust domain that the control plane tells with each workload, this proxy's own, too",
            },
            istio(
                "NODE_NAME",
                "",
                "the node, for endpoints that are preferred because they are near",
            ),
            istio(
                "NETWORK",
                "",
                "the network of the node; endpoints of others are reached through their gateways",
            ),
            istio("CLUSTER_ID", "Kubernetes", "the cluster, told to the control plane"),
            istio("ISTIO_META_CLUSTER_ID", "", "the same; wins"),
            istio("CLUSTER_DOMAIN", "cluster.local", "the domain of service names"),
            istio(
                "ISTIO_META_*",
                "",
                "metadata told to the control plane, without the prefix",
            ),
            istio("ISTIO_METAJSON_*", "", "the same, JSON"),
            istio(
                "PROXY_CONFIG",
                "",
                "YAML of a ProxyConfig: `discoveryAddress`, `proxyAdminPort`, `statsPort`, `concurrency`, `proxyMetadata`, over `defaultConfig` of the file `./etc/istio/config/mesh`; the variables of this page go before it",
            ),
        ],
    ),
    (
        "What is served",
        &[
            istio(
                "PROXY_MODE",
                "shared",
                "`shared`: the pods that the node agent names. `dedicated`: one workload, in the proxy's own network namespace",
            ),
            istio(
                "PROXY_WORKLOAD_INFO",
                "",
                "`namespace/name/service-account` of that workload; needed for `dedicated`, which asks for certificates in its own name",
            ),
            istio(
                "ENABLE_PROXY",
                "true",
                "`false`: DNS questions only; connections are not taken",
            ),
            istio("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "socket of the node agent"),
            istio(
                "INPOD_PORT_REUSE",
                "true",
                "another proxy may listen on the same ports, which an upgrade needs",
            ),
            istio(
                "PACKET_MARK",
                "1337",
                "the mark on everything sent, which keeps it out of the pods' redirection; 0: none, the default of `dedicated`",
            ),
            Setting {
                name: "UNSTABLE_ENABLE_SOCKS5",
                default: "false",
                state: State::Refused,
                meaning: "`true` is not supported: applications' connections are taken as they are",
            },
            Setting {
                name: "INPOD_ENABLED",
                default: "",
                state: State::NoEffect,
                meaning: "set by charts; serving pods where they are is the only way of `shared`",
            },
        ],
    ),
    (
        "Control plane and certificates",
        &[
            istio(
                "XDS_ADDRESS",
                "https://istiod.istio-system.svc:15012",
                "where configuration comes from; empty: from nowhere. Outside Kubernetes the default is `https://localhost:15012`",
            ),
            istio(
                "CA_ADDRESS",
                "https://istiod.istio-system.svc:15012",
                "where certificates come from",
            ),
            istio(
                "KUBERNETES_SERVICE_HOST",
                "",
                "set by Kubernetes: decides between the two defaults above",
            ),
            istio(
                "XDS_ROOT_CA",
                "./var/run/secrets/istio/root-cert.pem",
                "roots of the configuration server: a file, the word `SYSTEM`, or PEM",
            ),
            istio(
                "CA_ROOT_CA",
                "./var/run/secrets/istio/root-cert.pem",
                "roots of the authority's server",
            ),
            istio(
                "ALT_XDS_HOSTNAME",
                "",
                "the name in the configuration server's certificate, if it is not the host's",
            ),
            istio(
                "ALT_CA_HOSTNAME",
                "",
                "the name in the authority's certificate, if it is not the host's",
            ),
            istio(
                "XDS_HEADER_*",
                "",
                "further headers of calls to the configuration server",
            ),
            istio("CA_HEADER_*", "", "further headers of calls to the authority"),
            istio(
                "AUTH_TOKEN",
                "./var/run/secrets/tokens/istio-token",
                "a file with the token for both, read for each call, or the token",
            ),
            istio(
                "SECRET_TTL",
                "24h",
                "how long certificates are asked to be valid; they are renewed at half of what they are",
            ),
            Setting {
                name: "XDS_ON_DEMAND",
                default: "false",
                state: State::Refused,
                meaning: "`true` is not supported: all workloads are subscribed to, and changes cost what changes",
            },
            istio(
                "LOCAL_XDS_PATH",
                "",
                "a file of workloads, services and policies, in place of the configuration server unless that is named too",
            ),
            istio("LOCAL_XDS", "", "the same as text; one of the two"),
            istio(
                "CRL_PATH",
                "",
                "revocation lists (PEM or DER), followed as the file changes",
            ),
            Setting {
                name: "FAKE_CA",
                default: "false",
                state: State::Refused,
                meaning: "`true` is for ztunnel's own tests; `CORTEN_TEST_CA_DIR` does the same",
            },
            corten(
                "CORTEN_TEST_CA_DIR",
                "",
                "a folder with `ca-cert.pem` and `ca-key.pem` that sign here, for tests and measurements: whoever has the folder can be anybody",
            ),
            corten(
                "CORTEN_STATE_DIR",
                "",
                "a folder (made private to its owner) for the last good configuration, to start with while the control plane is away",
            ),
            corten(
                "CORTEN_KEEP_KEYS",
                "",
                "whether certificates and their private keys are kept there, too (mode 0600). Unset: if the folder is on a file system of memory, as `/run` is; `true`: anyway; `false`: never, and after a restart pods wait for the authority",
            ),
        ],
    ),
    (
        "Connections",
        &[
            istio("KEEPALIVE_ENABLED", "true", "TCP keep-alive on all connections"),
            istio("KEEPALIVE_TIME", "180s", "idle time before the first probe"),
            istio("KEEPALIVE_INTERVAL", "180s", "time between probes"),
            istio("KEEPALIVE_RETRIES", "9", "probes before giving up"),
            istio(
                "USER_TIMEOUT_ENABLED",
                "false",
                "give up on data that is not acknowledged for as long as keep-alive would wait",
            ),
            istio("POOL_MAX_STREAMS_PER_CONNECTION", "100", "connections in one tunnel"),
            istio(
                "POOL_UNUSED_RELEASE_TIMEOUT",
                "5m",
                "how long an unused tunnel stays open",
            ),
            istio(
                "HTTP2_STREAM_WINDOW_SIZE",
                "4194304",
                "the most that one connection may have in flight in a tunnel",
            ),
            istio("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "the same of a whole tunnel"),
            istio("HTTP2_FRAME_SIZE", "1048576", "longest frame that is taken"),
            istio(
                "ENABLE_ORIG_SRC",
                "",
                "applications see the client's address: `true` or fail, `false` never; unset: where the kernel lets us",
            ),
            istio("IPV6_ENABLED", "true", "IPv6 is listened on, answered and used"),
            istio(
                "LOCALHOST_APP_TUNNEL",
                "true",
                "connections with a PROXY header go to the pod's loopback address",
            ),
            istio(
                "ENABLE_RESPONSE_BAGGAGE",
                "true",
                "say and read who a workload is in `baggage` of answers",
            ),
            istio(
                "AUTHZ_POLICY_INFO_LOGGING",
                "false",
                "decisions of policies are logged at level info",
            ),
            istio(
                "CONNECTION_TERMINATION_DEADLINE",
                "1h",
                "how long open connections may go on after the word to end. ztunnel's default is 5s; here nobody waits longer than there is something open",
            ),
            istio(
                "TERMINATION_GRACE_PERIOD_SECONDS",
                "",
                "the pod's grace period, from which the deadline follows where it is not set: 5 s less, 1 s less below 10",
            ),
            istio("TLS12_ENABLED", "false", "TLS 1.2 between proxies, besides 1.3"),
            istio(
                "COMPLIANCE_POLICY",
                "",
                "`pqc`: only X25519MLKEM768 as key exchange, also towards the control plane. `fips-140-2`: only P-256 and P-384; AES-GCM is all there is in any case. That chooses algorithms: the cryptographic module of this build is not a validated one",
            ),
            corten(
                "CORTEN_CONNECT_TIMEOUT",
                "10s",
                "how long a connection may take to come about",
            ),
            corten(
                "CORTEN_CONGESTION_CONTROL",
                "cubic",
                "congestion control of the proxy's connections; `system`: the system's",
            ),
            corten(
                "CORTEN_SPIN_US",
                "0",
                "microseconds for which a shard stays awake for the next event, if they have lately come that soon",
            ),
            corten(
                "CORTEN_POD_CONNECTIONS_MAX",
                "65536",
                "sockets of one pod in each direction, of calls it makes and of calls it gets; what comes beyond waits to be accepted",
            ),
            corten(
                "CORTEN_POD_HANDSHAKES_MAX",
                "512",
                "callers of one pod that have not completed their TLS handshake; the oldest gives way to a newer one",
            ),
            corten(
                "CORTEN_POD_STREAMS_MAX",
                "65536",
                "connections through tunnels of one pod",
            ),
            corten(
                "CORTEN_POD_BUFFERED_BYTES_MAX",
                "67108864",
                "bytes of one pod that wait to be written; beyond, its tunnels are not read",
            ),
        ],
    ),
    (
        "DNS",
        &[
            istio(
                "ISTIO_META_DNS_CAPTURE",
                "true",
                "answer pods' DNS questions (`DNS_CAPTURE` of `proxyMetadata`)",
            ),
            istio(
                "ISTIO_META_DNS_PROXY_ADDR",
                "localhost:15053",
                "where they arrive (`DNS_PROXY_ADDR` of `proxyMetadata`); the address is the pod's loopback one, the port can be chosen",
            ),
            istio(
                "PREFERED_SERVICE_NAMESPACE",
                "",
                "a namespace whose services win over others of their name; spelled so",
            ),
            corten(
                "CORTEN_RESOLV_CONF",
                "/etc/resolv.conf",
                "name servers for what is not the mesh's, read at the start",
            ),
        ],
    ),
    (
        "Threads, servers, logs",
        &[
            istio(
                "ZTUNNEL_WORKER_THREADS",
                "",
                "shards of the data path: a number, a share of the cores (`50%`), 0 for all cores. Unset: `concurrency` of the ProxyConfig, then a quarter of the cores and at least two; one where there are no more than two",
            ),
            istio(
                "ZTUNNEL_RESOURCE_CPU_LIMIT",
                "",
                "the container's limit, which then is the number of shards",
            ),
            istio(
                "ZTUNNEL_RESOURCE_CPU_REQUEST",
                "",
                "what the container asks for: at least so many",
            ),
            istio("ZTUNNEL_CPU_LIMIT", "", "how many cores there are taken to be"),
            corten(
                "ADMIN_ADDR",
                "127.0.0.1:15000",
                "the admin server; by default on ::1 too",
            ),
            corten(
                "STATS_ADDR",
                "[::]:15020",
                "metrics, at `/metrics` and `/stats/prometheus`, compressed for who can read it",
            ),
            corten("READINESS_ADDR", "[::]:15021", "`/healthz/ready`"),
            istio(
                "RUST_LOG",
                "info",
                "levels: `info`, `debug,access=off`; changed while it runs by `POST /logging?level=`",
            ),
            istio("LOG_FORMAT", "plain", "`json`: each line is an object"),
        ],
    ),
];

/// Those whose value changes nothing.
pub fn without_effect() -> impl Iterator<Item = &'static Setting> {
    let all = SETTINGS.iter().flat_map(|(_, settings)| settings.iter());
    all.filter(|setting| setting.state == State::NoEffect)
}

/// The page about them.
pub fn page() -> String {
    let mut page = String::from(
        "# Settings of the node proxy\n\n\
         `corten-node` is set by environment variables with ztunnel's names and defaults, so that Istio's charts and habits fit; it takes no \
         arguments (those of Istio's manifests, `proxy ztunnel`, are accepted).\n\
         A value that cannot be used ends it with exit code 2 and a message that names the variable, the value and what to write; all of them at once.\n\
         `corten-node --help` prints this page, which a test holds equal to what the program reads.\n",
    );
    for (subject, settings) in SETTINGS {
        page.push_str(&format!(
            "\n## {subject}\n\n| variable | default | what it does |\n| --- | --- | --- |\n"
        ));
        for setting in *settings {
            let default = match setting.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let state = match setting.state {
                State::Istio => "",
                State::Corten => " (Corten's own)",
                State::Refused => " (refused)",
                State::NoEffect => " (no effect)",
            };
            page.push_str(&format!(
                "| `{}`{state} | {default} | {} |\n",
                setting.name, setting.meaning
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests;
