//! Which mutual TLS PeerAuthentications demand, of a workload port by port, and as clients of a service see it.

use std::sync::Arc;

use corten_api::istio::peer_authentication::MutualTLSMode;
use corten_model::{
    Labels,
    input::PeerAuthentication,
    rules::{PeerModes, peer_modes},
};

/// What a workload demands. `policies` may be those of any namespaces.
pub fn of_workload<'a>(
    policies: impl IntoIterator<Item = &'a Arc<PeerAuthentication>>,
    namespace: &str,
    labels: &Labels,
    root_namespace: &str,
) -> PeerModes {
    let concerned = in_reach(policies, namespace, root_namespace);
    peer_modes(
        concerned.filter(|policy| policy.selector.is_subset_of(labels)),
        root_namespace,
    )
}

/// What a port of a workload demands: the number is the one that the workload listens on.
pub fn of_port(modes: &PeerModes, port: u16) -> MutualTLSMode {
    modes.ports.get(&port).copied().unwrap_or(modes.mode)
}

/// What clients take the workloads of a service to demand. They do not see what single workloads say; the endpoints of
/// those tell.
pub fn of_service<'a>(
    policies: impl IntoIterator<Item = &'a Arc<PeerAuthentication>>,
    namespace: &str,
    root_namespace: &str,
) -> MutualTLSMode {
    let concerned = in_reach(policies, namespace, root_namespace);
    peer_modes(concerned.filter(|policy| policy.selector.is_empty()), root_namespace).mode
}

fn in_reach<'a>(
    policies: impl IntoIterator<Item = &'a Arc<PeerAuthentication>>,
    namespace: &str,
    root_namespace: &str,
) -> impl Iterator<Item = &'a Arc<PeerAuthentication>> {
    policies.into_iter().filter(move |policy| {
        let of = policy.meta.namespace.as_ref();
        of == namespace || of == root_namespace
    })
}

#[cfg(test)]
mod tests {
    use corten_model::{Names, Object, ObjectKind, Reader};
    use serde_json::{Value, json};

    use super::*;

    fn policy(namespace: &str, spec: Value) -> Arc<PeerAuthentication> {
        let object = json!({ "metadata": { "name": "p", "namespace": namespace }, "spec": spec });
        match Reader::default()
            .read_kind(ObjectKind::PeerAuthentication, &object)
            .object
        {
            Some(Object::PeerAuthentication(policy)) => policy,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ports_follow_their_workload_and_clients_see_the_namespace() {
        let policies = [
            policy("istio-system", json!({ "mtls": { "mode": "STRICT" } })),
            policy(
                "shop",
                json!({
                    "selector": { "matchLabels": { "app": "web" } },
                    "mtls": { "mode": "UNSET" },
                    "portLevelMtls": { "8080": { "mode": "DISABLE" }, "9090": { "mode": "UNSET" } },
                }),
            ),
            policy("other", json!({ "mtls": { "mode": "DISABLE" } })),
            // In the root namespace a selector makes a policy void.
            policy(
                "istio-system",
                json!({ "selector": { "matchLabels": { "app": "web" } }, "mtls": { "mode": "DISABLE" } }),
            ),
        ];
        let labels = Names::default().labels([("app", "web"), ("version", "v1")]);
        let modes = of_workload(&policies, "shop", &labels, "istio-system");
        assert_eq!(of_port(&modes, 8080), MutualTLSMode::Disable);
        assert_eq!(of_port(&modes, 9090), MutualTLSMode::Strict);
        assert_eq!(of_port(&modes, 80), MutualTLSMode::Strict);
        let elsewhere = of_workload(&policies, "shop", &Labels::default(), "istio-system");
        assert_eq!(of_port(&elsewhere, 8080), MutualTLSMode::Strict);
        assert_eq!(of_service(&policies, "shop", "istio-system"), MutualTLSMode::Strict);
        assert_eq!(of_service(&policies, "other", "istio-system"), MutualTLSMode::Disable);
        assert_eq!(of_service(&[], "shop", "istio-system"), MutualTLSMode::Permissive);
    }
}
