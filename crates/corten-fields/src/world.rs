//! A small mesh, and everything that anybody is sent or told because of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, ensure};
use corten_api::{
    codec::FieldProblem,
    decode::{self, Node, SpannedObject},
    diagnostic::{Code, Diagnostic, Severity},
    validate::{self, mesh_config::over_defaults},
};
use corten_envoy_gen::{
    Resources,
    security::{authn, jwks::Source},
};
use corten_gateway_api::{ObjectStatus, ingress, offline as gateways};
use corten_model::{ObjectKey, Settings, Status};
use corten_routing::{KeySets, Proxy};
use corten_schema::Schema;
use serde_json::{Value, json};

use crate::{
    kinds::{KUBERNETES, MESH_GROUP},
    pods::{self, Started},
};

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
    fetched: Vec<(Source, std::time::Duration)>,
    trusted: BTreeSet<String>,
    statuses: Vec<ObjectStatus>,
    pods: Vec<Started>,
    /// What the proxies of these pods are sent.
    sent: Vec<Option<Resources>>,
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
        note("fetched keys", self.fetched != other.fetched);
        note("trusted roots", self.trusted != other.trusted);
        note("deployment", self.made != other.made);
        for (ours, theirs) in self.pods.iter().zip(&other.pods) {
            // That a proxy does not start says nothing of what it would do.
            let differ = |ours: Option<&Value>, theirs: Option<&Value>| ours.zip(theirs).is_some_and(|(a, b)| a != b);
            note("injection", differ(ours.pod.as_ref(), theirs.pod.as_ref()));
            note("bootstrap", differ(ours.bootstrap.as_ref(), theirs.bootstrap.as_ref()));
            note(
                "agent",
                ours.agent
                    .as_ref()
                    .zip(theirs.agent.as_ref())
                    .is_some_and(|(a, b)| a != b),
            );
        }
        let of_pods = self.sent.iter().zip(&other.sent);
        let of_pods = of_pods.filter_map(|(ours, theirs)| ours.as_ref().zip(theirs.as_ref()));
        for (ours, theirs) in self.proxies.iter().zip(&other.proxies).chain(of_pods) {
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

    /// Everything that comes of it, with other objects than its own. `changed`: the only object that is another; what is wrong with the
    /// others is not asked again.
    pub(crate) fn output(&self, objects: &[Value], changed: Option<usize>) -> Output {
        let asked = objects
            .iter()
            .enumerate()
            .filter(|(index, _)| changed.is_none_or(|changed| changed == *index));
        let invalid: Vec<Diagnostic> = asked.flat_map(|(_, object)| wrong_with(object)).collect();
        let written = &objects[0]["spec"];
        let (mesh, _) = over_defaults(&Node::from_value(written));
        let of_mesh = |object: &&Value| SpannedObject::from_value(object).reference.group() == MESH_GROUP;
        let networks = objects.iter().skip(1).filter(of_mesh);
        let networks: Vec<Diagnostic> = networks.flat_map(unhonoured_networks).collect();
        let mut objects: Vec<Value> = objects
            .iter()
            .skip(1)
            .filter(|object| !of_mesh(object))
            .cloned()
            .collect();
        corten_routing::offline::complete(&mut objects, "default");
        let settings = corten_gateway_api::Settings::default();
        // Gateways get the workloads that a controller would make, and those get pods.
        let made = gateways::workloads(&objects, &settings, "istio-system");
        objects.extend(made.iter().cloned());
        corten_routing::offline::complete(&mut objects, "default");
        let pods = pods::started(&objects, written);
        let ingress = ingress::Settings::of_mesh(&mesh, "cluster.local", "istio-system");
        let trusted = corten_control::trusted(&[], &mesh);
        let mut world = corten_routing::World::new(Settings::default(), mesh);
        let mut said = world.put(&objects);
        let of_api = gateways::converted(&objects, &settings);
        world.put(&of_api.objects());
        said.extend(of_api.diagnostics);
        let (converted, found) = gateways::of_ingresses(&objects, ingress);
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
        let sent: Vec<Option<Resources>> = pods
            .iter()
            .map(|pod| {
                pod.proxy
                    .as_ref()
                    .map(|proxy| corten_envoy_gen::generate(&snapshot, proxy))
            })
            .collect();
        let all = proxies.iter().chain(sent.iter().flatten());
        said.extend(all.flat_map(|sent| sent.notices.iter().cloned()));
        said.extend(invalid.iter().cloned());
        // Of these, those of layer 7 are told where they take effect, and not that they have none.
        let unhonoured = objects
            .iter()
            .flat_map(|object| corten_model::rules::unhonoured(object, &Settings::default()));
        said.extend(unhonoured.filter(|said| said.code == corten_model::rules::KIND_UNUSED));
        said.extend(networks);
        said.iter_mut().for_each(name_as_here);
        let tokens = snapshot.catalog.configs.request_authentications.values();
        let fetched = authn::sources(tokens.map(AsRef::as_ref)).collect();
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
            statuses: of_api.statuses,
            fetched,
            trusted,
            invalid,
            said,
            proxies,
            made,
            pods,
            sent,
        }
    }
}

/// What of a mesh's networks takes no effect.
fn unhonoured_networks(object: &Value) -> Vec<Diagnostic> {
    let reference = SpannedObject::from_value(object).reference;
    let problems = validate::unhonoured_networks(&Node::from_value(&object["spec"]));
    let about = |problem: FieldProblem| Diagnostic {
        code: problem.code,
        severity: problem.severity,
        object: Some(reference.clone()),
        path: format!("spec.{}", problem.path),
        location: None,
        message: problem.message,
    };
    problems.into_iter().map(about).collect()
}

/// The mesh's configuration is the text of a ConfigMap's entry, and an object in the worlds.
fn name_as_here(said: &mut Diagnostic) {
    let object = said.object.as_mut();
    if let Some(object) = object.filter(|object| object.group() == MESH_GROUP && object.name == "istio") {
        "mesh".clone_into(&mut object.name);
        "default".clone_into(&mut object.namespace);
        said.path = format!("spec.{}", said.path);
    }
}

/// What is wrong with an object by itself: what its definition, its decoding and its validation say.
pub(crate) fn wrong_with(object: &Value) -> Vec<Diagnostic> {
    let spanned = SpannedObject::from_value(object);
    let about = |code, severity, path: String, message| Diagnostic {
        code,
        severity,
        object: Some(spanned.reference.clone()),
        path,
        location: None,
        message,
    };
    if spanned.reference.group() == MESH_GROUP {
        let spec = Node::from_value(&object["spec"]);
        let problems = match spanned.reference.kind.as_str() {
            "MeshNetworks" => validate::mesh_networks_text(&spec),
            _ => validate::mesh_config_text(&spec),
        };
        let of_spec = |problem: FieldProblem| {
            about(
                problem.code,
                problem.severity,
                format!("spec.{}", problem.path),
                problem.message,
            )
        };
        return problems.into_iter().map(of_spec).collect();
    }
    let mut found = validate::object(&spanned);
    if let Some(schema) = definition(spanned.reference.group(), &spanned.reference.kind) {
        let mut stored = object.clone();
        corten_schema::defaults::apply(schema, &mut stored);
        let errors = corten_schema::validate::validate(schema, &stored, None);
        found.extend(
            errors
                .into_iter()
                .map(|error| about(Code::INVALID, Severity::Error, error.path, error.detail)),
        );
    }
    found
}

/// The definition of a custom resource, each made once.
fn definition(group: &str, kind: &str) -> Option<&'static Schema> {
    type Definitions = BTreeMap<(&'static str, &'static str), Schema>;
    static MADE: OnceLock<Definitions> = OnceLock::new();
    if group == KUBERNETES {
        return corten_schema::kubernetes::schema(group, "v1", kind);
    }
    let made = MADE.get_or_init(|| {
        let each = corten_api::kinds().filter_map(|registered| {
            let version = registered.kind.versions.iter().find(|version| version.storage)?;
            let openapi = corten_api::crds::schema(registered, version, corten_api::crds::Channel::Experimental);
            Some((
                (registered.kind.group, registered.kind.kind),
                Schema::parse(&openapi).ok()?,
            ))
        });
        each.collect()
    });
    made.iter()
        .find(|(known, _)| **known == (group, kind))
        .map(|(_, schema)| schema)
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

#[cfg(test)]
impl Output {
    /// What each pod's agent starts Envoy with, with all that this Envoy is sent, as one file.
    pub(crate) fn files_of_pods(&self) -> Vec<Value> {
        use corten_envoy::{message_to_json, prost};
        fn json<M: prost::Message + prost::Name>(message: &M) -> Value {
            message_to_json(message).expect("JSON")
        }
        fn table<M: prost::Message + prost::Name>(messages: &BTreeMap<String, M>) -> BTreeMap<String, Value> {
            let each = messages.iter();
            each.map(|(name, message)| (name.clone(), json(message))).collect()
        }
        let started = self.pods.iter().filter_map(|pod| pod.bootstrap.clone());
        let sent = self.sent.iter().flatten().map(|sent| corten_stock_envoy::Sent {
            clusters: sent.clusters.iter().map(json).collect(),
            endpoints: table(&sent.endpoints),
            listeners: sent.listeners.iter().map(json).collect(),
            routes: table(&sent.routes),
            extensions: table(&sent.extensions),
        });
        let whole = |(mut file, sent): (Value, corten_stock_envoy::Sent)| {
            let sent = corten_stock_envoy::bootstrap(&sent);
            for list in ["clusters", "listeners"] {
                let own = file["staticResources"][list].as_array_mut().expect("a list");
                let more = sent["staticResources"][list].as_array().expect("a list").iter();
                let new = more.filter(|one| !own.iter().any(|known| known["name"] == one["name"]));
                let new: Vec<Value> = new.cloned().collect();
                own.extend(new);
            }
            let asked = file["dynamicResources"].as_object_mut().expect("an object");
            asked.retain(|name, _| name == "adsConfig");
            // A path of a container.
            file["admin"]["profilePath"] = json!("/dev/null");
            file
        };
        started.zip(sent).map(whole).collect()
    }
}
