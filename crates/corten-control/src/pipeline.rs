//! From objects to what clients are sent: changes are gathered, the model is brought up to date, and what came out different is encoded once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use corten_api::{diagnostic::Diagnostic, istio::request_authentication::RequestAuthenticationSpec};
use corten_core::NamespacedName;
use corten_gateway_api::store::ClassDefaults;
use corten_model::input::{Object, ServiceEntry};
use corten_model::{Change, Mesh, ObjectKey, ObjectKind, Reader, Settings as MeshSettings, Snapshot};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use corten_routing::{ConfigKey, ConfigKind, Configs, Table};
use corten_store_kube::{Kind, StatusWriter, kinds};
use corten_xds::server::{Resource, Shared};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::assignment::Entries;
use crate::clients::Rejection;
use crate::compile::Inputs;
use crate::credentials::Credentials;
use crate::faults::Faults;
use crate::gateways::Gateways;
use crate::issuers::{self, Known, Wanted};
use crate::metrics::Metrics;
use crate::revision;
use crate::statuses;
use crate::trust_bundle;
use crate::trust_domains::TrustDomains;
use crate::views::Views;

/// The model and all that is made of it. One task owns it.
pub(crate) struct Pipeline {
    mesh: Mesh,
    reader: Reader,
    /// The settings of this process, under those of the mesh.
    base: MeshSettings,
    trust_domains: TrustDomains,
    pending: Vec<Change>,
    /// What L7 proxies are configured from.
    configs: Arc<Configs>,
    /// What is known of the keys of issuers.
    known: Arc<Known>,
    /// The sources of keys that policies name.
    wanted: Wanted,
    /// The policies about tokens that are in effect: new ones wait for the first answer of their issuers.
    tokens: Arc<Table<RequestAuthenticationSpec>>,
    /// What of that is made of the Gateway API and Ingress.
    gateways: Gateways,
    /// ServiceEntries that are for another revision: of them only the addresses count, which are given once for all revisions.
    entries_of_others: BTreeMap<ObjectKey, Arc<ServiceEntry>>,
    entries_changed: bool,
    outputs: Outputs,
    pushes: u64,
    /// What was wrong with objects when they were read, until they change.
    diagnostics: HashMap<ObjectKey, Vec<Diagnostic>>,
    /// Objects that have a condition of ours though nothing may be wanted there any more.
    stale_statuses: BTreeSet<ObjectKey>,
    /// Which clients reject which policies, and why.
    rejections: HashMap<ObjectKey, BTreeMap<String, String>>,
    /// What is wrong with what L7 proxies are configured from.
    faults: Faults,
}

/// Where the results go.
pub(crate) struct Outputs {
    /// What clients are sent.
    pub(crate) shared: Arc<Shared>,
    /// What L7 proxies are sent.
    pub(crate) views: Arc<Views>,
    /// Certificates that proxies ask for.
    pub(crate) credentials: Arc<Credentials>,
    /// For debugging, and for who may have which certificate.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// The ServiceEntries, for addresses to be given to; none: they are not.
    pub(crate) entries: Option<watch::Sender<Entries>>,
    /// The sources of keys that are to be fetched.
    pub(crate) wanted: watch::Sender<Wanted>,
    /// Conditions to be written; none: they are not.
    pub(crate) statuses: Option<Arc<StatusWriter>>,
    pub(crate) metrics: Arc<Metrics>,
    /// The mesh's configuration as last read.
    pub(crate) mesh_config: Arc<ArcSwap<MeshConfig>>,
}

/// The mesh's configuration, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct MeshConfig {
    /// As it was written.
    pub(crate) text: String,
    /// What was written of its networks, which is only looked at to say that it takes no effect.
    networks: String,
    /// Whether it has been looked for.
    pub(crate) known: bool,
    /// As it was understood.
    pub(crate) typed: Arc<corten_api::istio::mesh_config::MeshConfig>,
    /// What is wrong with it, and what of it takes effect only with a restart.
    pub(crate) problems: Vec<String>,
}

impl Pipeline {
    /// A model without objects. Until it has seen the mesh's configuration, its settings are `base`.
    pub(crate) fn new(
        base: MeshSettings,
        trust_domains: TrustDomains,
        gateways: Gateways,
        outputs: Outputs,
    ) -> Pipeline {
        Pipeline {
            mesh: Mesh::new(base.clone()),
            trust_domains,
            reader: Reader::default(),
            base,
            pending: Vec::new(),
            configs: Arc::default(),
            known: Arc::default(),
            wanted: Wanted::default(),
            tokens: Arc::default(),
            gateways,
            entries_of_others: BTreeMap::new(),
            entries_changed: false,
            outputs,
            pushes: 0,
            diagnostics: HashMap::new(),
            stale_statuses: BTreeSet::new(),
            rejections: HashMap::new(),
            faults: Faults::default(),
        }
    }

    /// Changes of objects. They take effect with the next [`push`](Self::push).
    pub(crate) fn see(&mut self, changes: Vec<corten_store_kube::Change>) {
        let tokens = Arc::clone(&self.configs.request_authentications);
        for change in changes {
            match change {
                corten_store_kube::Change::Put { kind, object } => self.put(kind, &object),
                corten_store_kube::Change::Removed { kind, key } => self.removed(kind, &key),
            }
        }
        if !Arc::ptr_eq(&tokens, &self.configs.request_authentications) {
            self.wanted = issuers::wanted(&self.configs.request_authentications);
            let wanted = Arc::clone(&self.wanted);
            self.outputs.wanted.send_if_modified(|held| {
                let is_new = *held != wanted;
                *held = wanted;
                is_new
            });
        }
    }

    /// Takes what is known of the keys of issuers. It takes effect with the next [`push`](Self::push).
    pub(crate) fn learn(&mut self, known: Arc<Known>) {
        self.known = known;
    }

    /// Whether there is an answer of every issuer that policies name, or none was to be had.
    pub(crate) fn knows_issuers(&self) -> bool {
        self.known.is_decided(&self.wanted)
    }

    /// What L7 proxies are configured from now.
    fn configs(&mut self) -> Arc<Configs> {
        let written = &self.configs.request_authentications;
        if self.knows_issuers() {
            self.tokens = Arc::clone(written);
        } else {
            // Only those stay as they were: nobody's issuer keeps others waiting.
            let mut tokens = (**written).clone();
            for place in self.known.undecided(&self.wanted) {
                match self.tokens.get(place) {
                    Some(held) => drop(tokens.insert(place.clone(), Arc::clone(held))),
                    None => drop(tokens.remove(place)),
                }
            }
            if tokens != *self.tokens {
                self.tokens = Arc::new(tokens);
            }
        }
        if Arc::ptr_eq(&self.tokens, written) {
            return Arc::clone(&self.configs);
        }
        Arc::new(Configs {
            request_authentications: Arc::clone(&self.tokens),
            ..(*self.configs).clone()
        })
    }

    fn put(&mut self, kind: Kind, object: &Value) {
        self.outputs.metrics.events.add(kind.kind, 1);
        if kind == kinds::CONFIG_MAPS {
            let entry = |name: &str| object["data"][name].as_str().unwrap_or_default();
            return self.configure(entry("mesh"), entry("meshNetworks"));
        }
        if kind == kinds::CLASS_DEFAULTS {
            return self
                .gateways
                .put_class_defaults(&key_of(object), ClassDefaults::of(object));
        }
        if !revision::is_read(self.gateways.revision(), kind, object) {
            return self.put_of_others(kind, object);
        }
        self.forget_of_others(kind, &key_of(object));
        self.gateways.put(kind, object);
        let (routing, whole) = (ConfigKind::of(kind.group, kind.kind), kind);
        let Some(kind) = ObjectKind::of(kind.group, kind.kind) else {
            if let Some(routing) = routing {
                let found = Arc::make_mut(&mut self.configs).put(routing, object);
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let (group, name) = (whole.group, whole.kind);
                self.faults.read(group, name, text("namespace"), text("name"), &found);
            }
            return;
        };
        let read = self.reader.read_kind(kind, object);
        let Some(object_read) = read.object else { return };
        let key = object_read.key();
        if let Some(routing) = routing {
            let configs = Arc::make_mut(&mut self.configs);
            if configs.put_input(&object_read) {
                self.gateways.service_changed();
            }
            // What the model's reader says of it is said once.
            configs.put(routing, object);
        }
        self.diagnose(&key, read.diagnostics);
        if statuses::has_ours(kind, object) {
            self.stale_statuses.insert(key);
        }
        self.pending.push(Change::Put(object_read));
    }

    fn removed(&mut self, kind: Kind, key: &NamespacedName) {
        self.outputs.metrics.events.add(kind.kind, 1);
        if kind == kinds::CONFIG_MAPS {
            return self.configure("", "");
        }
        if kind == kinds::CLASS_DEFAULTS {
            return self.gateways.put_class_defaults(key, None);
        }
        self.forget_of_others(kind, key);
        self.gone(kind, key);
    }

    /// An object that is for another revision: here it is as if it were not there.
    fn put_of_others(&mut self, kind: Kind, object: &Value) {
        let key = key_of(object);
        if kind == kinds::SERVICE_ENTRIES
            && let Some(Object::ServiceEntry(entry)) = self.reader.read_kind(ObjectKind::ServiceEntry, object).object
        {
            let name = ObjectKey::new(ObjectKind::ServiceEntry, &key.namespace, &key.name);
            self.entries_of_others.insert(name, entry);
            self.entries_changed = true;
        }
        tracing::debug!(kind = kind.kind, object = %key, "is for another revision, by its label istio.io/rev");
        self.gone(kind, &key);
    }

    fn forget_of_others(&mut self, kind: Kind, key: &NamespacedName) {
        if kind == kinds::SERVICE_ENTRIES && !self.entries_of_others.is_empty() {
            let name = ObjectKey::new(ObjectKind::ServiceEntry, &key.namespace, &key.name);
            self.entries_changed |= self.entries_of_others.remove(&name).is_some();
        }
    }

    fn gone(&mut self, kind: Kind, key: &NamespacedName) {
        self.gateways.removed(kind, key);
        self.faults.forget(kind.group, kind.kind, &key.namespace, &key.name);
        if let Some(routing) = ConfigKind::of(kind.group, kind.kind) {
            Arc::make_mut(&mut self.configs).remove(&ConfigKey {
                kind: routing,
                namespace: key.namespace.as_str().into(),
                name: key.name.as_str().into(),
            });
        }
        if let Some(model_kind) = ObjectKind::of(kind.group, kind.kind) {
            let object = ObjectKey::new(model_kind, &key.namespace, &key.name);
            self.diagnostics.remove(&object);
            self.stale_statuses.remove(&object);
            if let Some(statuses) = self
                .outputs
                .statuses
                .as_ref()
                .filter(|_| statuses::is_written(model_kind))
            {
                statuses.forget(kind, key);
            }
            self.pending.push(Change::Remove(object));
        }
    }

    fn diagnose(&mut self, key: &ObjectKey, diagnostics: Vec<Diagnostic>) {
        if diagnostics.is_empty() {
            self.diagnostics.remove(key);
            return;
        }
        if self.diagnostics.get(key) != Some(&diagnostics) {
            for diagnostic in &diagnostics {
                tracing::warn!(object = %key, "{diagnostic}");
            }
            self.diagnostics.insert(key.clone(), diagnostics);
        }
    }

    /// The `mesh` entry of the mesh's ConfigMap, and the one of its networks. What cannot be read is reported, and the rest of it used.
    fn configure(&mut self, text: &str, networks: &str) {
        let before = self.outputs.mesh_config.load();
        if before.known && before.text == text && before.networks == networks {
            return;
        }
        let (config, mut problems) = statuses::mesh_config(text);
        problems.extend(statuses::mesh_networks(networks));
        let mut settings = self.base.clone().with_mesh_config(&config);
        problems.extend(self.trust_domains.follow(&mut settings));
        problems.extend(trust_bundle::problems(&config));
        for problem in &problems {
            tracing::warn!(
                problem,
                "the mesh's configuration (ConfigMap istio, entries mesh and meshNetworks)"
            );
        }
        self.outputs.mesh_config.store(Arc::new(MeshConfig {
            text: text.to_owned(),
            networks: networks.to_owned(),
            known: true,
            typed: Arc::new(config),
            problems,
        }));
        self.gateways
            .configure(&settings, &self.outputs.mesh_config.load().typed);
        self.pending.push(Change::Settings(Arc::new(settings)));
    }

    /// A Secret or ConfigMap that is referred to changed, or was looked for and is not there.
    pub(crate) fn see_reference(&mut self, change: &corten_store_kube::Change) {
        self.gateways.see_reference(change);
        self.outputs.credentials.see(change);
    }

    /// Whether something that is referred to has not been looked for yet.
    pub(crate) fn awaits_references(&self) -> bool {
        self.gateways.awaits_references()
    }

    /// A client rejects a resource, or does so no longer.
    pub(crate) fn rejected(&mut self, rejection: Rejection) {
        let Some(policy) = rejection.resource.strip_prefix("wads ") else {
            self.faults.rejected(&rejection);
            return self.write_faults();
        };
        let Some((namespace, name)) = policy.split_once('/') else {
            return;
        };
        let key = ObjectKey::new(ObjectKind::AuthorizationPolicy, namespace, name);
        let clients = self.rejections.entry(key.clone()).or_default();
        match rejection.reason {
            Some(reason) => {
                clients.insert(rejection.connection, reason);
            }
            None => {
                clients.remove(&rejection.connection);
                if clients.is_empty() {
                    self.rejections.remove(&key);
                }
            }
        }
        let snapshot = self.mesh.snapshot();
        // A policy that is made of something else (peer authentication) has no status.
        if snapshot.status(&key).is_some() {
            self.want_status(&snapshot, &key);
        }
    }

    fn write_faults(&mut self) {
        if let Some(writer) = &self.outputs.statuses {
            self.faults.write(writer);
        }
    }

    fn want_status(&self, snapshot: &Snapshot, key: &ObjectKey) {
        let Some(writer) = &self.outputs.statuses else { return };
        let rejected = self.rejections.get(key).and_then(|clients| {
            let (connection, reason) = clients.first_key_value()?;
            Some(format!(
                "{} node proxies reject it; {connection}: {reason}",
                clients.len()
            ))
        });
        let status = snapshot.status(key).map(|status| &**status);
        statuses::want(writer, key, status, rejected.as_deref());
    }

    /// Brings the model up to date and tells the sessions. `since` is when the first of the changes was seen.
    pub(crate) fn push(&mut self, since: Instant) {
        let began = Instant::now();
        self.outputs.metrics.debounce.observe_time(began - since);
        let of_entry = |change: &Change| match change {
            Change::Put(object) => object.kind() == ObjectKind::ServiceEntry,
            Change::Remove(key) => key.kind == ObjectKind::ServiceEntry,
            Change::Settings(_) => false,
        };
        let entries_changed = std::mem::take(&mut self.entries_changed) || self.pending.iter().any(of_entry);
        let delta = self.mesh.apply(self.pending.drain(..));
        if let Some(entries) = self.outputs.entries.as_ref().filter(|_| entries_changed) {
            let all = self.mesh.service_entries().chain(self.entries_of_others.values());
            entries.send_replace(Arc::new(all.cloned().collect()));
        }
        // A first push is large; what is kept for the next ones shall not be.
        self.pending.shrink_to(1024);
        let snapshot = self.mesh.snapshot();
        // Encoded before the store is locked.
        let addresses: Vec<_> = delta
            .addresses()
            .map(|key| {
                let resource = corten_xds_gen::address(&snapshot, &key);
                (key.name().clone(), resource.map(|found| encode(ADDRESS_TYPE, found)))
            })
            .collect();
        let policies: Vec<_> = delta
            .policies
            .iter()
            .map(|key| {
                let resource = corten_xds_gen::authorization(&snapshot, key);
                (key.clone(), resource.map(|found| encode(AUTHORIZATION_TYPE, found)))
            })
            .collect();
        let changed = addresses.len() + policies.len();
        if changed > 0 {
            self.pushes += 1;
            let version = format!("{}/{}", Timestamp::now(), self.pushes);
            self.outputs.shared.publish(since, |store| {
                store.set_version_info(version);
                for (type_url, resources) in [(ADDRESS_TYPE, addresses), (AUTHORIZATION_TYPE, policies)] {
                    for (name, resource) in resources {
                        match resource {
                            Some(resource) => store.set(type_url, resource),
                            None => store.remove(type_url, &name),
                        };
                    }
                }
            });
        }
        // What was made of the Gateway API's objects is served in this very push.
        self.gateways.update(&mut self.configs, &snapshot);
        let configs = self.configs();
        let metrics = &self.outputs.metrics;
        metrics.services.set(snapshot.services_len());
        let stale = std::mem::take(&mut self.stale_statuses);
        for key in delta.statuses.iter().chain(&stale) {
            self.want_status(&snapshot, key);
        }
        for key in &delta.diagnostics {
            for diagnostic in snapshot.diagnostics_of(key) {
                tracing::warn!(object = %key, "{diagnostic}");
            }
        }
        let inputs = Inputs {
            model: snapshot.clone(),
            mesh: Arc::clone(&self.outputs.mesh_config.load().typed),
            configs,
            keys: Arc::clone(&self.known.keys),
        };
        self.outputs.views.update(inputs, &delta, since);
        let views = &self.outputs.views;
        self.outputs
            .credentials
            .follow(self.gateways.grants(), || views.snapshot(), since);
        if let Some(found) = self.outputs.views.take_diagnostics() {
            self.faults.derived(&found);
        }
        if let Some(writer) = &self.outputs.statuses {
            self.faults.write(writer);
        }
        self.outputs.snapshot.store(Arc::new(snapshot));
        metrics.push_time.observe_time(began.elapsed());
        metrics.triggers.add(if changed > 0 { "config" } else { "none" }, 1);
        tracing::debug!(changed, took = ?began.elapsed(), "pushed");
    }
}

fn key_of(object: &Value) -> NamespacedName {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    NamespacedName::new(text("namespace"), text("name"))
}

fn encode(type_url: &str, resource: corten_xds_gen::Resource) -> Resource {
    Resource::new(type_url, resource.name, &resource.version, &resource.body)
}
