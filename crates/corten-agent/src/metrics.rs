//! The agent's metrics, under Istio's names where Istio has them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of the answers to the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    /// The HTTP status.
    pub response_code: u16,
}

/// Labels of what was heard of pods and namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Heard {
    /// `add`, `update` or `delete`.
    pub r#type: &'static str,
}

/// Labels of installations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Installed {
    /// Istio's word for the result.
    pub result: &'static str,
}

/// Labels of pods that were seen to because they lacked the redirection to their sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Repaired {
    /// `delete` or `label`.
    pub r#type: &'static str,
    /// `success` or `fail`.
    pub result: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Answers to the plugin.
    pub plugin: Family<Answered, Counter>,
    /// What was heard of pods and namespaces.
    pub events: Family<Heard, Counter>,
    /// Node proxies that are connected.
    pub proxies: Gauge,
    /// Installations of the plugin.
    pub installs: Family<Installed, Counter>,
    /// Whether the plugin is installed.
    pub install_ready: Gauge,
    /// Pods that joined.
    pub joined: Counter,
    /// Pods that left.
    pub left: Counter,
    /// Redirections that others had changed.
    pub repaired: Counter,
    /// Jobs that failed and are tried again.
    pub failed: Counter,
    /// Pods that lacked the redirection to their sidecar.
    pub pods_repaired: Family<Repaired, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::default(),
            plugin: Family::default(),
            events: Family::default(),
            proxies: Gauge::default(),
            installs: Family::default(),
            install_ready: Gauge::default(),
            joined: Counter::default(),
            left: Counter::default(),
            repaired: Counter::default(),
            failed: Counter::default(),
            pods_repaired: Family::default(),
        };
        let registry = &mut metrics.registry;
        let requests = "Answers to the CNI plugin, by HTTP status";
        registry.register("istio_cni_plugin_requests", requests, metrics.plugin.clone());
        let events = "Changes of pods and namespaces that were looked at";
        registry.register("nodeagent_reconcile_events", events, metrics.events.clone());
        registry.register(
            "ztunnel_connected",
            "Node proxies that are connected",
            metrics.proxies.clone(),
        );
        let installs = "Installations of the CNI plugin, by result";
        registry.register("istio_cni_installs", installs, metrics.installs.clone());
        let ready = "Whether the CNI plugin is installed";
        registry.register("istio_cni_install_ready", ready, metrics.install_ready.clone());
        registry.register(
            "corten_agent_pods_joined",
            "Pods that joined the mesh",
            metrics.joined.clone(),
        );
        registry.register(
            "corten_agent_pods_left",
            "Pods that left the mesh",
            metrics.left.clone(),
        );
        let repaired = "Redirections of pods that were put right after others had changed them";
        registry.register("corten_agent_redirections_repaired", repaired, metrics.repaired.clone());
        let pods = "Pods without the redirection to their sidecar that were seen to";
        registry.register("istio_cni_repair_pods_repaired", pods, metrics.pods_repaired.clone());
        let failed = "Steps that failed and were tried again";
        registry.register("corten_agent_steps_failed", failed, metrics.failed.clone());
        metrics
    }
}

impl Metrics {
    /// The text that collectors read.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_names() {
        let metrics = Metrics::default();
        metrics.plugin.get_or_create(&Answered { response_code: 200 }).inc();
        metrics.events.get_or_create(&Heard { r#type: "update" }).inc();
        metrics.installs.get_or_create(&Installed { result: "SUCCESS" }).inc();
        metrics.proxies.set(1);
        let text = metrics.text();
        for line in [
            r#"istio_cni_plugin_requests_total{response_code="200"} 1"#,
            r#"nodeagent_reconcile_events_total{type="update"} 1"#,
            r#"istio_cni_installs_total{result="SUCCESS"} 1"#,
            "ztunnel_connected 1",
            "istio_cni_install_ready 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
