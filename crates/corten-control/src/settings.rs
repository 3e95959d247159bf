//! Settings: istiod's flags and environment variables, read once into values without any "default" left in them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use corten_ca::TrustedGateways;
use corten_core::NamespacedName;

pub use crate::admission::Policy as ValidationPolicy;
use crate::issuers::IssuerSettings;

/// Where Istio's charts put roots that servers of keys have beside the operating system's.
const EXTRA_ROOTS: &str = "/cacerts/extra.pem";

/// The command line. The flags are istiod's, so that its manifests work.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "corten-control",
    about = "The control plane of a Corten mesh",
    version,
    rename_all = "camelCase"
)]
pub struct Arguments {
    /// The word `discovery`, as istiod's manifests have it.
    #[arg(hide = true, value_parser = ["discovery"])]
    pub command: Option<String>,
    /// Address for discovery in the clear; empty: none.
    #[arg(long, default_value = ":15010", value_name = "ADDRESS")]
    pub grpc_addr: String,
    /// Address for discovery and certificates over TLS; empty: none.
    #[arg(long = "secureGRPCAddr", default_value = ":15012", value_name = "ADDRESS")]
    pub secure_grpc_addr: String,
    /// Address for metrics and debugging.
    #[arg(long, default_value = ":15014", value_name = "ADDRESS")]
    pub monitoring_addr: String,
    /// Address for readiness and debugging.
    #[arg(long, default_value = ":8080", value_name = "ADDRESS")]
    pub http_addr: String,
    /// Address for webhooks, over TLS.
    #[arg(long, default_value = ":15017", value_name = "ADDRESS")]
    pub https_addr: String,
    /// The end of the names of Kubernetes' services.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub domain: String,
    /// Name of this cluster [default: CLUSTER_ID, or Kubernetes].
    #[arg(long = "clusterID", value_name = "NAME")]
    pub cluster_id: Option<String>,
    /// Kubeconfig file [default: KUBECONFIG, or the pod's service account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane [default: POD_NAMESPACE, or istio-system].
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Age at which connections of clients are asked to leave, so that they spread over replicas.
    #[arg(long, default_value = "30m", value_name = "DURATION")]
    pub keepalive_max_server_connection_age: String,
    /// Log levels, like `info,corten_control=debug`; `default:info` is understood.
    #[arg(long = "log_output_level", value_name = "LEVELS")]
    pub log_output_level: Option<String>,
}

/// A setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct SettingsError {
    /// The flag or environment variable.
    pub name: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses for discovery in the clear.
    pub grpc: Option<SocketAddr>,
    /// For discovery and certificates over TLS.
    pub secure_grpc: Option<SocketAddr>,
    /// For metrics and debugging.
    pub monitoring: Option<SocketAddr>,
    /// For readiness and debugging.
    pub http: Option<SocketAddr>,
    /// For webhooks.
    pub https: Option<SocketAddr>,
    /// The end of the names of Kubernetes' services.
    pub domain: String,
    /// Name of this cluster.
    pub cluster: String,
    /// Kubeconfig file; none: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Name of this replica.
    pub pod: String,
    /// The revision, `default` usually.
    pub revision: String,
    /// Age at which connections are asked to leave.
    pub connection_age_max: Option<Duration>,
    /// Time between pushes.
    pub push_interval: Duration,
    /// How long a change may wait at most.
    pub push_delay_max: Duration,
    /// Whether changes of endpoints wait like others.
    pub endpoints_wait: bool,
    /// Whom tokens must be made for.
    pub token_audiences: Vec<String>,
    /// Whether clients on the TLS port must say who they are.
    pub authenticate: bool,
    /// Whether a client's identity must fit the node it claims to be.
    pub check_identity: bool,
    /// Node proxies that may ask for the certificates of the pods on their nodes.
    pub trusted_node_accounts: BTreeSet<NamespacedName>,
    /// Gateways that say who called them, and are believed.
    pub trusted_gateways: TrustedGateways,
    /// Further names of the serving certificate.
    pub custom_hosts: Vec<String>,
    /// Whether debug endpoints are served.
    pub debug: bool,
    /// Lifetime of certificates that do not ask for one.
    pub certificate_ttl: Duration,
    /// Longest lifetime of a certificate.
    pub certificate_ttl_max: Duration,
    /// Largest request of a client.
    pub request_bytes_max: usize,
    /// Pings to clients: after this time.
    pub keepalive_interval: Duration,
    /// Pings to clients: answer within this time.
    pub keepalive_timeout: Duration,
    /// The image of proxies, which gateways are deployed with.
    pub proxy_image: String,
    /// Whether gateways of the Gateway API are deployed.
    pub deploy_gateways: bool,
    /// Whether status conditions are written.
    pub write_status: bool,
    /// How the keys of issuers of tokens are fetched.
    pub issuers: IssuerSettings,
    /// What the registrations of validation are to say about objects that nobody could judge; none: they are left alone.
    pub validation: Option<ValidationPolicy>,
    /// Whether the registrations of injection are looked after.
    pub injection: bool,
    /// Whether proxies are init containers that go on running; none: where nodes are new enough.
    pub native_sidecars: Option<bool>,
    /// The policy that injected proxies keep to, such as `fips-140-3`.
    pub compliance_policy: Option<String>,
}

impl Settings {
    /// Reads the arguments and, by `variable`, the environment; all problems are reported, not only the first.
    pub fn resolve(
        arguments: &Arguments,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Vec<SettingsError>> {
        let mut reader = Reader {
            variable: &|name| variable(name).filter(|value| !value.is_empty()),
            problems: Vec::new(),
        };
        let namespace = arguments
            .namespace
            .clone()
            .or_else(|| reader.text("POD_NAMESPACE"))
            .unwrap_or_else(|| "istio-system".to_owned());
        let settings = Settings {
            grpc: reader.address("--grpcAddr", &arguments.grpc_addr),
            secure_grpc: reader.address("--secureGRPCAddr", &arguments.secure_grpc_addr),
            monitoring: reader.address("--monitoringAddr", &arguments.monitoring_addr),
            http: reader.address("--httpAddr", &arguments.http_addr),
            https: reader.address("--httpsAddr", &arguments.https_addr),
            domain: arguments.domain.clone(),
            cluster: arguments
                .cluster_id
                .clone()
                .or_else(|| reader.text("CLUSTER_ID"))
                .unwrap_or_else(|| "Kubernetes".to_owned()),
            kubeconfig: arguments
                .kubeconfig
                .clone()
                .or_else(|| reader.text("KUBECONFIG").map(PathBuf::from)),
            pod: reader
                .text("POD_NAME")
                .or_else(|| reader.text("HOSTNAME"))
                .unwrap_or_else(|| "istiod".to_owned()),
            revision: reader.text("REVISION").unwrap_or_else(|| "default".to_owned()),
            connection_age_max: reader.age(
                "--keepaliveMaxServerConnectionAge",
                &arguments.keepalive_max_server_connection_age,
            ),
            push_interval: reader.duration("PILOT_DEBOUNCE_AFTER", Duration::from_millis(100)),
            push_delay_max: reader.duration("PILOT_DEBOUNCE_MAX", Duration::from_secs(10)),
            endpoints_wait: reader.truth("PILOT_ENABLE_EDS_DEBOUNCE", true),
            token_audiences: reader.list("TOKEN_AUDIENCES", &["istio-ca"]),
            authenticate: reader.truth("XDS_AUTH", true),
            check_identity: reader.truth("PILOT_ENABLE_XDS_IDENTITY_CHECK", true),
            trusted_node_accounts: reader.accounts("CA_TRUSTED_NODE_ACCOUNTS", &format!("{namespace}/ztunnel")),
            trusted_gateways: reader.gateways("TRUSTED_GATEWAY_CIDR"),
            custom_hosts: reader.list("ISTIOD_CUSTOM_HOST", &[]),
            debug: reader.truth("ENABLE_DEBUG_ON_HTTP", true),
            certificate_ttl: reader.duration("DEFAULT_WORKLOAD_CERT_TTL", Duration::from_secs(24 * 3600)),
            certificate_ttl_max: reader.duration("MAX_WORKLOAD_CERT_TTL", Duration::from_secs(90 * 24 * 3600)),
            // istiod's 4 MiB are less than what a client says it has when it comes back to a mesh of 50,000 pods.
            request_bytes_max: reader.number("ISTIO_GPRC_MAXRECVMSGSIZE", 32 << 20),
            keepalive_interval: reader.duration("GRPC_KEEPALIVE_INTERVAL", Duration::from_secs(30)),
            keepalive_timeout: reader.duration("GRPC_KEEPALIVE_TIMEOUT", Duration::from_secs(10)),
            proxy_image: reader
                .text("CORTEN_PROXY_IMAGE")
                .unwrap_or_else(|| "corten.dev/proxyv2:latest".to_owned()),
            deploy_gateways: reader.truth("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", true),
            write_status: reader.truth("AMBIENT_ENABLE_STATUS", true),
            issuers: reader.issuers(),
            validation: match variable("VALIDATION_WEBHOOK_CONFIG_NAME").as_deref() {
                // Istio's way to say that somebody else looks after the registrations. Other names are not needed: ours are found by label.
                Some("") => None,
                _ => Some(reader.validation_policy("CORTEN_VALIDATION_FAILURE_POLICY")),
            },
            injection: variable("INJECTION_WEBHOOK_CONFIG_NAME").as_deref() != Some(""),
            compliance_policy: reader.text("COMPLIANCE_POLICY"),
            native_sidecars: match reader.text("ENABLE_NATIVE_SIDECARS").as_deref() {
                None | Some("auto") => None,
                Some(_) => Some(reader.truth("ENABLE_NATIVE_SIDECARS", false)),
            },
            namespace,
        };
        if reader.problems.is_empty() {
            Ok(settings)
        } else {
            Err(reader.problems)
        }
    }
}

/// The log levels: istiod's `default:LEVEL` is that level for everything, and further scopes of its are passed over.
pub fn log_levels(arguments: &Arguments) -> String {
    corten_store_kube::log_levels(&own_log_levels(arguments))
}

fn own_log_levels(arguments: &Arguments) -> String {
    let text = arguments.log_output_level.as_deref().unwrap_or("info");
    if text.contains("::") || !text.contains(':') {
        return text.to_owned();
    }
    let levels = text.split(',').filter_map(|part| part.split_once(':'));
    let level = levels
        .into_iter()
        .find(|(scope, _)| matches!(*scope, "default" | "all"))
        .map(|(_, level)| level);
    match level {
        Some("none") => "off".to_owned(),
        Some("fatal") => "error".to_owned(),
        Some(level) => level.to_owned(),
        None => "info".to_owned(),
    }
}

/// Reads single values and gathers what is wrong with them.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<SettingsError>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    fn problem(&mut self, name: &'static str, problem: String) {
        self.problems.push(SettingsError { name, problem });
    }

    /// `:port` is all addresses of both families.
    fn address(&mut self, name: &'static str, text: &str) -> Option<SocketAddr> {
        if text.is_empty() {
            return None;
        }
        let whole = if text.starts_with(':') {
            format!("[::]{text}")
        } else {
            text.replacen("localhost:", "127.0.0.1:", 1)
        };
        match whole.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.problem(
                    name,
                    format!("'{text}' is not an address like :15010 or 127.0.0.1:15010"),
                );
                None
            }
        }
    }

    fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        let Some(text) = self.text(name) else { return default };
        self.parse_duration(name, &text).unwrap_or(default)
    }

    /// istiod's way to say "no limit" is a very long time, or 0.
    fn age(&mut self, name: &'static str, text: &str) -> Option<Duration> {
        let age = self.parse_duration(name, text)?;
        (!age.is_zero() && age < Duration::from_secs(365 * 24 * 3600)).then_some(age)
    }

    fn parse_duration(&mut self, name: &'static str, text: &str) -> Option<Duration> {
        match corten_core::Duration::parse_argument(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.problem(name, error.to_string());
                None
            }
        }
    }

    fn number(&mut self, name: &'static str, default: usize) -> usize {
        let Some(text) = self.text(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.problem(name, format!("'{text}' is not a number"));
            default
        })
    }

    fn truth(&mut self, name: &'static str, default: bool) -> bool {
        match self.text(name).as_deref() {
            None => default,
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
            Some(text) => {
                let problem = format!("'{text}' is neither true nor false");
                self.problem(name, problem);
                default
            }
        }
    }

    fn validation_policy(&mut self, name: &'static str) -> ValidationPolicy {
        match self.text(name).as_deref() {
            None | Some("Fail") => ValidationPolicy::Fail,
            Some("Ignore") => ValidationPolicy::Ignore,
            Some(text) => {
                let problem = format!("'{text}' is neither Fail nor Ignore");
                self.problem(name, problem);
                ValidationPolicy::Fail
            }
        }
    }

    fn issuers(&mut self) -> IssuerSettings {
        if self.truth("JWKS_RESOLVER_INSECURE_SKIP_VERIFY", false) {
            let problem = format!("servers of keys are always verified; put the roots they need into {EXTRA_ROOTS}");
            self.problem("JWKS_RESOLVER_INSECURE_SKIP_VERIFY", problem);
        }
        let mode = "PILOT_JWT_ENABLE_REMOTE_JWKS";
        match self.text(mode).as_deref() {
            None | Some("false" | "istiod") => {}
            Some(text) => {
                let problem = format!("'{text}' is not supported: proxies do not fetch keys here, leave it out");
                self.problem(mode, problem);
            }
        }
        let mut blocked = Vec::new();
        let name = "BLOCKED_CIDRS_IN_JWKS_URIS";
        for text in self.list(name, &[]) {
            match text.parse() {
                Ok(network) => blocked.push(network),
                Err(_) => self.problem(name, format!("'{text}' is not a network like 10.0.0.0/8")),
            }
        }
        let interval = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL";
        let refresh_interval = self.duration(interval, Duration::from_secs(20 * 60));
        if refresh_interval.is_zero() {
            self.problem(interval, "'0s' is no time between two requests".to_owned());
        }
        IssuerSettings {
            refresh_interval,
            extra_roots: PathBuf::from(EXTRA_ROOTS),
            blocked,
        }
    }

    fn list(&self, name: &str, default: &[&str]) -> Vec<String> {
        let split = |text: String| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        self.text(name)
            .map_or_else(|| default.iter().map(|&part| part.to_owned()).collect(), split)
    }

    fn gateways(&mut self, name: &'static str) -> TrustedGateways {
        let text = self.text(name).unwrap_or_default();
        TrustedGateways::parse(&text).unwrap_or_else(|error| {
            self.problem(name, error.to_string());
            TrustedGateways::default()
        })
    }

    fn accounts(&mut self, name: &'static str, default: &str) -> BTreeSet<NamespacedName> {
        let mut accounts = BTreeSet::new();
        for text in self.list(name, &[default]) {
            match text.split_once('/') {
                Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() => {
                    accounts.insert(NamespacedName::new(namespace, account));
                }
                _ => self.problem(name, format!("'{text}' is not of the form namespace/service-account")),
            }
        }
        accounts
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn resolve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let arguments = Arguments::try_parse_from([&["corten-control"], arguments].concat()).expect("valid arguments");
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(&arguments, variable).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_are_istiods() {
        let settings = resolve(&[], &[]).expect("valid settings");
        assert_eq!(settings.secure_grpc, Some("[::]:15012".parse().expect("an address")));
        assert_eq!(settings.connection_age_max, Some(Duration::from_secs(1800)));
        assert_eq!(settings.token_audiences, ["istio-ca"]);
        let account = NamespacedName::new("istio-system", "ztunnel");
        assert_eq!(settings.trusted_node_accounts, [account].into());
        assert_eq!(settings.validation, Some(ValidationPolicy::Fail));
    }

    #[test]
    fn registrations_can_be_somebody_elses() {
        let of = |name, value| resolve(&[], &[(name, value)]).map(|settings| settings.validation);
        assert_eq!(of("VALIDATION_WEBHOOK_CONFIG_NAME", ""), Ok(None));
        let usual = Ok(Some(ValidationPolicy::Fail));
        assert_eq!(of("VALIDATION_WEBHOOK_CONFIG_NAME", "istio-istio-system"), usual);
        let open = Ok(Some(ValidationPolicy::Ignore));
        assert_eq!(of("CORTEN_VALIDATION_FAILURE_POLICY", "Ignore"), open);
        let problem = "CORTEN_VALIDATION_FAILURE_POLICY: 'Perhaps' is neither Fail nor Ignore".to_owned();
        assert_eq!(of("CORTEN_VALIDATION_FAILURE_POLICY", "Perhaps"), Err(vec![problem]));
    }

    #[test]
    fn istiods_command_line_is_understood() {
        let settings = resolve(
            &[
                "discovery",
                "--monitoringAddr=:15014",
                "--log_output_level=default:info",
                "--domain",
                "example.org",
                "--keepaliveMaxServerConnectionAge",
                "10m",
                "--grpcAddr=",
                "--httpAddr=localhost:0",
            ],
            &[("POD_NAMESPACE", "mesh"), ("XDS_AUTH", "false"), ("REVISION", "blue")],
        )
        .expect("valid settings");
        assert_eq!((settings.grpc, settings.authenticate), (None, false));
        assert_eq!(settings.http, Some("127.0.0.1:0".parse().expect("an address")));
        assert_eq!(settings.domain, "example.org");
        assert_eq!((&*settings.revision, &*settings.namespace), ("blue", "mesh"));
    }

    #[test]
    fn every_problem_is_told() {
        let problems = resolve(
            &["--grpcAddr", "nowhere", "--keepaliveMaxServerConnectionAge", "soon"],
            &[("XDS_AUTH", "perhaps"), ("CA_TRUSTED_NODE_ACCOUNTS", "ztunnel")],
        )
        .expect_err("invalid settings");
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert_eq!(
            problems[0],
            "--grpcAddr: 'nowhere' is not an address like :15010 or 127.0.0.1:15010"
        );
        assert_eq!(
            problems[3],
            "CA_TRUSTED_NODE_ACCOUNTS: 'ztunnel' is not of the form namespace/service-account"
        );
    }
}
