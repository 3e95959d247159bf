//! The objects of a test, and what the control plane makes of them: what an API server, load balancers and the controllers of Kubernetes
//! would add is added as it is for files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use corten_api::crds::{Channel, schema};
use corten_api::decode::SpannedObject;
use corten_explain::Config;
use corten_gateway_api::{Settings, offline as gateways};
use corten_model::Settings as MeshSettings;
use corten_routing::{Proxy, Snapshot, World, offline};
use corten_schema::{Schema, defaults, patch};
use serde_json::{Value, json};

use super::certificates::Certificates;

/// The class whose gateways are tested, and its controller.
pub(super) const CLASS: &str = "istio";
pub(super) const CONTROLLER: &str = "istio.io/gateway-controller";
/// The first bytes of what load balancers give (RFC 5737).
const BALANCERS: &str = "203.0.113";
/// Addresses that a tester names: one that the implementation can use, and one that it cannot.
const ADDRESSES: [(&str, &str); 2] = [
    (
        "PLACEHOLDER_USABLE_ADDRS",
        "infra-backend-v1.gateway-conformance-infra.svc.cluster.local",
    ),
    ("PLACEHOLDER_UNUSABLE_ADDRS", "nowhere"),
];

type Key = (String, String, String);

/// The objects, and what became of them.
pub(super) struct Cluster {
    pub(super) certificates: Rc<Certificates>,
    /// Objects as they were applied, with their status.
    applied: BTreeMap<Key, Value>,
    /// Objects as they were applied first.
    first: BTreeMap<Key, Value>,
    /// Those and what was added.
    pub(super) all: Vec<Value>,
    snapshot: Snapshot,
    configs: RefCell<BTreeMap<String, Rc<Config>>>,
    in_mesh: bool,
    /// The generation before the last change, and after.
    pub(super) generations: (i64, i64),
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &object["metadata"];
    (text(&object["kind"]), text(&meta["namespace"]), text(&meta["name"]))
}

impl Cluster {
    /// With the suite's certificates only. `in_mesh`: every pod has a sidecar.
    pub(super) fn new(certificates: &Rc<Certificates>, in_mesh: bool) -> Result<Cluster> {
        let mut cluster = Cluster {
            certificates: Rc::clone(certificates),
            applied: BTreeMap::new(),
            first: BTreeMap::new(),
            all: Vec::new(),
            snapshot: World::new(MeshSettings::default(), Default::default()).snapshot(),
            configs: RefCell::default(),
            in_mesh,
            generations: (0, 0),
        };
        cluster.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": { "name": CLASS }, "spec": { "controllerName": CONTROLLER },
        }))?;
        for object in &certificates.objects {
            cluster.apply(object.clone())?;
        }
        Ok(cluster)
    }

    /// Puts an object in, as an API server would.
    pub(super) fn apply(&mut self, mut object: Value) -> Result<()> {
        for address in object
            .pointer_mut("/spec/addresses")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let named = ADDRESSES
                .iter()
                .find(|(placeholder, _)| address["value"] == *placeholder);
            if let Some((_, named)) = named {
                *address = json!({ "type": "Hostname", "value": named });
            }
        }
        default(&mut object)?;
        if self.in_mesh && object["kind"] == "Namespace" {
            object["metadata"]["labels"]["istio-injection"] = json!("enabled");
        }
        let labels = json!({ "kubernetes.io/metadata.name": object["metadata"]["name"] });
        if object["kind"] == "Namespace" {
            object["metadata"]["labels"] = patch::merge(&object["metadata"]["labels"], &labels);
        }
        let key = key(&object);
        let before = self.applied.get(&key);
        let without = |object: &Value| {
            let mut object = object.clone();
            if let Some(map) = object.as_object_mut() {
                map.remove("metadata");
                map.remove("status");
            }
            object
        };
        let old = before.map_or(0, |before| before["metadata"]["generation"].as_i64().unwrap_or(1));
        let same = before.is_some_and(|before| without(before) == without(&object));
        let new = if same { old } else { old + 1 };
        self.generations = (old, new);
        object["metadata"]["generation"] = json!(new);
        if let Some(before) = before {
            object["status"] = before["status"].clone();
        }
        self.first.entry(key.clone()).or_insert_with(|| object.clone());
        self.applied.insert(key, object);
        Ok(())
    }

    /// A gateway as it was applied first.
    pub(super) fn first(&self, gateway: &str) -> Result<&Value> {
        let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
        let key = ("Gateway".to_owned(), namespace.to_owned(), name.to_owned());
        self.first
            .get(&key)
            .with_context(|| format!("there was no gateway {gateway}"))
    }

    pub(super) fn delete(&mut self, kind: &str, name: &str) -> Result<()> {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.applied
            .remove(&key)
            .with_context(|| format!("there is no {key:?}"))?;
        Ok(())
    }

    /// Changes an object.
    pub(super) fn patch(&mut self, kind: &str, name: &str, how: &str, by: &Value) -> Result<()> {
        let mut object = self.object(kind, name)?.clone();
        object = match how {
            "merge" => patch::merge(&object, by),
            "json" => patch::json(&object, by).map_err(|error| anyhow::anyhow!("{error}"))?,
            "removeAddressByIndex" => {
                let at = by
                    .as_u64()
                    .and_then(|at| usize::try_from(at).ok())
                    .context("an index")?;
                let addresses = object.pointer_mut("/spec/addresses").and_then(Value::as_array_mut);
                let addresses = addresses.context("the object has no addresses")?;
                anyhow::ensure!(at < addresses.len(), "there is no address {at}");
                addresses.remove(at);
                object
            }
            other => bail!("the patch {other:?} is not known"),
        };
        self.apply(object)
    }

    /// An object as it was applied, with its status; `name` is `namespace/name`.
    pub(super) fn object(&self, kind: &str, name: &str) -> Result<&Value> {
        let (namespace, bare) = name.split_once('/').unwrap_or(("", name));
        let key = (kind.to_owned(), namespace.to_owned(), bare.to_owned());
        self.applied
            .get(&key)
            .with_context(|| format!("there is no {kind} {name}"))
    }

    /// Everything that controllers and the control plane do about the objects.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        let settings = Settings::default();
        let mut all: Vec<Value> = self.applied.values().cloned().collect();
        offline::complete(&mut all, "default");
        let workloads = gateways::workloads(&all, &settings, "istio-system");
        all.extend(workloads);
        offline::complete(&mut all, "default");
        let balanced = all
            .iter_mut()
            .filter(|object| object["kind"] == "Service" && object["spec"]["type"] == "LoadBalancer");
        for (place, service) in (1..255).zip(balanced) {
            service["status"]["loadBalancer"] = json!({ "ingress": [{ "ip": format!("{BALANCERS}.{place}") }] });
        }
        let made = gateways::converted(&all, &settings);
        for status in made.statuses {
            let key = (
                status.status.kind().to_owned(),
                status.key.namespace.clone(),
                status.key.name.clone(),
            );
            if let Some(object) = self.applied.get_mut(&key) {
                object["status"] = status.status.encode();
            }
        }
        let (generated, _) = gateways::generated(&all, &settings);
        let mesh = corten_api::decode::Node::from_value(&json!({}));
        let mesh = corten_api::validate::mesh_config::over_defaults(&mesh).0;
        let mut world = World::new(MeshSettings::default(), mesh);
        world.put(&all);
        world.put(&generated);
        self.snapshot = world.snapshot();
        self.configs.borrow_mut().clear();
        self.all = all;
        Ok(())
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Value> {
        self.all
            .iter()
            .filter(|object| object["kind"] == "Pod" && object["apiVersion"] == "v1")
    }

    /// The service of a name.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.all.iter().find(|object| {
            object["kind"] == "Service"
                && object["apiVersion"] == "v1"
                && object["metadata"]["namespace"] == namespace
                && object["metadata"]["name"] == name
        })
    }

    /// What a pod's proxy is sent. `kind` is `router` or `sidecar`.
    pub(super) fn sent(&self, pod: &Value, kind: &str) -> Result<Rc<Config>> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (name, namespace, address) = (
            text("/metadata/name"),
            text("/metadata/namespace"),
            text("/status/podIP"),
        );
        let id = format!("{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local");
        if let Some(config) = self.configs.borrow().get(&id) {
            return Ok(Rc::clone(config));
        }
        let metadata = json!({
            "NAMESPACE": namespace, "LABELS": pod["metadata"]["labels"], "ANNOTATIONS": pod["metadata"]["annotations"],
            "SERVICE_ACCOUNT": text("/spec/serviceAccountName"), "INSTANCE_IPS": address, "CLUSTER_ID": "Kubernetes",
        });
        let made = crate::accepted::generate(&self.snapshot, &Proxy::of_node(&id, &metadata)?);
        let config = Rc::new(Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters,
            made.endpoints.into_values(),
        ));
        self.configs.borrow_mut().insert(id, Rc::clone(&config));
        Ok(config)
    }

    /// An entry of a Secret or ConfigMap.
    pub(super) fn entry(&self, kind: &str, name: &str, entry: &str) -> Result<String> {
        let object = self.object(kind, name)?;
        let found = [&object["data"][entry], &object["stringData"][entry]]
            .into_iter()
            .find_map(Value::as_str);
        found
            .map(str::to_owned)
            .with_context(|| format!("{kind} {name} has no entry {entry}"))
    }

    /// The certificates of a secret, by the name that a proxy asks for it.
    pub(super) fn asked(&self, secret: &str) -> Result<String> {
        let (scheme, place) = secret
            .split_once("://")
            .with_context(|| format!("secret {secret:?} is none of an object"))?;
        let kind = if scheme == "configmap" { "ConfigMap" } else { "Secret" };
        match place.strip_suffix("-cacert") {
            Some(place) => self.entry(kind, place, "ca.crt"),
            None => self.entry(kind, place, "tls.crt"),
        }
    }
}

/// Fills in the defaults of an object's schema.
fn default(object: &mut Value) -> Result<()> {
    let reference = SpannedObject::from_value(object).reference;
    let Some(registered) = corten_api::kind(reference.group(), &reference.kind) else {
        return Ok(());
    };
    let Some(version) = registered.kind.version(reference.version()) else {
        bail!("{reference}: the version is not known")
    };
    let schema = Schema::parse(&schema(registered, version, Channel::Experimental));
    let schema = schema.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    defaults::apply(&schema, object);
    Ok(())
}
