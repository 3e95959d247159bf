//! What would keep an installation from working, found before anything is written.

pub mod nodes;

use corten_analysis::beside::{Objects, analyze};
use corten_api::diagnostic::{Code, Diagnostic, Severity};
use serde_json::{Value, json};

use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError};
use crate::operator::Plan;
use crate::render::Rendered;
use crate::{found, permissions};

/// The oldest Kubernetes that is supported: what the charts use is stable from there.
pub const KUBERNETES_MIN: (u32, u32) = (1, 29);

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something will not work.
    Warning,
    /// The installation will not work.
    Error,
}

/// Something that was found, in the form of istioctl's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How grave.
    pub level: Level,
    /// Istio's code, such as IST0141.
    pub code: &'static str,
    /// What it is about: `Kind namespace/name`; empty for the cluster.
    pub origin: String,
    /// What is wrong, and what to do.
    pub text: String,
}

/// The server's version, as numbers. Vendors write a minor version as `29+`.
fn version(info: &Value) -> Option<(u32, u32)> {
    let number = |key: &str| {
        let text = info[key].as_str()?;
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    Some((number("major")?, number("minor")?))
}

/// The server's version is old, or nothing.
pub fn old(info: &Value) -> Option<Message> {
    let found = version(info)?;
    (found < KUBERNETES_MIN).then(|| Message {
        level: Level::Error,
        code: "IST0142",
        origin: String::new(),
        text: format!(
            "the cluster runs Kubernetes {}.{}, and {}.{} is the oldest that is supported; upgrade the cluster first",
            found.0, found.1, KUBERNETES_MIN.0, KUBERNETES_MIN.1
        ),
    })
}

/// What stands in the way of these objects, before anything is written: an old server, what may not be done, kinds that nobody defines.
pub async fn gate(cluster: &Cluster, plan: &Plan, objects: &[Rendered]) -> Result<Vec<Message>, ClusterError> {
    let mut messages = Vec::new();
    match cluster.read("/version").await? {
        Some(info) => messages.extend(old(&info)),
        None => messages.push(Message {
            level: Level::Error,
            code: "IST0142",
            origin: String::new(),
            text: "the server has no /version, so it is no Kubernetes API server; does the kubeconfig's context name the right cluster?".to_owned(),
        }),
    }
    let wanted = || objects.iter().map(|rendered| &rendered.object);
    let lacking = permissions::lacking(cluster, &permissions::to_install(wanted()), wanted()).await?;
    if !lacking.is_empty() {
        messages.extend(lacking);
        return Ok(messages);
    }
    let brings = wanted().any(|object| object["kind"] == "CustomResourceDefinition");
    if !brings && !objects.is_empty() {
        messages.extend(undefined(&cluster.list("CustomResourceDefinition", None, "").await?));
    }
    if plan.parts.iter().any(|part| part.component == Component::Cni) {
        messages.extend(nodes::platform(&cluster.list("Node", None, "").await?, plan));
        let cilium = json!({"kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}});
        // Whoever may install and may not look into this namespace is not told.
        if let Ok(Some(config)) = cluster.live(&cilium).await {
            messages.extend(nodes::cilium(&config));
        }
    }
    Ok(messages)
}

/// Nobody has defined Istio's kinds.
fn undefined(definitions: &[Value]) -> Option<Message> {
    let there = |name: &str| {
        let named = |definition: &Value| definition["metadata"]["name"] == name;
        definitions.iter().any(named)
    };
    let missing: Vec<&str> = KINDS.into_iter().filter(|name| !there(name)).collect();
    (!missing.is_empty()).then(|| Message {
        level: Level::Warning,
        code: Code::UNKNOWN_KIND.0,
        origin: String::new(),
        text: format!(
            "the cluster does not know {}, and this installation does not define them, so nothing of these kinds can be configured; \
             `corten crds --istio | kubectl apply --server-side -f -` defines them, or install with components.base.enabled=true",
            missing.join(", ")
        ),
    })
}

/// Istio's kinds that say what an ambient mesh does.
const KINDS: [&str; 4] = [
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
];

/// Everything that can be found about an installation of these objects; without them, what does not concern installing.
pub async fn run(cluster: &Cluster, plan: &Plan, objects: Option<&[Rendered]>) -> Result<Vec<Message>, ClusterError> {
    let mut messages = Vec::new();
    if let Some(objects) = objects {
        messages.extend(gate(cluster, plan, objects).await?);
        // What is below could not be looked at either.
        if messages.iter().any(|message| message.code == "IST0141") {
            return Ok(messages);
        }
    }
    for found in found::look(cluster).await? {
        if !found.is_ours {
            let how = if found.component == Component::Pilot {
                ", stands beside it with --revision,"
            } else {
                ""
            };
            messages.push(Message {
                level: Level::Warning,
                code: "IST0139",
                origin: crate::cluster::title(&found.object),
                text: format!("another Istio is installed (image {}); Corten is not installed over it unless it is removed{how} or taken over with --adopt", found.image),
            });
        }
    }
    let namespaces = cluster.list("Namespace", None, "").await?;
    messages.extend(analyzed(Objects {
        namespaces: &namespaces,
        pods: &cluster.list("Pod", None, "").await?,
        network_policies: &cluster.list("NetworkPolicy", None, "").await?,
    }));
    let definitions = cluster.list("CustomResourceDefinition", None, "").await?;
    messages.extend(gateway_api(&definitions));
    messages.sort_by(|left, right| {
        right
            .level
            .cmp(&left.level)
            .then_with(|| left.origin.cmp(&right.origin))
    });
    Ok(messages)
}

/// What changed since a minor version of Istio that concerns this cluster; an error if the text names none.
pub async fn since(cluster: &Cluster, version: &str) -> Result<Result<Vec<Message>, String>, ClusterError> {
    let Some(minor) = minor_of(version) else {
        return Ok(Err(format!("{version:?} is no version of Istio; write it as in 1.24")));
    };
    let mut messages = Vec::new();
    let zipkin = json!({"kind": "Service", "metadata": {"name": "zipkin", "namespace": "istio-system"}});
    if minor < 22 && cluster.live(&zipkin).await?.is_some() {
        messages.push(Message {
            level: Level::Warning,
            code: "IST0169",
            origin: "Service istio-system/zipkin".to_owned(),
            text: "before 1.22 traces were sent to zipkin.istio-system without being asked for; who wants them names a provider in meshConfig.extensionProviders and a Telemetry".to_owned(),
        });
    }
    Ok(Ok(messages))
}

/// `1.24` and `1.24.3` are 24.
fn minor_of(version: &str) -> Option<u32> {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    (numbers.next()?? == 1).then(|| numbers.next().flatten())?
}

/// What the mesh's own analysis says of what is in the cluster: restrictions by port, and namespaces that ask for both modes.
pub fn analyzed(objects: Objects<'_>) -> Vec<Message> {
    let message = |found: Diagnostic| Message {
        level: match found.severity {
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warning,
            Severity::Error => Level::Error,
        },
        code: found.code.0,
        origin: found.object.map(|object| object.to_string()).unwrap_or_default(),
        text: match found.path.as_str() {
            "" => found.message,
            path => format!("{path}: {}", found.message),
        },
    };
    analyze(objects).into_iter().map(message).collect()
}

/// Definitions of the Gateway API that are missing or too old.
fn gateway_api(definitions: &[Value]) -> Vec<Message> {
    let named = |name: &str| {
        definitions
            .iter()
            .find(|definition| definition["metadata"]["name"] == name)
    };
    let mut messages = Vec::new();
    match named("gateways.gateway.networking.k8s.io") {
        None => messages.push(Message {
            level: Level::Info,
            code: "IST0156",
            origin: String::new(),
            text: "the Gateway API is not installed, so there are no gateways and no waypoints; `corten crds | kubectl apply --server-side -f -` brings it".to_owned(),
        }),
        Some(definition) => {
            let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
            let served = versions.into_iter().any(|version| version["name"] == json!("v1") && version["served"] == json!(true));
            if !served {
                messages.push(Message {
                    level: Level::Warning,
                    code: "IST0172",
                    origin: "CustomResourceDefinition gateways.gateway.networking.k8s.io".to_owned(),
                    text: "the Gateway API that is installed does not serve v1; upgrade its definitions".to_owned(),
                });
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (version, expected) in [
            ("1.24", Some(24)),
            ("1.24.3", Some(24)),
            ("2.0", None),
            ("1", None),
            ("new", None),
        ] {
            assert_eq!(minor_of(version), expected, "{version}");
        }
    }

    #[test]
    fn old_servers_are_named() {
        assert!(
            old(&json!({"major": "1", "minor": "28+"}))
                .unwrap()
                .text
                .contains("1.28")
        );
        assert_eq!(old(&json!({"major": "1", "minor": "29"})), None);
        assert_eq!(old(&json!({"major": "1", "minor": "34"})), None);
        assert_eq!(old(&json!({})), None);
    }

    #[test]
    fn what_is_there_is_analyzed() {
        let labels = json!({"istio-injection": "enabled", "istio.io/dataplane-mode": "ambient"});
        let namespaces = [json!({"metadata": {"name": "n", "labels": labels}})];
        let pods = [json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "p"}, "annotations": {"ambient.istio.io/redirection": "enabled"}},
        })];
        let policies = [json!({
            "metadata": {"name": "by-port", "namespace": "n"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8080}]}]},
        })];
        let found = analyzed(Objects {
            namespaces: &namespaces,
            pods: &pods,
            network_policies: &policies,
        });
        let origins: Vec<&str> = found.iter().map(|message| &*message.origin).collect();
        assert!(origins.contains(&"Namespace n"), "{found:?}");
        assert!(origins.contains(&"NetworkPolicy n/by-port"), "{found:?}");
        assert!(found.iter().any(|message| message.text.contains("15008")), "{found:?}");
    }

    #[test]
    fn the_gateway_api_is_looked_for() {
        assert_eq!(gateway_api(&[])[0].level, Level::Info);
        let definition = |name: &str| json!({"metadata": {"name": "gateways.gateway.networking.k8s.io"}, "spec": {"versions": [{"name": name, "served": true}]}});
        assert_eq!(gateway_api(&[definition("v1beta1")])[0].code, "IST0172");
        assert!(gateway_api(&[definition("v1")]).is_empty());
    }
}
