//! The Gateway API and Ingress: what their objects become is put beside what users wrote in Istio's kinds, and what became of each is
//! told to whoever writes statuses.
//!
//! What objects mean is decided in `corten-gateway-api`; here it is noticed when that has to be asked again: when an object of these
//! kinds changed, a Secret or ConfigMap that they refer to, a service that they lead to, or the endpoints of a gateway.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use corten_api::diagnostic::Diagnostic;
use corten_api::gateway_api::ReferenceGrant;
use corten_api::istio::mesh_config::MeshConfig;
use corten_core::NamespacedName;
use corten_gateway_api::input::{RegistryService, Service};
use corten_gateway_api::reference::{Key, Kind as ReferenceKind};
use corten_gateway_api::store::{ClassDefaults, Reference, Store};
use corten_gateway_api::{Conversion, Inputs, Settings, StatusValue, checked, convert, deploy, ingress};
use corten_model::{Settings as MeshSettings, Snapshot};
use corten_routing::{Configs, Generated, GeneratedObjects};
use corten_store_kube::{Change, Kind, Referred, kinds};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::credentials::Credentials;
use crate::deployer::{self, Workload, Workloads};
use crate::gateway_status::{Wanted, Write};
use crate::ingress_nodes::IngressNodes;
use crate::revision::Revision;

/// The objects, and what they became last.
pub(crate) struct Gateways {
    store: Store,
    /// Whose gateways are ours.
    revision: Revision,
    outside: BTreeMap<Key, Outside>,
    /// Where gateways' pods run.
    nodes: IngressNodes,
    /// The services that gateways are reached by, by namespace and host name, as they were last seen.
    reached: BTreeMap<(String, String), Option<Arc<RegistryService>>>,
    generated: Generated,
    /// The settings of the mesh.
    domain: String,
    /// Secrets and ConfigMaps that are referred to.
    references: Arc<BTreeSet<Referred>>,
    /// What of them has been looked for.
    looked_for: BTreeSet<Referred>,
    /// What was said about objects already.
    said: HashSet<String>,
    /// What gateways are deployed with; none: they are not deployed.
    deployment: Option<deploy::Settings>,
    workloads: Workloads,
    /// Gateways without a workload, and why.
    undeployed: BTreeMap<Key, String>,
    outputs: Outputs,
}

/// Where the results go.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// Statuses that objects should have and do not.
    pub(crate) statuses: watch::Sender<Wanted>,
    /// Who reads Secrets and ConfigMaps.
    pub(crate) credentials: Arc<Credentials>,
    /// The workloads of gateways.
    pub(crate) workloads: watch::Sender<Arc<Workloads>>,
    /// The classes that there are.
    pub(crate) classes: watch::Sender<Arc<BTreeSet<String>>>,
}

/// What a service says about addresses outside of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
struct Outside {
    addresses: Vec<String>,
    load_balancer: bool,
}

impl Gateways {
    /// Without objects.
    pub(crate) fn new(revision: Revision, deployment: Option<deploy::Settings>, outputs: Outputs) -> Gateways {
        Gateways {
            store: Store::new(revision.name()),
            revision,
            outside: BTreeMap::new(),
            nodes: IngressNodes::default(),
            reached: BTreeMap::new(),
            generated: Generated::default(),
            domain: Settings::default().domain,
            references: Arc::default(),
            looked_for: BTreeSet::new(),
            said: HashSet::new(),
            deployment,
            workloads: Workloads::default(),
            undeployed: BTreeMap::new(),
            outputs,
        }
    }

    /// Takes the mesh's settings.
    pub(crate) fn configure(&mut self, mesh: &MeshSettings, config: &MeshConfig) {
        let settings = Settings {
            domain: mesh.domain.to_string(),
            ..Settings::default()
        };
        let ingress = ingress::Settings::of_mesh(config, &mesh.domain, &mesh.system_namespace);
        self.domain.clone_from(&settings.domain);
        if let Some(deployment) = &mut self.deployment {
            deployment.trust_domain = mesh.trust_domain.to_string();
            deployment.domain.clone_from(&settings.domain);
        }
        self.store.configure(settings, ingress);
    }

    /// The name of the revision whose objects are read.
    pub(crate) fn revision(&self) -> &str {
        self.revision.name()
    }

    /// Takes an object; those of other kinds are passed over.
    pub(crate) fn put(&mut self, kind: Kind, object: &Value) {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let key = NamespacedName::new(text("namespace"), text("name"));
        if self.revision.see(kind, &key, Some(object)) {
            self.store.touch();
        }
        for diagnostic in self.store.put(kind.group, kind.kind, object) {
            tracing::warn!("{diagnostic}");
        }
        match (kind.group, kind.kind) {
            ("", "Pod") if self.nodes.put_pod(Key::new(&key.namespace, &key.name), Some(object)) => self.store.touch(),
            ("", "Node") if self.nodes.put_node(&key.name, Some(object)) => self.store.touch(),
            ("", "Service") => {
                self.put_service(object);
                let is_ours = object["metadata"]["labels"][deploy::MANAGED].is_string();
                if is_ours && self.workloads.see(kind.kind, key, deployer::version(kind.kind, object)) {
                    self.send_workloads();
                }
            }
            _ if is_of_workload(kind) && self.workloads.see(kind.kind, key, deployer::version(kind.kind, object)) => {
                self.send_workloads();
            }
            ("gateway.networking.k8s.io", "GatewayClass") => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                self.outputs
                    .classes
                    .send_if_modified(|classes| Arc::make_mut(classes).insert(name));
            }
            _ => {}
        }
    }

    /// An object is gone.
    pub(crate) fn removed(&mut self, kind: Kind, key: &NamespacedName) {
        if self.revision.see(kind, key, None) {
            self.store.touch();
        }
        let place = Key::new(&key.namespace, &key.name);
        self.store.remove(kind.group, kind.kind, &place);
        match (kind.group, kind.kind) {
            _ if is_of_workload(kind) && self.workloads.see(kind.kind, key.clone(), None) => self.send_workloads(),
            ("", "Pod") if self.nodes.put_pod(place.clone(), None) => self.store.touch(),
            ("", "Node") if self.nodes.put_node(&key.name, None) => self.store.touch(),
            ("", "Service") => {
                if self.workloads.see(kind.kind, key.clone(), None) {
                    self.send_workloads();
                }
                self.outside.remove(&place);
                self.store.touch();
            }
            ("gateway.networking.k8s.io", "GatewayClass") => {
                self.outputs
                    .classes
                    .send_if_modified(|classes| Arc::make_mut(classes).remove(&key.name));
            }
            _ => {}
        }
    }

    /// Takes what is different about all gateways of a class, by the ConfigMap that says so.
    pub(crate) fn put_class_defaults(&mut self, key: &NamespacedName, defaults: Option<ClassDefaults>) {
        self.store
            .put_class_defaults(Key::new(&key.namespace, &key.name), defaults);
    }

    /// What is told of a service elsewhere is noticed there ([`service_changed`](Self::service_changed)).
    fn put_service(&mut self, object: &Value) {
        let (addresses, load_balancer) = corten_gateway_api::service::outside(object);
        let outside = Outside {
            addresses,
            load_balancer,
        };
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let key = Key::new(text("namespace"), text("name"));
        let before = if outside == Outside::default() {
            self.outside.remove(&key)
        } else {
            self.outside.insert(key, outside.clone())
        };
        if before.unwrap_or_default() != outside {
            self.store.touch();
        }
    }

    /// A service is there that was not, or is another than before.
    pub(crate) fn service_changed(&mut self) {
        self.store.touch();
    }

    /// The consents to references across namespaces.
    pub(crate) fn grants(&self) -> Vec<Arc<ReferenceGrant>> {
        self.store.grants()
    }

    /// Converts anew if something changed that counts. Returns whether it did.
    pub(crate) fn update(&mut self, configs: &mut Arc<Configs>, snapshot: &Snapshot) -> bool {
        if self.store.is_empty() && self.generated.is_empty() {
            return false;
        }
        let reached: BTreeMap<_, _> = self
            .reached
            .keys()
            .map(|key| (key.clone(), self.registered(configs, snapshot, key)))
            .collect();
        if reached != self.reached {
            self.store.touch();
        }
        if !self.store.take_changed() {
            return false;
        }
        let mut inputs = self.store.inputs(Timestamp::now());
        inputs.services = services(configs);
        inputs.registry = registry(configs, &self.domain);
        let reached = self.store.services(&inputs);
        self.reached = reached
            .into_iter()
            .map(|key| {
                let found = self.registered(configs, snapshot, &key);
                (key, found)
            })
            .collect();
        let is_reached = |service: &Arc<RegistryService>| {
            let key = (service.namespace.clone(), service.hostname.clone());
            self.reached.contains_key(&key)
        };
        inputs.registry.retain(|service| !is_reached(service));
        inputs.registry.extend(self.reached.values().flatten().cloned());
        let references: BTreeSet<Referred> = self.store.references().into_iter().map(referred).collect();
        self.references = Arc::new(references);
        let read_already = self.outputs.credentials.want(Arc::clone(&self.references));
        if !read_already.is_empty() {
            for change in &read_already {
                self.see_reference(change);
            }
            let read = self.store.inputs(Timestamp::now());
            (inputs.secrets, inputs.config_maps) = (read.secrets, read.config_maps);
        }
        self.convert(&inputs, configs);
        if !self.awaits_references() {
            self.deploy(&inputs);
        }
        true
    }

    fn convert(&mut self, inputs: &Inputs, configs: &mut Arc<Configs>) {
        let began = std::time::Instant::now();
        let made: Conversion = convert(inputs);
        let mut ingresses = self.store.ingress_inputs();
        ingresses.services.clone_from(&inputs.services);
        ingresses.addresses = self.ingress_addresses(&ingresses.settings);
        let of_ingresses = ingress::convert(&ingresses);
        self.say(made.diagnostics.into_iter().chain(of_ingresses.diagnostics));

        let now = GeneratedObjects {
            gateways: made.gateways.into_iter().chain(of_ingresses.gateways).collect(),
            virtual_services: made
                .virtual_services
                .into_iter()
                .map(|routes| routes.object)
                .chain(of_ingresses.virtual_services)
                .collect(),
            destination_rules: checked(made.destination_rules),
        };
        if let Some(changed) = configs.with_generated(&mut self.generated, now) {
            *configs = Arc::new(changed);
        }

        let mut writes: Vec<Write> = self
            .store
            .want(made.statuses)
            .into_iter()
            .filter_map(|(wanted, live, version)| Write::of(&wanted, live.as_ref(), version))
            .filter(|write| write.is_of(&self.revision))
            .collect();
        for (key, status) in of_ingresses.statuses {
            writes.extend(
                self.store
                    .ingress(&key)
                    .and_then(|live| Write::of_ingress(&key, live, status))
                    .filter(|write| write.is_of(&self.revision)),
            );
        }
        tracing::debug!(statuses = writes.len(), took = ?began.elapsed(), "gateways and routes were converted");
        // What is not known yet is not told either: it would be taken back a moment later.
        if !self.awaits_references() {
            self.outputs.statuses.send_replace(Arc::new(writes));
        }
    }

    /// A Secret or ConfigMap that is referred to changed, or was looked for and is not there.
    pub(crate) fn see_reference(&mut self, change: &Change) {
        let (kind, key) = match change {
            Change::Put { kind, object } => {
                let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
                (kind, NamespacedName::new(text("namespace"), text("name")))
            }
            Change::Removed { kind, key } => (kind, key.clone()),
        };
        let one = if *kind == kinds::SECRETS {
            Referred::Secret(key.clone())
        } else {
            Referred::ConfigMap(key.clone())
        };
        let wanted = self.references.contains(&one);
        match change {
            Change::Put { object, .. } if wanted => {
                self.store.put(kind.group, kind.kind, object);
            }
            _ => self
                .store
                .remove(kind.group, kind.kind, &Key::new(&key.namespace, &key.name)),
        }
        let news = if wanted {
            self.looked_for.insert(one)
        } else {
            self.looked_for.remove(&one)
        };
        if news {
            self.store.touch();
        }
    }

    /// Whether something that is referred to has not been looked for yet.
    pub(crate) fn awaits_references(&self) -> bool {
        !self.references.is_subset(&self.looked_for)
    }

    /// Finds the workloads of gateways anew.
    fn deploy(&mut self, inputs: &Inputs) {
        let Some(settings) = &self.deployment else { return };
        let mut wanted = BTreeMap::new();
        let mut problems = BTreeMap::new();
        for deployed in self.store.workloads(inputs, settings) {
            if !self.revision.owns(kinds::GATEWAYS, &deployed.gateway) {
                continue;
            }
            match deployed.workload.objects {
                Ok(objects) => {
                    let workload = Workload {
                        controller: deployed.controller,
                        claim: deployed.workload.claim,
                        objects,
                    };
                    wanted.insert(deployed.gateway, Arc::new(workload));
                }
                Err(error) => {
                    problems.insert(deployed.gateway, error.to_string());
                }
            }
        }
        for (gateway, problem) in &problems {
            if self.undeployed.get(gateway) != Some(problem) {
                tracing::warn!(%gateway, problem, "a Gateway has no workload");
            }
        }
        self.undeployed = problems;
        if wanted != self.workloads.wanted {
            self.workloads.want(wanted);
            self.send_workloads();
        }
    }

    fn send_workloads(&self) {
        self.outputs.workloads.send_replace(Arc::new(self.workloads.clone()));
    }

    /// Says what is not honoured, each once for as long as it is so.
    fn say(&mut self, diagnostics: impl Iterator<Item = Diagnostic>) {
        let now: HashSet<String> = diagnostics.map(|diagnostic| diagnostic.to_string()).collect();
        for diagnostic in now.difference(&self.said) {
            tracing::warn!("{diagnostic}");
        }
        self.said = now;
    }

    /// Where the gateway for Ingresses can be reached from outside.
    fn ingress_addresses(&self, settings: &ingress::Settings) -> Vec<String> {
        if settings.service.is_empty() {
            return self.nodes.addresses(&settings.namespace, settings.label());
        }
        let key = Key::new(&settings.namespace, &settings.service);
        self.outside
            .get(&key)
            .map(|outside| outside.addresses.clone())
            .unwrap_or_default()
    }

    /// A service of Kubernetes with its endpoints and addresses.
    fn registered(
        &self,
        configs: &Configs,
        snapshot: &Snapshot,
        (namespace, hostname): &(String, String),
    ) -> Option<Arc<RegistryService>> {
        let suffix = format!(".{namespace}.svc.{}", self.domain);
        let name = hostname.strip_suffix(&suffix)?;
        let service = configs.services.get(&(namespace.as_str().into(), name.into()))?;
        let mut endpoints: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
        let key = format!("{namespace}/{hostname}");
        for workload in snapshot.members(&key).filter_map(|uid| snapshot.workload(uid)) {
            if !workload.healthy {
                continue;
            }
            let of = workload.services.iter().filter(|(service, _)| **service == *key);
            for port in of.flat_map(|(_, ports)| ports.iter()) {
                endpoints.entry(port.service_port).or_default().insert(port.target_port);
            }
        }
        let outside = self
            .outside
            .get(&Key::new(namespace, name))
            .cloned()
            .unwrap_or_default();
        let addresses = service.addresses.iter().flatten();
        Some(Arc::new(RegistryService {
            endpoints: endpoints
                .into_iter()
                .map(|(port, targets)| (port, targets.into_iter().collect()))
                .collect(),
            addresses: addresses.map(ToString::to_string).collect(),
            external_addresses: outside.addresses,
            load_balancer: outside.load_balancer,
            ..kubernetes(service, &self.domain)
        }))
    }
}

fn referred(reference: Reference) -> Referred {
    let key = NamespacedName::new(&*reference.key.namespace, &*reference.key.name);
    if reference.kind == ReferenceKind::SECRET {
        Referred::Secret(key)
    } else {
        Referred::ConfigMap(key)
    }
}

/// Kubernetes' services as routes look at them.
fn services(configs: &Configs) -> Vec<Arc<Service>> {
    let of = |service: &Arc<corten_model::input::Service>| {
        Arc::new(Service {
            namespace: service.meta.namespace.to_string(),
            name: service.meta.name.to_string(),
            labels: labels(&service.meta.labels),
            ports: service
                .ports
                .iter()
                .map(|port| (port.name.to_string(), port.port))
                .collect(),
        })
    };
    configs.services.values().map(of).collect()
}

/// Whether objects of a kind are watched only because they belong to workloads of gateways.
fn is_of_workload(kind: Kind) -> bool {
    kind == kinds::DEPLOYMENTS || kinds::OF_WORKLOADS.contains(&kind)
}

/// All services without their endpoints.
fn registry(configs: &Configs, domain: &str) -> Vec<Arc<RegistryService>> {
    let services = configs
        .services
        .values()
        .map(|service| Arc::new(kubernetes(service, domain)));
    let entries = configs.service_entries.values().flat_map(|entry| {
        entry.spec.hosts.iter().map(|host| {
            Arc::new(RegistryService {
                hostname: host.to_string(),
                namespace: entry.meta.namespace.to_string(),
                labels: labels(&entry.meta.labels),
                ports: entry.spec.ports.iter().map(|port| port.number.0).collect(),
                ..RegistryService::default()
            })
        })
    });
    services.chain(entries).collect()
}

fn kubernetes(service: &corten_model::input::Service, domain: &str) -> RegistryService {
    RegistryService {
        hostname: format!("{}.{}.svc.{domain}", service.meta.name, service.meta.namespace),
        namespace: service.meta.namespace.to_string(),
        labels: labels(&service.meta.labels),
        ports: service.ports.iter().map(|port| port.port).collect(),
        ..RegistryService::default()
    }
}

fn labels(labels: &corten_model::Labels) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// A status as JSON; null where there is none.
pub(crate) fn encode(status: Option<&StatusValue>) -> Value {
    status.map(StatusValue::encode).unwrap_or_default()
}
