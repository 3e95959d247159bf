//! A small mesh, and everything that anybody is sent or told because of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use corten_api::{
    decode::{self, Node, SpannedObject},
    diagnostic::{Diagnostic, ObjectRef},
    validate::mesh_config::over_defaults,
};
use corten_envoy_gen::Resources;
use corten_gateway_api::{ingress, offline as gateways};
use corten_model::{ObjectKey, Settings, Status};
use corten_routing::{KeySets, Proxy};
use serde_json::{Value, json};

use crate::kinds::MESH_GROUP;

/// A mesh as a file has it: who asks, the mesh's own configuration, and objects. The mesh's configuration is the first of the objects.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The folder and the name of the file.
    pub(crate) name: String,
    proxies: Vec<Proxy>,
    keys: KeySets,
    /// The objects, before anything is filled in.
    pub(crate) objects: Vec<Value>,
}

/// What comes of a mesh.
#[derive(Debug)]
pub(crate) struct Output {
    /// What is wrong with objects by themselves, which would not be admitted.
    pub(crate) invalid: Vec<Diagnostic>,
    /// All that is said, of what is wrong and of what takes no effect.
    pub(crate) said: Vec<Diagnostic>,
    proxies: Vec<Resources>,
    workloads: Vec<corten_xds_gen::Resource>,
    policies: Vec<corten_xds_gen::Resource>,
    conditions: Vec<(ObjectKey, Arc<Status>)>,
    made: Vec<Value>,
    statuses: Vec<Value>,
}

impl Output {
    /// In what another is different, in words of the table.
    pub(crate) fn differences(&self, other: &Output) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        let mut note = |name: &'static str, differs: bool| {
            if differs {
                found.insert(name);
            }
        };
        note("workloads", self.workloads != other.workloads);
        note("policies", self.policies != other.policies);
        note(
            "status",
            self.conditions != other.conditions || self.statuses != other.statuses,
        );
        note("deployment", self.made != other.made);
        for (ours, theirs) in self.proxies.iter().zip(&other.proxies) {
            note("clusters", ours.clusters != theirs.clusters);
            note("endpoints", ours.endpoints != theirs.endpoints);
            note("listeners", ours.listeners != theirs.listeners);
            note("routes", ours.routes != theirs.routes);
            note("extensions", ours.extensions != theirs.extensions);
        }
        found
    }
}

impl World {
    /// From a file of documents, the first of which says who asks (`proxies`), the mesh's configuration (`mesh`) and keys of issuers (`keys`).
    pub(crate) fn read(path: &Path) -> Result<World> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (documents, problems) = decode::documents(&path.display().to_string(), &text);
        ensure!(problems.is_empty(), "{problems:?}");
        let mut documents: Vec<Value> = documents.iter().map(Node::to_value).collect();
        ensure!(!documents.is_empty(), "{}: no documents", path.display());
        let head = documents.remove(0);
        let mut proxies = Vec::new();
        for one in head["proxies"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(head.get("proxy"))
        {
            proxies.push(proxy(one).with_context(|| path.display().to_string())?);
        }
        ensure!(
            !proxies.is_empty(),
            "{}: the first document names no proxies",
            path.display()
        );
        let mesh = if head["mesh"].is_null() {
            json!({})
        } else {
            head["mesh"].clone()
        };
        documents.insert(
            0,
            json!({
                "apiVersion": format!("{MESH_GROUP}/v1alpha1"), "kind": "MeshConfig", "metadata": { "name": "mesh" }, "spec": mesh,
            }),
        );
        let keys = head["keys"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let file = path.file_stem().unwrap_or_default();
        Ok(World {
            name: format!("{}/{}", folder.display(), file.display()),
            proxies,
            keys: keys
                .map(|key| ((text(&key["issuer"]), text(&key["uri"])), Arc::from(text(&key["keys"]))))
                .collect(),
            objects: documents,
        })
    }

    /// Everything that comes of it, with other objects than its own.
    pub(crate) fn output(&self, objects: &[Value]) -> Output {
        let mut invalid = Vec::new();
        for object in objects.iter().skip(1) {
            invalid.extend(corten_api::validate::object(&SpannedObject::from_value(object)));
        }
        let (mesh, problems) = over_defaults(&Node::from_value(&objects[0]["spec"]));
        invalid.extend(problems.into_iter().map(|problem| Diagnostic {
            code: problem.code,
            severity: problem.severity,
            object: Some(ObjectRef {
                kind: "MeshConfig".to_owned(),
                name: "mesh".to_owned(),
                ..ObjectRef::default()
            }),
            path: format!("spec.{}", problem.path),
            location: None,
            message: problem.message,
        }));
        let mut objects: Vec<Value> = objects.iter().skip(1).cloned().collect();
        corten_routing::offline::complete(&mut objects, "default");
        let settings = corten_gateway_api::Settings::default();
        let made = gateways::workloads(&objects, &settings);
        let mut world = corten_routing::World::new(Settings::default(), mesh);
        let mut said = world.put(&objects);
        world.put(&made);
        objects.extend(made.iter().cloned());
        let (converted, found) = gateways::generated(&objects, &settings);
        said.extend(found);
        world.put(&converted);
        let (converted, found) = gateways::of_ingresses(&objects, ingress::Settings::default());
        said.extend(found);
        world.put(&converted);
        world.set_keys(self.keys.clone());
        let snapshot = world.snapshot();
        said.extend(snapshot.model.diagnostics().cloned());
        said.extend(corten_envoy_gen::diagnostics(&snapshot.catalog));
        let proxies: Vec<Resources> = self
            .proxies
            .iter()
            .map(|proxy| corten_envoy_gen::generate(&snapshot, proxy))
            .collect();
        said.extend(proxies.iter().flat_map(|sent| sent.notices.iter().cloned()));
        said.extend(invalid.iter().cloned());
        let addresses = snapshot.model.address_keys();
        let policies = snapshot.model.policies();
        Output {
            workloads: addresses
                .filter_map(|key| corten_xds_gen::address(&snapshot.model, &key))
                .collect(),
            policies: policies
                .filter_map(|of| corten_xds_gen::authorization(&snapshot.model, &of.key))
                .collect(),
            conditions: snapshot
                .model
                .statuses()
                .map(|(key, status)| (key.clone(), Arc::clone(status)))
                .collect(),
            statuses: Vec::new(),
            invalid,
            said,
            proxies,
            made,
        }
    }
}

fn proxy(head: &Value) -> Result<Proxy> {
    let text = |key: &str, otherwise: &'static str| head[key].as_str().unwrap_or(otherwise).to_owned();
    let namespace = text("namespace", "default");
    let id = format!(
        "{}~{}~{}.{namespace}~{namespace}.svc.cluster.local",
        text("type", "sidecar"),
        text("address", "10.0.0.1"),
        text("name", "app"),
    );
    let mut metadata = json!({ "NAMESPACE": namespace, "LABELS": head["labels"] });
    for (key, value) in head["metadata"].as_object().into_iter().flatten() {
        metadata[key] = value.clone();
    }
    let extensions = head["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    Ok(Proxy::of_node(&id, &metadata)?.with_extensions(extensions))
}

/// The files below a folder that hold worlds, in order.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).with_context(|| root.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "yaml")
            && !path.to_string_lossy().ends_with(".expected.yaml")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
