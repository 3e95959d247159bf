//! What an installation remembers in the cluster: what was asked for, and which objects were made.
//!
//! As Helm keeps its releases in Secrets, so this is kept in a ConfigMap beside the control plane; it is no part of the mesh.

use corten_api::decode;
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError, title};
use crate::operator::{Plan, Request};
use crate::render::Rendered;

/// What is remembered of an installation.
#[derive(Clone, Debug)]
pub struct Record {
    /// The revision; empty: the default one.
    pub revision: String,
    /// What was asked for.
    pub request: Request,
    /// The version that installed it.
    pub version: String,
    /// Its objects, by kind, namespace and name.
    pub objects: Vec<Value>,
}

fn name(revision: &str) -> String {
    match revision {
        "" | "default" => "corten-install".to_owned(),
        revision => format!("corten-install-{revision}"),
    }
}

fn place(namespace: &str, revision: &str) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": name(revision), "namespace": namespace}})
}

/// The ConfigMap of an installation.
pub fn object(plan: &Plan, request: &Request, objects: &[Rendered]) -> Value {
    let record = Record {
        revision: plan.revision.clone(),
        request: request.clone(),
        version: crate::charts::VERSION.to_owned(),
        objects: objects.iter().map(|rendered| short(&rendered.object)).collect(),
    };
    record.map(&plan.namespace)
}

/// What is remembered of an object.
pub(crate) fn short(object: &Value) -> Value {
    let mut meta = json!({"name": object["metadata"]["name"]});
    if object["metadata"]["namespace"].is_string() {
        meta["namespace"] = object["metadata"]["namespace"].clone();
    }
    json!({"kind": object["kind"], "metadata": meta})
}

fn map(namespace: &str, record: &Record) -> Value {
    let request = &record.request;
    let asked = json!({
        "files": request.files,
        "sets": request.sets,
        "revision": request.revision,
        "namespace": request.namespace,
        "force": request.force,
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(&record.revision),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "corten", "istio.io/rev": shown(&record.revision)},
        },
        "data": {
            "asked": asked.to_string(),
            "objects": Value::from(record.objects.clone()).to_string(),
            "version": record.version,
        },
    })
}

/// What is remembered of a revision's installation, if anything is.
pub async fn read(cluster: &Cluster, namespace: &str, revision: &str) -> Result<Option<Record>, ClusterError> {
    let live = cluster.live(&place(namespace, revision)).await?;
    Ok(live.as_ref().map(parse))
}

/// What is remembered of all revisions in a namespace, the default one first.
pub async fn all(cluster: &Cluster, namespace: &str) -> Result<Vec<Record>, ClusterError> {
    let labels = "app.kubernetes.io/managed-by=corten";
    let maps = cluster.list("ConfigMap", Some(namespace), labels).await?;
    let mut records: Vec<Record> = maps
        .iter()
        .map(parse)
        .filter(|record| maps.iter().any(|map| map["metadata"]["name"] == name(&record.revision)))
        .collect();
    records.sort_by(|left, right| left.revision.cmp(&right.revision));
    Ok(records)
}

/// A revision as users read it.
pub fn shown(revision: &str) -> &str {
    if revision.is_empty() { "default" } else { revision }
}

fn parse(map: &Value) -> Record {
    let part = |key: &str| {
        let (documents, _) = decode::documents("", map["data"][key].as_str().unwrap_or("{}"));
        documents.first().map(decode::Node::to_value).unwrap_or_default()
    };
    let asked = part("asked");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let pairs = |key: &str| asked[key].as_array().cloned().unwrap_or_default();
    let pair = |pair: &Value| Some((text(&pair[0])?, pair[1].clone()));
    let revision = map["metadata"]["labels"]["istio.io/rev"].as_str().unwrap_or_default();
    Record {
        revision: if revision == "default" {
            String::new()
        } else {
            revision.to_owned()
        },
        request: Request {
            files: pairs("files")
                .iter()
                .filter_map(pair)
                .filter_map(|(name, file)| Some((name, text(&file)?)))
                .collect(),
            sets: pairs("sets")
                .iter()
                .filter_map(pair)
                .map(|(set, is_text)| (set, is_text == json!(true)))
                .collect(),
            revision: text(&asked["revision"]),
            namespace: text(&asked["namespace"]),
            force: asked["force"] == json!(true),
        },
        version: map["data"]["version"].as_str().unwrap_or_default().to_owned(),
        objects: part("objects").as_array().cloned().unwrap_or_default(),
    }
}

impl Record {
    /// The ConfigMap that says this.
    pub fn map(&self, namespace: &str) -> Value {
        map(namespace, self)
    }

    /// Whether an object is part of the installation.
    pub fn has(&self, object: &Value) -> bool {
        let wanted = title(object);
        self.objects.iter().any(|object| title(object) == wanted)
    }

    /// Gives objects up to another revision: they are forgotten here, and the settings say that they are not wanted any more.
    /// Whether there were any.
    pub fn give_up(&mut self, taken: impl Fn(&Value) -> bool, settings: &[&str]) -> bool {
        let before = self.objects.len();
        self.objects.retain(|object| !taken(object));
        let gave = self.objects.len() < before;
        if gave {
            self.ask(settings);
        }
        gave
    }

    /// Adds settings to what was asked for.
    pub fn ask(&mut self, settings: &[&str]) {
        for setting in settings {
            let path = setting.split_once('=').map_or(*setting, |(path, _)| path);
            let same = |set: &str| set.split_once('=').is_some_and(|(known, _)| known == path);
            self.request.sets.retain(|(set, _)| !same(set));
            self.request.sets.push(((*setting).to_owned(), false));
        }
    }

    /// What is no longer part of an installation with these objects, last made first. Namespaces and definitions stay: what users
    /// made would go with them.
    pub fn left_over(&self, objects: &[Rendered]) -> Vec<Value> {
        let there: Vec<String> = objects.iter().map(|rendered| title(&rendered.object)).collect();
        let stays = |object: &&Value| {
            let kind = object["kind"].as_str().unwrap_or_default();
            matches!(kind, "Namespace" | "CustomResourceDefinition") || there.contains(&title(object))
        };
        self.objects
            .iter()
            .rev()
            .filter(|object| !stays(object))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::plan;
    use crate::render::{self, Options};

    #[test]
    fn what_is_written_can_be_read() {
        let request = Request {
            files: vec![(
                "f".into(),
                "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n".into(),
            )],
            sets: vec![("profile=ambient".into(), false), ("hub=1".into(), true)],
            revision: Some("r".into()),
            ..Request::default()
        };
        let plan = plan(&request).unwrap();
        let objects = render::objects(&plan, Options::default()).unwrap();
        let record = parse(&object(&plan, &request, &objects));
        assert_eq!(record.request.files, request.files);
        assert_eq!(record.request.sets, request.sets);
        assert_eq!(record.request.revision, request.revision);
        assert_eq!(record.objects.len(), objects.len());
        assert!(record.left_over(&objects).is_empty());
        let less: Vec<Rendered> = objects
            .iter()
            .filter(|rendered| rendered.object["kind"] != "DaemonSet")
            .cloned()
            .collect();
        let gone: Vec<String> = record.left_over(&less).iter().map(title).collect();
        assert_eq!(
            gone,
            [
                "DaemonSet istio-system/ztunnel",
                "DaemonSet istio-system/istio-cni-node"
            ]
        );
        assert!(record.left_over(&[]).iter().all(|object| object["kind"] != "Namespace"));
    }
}
