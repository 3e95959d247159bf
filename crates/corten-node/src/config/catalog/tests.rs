use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::config::{Config, Vars};

/// The variables of ztunnel that there are, as its reference lists them.
const REFERENCE: &[&str] = &[
    "ENABLE_PROXY",
    "PROXY_MODE",
    "PROXY_WORKLOAD_INFO",
    "NETWORK",
    "NODE_NAME",
    "CLUSTER_ID",
    "ISTIO_META_CLUSTER_ID",
    "CLUSTER_DOMAIN",
    "TRUST_DOMAIN",
    "POD_NAME",
    "POD_NAMESPACE",
    "SERVICE_ACCOUNT",
    "INSTANCE_IP",
    "XDS_ADDRESS",
    "CA_ADDRESS",
    "XDS_ROOT_CA",
    "CA_ROOT_CA",
    "ALT_XDS_HOSTNAME",
    "ALT_CA_HOSTNAME",
    "AUTH_TOKEN",
    "SECRET_TTL",
    "XDS_ON_DEMAND",
    "LOCAL_XDS",
    "LOCAL_XDS_PATH",
    "FAKE_CA",
    "INPOD_UDS",
    "INPOD_PORT_REUSE",
    "INPOD_ENABLED",
    "PACKET_MARK",
    "KEEPALIVE_ENABLED",
    "KEEPALIVE_TIME",
    "KEEPALIVE_INTERVAL",
    "KEEPALIVE_RETRIES",
    "USER_TIMEOUT_ENABLED",
    "ZTUNNEL_WORKER_THREADS",
    "ZTUNNEL_RESOURCE_CPU_LIMIT",
    "ZTUNNEL_RESOURCE_CPU_REQUEST",
    "ZTUNNEL_CPU_LIMIT",
    "POOL_MAX_STREAMS_PER_CONNECTION",
    "POOL_UNUSED_RELEASE_TIMEOUT",
    "HTTP2_STREAM_WINDOW_SIZE",
    "HTTP2_CONNECTION_WINDOW_SIZE",
    "HTTP2_FRAME_SIZE",
    "CONNECTION_TERMINATION_DEADLINE",
    "TERMINATION_GRACE_PERIOD_SECONDS",
    "ENABLE_ORIG_SRC",
    "IPV6_ENABLED",
    "LOCALHOST_APP_TUNNEL",
    "ENABLE_RESPONSE_BAGGAGE",
    "AUTHZ_POLICY_INFO_LOGGING",
    "CRL_PATH",
    "PREFERED_SERVICE_NAMESPACE",
    "TLS12_ENABLED",
    "COMPLIANCE_POLICY",
    "XDS_HEADER_*",
    "CA_HEADER_*",
    "RUST_LOG",
    "LOG_FORMAT",
    "UNSTABLE_ENABLE_SOCKS5",
    "PROXY_CONFIG",
    "ISTIO_META_*",
    "ISTIO_METAJSON_*",
    "ISTIO_META_DNS_CAPTURE",
    "ISTIO_META_DNS_PROXY_ADDR",
    "KUBERNETES_SERVICE_HOST",
];

/// Remembers what was asked for. Everything is unset, but what the page says is set.
#[derive(Default)]
struct Recorder {
    set: Vec<(&'static str, &'static str)>,
    asked: RefCell<BTreeSet<String>>,
}

impl Vars for Recorder {
    fn get(&self, name: &str) -> Option<String> {
        self.asked.borrow_mut().insert(name.to_owned());
        let found = self.set.iter().find(|(set, _)| *set == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    fn all(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().flat_map(|(_, settings)| settings.iter())
}

#[test]
fn what_is_read_is_what_the_page_says() {
    // Set so that no setting hides another.
    let vars = Recorder {
        set: vec![("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b/c")],
        ..Recorder::default()
    };
    Config::resolve(&vars, 4).unwrap();
    let vars = vars.asked.into_inner();
    let known = |name: &str| settings().any(|setting| setting.name == name);
    let unknown: Vec<&String> = vars
        .iter()
        // The variable's old form of the metadata's.
        .filter(|name| !known(name) && !known(&format!("ISTIO_META_{name}")))
        .collect();
    assert!(unknown.is_empty(), "read and not on the page: {unknown:?}");
    // Prefixes and metadata are looked for among all variables; what they do has tests of its own.
    let unread: Vec<&str> = settings()
        .filter(|setting| setting.state != State::NoEffect && !setting.name.starts_with("ISTIO_META"))
        .map(|setting| setting.name)
        .filter(|name| !name.ends_with('*') && !vars.contains(*name))
        // Read only where the first of two is not set, which is the other's default.
        .filter(|name| *name != "CLUSTER_ID")
        .collect();
    assert!(unread.is_empty(), "on the page and not read: {unread:?}");
}

#[test]
fn every_setting_of_the_reference_has_a_state() {
    let names: Vec<&str> = settings().map(|setting| setting.name).collect();
    let missing: Vec<&&str> = REFERENCE.iter().filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let foreign: Vec<&str> = settings()
        .filter(|setting| setting.state != State::Corten && !REFERENCE.contains(&setting.name))
        .map(|setting| setting.name)
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn defaults_on_the_page_are_the_programs() {
    let unset = Config::resolve(&Recorder::default(), 4).unwrap();
    for setting in settings() {
        // Those whose default is another without Kubernetes.
        let depends = ["XDS_ADDRESS", "CA_ADDRESS"].contains(&setting.name);
        if setting.default.is_empty() || depends || setting.name.starts_with("ISTIO_META") {
            continue;
        }
        let vars = Recorder {
            set: vec![(setting.name, setting.default)],
            ..Recorder::default()
        };
        let set = Config::resolve(&vars, 4).unwrap_or_else(|problems| panic!("{}: {problems:?}", setting.name));
        let same = match setting.name {
            // Not set, the program has its own words for it.
            "RUST_LOG" => set.log_level.as_deref() == Some("info"),
            "INSTANCE_IP" => set.node_id() == unset.node_id(),
            _ => set == unset,
        };
        assert!(same, "{}={} is not the default", setting.name, setting.default);
    }
}

#[test]
fn the_page_is_in_the_documentation() {
    expect_test::expect_file!["../../../../../docs/node-settings.md"].assert_eq(&page());
}
