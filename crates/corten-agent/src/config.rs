//! Settings from the environment, under Istio's names where Istio has them.

mod unhonoured;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use corten_enroll::{HostRules, PodRules};
use corten_store_kube::Kubeconfig;

use crate::eligibility::{Eligibility, Selector};
use crate::install::Installation;
use crate::machine::Timing;
use crate::repair::{Action, Repair};

/// Where variables come from.
pub type Vars<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub node: String,
    /// The agent's own pod.
    pub pod: String,
    /// Its namespace: that of the mesh's parts.
    pub namespace: String,
    /// Where the API server is.
    pub kubeconfig: Kubeconfig,
    /// Whether pods are enrolled at all.
    pub enabled: bool,
    /// Who belongs to the mesh.
    pub eligibility: Eligibility,
    /// The rules of a pod that wishes nothing else.
    pub pod_rules: PodRules,
    /// The node's rules.
    pub host_rules: HostRules,
    /// How long things take.
    pub timing: Timing,
    /// How long a pod that starts waits for a node proxy. With the time an agent may be away, less than a container runtime waits.
    pub patience: Duration,
    /// Rules of pods enrolled before the start are brought up to date.
    pub reconcile_at_start: bool,
    /// Where node proxies connect.
    pub zds_socket: PathBuf,
    /// Where the plugin asks.
    pub plugin_socket: PathBuf,
    /// What stands before the node's own paths.
    pub host_prefix: PathBuf,
    /// The node's network is that of its first process, rather than the agent's own.
    pub host_network_of_init: bool,
    /// What is installed on the node.
    pub installation: Installation,
    /// `/readyz` and `/healthz`.
    pub health_port: u16,
    /// `/metrics`.
    pub metrics_port: u16,
    /// What stays behind when a successor follows.
    pub safe_upgrade: bool,
    /// How long an agent without a successor waits for connections that go through the proxy before it takes away what carries them;
    /// absent: as long as Kubernetes gives it to end.
    pub release_max: Option<Duration>,
    /// Where the node's proxies keep what outlives them; it goes with the mesh.
    pub proxy_state: PathBuf,
    /// What is done about pods that were started without the redirection to their sidecar.
    pub repair: Option<Repair>,
    /// What is to be said about settings that are given and not honoured.
    pub notes: Vec<String>,
}

/// What is wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}: {problem}")]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

struct Reader<'a> {
    vars: Vars<'a>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn text(&self, name: &str, default: &str) -> String {
        let value = (self.vars)(name).filter(|value| !value.is_empty());
        value.unwrap_or_else(|| default.to_owned())
    }

    fn path(&self, name: &str, default: impl Into<PathBuf>) -> PathBuf {
        let value = (self.vars)(name).filter(|value| !value.is_empty());
        value.map_or_else(|| default.into(), PathBuf::from)
    }

    fn parsed<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(value) = (self.vars)(name).filter(|value| !value.is_empty()) else {
            return default;
        };
        parse(&value).unwrap_or_else(|problem| {
            let name = name.to_owned();
            self.problems.push(Problem { name, value, problem });
            default
        })
    }

    fn value<T: FromStr>(&mut self, name: &str, default: T, expected: &str) -> T {
        self.parsed(name, default, |text| {
            text.trim().parse().map_err(|_| format!("write {expected}"))
        })
    }

    fn is(&mut self, name: &str, default: bool) -> bool {
        self.value(name, default, "true or false")
    }

    fn required(&mut self, name: &str) -> String {
        let value = self.text(name, "");
        if value.is_empty() {
            self.problems.push(Problem {
                name: name.to_owned(),
                value: String::new(),
                problem: "it has to be set".into(),
            });
        }
        value
    }

    fn time(&mut self, name: &str, default: Duration) -> Duration {
        self.optional_time(name).unwrap_or(default)
    }

    fn optional_time(&mut self, name: &str) -> Option<Duration> {
        self.parsed(name, None, |text| {
            let parsed: Result<corten_core::Duration, _> = text.parse();
            let positive = parsed.map_err(|error| error.to_string())?.to_std();
            let positive = positive.ok_or_else(|| "write a time that is not negative".to_owned())?;
            Ok(Some(positive))
        })
    }
}

impl Config {
    /// Who belongs to the mesh: nobody, where ambient mode is off. Who does nevertheless leaves.
    pub fn eligibility(&self) -> Eligibility {
        let mut eligibility = self.eligibility.clone();
        if !self.enabled {
            eligibility.selectors.clear();
        }
        eligibility
    }

    /// Reads all settings, or says everything that is wrong.
    pub fn read(vars: Vars<'_>) -> Result<Config, Vec<Problem>> {
        let mut r = Reader {
            vars,
            problems: Vec::new(),
        };
        let usual = Eligibility::default();
        let namespace = r.text("POD_NAMESPACE", &usual.system_namespace);
        let excluded = r.text("EXCLUDE_NAMESPACES", "kube-system");
        let eligibility = Eligibility {
            selectors: r.parsed("AMBIENT_ENABLEMENT_SELECTOR", usual.selectors, selectors),
            excluded: list(&excluded),
            system_namespace: r.text("SYSTEM_NAMESPACE", &namespace),
        };
        let (v4, v6) = probe_sources(&mut r);
        let ipv6 = r.is("AMBIENT_IPV6", true);
        let enabled = r.is("AMBIENT_ENABLED", true);
        let run_dir = r.path("CNI_AGENT_RUN_DIR", "/var/run/istio-cni");
        let timing = Timing::default();
        let drain_max = r.time("CORTEN_LEAVE_DRAIN_MAX", Duration::ZERO);
        let config = Config {
            node: r.required("NODE_NAME"),
            pod: r.text("POD_NAME", "istio-cni-node"),
            kubeconfig: match r.text("KUBECONFIG", "").as_str() {
                "" => Kubeconfig::InCluster,
                path => Kubeconfig::File(path.into()),
            },
            enabled,
            pod_rules: PodRules {
                ipv6,
                dns_capture: r.is("AMBIENT_DNS_CAPTURE", false),
                probe_source_v4: v4,
                probe_source_v6: v6,
                ..PodRules::default()
            },
            host_rules: HostRules {
                ipv6,
                probe_source_v4: v4,
                probe_source_v6: v6,
                user: None,
            },
            timing: Timing {
                drain_min: r.time("CORTEN_LEAVE_DRAIN_MIN", timing.drain_min),
                drain_max: (!drain_max.is_zero()).then_some(drain_max),
                ..timing
            },
            patience: r.time("CORTEN_PLUGIN_PATIENCE", Duration::from_secs(25)),
            reconcile_at_start: r.is("AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", true),
            zds_socket: r.path("ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock"),
            plugin_socket: run_dir.join("pluginevent.sock"),
            host_prefix: r.path("CORTEN_HOST_PREFIX", "/host"),
            host_network_of_init: r.is("ALLOW_SWITCH_TO_HOST_NS", false),
            installation: installation(&mut r, &run_dir, &eligibility, &namespace, enabled),
            health_port: r.value("HEALTH_PORT", 8000, "a port number"),
            metrics_port: r.value("MONITORING_PORT", 15014, "a port number"),
            safe_upgrade: !r.is("AMBIENT_DISABLE_SAFE_UPGRADE", false),
            release_max: r.optional_time("CORTEN_RELEASE_MAX"),
            proxy_state: r.path("CORTEN_NODE_STATE_DIR", "/var/run/corten-node"),
            repair: repair(&mut r),
            notes: unhonoured::notes(vars),
            namespace,
            eligibility,
        };
        if r.problems.is_empty() {
            Ok(config)
        } else {
            Err(r.problems)
        }
    }
}

fn probe_sources(r: &mut Reader<'_>) -> (IpAddr, IpAddr) {
    let usual = PodRules::default();
    let mut address = |name: &str, default: IpAddr| {
        let family = |text: &str| match text.trim().parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == default.is_ipv4() => Ok(address),
            _ => Err(format!("write an address of the family of {default}")),
        };
        r.parsed(name, default, family)
    };
    (
        address("HOST_PROBE_SNAT_IP", usual.probe_source_v4),
        address("HOST_PROBE_SNAT_IPV6", usual.probe_source_v6),
    )
}

/// Istio's order: whoever wants pods deleted and labelled has them deleted.
fn repair(r: &mut Reader<'_>) -> Option<Repair> {
    let enabled = r.is("REPAIR_ENABLED", true);
    let (delete, label) = (r.is("REPAIR_DELETE_PODS", false), r.is("REPAIR_LABEL_PODS", false));
    let key = r.text("REPAIR_BROKEN_POD_LABEL_KEY", "cni.istio.io/uninitialized");
    let value = r.text("REPAIR_BROKEN_POD_LABEL_VALUE", "true");
    let repair = Repair {
        action: if delete {
            Action::Delete
        } else {
            Action::Label(key, value)
        },
        annotation: r.text("REPAIR_SIDECAR_ANNOTATION", crate::pod::SIDECAR),
        container: r.text("REPAIR_INIT_CONTAINER_NAME", "istio-validation"),
        exit_code: r.value("REPAIR_INIT_CONTAINER_EXIT_CODE", 126, "a number"),
        message: r.text("REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE", ""),
    };
    (enabled && (delete || label)).then_some(repair)
}

fn installation(
    r: &mut Reader<'_>,
    run_dir: &std::path::Path,
    eligibility: &Eligibility,
    namespace: &str,
    ambient_enabled: bool,
) -> Installation {
    let excluded: Vec<&str> = eligibility.excluded.iter().map(String::as_str).collect();
    let own = r.is("ISTIO_OWNED_CNI_CONFIG", false);
    let name = r.text("CNI_CONF_NAME", "");
    let binary = r.text("CORTEN_CNI_BINARY", "");
    Installation {
        binary: (!binary.is_empty()).then(|| binary.into()),
        bin_dir: r.path("CNI_BIN_TARGET_DIR", "/host/opt/cni/bin"),
        conf_dir: r.path("MOUNTED_CNI_NET_DIR", "/host/etc/cni/net.d"),
        conf_name: (!name.is_empty()).then_some(name),
        is_chained: r.is("CHAINED_CNI_PLUGIN", true),
        // The second name is that of Istio's chart.
        own_config: own.then(|| {
            let usual = r.text("ISTIO_OWNED_CNI_CONF_FILENAME", "02-istio-cni.conflist");
            r.text("ISTIO_OWNED_CNI_CONFIG_FILENAME", &usual)
        }),
        group_read: r.is("CNI_CONF_GROUP_READ", false),
        run_dir: run_dir.to_owned(),
        run_dir_on_host: match r.text("CORTEN_RUN_DIR_ON_HOST", "") {
            path if path.is_empty() => None,
            path => Some(path.into()),
        },
        settings: serde_json::json!({
            "cniVersion": "0.3.1",
            "name": crate::install::config::PLUGIN,
            "type": crate::install::config::PLUGIN,
            "plugin_log_level": r.text("PLUGIN_LOG_LEVEL", "info"),
            "ambient_enabled": ambient_enabled,
            "enablement_selectors": [],
            "exclude_namespaces": excluded,
            "pod_namespace": namespace,
            "failure_policy": r.parsed("CORTEN_CNI_FAILURE_POLICY", "namespace".to_owned(), |text| match text {
                "closed" | "namespace" | "open" => Ok(text.to_owned()),
                _ => Err("write closed, namespace or open".into()),
            }),
            "native_nftables": true,
        }),
    }
}

fn list<T: FromIterator<String>>(text: &str) -> T {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// A list of selectors, as YAML or JSON.
fn selectors(text: &str) -> Result<Vec<Selector>, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        format!("it is no list of selectors ({error}); write [{{podSelector: {{...}}, namespaceSelector: {{...}}}}]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Config::read(&|name| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn a_node_suffices() {
        let config = read(&[("NODE_NAME", "n1")]).unwrap();
        assert_eq!(config.zds_socket, PathBuf::from("/var/run/ztunnel/ztunnel.sock"));
        assert_eq!(
            config.plugin_socket,
            PathBuf::from("/var/run/istio-cni/pluginevent.sock")
        );
        assert_eq!(config.eligibility, Eligibility::default());
        assert_eq!(config.kubeconfig, Kubeconfig::InCluster);
        assert_eq!(config.timing, Timing::default());
        assert!(!config.pod_rules.dns_capture && config.pod_rules.ipv6);
        assert_eq!((config.repair, config.notes.len()), (None, 0));
        assert_eq!(config.installation.settings["failure_policy"], "namespace");
    }

    #[test]
    fn without_ambient_mode_nobody_belongs_to_the_mesh() {
        let config = read(&[("NODE_NAME", "n1"), ("AMBIENT_ENABLED", "false")]).unwrap();
        assert!(config.eligibility().selectors.is_empty());
        assert_eq!(config.installation.settings["ambient_enabled"], false);
        let usual = read(&[("NODE_NAME", "n1")]).unwrap();
        assert_eq!(usual.eligibility(), Eligibility::default());
    }

    #[test]
    fn broken_pods_are_deleted_or_labelled() {
        let of = |vars: &[(&str, &str)]| {
            let node = [("NODE_NAME", "n1")];
            let config = read(&[&node, vars].concat()).unwrap();
            config.repair.map(|repair| repair.action)
        };
        let label = |key: &str| Some(Action::Label(key.into(), "true".into()));
        assert_eq!(
            of(&[("REPAIR_LABEL_PODS", "true")]),
            label("cni.istio.io/uninitialized")
        );
        let named = [("REPAIR_LABEL_PODS", "true"), ("REPAIR_BROKEN_POD_LABEL_KEY", "k")];
        assert_eq!(of(&named), label("k"));
        assert_eq!(
            of(&[("REPAIR_LABEL_PODS", "true"), ("REPAIR_DELETE_PODS", "true")]),
            Some(Action::Delete)
        );
        assert_eq!(of(&[("REPAIR_ENABLED", "false"), ("REPAIR_DELETE_PODS", "true")]), None);
    }

    #[test]
    fn istios_settings_are_heeded() {
        let config = read(&[
            ("NODE_NAME", "n1"),
            ("AMBIENT_DNS_CAPTURE", "true"),
            ("AMBIENT_IPV6", "false"),
            ("EXCLUDE_NAMESPACES", "kube-system, other"),
            ("HOST_PROBE_SNAT_IP", "169.254.1.1"),
            ("CORTEN_LEAVE_DRAIN_MAX", "1h"),
            (
                "AMBIENT_ENABLEMENT_SELECTOR",
                "- podSelector:\n    matchLabels: {mesh: \"on\"}\n- namespaceSelector:\n    matchExpressions:\n    - {key: a, operator: Exists}\n",
            ),
        ])
        .unwrap();
        assert!(config.pod_rules.dns_capture && !config.pod_rules.ipv6);
        assert_eq!(config.eligibility.excluded.len(), 2);
        assert_eq!(config.eligibility.selectors.len(), 2);
        assert_eq!(config.host_rules.probe_source_v4, IpAddr::from([169, 254, 1, 1]));
        assert_eq!(config.timing.drain_max, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let problems = read(&[
            ("AMBIENT_IPV6", "maybe"),
            ("HOST_PROBE_SNAT_IP", "fd00::1"),
            ("AMBIENT_ENABLEMENT_SELECTOR", "{"),
            ("MONITORING_PORT", "70000"),
        ])
        .unwrap_err();
        let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
        let expect = [
            "AMBIENT_ENABLEMENT_SELECTOR",
            "HOST_PROBE_SNAT_IP",
            "AMBIENT_IPV6",
            "NODE_NAME",
            "MONITORING_PORT",
        ];
        assert_eq!(names, expect);
    }
}
