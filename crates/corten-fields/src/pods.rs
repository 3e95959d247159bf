//! The pods that ask for a proxy: what injection makes of them, what the agent in them starts, and what that Envoy is sent.

use std::{ffi::OsString, path::Path};

use corten_inject::{Config, Decision, Injector, Subject};
use corten_routing::Proxy;
use corten_sidecar::{Command, Files, Settings};
use serde_json::{Map, Value, json};

/// The variable that carries a proxy's configuration whole: that a field is in it is no effect of the field.
const CARRIED: &str = "PROXY_CONFIG";

/// What becomes of a pod; nothing of it where the proxy would not start.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Started {
    /// The pod with its proxy, without the configuration that it carries.
    pub(crate) pod: Option<Value>,
    /// The command line of Envoy, and what the agent does by itself.
    pub(crate) agent: Option<Vec<String>>,
    /// What Envoy is started with, without the configuration that its node's metadata carries.
    pub(crate) bootstrap: Option<Value>,
    /// The node, as it asks.
    pub(crate) proxy: Option<Proxy>,
}

/// What becomes of the pods that say by their label that they want a proxy.
pub(crate) fn started(objects: &[Value], mesh: &Value) -> Vec<Started> {
    let wanted =
        |object: &&Value| object["kind"] == "Pod" && object["metadata"]["labels"]["sidecar.istio.io/inject"] == "true";
    objects
        .iter()
        .filter(wanted)
        .map(|pod| start(pod, objects, mesh))
        .collect()
}

fn start(pod: &Value, objects: &[Value], mesh: &Value) -> Started {
    let injector = Injector {
        config: Config::new(
            &json!({ "pilot": { "cni": { "enabled": false } } }),
            &json!({ "policy": "disabled" }),
        ),
        mesh: mesh.clone(),
        revision: String::new(),
        compliance_policy: None,
    };
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default");
    let mut started = Started::default();
    if injector.decide(pod, namespace) != Decision::Inject {
        return started;
    }
    let text = |object: &'_ Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let configs: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "ProxyConfig")
        .map(|object| corten_inject::ProxyConfigOf {
            namespace: text(object, "namespace"),
            name: text(object, "name"),
            created: text(object, "creationTimestamp"),
            spec: object["spec"].clone(),
        })
        .collect();
    let root = mesh["rootNamespace"].as_str().unwrap_or("istio-system");
    let place = (namespace, &pod["metadata"]["labels"]);
    let (below, above) = corten_inject::proxy_config_of(&injector.mesh_proxy_config(), &configs, root, place);
    let subject = Subject {
        namespace,
        proxy_config: below,
        proxy_config_above: above,
        ..Subject::default()
    };
    let Ok(injected) = injector.inject(pod, &subject) else {
        return started;
    };
    if let Some(settings) = settings(&injected) {
        let mut agent: Vec<String> = corten_sidecar::envoy_arguments(&settings, Path::new("bootstrap.json"))
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        agent.extend([
            settings.envoy.display().to_string(),
            settings.state.display().to_string(),
            format!("{:?} {:?}", settings.authority, settings.drain),
            format!("{} {}", settings.agent_port, settings.admin_port),
        ]);
        let (mut bootstrap, _) = corten_sidecar::bootstrap(&settings, Path::new("sds"));
        let node = &bootstrap["node"];
        started.proxy = Proxy::of_node(node["id"].as_str().unwrap_or_default(), &node["metadata"]).ok();
        if let Some(metadata) = bootstrap["node"]["metadata"].as_object_mut() {
            metadata.remove(CARRIED);
        }
        started.agent = Some(agent);
        started.bootstrap = Some(bootstrap);
    }
    started.pod = Some(without_carried(injected));
    started
}

/// What the agent in a pod is told.
fn settings(pod: &Value) -> Option<Settings> {
    let container = containers(pod).find(|container| container["name"] == "istio-proxy")?;
    let variables: Vec<(String, String)> = list(&container["env"])
        .filter_map(|variable| {
            let name = variable["name"].as_str()?.to_owned();
            let value = match variable["value"].as_str() {
                Some(value) => value.to_owned(),
                None => of_pod(pod, &variable["valueFrom"])?,
            };
            Some((name, value))
        })
        .collect();
    let arguments = list(&container["args"]).filter_map(Value::as_str).map(OsString::from);
    let words = [OsString::from("corten-sidecar")].into_iter().chain(arguments);
    let Ok(Command::Run(arguments)) = Command::parse(words) else {
        return None;
    };
    let lines = |field: &str| {
        let fields = pod["metadata"][field].as_object().into_iter().flatten();
        fields
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect::<String>()
    };
    let files = Files {
        labels: Some(lines("labels")),
        annotations: Some(lines("annotations")),
        mesh: None,
    };
    Settings::resolve(&arguments, &variables, &files).ok()
}

/// What the downward API says.
fn of_pod(pod: &Value, from: &Value) -> Option<String> {
    let text = match from["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => pod["metadata"]["name"].as_str()?,
        Some("metadata.namespace") => pod["metadata"]["namespace"].as_str()?,
        Some("spec.serviceAccountName") => pod["spec"]["serviceAccountName"].as_str().unwrap_or("default"),
        Some("spec.nodeName") => "node",
        Some("status.podIP") => pod["status"]["podIP"].as_str()?,
        Some("status.hostIP") => "10.9.0.1",
        _ => return from["resourceFieldRef"].is_object().then(|| "2".to_owned()),
    };
    Some(text.to_owned())
}

fn without_carried(mut pod: Value) -> Value {
    let spec = pod["spec"].as_object_mut().map(Map::values_mut).into_iter().flatten();
    for container in spec.filter_map(Value::as_array_mut).flatten() {
        if let Some(variables) = container.get_mut("env").and_then(Value::as_array_mut) {
            variables.retain(|variable| variable["name"] != CARRIED);
        }
    }
    pod
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"]["containers"]).chain(list(&pod["spec"]["initContainers"]))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
