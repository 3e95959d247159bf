//! Whether what runs is what was installed.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError, title};
use crate::operator::Plan;
use crate::render::Rendered;
use crate::{install, ready};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// What was found, or what is wrong and what to do.
    pub found: Result<String, String>,
}

impl Check {
    fn new(what: &str, found: Result<String, String>) -> Check {
        Check {
            what: what.to_owned(),
            found,
        }
    }
}

/// Looks at the objects: there, and as they were rendered. The server compares: it is asked what applying them would change.
pub async fn objects(cluster: &Cluster, objects: &[Rendered]) -> Result<Check, ClusterError> {
    let mut problems = Vec::new();
    for rendered in objects {
        let object = &rendered.object;
        let Some(live) = cluster.live(object).await? else {
            if !cluster.serves(object).await? {
                continue;
            }
            problems.push(format!("{} is missing", title(object)));
            continue;
        };
        let changed = match cluster.tried(object, &live).await? {
            Some(after) => differences(&live, &after),
            None => Vec::new(),
        };
        if !changed.is_empty() {
            problems.push(format!("{} was changed: {}", title(object), changed.join(", ")));
        }
    }
    let found = if problems.is_empty() {
        Ok(format!("{} are there and equal", objects.len()))
    } else {
        problems.push("`corten install` with the same flags puts them right".to_owned());
        Err(problems.join("\n"))
    };
    Ok(Check::new("objects", found))
}

/// The fields that differ, at most five, apart from what servers keep for themselves.
pub fn differences(live: &Value, wanted: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    walk(live, wanted, "", &mut paths);
    paths.retain(|path| {
        !path.starts_with(".metadata.managedFields")
            && !path.starts_with(".metadata.resourceVersion")
            && !path.starts_with(".metadata.generation")
            && !path.starts_with(".status")
    });
    paths.truncate(5);
    paths
}

fn walk(left: &Value, right: &Value, path: &str, paths: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                walk(&at(left), &at(right), &format!("{path}.{key}"), paths);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                walk(left, right, &format!("{path}[{index}]"), paths);
            }
        }
        (left, right) if left == right => {}
        _ => paths.push(path.to_owned()),
    }
}

/// Looks at a component's pods: ready, and of the image that was installed.
pub async fn component(cluster: &Cluster, objects: &[Rendered], component: Component) -> Result<Check, ClusterError> {
    let waits = install::waits_for(cluster, objects, component).await?;
    if !waits.is_empty() {
        return Ok(Check::new(component.title(), Err(waits.join("\n"))));
    }
    let mut told = Vec::new();
    for rendered in objects.iter().filter(|rendered| rendered.component == component) {
        let object = &rendered.object;
        if object["kind"] != "Deployment" && object["kind"] != "DaemonSet" {
            continue;
        }
        let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
        let pods = install::pods(cluster, object).await?;
        for pod in &pods {
            let runs = &pod["spec"]["containers"][0]["image"];
            if runs != image {
                let problem = format!("{} runs {runs}, and {image} was installed", title(pod));
                return Ok(Check::new(component.title(), Err(problem)));
            }
            if let Some(what) = ready::pod(pod, &[]) {
                return Ok(Check::new(component.title(), Err(format!("{}: {what}", title(pod)))));
            }
        }
        told.push(format!(
            "{} ready with {}",
            match pods.len() {
                1 => "1 pod is".to_owned(),
                many => format!("{many} pods are"),
            },
            image.as_str().unwrap_or_default()
        ));
    }
    let found = if told.is_empty() {
        "its definitions are served".to_owned()
    } else {
        told.join(", ")
    };
    Ok(Check::new(component.title(), Ok(found)))
}

/// Looks at the mesh's root certificates, as pods get them.
pub async fn roots(cluster: &Cluster, namespace: &str, now: jiff::Timestamp) -> Result<Check, ClusterError> {
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": namespace}});
    let live = cluster.live(&map).await?.unwrap_or_default();
    let found = match live["data"]["root-cert.pem"].as_str() {
        None => Err(
            "the control plane has not written the ConfigMap istio-ca-root-cert; its log says why: kubectl logs -n "
                .to_owned()
                + namespace
                + " deploy/istiod",
        ),
        Some(pem) => root(pem, now),
    };
    Ok(Check::new("root certificate", found))
}

fn root(pem: &str, now: jiff::Timestamp) -> Result<String, String> {
    let mut last = None;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| format!("it is no PEM: {error}"))?;
        let certificate = block
            .parse_x509()
            .map_err(|error| format!("it is no certificate: {error}"))?;
        let time = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let validity = certificate.validity();
        let (begin, end) = (
            time(validity.not_before.timestamp()),
            time(validity.not_after.timestamp()),
        );
        if now < begin {
            return Err(format!("it is valid only from {begin}; do the clocks agree?"));
        }
        if now > end {
            return Err(format!(
                "it was valid until {end}; change the root as docs/mesh.md says"
            ));
        }
        last = Some(end);
    }
    last.map(|end| format!("valid until {end}"))
        .ok_or_else(|| "there is none in istio-ca-root-cert".to_owned())
}

/// Asks the webhook, by way of the API server, about an object that it must refuse; nothing is stored.
pub async fn webhook(cluster: &Cluster, plan: &Plan, objects: &[Rendered]) -> Result<Option<Check>, ClusterError> {
    let installed = objects
        .iter()
        .any(|rendered| rendered.object["kind"] == "ValidatingWebhookConfiguration");
    if !installed || !plan.parts.iter().any(|part| part.component == Component::Pilot) {
        return Ok(None);
    }
    let mut labels = json!({});
    if !plan.revision.is_empty() {
        labels["istio.io/rev"] = json!(plan.revision);
    }
    let object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "invalid-gateway",
            "namespace": plan.namespace,
            "labels": labels,
            "annotations": {"internal.istio.io/webhook-always-reject": "true"},
        },
        "spec": {"servers": []},
    });
    let path = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/gateways?dryRun=All",
        plan.namespace
    );
    let begin = Instant::now();
    let found = loop {
        let found = asked(cluster, plan, &path, &object).await?;
        // A control plane that has just become ready fills in its authority a moment later.
        if found.is_ok() || begin.elapsed() > WEBHOOK_WITHIN {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    Ok(Some(Check::new("webhook", found)))
}

async fn asked(
    cluster: &Cluster,
    plan: &Plan,
    path: &str,
    object: &Value,
) -> Result<Result<String, String>, ClusterError> {
    let body = Some(("application/json", object));
    Ok(match cluster.request("ask the webhook", Method::POST, path, body).await {
        Err(ClusterError::Refused { message, .. } | ClusterError::Forbidden { message, .. })
            if message.contains("denied the request") =>
        {
            Ok("it refuses what is wrong".to_owned())
        }
        Err(ClusterError::Refused { message, .. }) => Err(format!("it cannot be asked: {message}")),
        Err(error) => return Err(error),
        Ok(None) => Err(
            "the cluster does not know Istio's kinds, so there is nothing to judge; `corten crds --istio | kubectl apply --server-side -f -` defines them"
                .to_owned(),
        ),
        Ok(Some(_)) => Err(format!(
            "an object that must be refused was accepted: the webhook is not asked or does not answer; look at the control plane's log: kubectl logs -n {} deploy/{}",
            plan.namespace,
            named("istiod", plan)
        )),
    })
}

/// Has a pod made that asks for a proxy, as a trial of which nothing stays, and looks whether it gets one.
pub async fn injection(cluster: &Cluster, plan: &Plan, objects: &[Rendered]) -> Result<Option<Check>, ClusterError> {
    let mut webhooks = objects.iter().filter(|rendered| {
        let object = &rendered.object;
        object["kind"] == "MutatingWebhookConfiguration" && object["metadata"]["labels"]["istio.io/tag"].is_null()
    });
    let Some(webhook) = webhooks.next() else {
        return Ok(None);
    };
    let namespace = cluster
        .live(&json!({"kind": "Namespace", "metadata": {"name": plan.namespace}}))
        .await?
        .unwrap_or_default();
    if let Some(why) = untried(&webhook.object, &namespace) {
        return Ok(Some(Check::new("injection", Ok(why))));
    }
    let mut labels = json!({"sidecar.istio.io/inject": "true"});
    if !plan.revision.is_empty() {
        labels["istio.io/rev"] = json!(plan.revision);
    }
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "corten-injection-trial", "namespace": plan.namespace, "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "corten.dev/none"}]},
    });
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", plan.namespace);
    let begin = Instant::now();
    let found = loop {
        let body = Some(("application/json", &pod));
        let found = match cluster.request("try injection", Method::POST, &path, body).await {
            Ok(Some(made)) => proxy_of(&made).ok_or_else(|| {
                format!(
                    "a pod that asks for a proxy got none: the webhook is not asked; look at the control plane's log: kubectl logs -n {} deploy/{}",
                    plan.namespace,
                    named("istiod", plan)
                )
            }),
            Ok(None) => Err("the API server knows no such pod".to_owned()),
            Err(ClusterError::Refused { message, .. } | ClusterError::Forbidden { message, .. }) => {
                Err(format!("a pod that asks for a proxy is refused: {message}"))
            }
            Err(error) => return Err(error),
        };
        // A control plane that has just become ready fills in its authority a moment later.
        if found.is_ok() || begin.elapsed() > WEBHOOK_WITHIN {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    Ok(Some(Check::new("injection", found)))
}

/// Why no pod can be tried with a webhook in a namespace.
fn untried(webhook: &Value, namespace: &Value) -> Option<String> {
    let first = &webhook["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
    if first["key"] == "istio.io/deactivated" {
        return Some("another revision is the default one, and gives pods that name none their proxies".to_owned());
    }
    let labels = &namespace["metadata"]["labels"];
    let label = ["istio-injection", "istio.io/rev"]
        .into_iter()
        .find(|label| !labels[label].is_null())?;
    Some(format!(
        "not tried: the namespace has the label {label}, which decides for all of its pods"
    ))
}

/// The image of the proxy that a pod got.
fn proxy_of(pod: &Value) -> Option<String> {
    let of = |key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
    let containers = [of("containers"), of("initContainers")].concat();
    let proxy = containers.iter().find(|container| container["name"] == "istio-proxy")?;
    Some(format!(
        "a pod that asks for a proxy gets {}",
        proxy["image"].as_str().unwrap_or("one")
    ))
}

/// The name of something of which each revision has its own.
pub fn named(name: &str, plan: &Plan) -> String {
    match plan.revision.as_str() {
        "" => name.to_owned(),
        revision => format!("{name}-{revision}"),
    }
}

/// How long a webhook may take until it works.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(10);

/// Looks at each node: an agent and a node proxy run there, and the agent has the proxy's connection. `ask` gets a path from a pod.
pub async fn nodes(
    cluster: &Cluster,
    plan: &Plan,
    objects: &[Rendered],
    ask: impl AsyncFn(&Value, u16, &str) -> Result<String, String>,
) -> Result<Option<Check>, ClusterError> {
    let set = |component| {
        let mut of = objects.iter().filter(|rendered| rendered.component == component);
        of.find(|rendered| rendered.object["kind"] == "DaemonSet")
            .map(|rendered| &rendered.object)
    };
    let (Some(agents), Some(proxies)) = (set(Component::Cni), set(Component::Ztunnel)) else {
        return Ok(None);
    };
    let (agents, proxies) = (
        install::pods(cluster, agents).await?,
        install::pods(cluster, proxies).await?,
    );
    let on = |pods: &[Value]| -> BTreeSet<String> {
        let names = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str());
        names.map(str::to_owned).collect()
    };
    let (with_agent, with_proxy) = (on(&agents), on(&proxies));
    let mut problems = Vec::new();
    for node in cluster.list("Node", None, "kubernetes.io/os=linux").await? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        for (there, what) in [
            (&with_agent, "agent (istio-cni-node)"),
            (&with_proxy, "node proxy (ztunnel)"),
        ] {
            if !there.contains(name) {
                problems.push(format!("node {name} has no {what}"));
            }
        }
    }
    for agent in &agents {
        match ask(agent, 15014, "/metrics").await {
            Ok(metrics) if gauge(&metrics, "ztunnel_connected") >= 1.0 => {}
            Ok(_) => problems.push(format!(
                "node {}: no node proxy is connected to the agent",
                agent["spec"]["nodeName"].as_str().unwrap_or_default()
            )),
            Err(problem) => problems.push(format!("{}: {problem}", title(agent))),
        }
        // Pods that it could not take in, and who undoes the plugin's installation.
        if let Ok(said) = ask(agent, 8000, "/problems").await {
            let node = agent["spec"]["nodeName"].as_str().unwrap_or_default();
            problems.extend(said.lines().map(|line| format!("node {node}: {line}")));
        }
    }
    // A proxy is served by one of the replicas.
    let control = objects
        .iter()
        .find(|rendered| rendered.component == Component::Pilot && rendered.object["kind"] == "Deployment");
    if let Some(control) = control {
        let mut served = String::new();
        for pod in install::pods(cluster, &control.object).await? {
            match ask(&pod, 15014, "/debug/syncz").await {
                Ok(text) => served += &text,
                Err(problem) => problems.push(format!("{}: {problem}", title(&pod))),
            }
        }
        for proxy in &proxies {
            let name = proxy["metadata"]["name"].as_str().unwrap_or_default();
            if !served.contains(name) {
                problems.push(format!(
                    "{name} on node {} is not connected to the control plane; its log says why: kubectl logs -n {} {name}",
                    proxy["spec"]["nodeName"].as_str().unwrap_or_default(),
                    plan.namespace
                ));
            }
        }
    }
    let found = if problems.is_empty() {
        Ok(match with_agent.len() {
            1 => "on the one node, agent and proxy are connected".to_owned(),
            many => format!("on {many} nodes, agent and proxy are connected"),
        })
    } else {
        Err(problems.join("\n"))
    };
    Ok(Some(Check::new("nodes", found)))
}

/// The sum of a metric's values in Prometheus' text form.
fn gauge(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_fields_and_leave_out_the_servers_own() {
        let live = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "1"}}, "spec": {"l": [1, 2], "gone": 1}, "status": {}});
        let wanted = json!({"metadata": {"resourceVersion": "2", "labels": {"a": "2"}}, "spec": {"l": [1, 3]}, "status": {"x": 1}});
        assert_eq!(
            differences(&live, &wanted),
            [".metadata.labels.a", ".spec.gone", ".spec.l[1]"]
        );
        assert!(differences(&live, &live).is_empty());
    }

    #[test]
    fn injection_is_tried_where_a_pod_can_ask() {
        let webhook = |key: &str| json!({"webhooks": [{"namespaceSelector": {"matchExpressions": [{"key": key}]}}]});
        let namespace = |labels: Value| json!({"metadata": {"labels": labels}});
        let plain = namespace(json!({"kubernetes.io/metadata.name": "istio-system"}));
        assert_eq!(untried(&webhook("istio.io/rev"), &plain), None);
        assert!(
            untried(&webhook("istio.io/deactivated"), &plain)
                .unwrap()
                .contains("default")
        );
        let labelled = namespace(json!({"istio-injection": "disabled"}));
        assert!(
            untried(&webhook("istio.io/rev"), &labelled)
                .unwrap()
                .contains("istio-injection")
        );
        let pod = |key: &str| json!({"spec": {"containers": [{"name": "app"}], key: [{"name": "istio-proxy", "image": "i"}]}});
        assert!(proxy_of(&pod("initContainers")).unwrap().ends_with(" i"));
        assert_eq!(proxy_of(&json!({"spec": {"containers": [{"name": "app"}]}})), None);
    }

    #[test]
    fn metrics_are_summed() {
        assert_eq!(
            gauge(
                "# TYPE ztunnel_connected gauge\nztunnel_connected 1\nother 5\n",
                "ztunnel_connected"
            ),
            1.0
        );
        assert_eq!(gauge("", "ztunnel_connected"), 0.0);
    }

    #[test]
    fn a_root_has_to_be_valid_now() {
        assert!(
            root("", jiff::Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .contains("there is none")
        );
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(
            root(broken, jiff::Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .contains("no certificate")
        );
    }
}
