//! What the agent reads of a pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// Labels and annotations.
pub type Map = BTreeMap<String, String>;

/// Says whether a pod's traffic is redirected; written by the agent, read by the control plane.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
/// A pod with a proxy of its own.
pub const SIDECAR: &str = "sidecar.istio.io/status";
const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Kubernetes' uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    pub labels: Map,
    /// Its annotations.
    pub annotations: Map,
    /// It lives in the node's own network namespace.
    pub host_network: bool,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Its containers have ended for good.
    pub is_terminal: bool,
}

/// What the agent wrote on a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// Nothing.
    None,
    /// It could not be enrolled yet.
    Pending,
    /// It is enrolled.
    Enabled,
}

impl Redirection {
    /// The annotation's value; `None` takes it away.
    pub fn value(self) -> Option<&'static str> {
        match self {
            Redirection::None => None,
            Redirection::Pending => Some("pending"),
            Redirection::Enabled => Some("enabled"),
        }
    }
}

/// How a pod's traffic is redirected, as far as the pod says it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Names are asked of the proxy; absent: as the node has it.
    pub dns_capture: Option<bool>,
    /// What comes in goes past the proxy.
    pub inbound_bypass: bool,
    /// What comes in from these interfaces is outbound traffic.
    pub virtual_interfaces: Vec<String>,
}

fn map(value: &Value) -> Map {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The labels of an object.
pub fn labels(object: &Value) -> Map {
    map(&object["metadata"]["labels"])
}

impl Pod {
    /// Reads a pod; one without a name or a uid is none.
    pub fn from_object(object: &Value) -> Option<Pod> {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (spec, status) = (&object["spec"], &object["status"]);
        let listed = status["podIPs"].as_array().into_iter().flatten();
        let listed = listed.filter_map(|entry| entry["ip"].as_str());
        let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(status["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        let account = text(&spec["serviceAccountName"]);
        Some(Pod {
            uid: metadata["uid"].as_str()?.to_owned(),
            namespace: text(&metadata["namespace"]),
            name: metadata["name"].as_str()?.to_owned(),
            service_account: if account.is_empty() { "default".into() } else { account },
            labels: labels(object),
            annotations: map(&metadata["annotations"]),
            host_network: spec["hostNetwork"] == true,
            addresses,
            is_terminal: matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
        })
    }

    /// What is written on it.
    pub fn redirection(&self) -> Redirection {
        match self.annotations.get(REDIRECTION).map(String::as_str) {
            Some("enabled") => Redirection::Enabled,
            Some("pending") => Redirection::Pending,
            _ => Redirection::None,
        }
    }

    /// What it says about its redirection. A value that is neither true nor false says nothing.
    pub fn wishes(&self) -> Wishes {
        let get = |name: &str| self.annotations.get(name).map(String::as_str);
        let truth = |name: &str| get(name).and_then(|value| value.trim().to_ascii_lowercase().parse().ok());
        let interfaces = get(VIRTUAL_INTERFACES).unwrap_or_default().split(',').map(str::trim);
        Wishes {
            dns_capture: truth(DNS_CAPTURE),
            inbound_bypass: truth(BYPASS_INBOUND).unwrap_or(false),
            virtual_interfaces: interfaces
                // Longer ones are no interface's name, and the kernel would cut them.
                .filter(|name| !name.is_empty() && name.len() < 16)
                .map(str::to_owned)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_read_with_what_it_wishes() {
        let object = json!({
            "metadata": {
                "uid": "u", "name": "p", "namespace": "n",
                "labels": {"app": "x"},
                "annotations": {
                    "ambient.istio.io/redirection": "pending",
                    "ambient.istio.io/dns-capture": "False",
                    "ambient.istio.io/bypass-inbound-capture": "true",
                    "istio.io/reroute-virtual-interfaces": "net1, net2,, a-name-that-is-too-long",
                },
            },
            "spec": {},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        let pod = Pod::from_object(&object).unwrap();
        assert_eq!(pod.service_account, "default");
        assert_eq!(pod.addresses.len(), 2);
        assert_eq!(pod.redirection(), Redirection::Pending);
        assert_eq!(
            pod.wishes(),
            Wishes {
                dns_capture: Some(false),
                inbound_bypass: true,
                virtual_interfaces: vec!["net1".into(), "net2".into()],
            }
        );
        assert_eq!(Pod::from_object(&json!({"metadata": {"name": "p"}})), None);
        assert_eq!(Pod::from_object(&json!([1])), None);
    }
}
