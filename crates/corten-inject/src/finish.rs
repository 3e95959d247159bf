//! What no patch can say: done to the pod after everything was merged into it.

use serde_json::{Value, json};

use crate::injector::{InjectError, Injector, Subject};
use crate::object::{
    INIT, PROXY, STATUS, VALIDATION, container, containers, containers_mut, is_set, metadata_mut, proxy_mut, push_env,
    text,
};
use crate::{probes, prometheus};

const CORE_DUMPS: &str = "enable-core-dump";

/// Finishes the pod.
pub(crate) fn finish(
    pod: &mut Value,
    original: &Value,
    made: &Value,
    injector: &Injector,
    subject: &Subject<'_>,
) -> Result<(), InjectError> {
    metadata_mut(pod, "annotations");
    metadata_mut(pod, "labels");
    if let Some(proxy) = proxy_mut(pod) {
        if let Some(env) = proxy["env"].as_array_mut() {
            env.retain(|variable| {
                !variable["name"]
                    .as_str()
                    .is_some_and(|name| subject.variables.contains_key(name))
            });
        }
        for (name, value) in &subject.variables {
            push_env(proxy, name, value);
        }
    }
    // The mesh's, not the pod's own: what is rewritten must be known without the pod.
    let status_port = text(&injector.mesh_proxy_config()["statusPort"]);
    prometheus::merge(pod, &injector.mesh, &status_port)?;
    secure_metrics(pod);
    let rewrites = is_set(&injector.config.values["sidecarInjectorWebhook"]["rewriteAppHTTPProbe"]);
    probes::rewrite(pod, rewrites, status_port.parse().unwrap_or(15020));
    let annotations = metadata_mut(pod, "annotations");
    annotations.insert(STATUS.to_owned(), json!(status(made, &injector.revision)));
    for (name, value) in &injector.config.injected_annotations {
        annotations.insert(name.clone(), json!(value));
    }
    if let Some(network) = subject.variables.get("ISTIO_META_NETWORK") {
        metadata_mut(pod, "labels").insert("topology.istio.io/network".to_owned(), json!(network));
    }
    order(pod, original, injector, subject);
    // A volume of which nothing is said but its name is an empty directory; until here another template could say what it is.
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if volume.as_object().is_some_and(|volume| volume.len() == 1) {
            volume["emptyDir"] = json!({});
        }
    }
    Ok(())
}

/// Tells scrapers about the port for metrics over TLS, if there is one.
fn secure_metrics(pod: &mut Value) {
    const PORT: &str = "prometheus.istio.io/secure-port";
    let told = pod["metadata"]["annotations"].get(PORT).is_some();
    let env = proxy_mut(pod)
        .and_then(|proxy| proxy["env"].as_array().cloned())
        .unwrap_or_default();
    let port = env
        .iter()
        .find(|variable| variable["name"] == "ENVOY_SECURE_MERGED_METRICS_PORT");
    let port = port
        .and_then(|variable| variable["value"].as_str())
        .filter(|port| !port.is_empty() && *port != "0");
    if let (false, Some(port)) = (told, port) {
        metadata_mut(pod, "annotations").insert(PORT.to_owned(), json!(port));
    }
}

/// What was injected, for whoever looks, and for a second injection.
fn status(made: &Value, revision: &str) -> String {
    // Its order is what people are used to.
    let names = |list: &str| {
        let names: Vec<String> = made["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one["name"].to_string())
            .collect();
        if names.is_empty() {
            "null".to_owned()
        } else {
            format!("[{}]", names.join(","))
        }
    };
    let revision = if revision.is_empty() { "default" } else { revision };
    format!(
        r#"{{"initContainers":{},"containers":{},"volumes":{},"imagePullSecrets":{},"revision":{}}}"#,
        names("initContainers"),
        names("containers"),
        names("volumes"),
        names("imagePullSecrets"),
        json!(revision)
    )
}

/// Who starts before whom.
fn order(pod: &mut Value, original: &Value, injector: &Injector, subject: &Subject<'_>) {
    let mesh = if crate::object::annotation(original, crate::object::PROXY_CONFIG).is_some() {
        &subject.proxy_config
    } else {
        &injector.mesh["defaultConfig"]
    };
    let holds = is_set(&mesh["holdApplicationUntilProxyStarts"])
        || is_set(&injector.config.values["global"]["proxy"]["holdApplicationUntilProxyStarts"]);
    place(pod, "containers", PROXY, holds);
    let native = container(pod, "initContainers", PROXY).is_some();
    // A proxy among the init containers serves those after it; one among the containers would only be missed by them, so that nothing is
    // led to it until they have ended.
    let steps: &[(&str, bool)] = if native {
        &[(CORE_DUMPS, true), (PROXY, true), (VALIDATION, true), (INIT, true)]
    } else {
        &[(VALIDATION, true), (INIT, false), (CORE_DUMPS, false)]
    };
    for (name, first) in steps {
        place(pod, "initContainers", name, *first);
    }
}

fn place(pod: &mut Value, list: &str, name: &str, first: bool) {
    if containers(pod, list).is_empty() {
        return;
    }
    let listed = containers_mut(pod, list);
    if let Some(place) = listed.iter().position(|container| container["name"] == name) {
        let one = listed.remove(place);
        listed.insert(if first { 0 } else { listed.len() }, one);
    }
}
