//! The other templates: a gateway's own pod, and a workload whose gRPC library is its proxy.

use serde_json::{Value, json};

use crate::injector::image;
use crate::object::{PROXY, containers, is_set};
use crate::sidecar::{Draft, canonical, common_annotations, pull_secrets};

/// A gateway: the pod has a container `istio-proxy` that says little more than its name.
pub(crate) fn pod(draft: &Draft<'_>) -> Value {
    let values = &draft.config.values;
    let value = |path: &str| values.pointer(path).unwrap_or(&Value::Null);
    let names = containers(draft.pod, "containers")
        .iter()
        .filter_map(|container| container["name"].as_str());
    let others: Vec<&str> = names.filter(|name| *name != PROXY).collect();
    let kind = draft.subject.proxy_config["image"]["imageType"]
        .as_str()
        .unwrap_or_default();
    let mut container = json!({
        "name": PROXY,
        "image": image(values, draft.pod, "/global/proxy/image", kind),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": draft.arguments("router"),
        "env": draft.environment(),
        "securityContext": {
            "runAsUser": draft.subject.proxy_user.unwrap_or(1337), "runAsGroup": draft.subject.proxy_group.unwrap_or(1337),
        },
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": 15021},
            "initialDelaySeconds": value("/global/proxy/readinessInitialDelaySeconds"),
            "periodSeconds": value("/global/proxy/readinessPeriodSeconds"),
            "timeoutSeconds": 3,
            "failureThreshold": value("/global/proxy/readinessFailureThreshold"),
        },
        "volumeMounts": draft.mounts(),
    });
    for (name, path) in [
        ("imagePullPolicy", "/global/imagePullPolicy"),
        ("lifecycle", "/global/proxy/lifecycle"),
    ] {
        if is_set(value(path)) {
            container[name] = value(path).clone();
        }
    }
    let security = match value("/gateways/securityContext") {
        own if is_set(own) => own.clone(),
        // Gateways listen on ports that once were root's.
        _ => json!({"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}),
    };
    let mut made = json!({
        "metadata": {
            "labels": canonical(draft.pod, &draft.subject.owner_name),
            "annotations": common_annotations(draft.pod, draft.revision, &others),
        },
        "spec": {"securityContext": security, "containers": [container], "volumes": draft.volumes()},
    });
    if let Some(secrets) = pull_secrets(value("/global/imagePullSecrets")) {
        made["spec"]["imagePullSecrets"] = secrets;
    }
    made
}

/// Where the library of such a workload looks for its configuration.
const GRPC_DIRECTORY: &str = "/var/lib/grpc/data/";

/// A workload without a proxy, whose library asks the control plane itself.
pub(crate) fn grpc(draft: &Draft<'_>) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let volume = "grpc-io-proxyless-bootstrap";
    let mount = json!({"mountPath": GRPC_DIRECTORY, "name": volume});
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": "dns:///istiod.${ISTIO_NAMESPACE}.svc:15010",
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": "sidecar~${INSTANCE_IP}~${POD_NAME}.${POD_NAMESPACE}~cluster.local",
            "metadata": {"GENERATOR": "grpc"},
        },
    });
    let script = format!("cat > {GRPC_DIRECTORY}bootstrap.json <<END\n{bootstrap:#}\nEND\n");
    let containers = containers(draft.pod, "containers").iter().map(|container| {
        json!({
            "name": container["name"],
            "env": [
                {"name": "GRPC_XDS_BOOTSTRAP", "value": format!("{GRPC_DIRECTORY}bootstrap.json")},
                {"name": "GRPC_GO_LOG_VERBOSITY_LEVEL", "value": "99"},
                {"name": "GRPC_GO_LOG_SEVERITY_LEVEL", "value": "info"},
            ],
            "volumeMounts": [mount],
        })
    });
    let namespace = draft
        .config
        .values
        .pointer("/global/istioNamespace")
        .unwrap_or(&Value::Null);
    json!({
        "metadata": {"annotations": {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}},
        "spec": {
            "initContainers": [{
                "name": "grpc-bootstrap-init",
                "image": "busybox:1.28",
                "volumeMounts": [mount],
                "env": [
                    field("INSTANCE_IP", "status.podIP"),
                    field("POD_NAME", "metadata.name"),
                    field("POD_NAMESPACE", "metadata.namespace"),
                    {"name": "ISTIO_NAMESPACE", "value": namespace},
                ],
                "command": ["sh", "-c", script],
            }],
            "containers": containers.collect::<Vec<_>>(),
            "volumes": [{"name": volume, "emptyDir": {}}],
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Config, Injector, Subject};

    #[test]
    fn a_library_is_told_where_the_control_plane_is() {
        let injector = Injector {
            config: Config::default(),
            mesh: json!({}),
            revision: String::new(),
            compliance_policy: None,
        };
        let pod = json!({
            "metadata": {"name": "p", "annotations": {"inject.istio.io/templates": "grpc-simple"}},
            "spec": {"containers": [{"name": "app"}]},
        });
        let made = injector.inject(&pod, &Subject::default()).unwrap();
        let script = made["spec"]["initContainers"][0]["command"][2].as_str().unwrap();
        let (_, rest) = script.split_once("<<END\n").unwrap();
        let bootstrap: Value = serde_json::from_str(rest.trim_end().strip_suffix("END").unwrap()).unwrap();
        assert_eq!(
            bootstrap["xds_servers"][0]["server_uri"],
            "dns:///istiod.${ISTIO_NAMESPACE}.svc:15010"
        );
        assert_eq!(
            bootstrap["node"]["id"],
            "sidecar~${INSTANCE_IP}~${POD_NAME}.${POD_NAMESPACE}~cluster.local"
        );
        assert_eq!(made["spec"]["containers"][0]["env"][0]["name"], "GRPC_XDS_BOOTSTRAP");
    }
}
