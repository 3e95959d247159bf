//! What a command is about: `pods`, `pod a b`, `pod/a svc/b`, with a selector or all.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Cluster, Resource, Resources, query};

/// The words and flags by which objects are chosen.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Targets {
    /// TYPE, TYPE NAME..., or TYPE/NAME...; several types are separated by commas
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    words: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// One thing to ask for: an object, or a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    /// One object; all of them when absent.
    pub(crate) name: Option<String>,
    pub(crate) selector: Option<String>,
}

impl Targets {
    /// What the words mean on this cluster.
    pub(crate) fn resolve(&self, resources: &Resources) -> Result<Vec<Target>> {
        parse(&self.words, self.selector.as_deref(), resources)
    }
}

/// What words mean.
pub(crate) fn parse(words: &[String], selector: Option<&str>, resources: &Resources) -> Result<Vec<Target>> {
    let target = |resource: &Resource, name: Option<&str>| Target {
        resource: resource.clone(),
        name: name.map(str::to_owned),
        selector: selector.map(str::to_owned),
    };
    let mut targets = Vec::new();
    if words.iter().any(|word| word.contains('/')) {
        ensure!(selector.is_none(), "a selector cannot be combined with names");
        for word in words {
            let (kind, name) = word
                .split_once('/')
                .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
                .with_context(|| format!("{word:?} is not TYPE/NAME; when one argument has a slash, all do"))?;
            targets.extend(
                resources
                    .named(kind)?
                    .into_iter()
                    .map(|resource| target(resource, Some(name))),
            );
        }
        return Ok(targets);
    }
    let (kinds, names) = words.split_first().context("name a resource type, for example pods")?;
    ensure!(
        names.is_empty() || selector.is_none(),
        "a selector cannot be combined with names"
    );
    for kind in kinds.split(',') {
        for resource in resources.named(kind)? {
            if names.is_empty() {
                targets.push(target(resource, None));
            }
            targets.extend(names.iter().map(|name| target(resource, Some(name))));
        }
    }
    Ok(targets)
}

impl Target {
    /// The objects, each whole.
    pub(crate) async fn objects(&self, cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Value>> {
        if let Some(name) = &self.name {
            ensure!(
                namespace.is_some() || !self.resource.namespaced,
                "an object with a name is in one namespace, not in all"
            );
            return Ok(vec![cluster.get(&self.resource.path(namespace, Some(name))).await?]);
        }
        let selector = query(&[("labelSelector", self.selector.clone())]);
        let list = cluster.get(&(self.resource.path(namespace, None) + &selector)).await?;
        let api_version = if self.resource.group.is_empty() {
            self.resource.version.clone()
        } else {
            format!("{}/{}", self.resource.group, self.resource.version)
        };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .into_iter()
            .map(|mut item| {
                // Items of a list do not carry their type.
                item["apiVersion"] = api_version.as_str().into();
                item["kind"] = self.resource.kind.as_str().into();
                item
            })
            .collect())
    }
}

/// The pod that `POD` or `TYPE/NAME` means: the pod itself, or the first running pod that a workload or service selects.
pub(crate) async fn pod(cluster: &Cluster, word: &str) -> Result<String> {
    if !word.contains('/') {
        return Ok(word.to_owned());
    }
    let pods = pods_behind(cluster, word).await?;
    let name = pods.first().and_then(|pod| pod["metadata"]["name"].as_str());
    Ok(name.with_context(|| format!("{word} has no pods"))?.to_owned())
}

/// The pods that `TYPE/NAME` means, those that are ready first.
pub(crate) async fn pods_behind(cluster: &Cluster, word: &str) -> Result<Vec<Value>> {
    let (kind, name) = word
        .split_once('/')
        .with_context(|| format!("{word:?} is not TYPE/NAME"))?;
    let resources = Resources::of(cluster).await?;
    let resource = *resources
        .named(kind)?
        .first()
        .context("a word means at least one resource")?;
    let path = resource.path(Some(&cluster.namespace), Some(name));
    let object = cluster.get(&path).await?;
    if resource.plural == "pods" && resource.group.is_empty() {
        return Ok(vec![object]);
    }
    selected_by(cluster, &object)
        .await?
        .with_context(|| format!("{word} selects no pods"))
}

/// The pods that an object of the cluster's namespace selects, those that are ready first; `None`: it has no selector.
pub(crate) async fn selected_by(cluster: &Cluster, object: &Value) -> Result<Option<Vec<Value>>> {
    let Some(selector) = selector_of(object) else {
        return Ok(None);
    };
    let path = format!(
        "/api/v1/namespaces/{}/pods{}",
        cluster.namespace,
        query(&[("labelSelector", Some(selector))])
    );
    let mut pods = cluster.get(&path).await?;
    let pods = pods["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(Some(ready_first(pods)))
}

/// Pods that are ready before others, otherwise as they were.
pub(crate) fn ready_first(mut pods: Vec<Value>) -> Vec<Value> {
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    pods.sort_by_key(|pod| !is_ready(pod));
    pods
}

/// `NAME[.NAMESPACE]`, as istioctl's arguments are written.
pub(crate) fn split_name(word: &str) -> (&str, Option<&str>) {
    match word.rsplit_once('.') {
        Some((name, namespace)) if !name.is_empty() && !namespace.is_empty() => (name, Some(namespace)),
        _ => (word, None),
    }
}

/// The container of a pod that is meant when none is named: the annotated one, else the first; says so when there are others.
pub(crate) async fn container(cluster: &Cluster, pod: &str, named: Option<&str>) -> Result<String> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let path = format!("/api/v1/namespaces/{}/pods/{pod}", cluster.namespace);
    let object = cluster.get(&path).await?;
    let (chosen, others) = default_container(&object).with_context(|| format!("pod {pod} has no containers"))?;
    if let Some(others) = others {
        eprintln!("Defaulted container {chosen:?} out of: {others}");
    }
    Ok(chosen)
}

/// The container that an unnamed one means, and all of them when there is a choice.
fn default_container(pod: &Value) -> Option<(String, Option<String>)> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(annotated) = annotated.filter(|name| main.iter().any(|of| of == name)) {
        return Some((annotated.to_owned(), None));
    }
    let chosen = main.first()?.clone();
    let all: Vec<String> = main
        .into_iter()
        .chain(init.into_iter().map(|name| format!("{name} (init)")))
        .collect();
    Some((chosen, (all.len() > 1).then(|| all.join(", "))))
}

/// The label selector of a workload or service, as a query.
fn selector_of(object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    let labels = if selector["matchLabels"].is_object() {
        &selector["matchLabels"]
    } else {
        selector
    };
    let labels = labels.as_object()?.iter();
    let parts: Vec<String> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::discovery::tests::resources;
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(words: &str, expect: &[&str]) {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let targets = parse(&words, None, &resources()).expect("good words");
        let shown: Vec<String> = targets
            .iter()
            .map(|target| format!("{}/{}", target.resource.plural, target.name.as_deref().unwrap_or("*")))
            .collect();
        assert_eq!(shown, expect);
    }

    #[test]
    fn words_mean_objects() {
        check("pods", &["pods/*"]);
        check("po,deploy", &["pods/*", "deployments/*"]);
        check("pod a b", &["pods/a", "pods/b"]);
        check("pod/a deploy/b", &["pods/a", "deployments/b"]);
        for bad in ["pod/a b", "pod/", "/a", "gizmo"] {
            let words: Vec<String> = bad.split(' ').map(str::to_owned).collect();
            assert!(parse(&words, None, &resources()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unnamed_container_is_the_annotated_or_the_first() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}});
        assert_eq!(default_container(&pod), Some(("a".into(), None)));
        pod["spec"]["initContainers"] = json!([{"name": "i"}]);
        assert_eq!(default_container(&pod), Some(("a".into(), Some("a, i (init)".into()))));
        pod["spec"]["containers"] = json!([{"name": "a"}, {"name": "b"}]);
        pod["metadata"] = json!({"annotations": {"kubectl.kubernetes.io/default-container": "b"}});
        assert_eq!(default_container(&pod), Some(("b".into(), None)));
        assert_eq!(default_container(&json!({})), None);
    }

    #[test]
    fn names_may_carry_their_namespace() {
        assert_eq!(split_name("a.b"), ("a", Some("b")));
        assert_eq!(split_name("deploy/a.b.c"), ("deploy/a.b", Some("c")));
        assert_eq!(split_name("a"), ("a", None));
        assert_eq!(split_name("a."), ("a.", None));
    }

    #[test]
    fn selectors_of_workloads_and_services() {
        assert_eq!(
            selector_of(&json!({"spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}}})).as_deref(),
            Some("a=1,b=2")
        );
        assert_eq!(
            selector_of(&json!({"spec": {"selector": {"a": "1"}}})).as_deref(),
            Some("a=1")
        );
        assert_eq!(selector_of(&json!({"spec": {}})), None);
    }
}
