//! Settings of Istio's node agent that this one does not need or does not honour: none is passed over in silence.

use super::Vars;

/// What is to be said about a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Whatever it is set to.
    Any(&'static str),
    /// If it is set to true.
    True(&'static str),
    /// Nothing: it has no meaning here, and nobody who sets it expects one.
    Nothing,
}

use About::{Any, Nothing, True};

const NO_KUBECONFIG: &str = "no kubeconfig is written for the plugin: it asks the agent, and never the API server";
const OWN_RULES: &str = "rules go into the kernel's nf_tables over netlink; iptables-restore, as the system has it, is only for kernels without";

/// All of them.
const TABLE: &[(&str, About)] = &[
    (
        "CNI_NETWORK_CONFIG",
        Any("the agent makes the plugin's configuration itself, from its other settings"),
    ),
    (
        "CNI_NETWORK_CONFIG_FILE",
        Any("the agent makes the plugin's configuration itself, from its other settings"),
    ),
    ("KUBECONFIG_MODE", Any(NO_KUBECONFIG)),
    ("KUBE_CA_FILE", Any(NO_KUBECONFIG)),
    ("SKIP_TLS_VERIFY", True(NO_KUBECONFIG)),
    ("FORCE_IPTABLES_BINARY", Any(OWN_RULES)),
    // The chart sets it to false by default, which asks for nothing.
    ("NATIVE_NFTABLES", Nothing),
    ("AMBIENT_USE_SCOPED_XTABLES_LOCKING", Nothing),
    (
        "AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE",
        True(
            "there is no help yet for probes of pods with a branch interface of their own (security groups for pods on AWS)",
        ),
    ),
    // Without it Istio's plugin lets a pod out that it cannot ask about; ours never does, but as CORTEN_CNI_FAILURE_POLICY says.
    ("ENABLE_AMBIENT_DETECTION_RETRY", Nothing),
    (
        "LOG_LEVEL",
        Any("the plugin keeps no log: its errors are in the pods' Events; the agent's log is set by RUST_LOG"),
    ),
    (
        "LOG_UDS_SOCKET",
        Any("the plugin keeps no log: its errors are in the pods' Events"),
    ),
    (
        "CNI_EVENT_ADDRESS",
        Any("the plugin's socket is pluginevent.sock in CNI_AGENT_RUN_DIR"),
    ),
    (
        "REPAIR_REPAIR_PODS",
        True(
            "a broken pod is deleted (REPAIR_DELETE_PODS) or labelled (REPAIR_LABEL_PODS); its rules are not made afterwards",
        ),
    ),
    (
        "REPAIR_LABEL_SELECTORS",
        Any("the agent looks after all pods of its node"),
    ),
    (
        "REPAIR_FIELD_SELECTORS",
        Any("the agent looks after all pods of its node"),
    ),
    ("REPAIR_NODE_NAME", Nothing),
    ("REPAIR_RUN_AS_DAEMON", Nothing),
    ("CURRENT_AGENT_VERSION", Nothing),
    ("REVISION", Nothing),
    ("GOMEMLIMIT", Nothing),
    ("GOMAXPROCS", Nothing),
];

/// What is to be said about settings that are given and not honoured, one line each.
pub(super) fn notes(vars: Vars<'_>) -> Vec<String> {
    let note = |(name, about): &(&str, About)| {
        let value = vars(name).filter(|value| !value.is_empty())?;
        let reason = match about {
            Any(reason) => reason,
            True(reason) if value.trim() == "true" => reason,
            _ => return None,
        };
        Some(format!("{name} is {value:?}, and not honoured: {reason}"))
    };
    TABLE.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    /// Every setting of Istio's node agent: those of its command, of its environment and of its chart.
    const ISTIOS: &str = "
        MOUNTED_CNI_NET_DIR CNI_CONF_NAME CHAINED_CNI_PLUGIN CNI_NETWORK_CONFIG_FILE CNI_NETWORK_CONFIG ISTIO_OWNED_CNI_CONFIG
        ISTIO_OWNED_CNI_CONFIG_FILENAME ISTIO_OWNED_CNI_CONF_FILENAME LOG_LEVEL KUBECONFIG_MODE CNI_CONF_GROUP_READ KUBE_CA_FILE
        SKIP_TLS_VERIFY MONITORING_PORT LOG_UDS_SOCKET ZTUNNEL_UDS_ADDRESS CNI_EVENT_ADDRESS CNI_AGENT_RUN_DIR EXCLUDE_NAMESPACES
        POD_NAMESPACE AMBIENT_ENABLED AMBIENT_ENABLEMENT_SELECTOR AMBIENT_DNS_CAPTURE AMBIENT_IPV6 AMBIENT_DISABLE_SAFE_UPGRADE
        AMBIENT_RECONCILE_POD_RULES_ON_STARTUP ENABLE_AMBIENT_DETECTION_RETRY NATIVE_NFTABLES FORCE_IPTABLES_BINARY REPAIR_ENABLED
        REPAIR_DELETE_PODS REPAIR_REPAIR_PODS REPAIR_LABEL_PODS REPAIR_BROKEN_POD_LABEL_KEY REPAIR_BROKEN_POD_LABEL_VALUE
        REPAIR_NODE_NAME REPAIR_SIDECAR_ANNOTATION REPAIR_INIT_CONTAINER_NAME REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE
        REPAIR_INIT_CONTAINER_EXIT_CODE REPAIR_LABEL_SELECTORS REPAIR_FIELD_SELECTORS REPAIR_RUN_AS_DAEMON SYSTEM_NAMESPACE POD_NAME
        NODE_NAME REVISION HOST_PROBE_SNAT_IP HOST_PROBE_SNAT_IPV6 AMBIENT_USE_SCOPED_XTABLES_LOCKING
        AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE ALLOW_SWITCH_TO_HOST_NS CURRENT_AGENT_VERSION GOMEMLIMIT";

    #[test]
    fn each_is_read_or_spoken_of() {
        let read = RefCell::new(BTreeSet::new());
        let vars = |name: &str| {
            read.borrow_mut().insert(name.to_owned());
            // Both lead to further settings.
            let value = match name {
                "NODE_NAME" => "n1",
                "ISTIO_OWNED_CNI_CONFIG" | "REPAIR_ENABLED" => "true",
                _ => return None,
            };
            Some(value.to_owned())
        };
        Config::read(&vars).unwrap();
        let read = read.into_inner();
        for name in ISTIOS.split_whitespace() {
            assert!(read.contains(name), "{name} is neither honoured nor spoken of");
        }
    }

    #[test]
    fn what_is_not_honoured_is_said() {
        let set = |name: &str, value: &str| {
            let found = notes(&|asked| (asked == name).then(|| value.to_owned()));
            found.first().cloned()
        };
        let said = set("FORCE_IPTABLES_BINARY", "legacy").unwrap();
        assert!(
            said.starts_with("FORCE_IPTABLES_BINARY is \"legacy\", and not honoured: "),
            "{said}"
        );
        assert!(set("SKIP_TLS_VERIFY", "true").is_some());
        assert_eq!(set("SKIP_TLS_VERIFY", "false"), None);
        assert_eq!(set("NATIVE_NFTABLES", "false"), None);
        assert_eq!(set("KUBE_CA_FILE", ""), None);
        assert_eq!(notes(&|_| None), Vec::<String>::new());
    }
}
