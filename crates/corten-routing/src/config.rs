//! Istio's configuration, decoded: what is written, before it is resolved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use corten_api::{
    decode::SpannedObject,
    diagnostic::{Code, Diagnostic},
    istio::{
        authorization_policy::AuthorizationPolicySpec,
        destination_rule::DestinationRuleSpec,
        envoy_filter::EnvoyFilterSpec,
        extensions::{TrafficExtensionSpec, WasmPluginSpec},
        gateway::GatewaySpec,
        peer_authentication::PeerAuthenticationSpec,
        proxy_config_resource::ProxyConfigSpec,
        request_authentication::RequestAuthenticationSpec,
        service_entry::ServiceEntrySpec,
        sidecar::SidecarSpec,
        telemetry::TelemetrySpec,
        virtual_service::VirtualServiceSpec,
    },
    resource::{Kind, Resource, Spec},
};
use corten_core::LabelMap;
use corten_model::{Name, input};
use serde_json::Value;

/// An object of a kind, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Config<S> {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
    /// When it was created, in seconds since 1970; the largest number when it does not say.
    pub created: i64,
    /// The labels.
    pub labels: LabelMap,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: S,
    /// Some of what is wanted could not be read: the rest must not be taken for the whole where that would let more through.
    pub damaged: bool,
}

impl<S> Config<S> {
    /// The place in an order in which older objects come first.
    pub fn age(&self) -> (i64, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }
}

/// Kinds of configuration. Services and ServiceEntries are among them, because routing needs more of them than the model keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are the names of the kinds")]
pub enum ConfigKind {
    Service,
    ServiceEntry,
    VirtualService,
    DestinationRule,
    Gateway,
    Sidecar,
    EnvoyFilter,
    RequestAuthentication,
    AuthorizationPolicy,
    PeerAuthentication,
    Telemetry,
    WasmPlugin,
    TrafficExtension,
    ProxyConfig,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// The kind.
    pub kind: ConfigKind,
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

/// Objects of a kind, by namespace and name.
pub type Table<S> = BTreeMap<(Name, Name), Arc<Config<S>>>;

/// All configuration, as it is written. A clone costs a few pointers; a change then copies the table of its kind.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "they are the names of the kinds")]
pub struct Configs {
    pub services: Arc<BTreeMap<(Name, Name), Arc<input::Service>>>,
    pub service_entries: Arc<BTreeMap<(Name, Name), Arc<input::ServiceEntry>>>,
    pub virtual_services: Arc<Table<VirtualServiceSpec>>,
    pub destination_rules: Arc<Table<DestinationRuleSpec>>,
    pub gateways: Arc<Table<GatewaySpec>>,
    pub sidecars: Arc<Table<SidecarSpec>>,
    pub envoy_filters: Arc<Table<EnvoyFilterSpec>>,
    pub request_authentications: Arc<Table<RequestAuthenticationSpec>>,
    pub authorization_policies: Arc<Table<AuthorizationPolicySpec>>,
    pub peer_authentications: Arc<BTreeMap<(Name, Name), Arc<input::PeerAuthentication>>>,
    pub telemetries: Arc<Table<TelemetrySpec>>,
    pub wasm_plugins: Arc<Table<WasmPluginSpec>>,
    pub traffic_extensions: Arc<Table<TrafficExtensionSpec>>,
    pub proxy_configs: Arc<Table<ProxyConfigSpec>>,
}

impl ConfigKind {
    /// The kind of a group and kind, in any version.
    pub fn of(group: &str, kind: &str) -> Option<ConfigKind> {
        Some(match (group, kind) {
            ("", "Service") => ConfigKind::Service,
            ("networking.istio.io", "ServiceEntry") => ConfigKind::ServiceEntry,
            ("networking.istio.io", "VirtualService") => ConfigKind::VirtualService,
            ("networking.istio.io", "DestinationRule") => ConfigKind::DestinationRule,
            ("networking.istio.io", "Gateway") => ConfigKind::Gateway,
            ("networking.istio.io", "Sidecar") => ConfigKind::Sidecar,
            ("networking.istio.io", "EnvoyFilter") => ConfigKind::EnvoyFilter,
            ("networking.istio.io", "ProxyConfig") => ConfigKind::ProxyConfig,
            ("security.istio.io", "RequestAuthentication") => ConfigKind::RequestAuthentication,
            ("security.istio.io", "AuthorizationPolicy") => ConfigKind::AuthorizationPolicy,
            ("security.istio.io", "PeerAuthentication") => ConfigKind::PeerAuthentication,
            ("telemetry.istio.io", "Telemetry") => ConfigKind::Telemetry,
            ("extensions.istio.io", "WasmPlugin") => ConfigKind::WasmPlugin,
            ("extensions.istio.io", "TrafficExtension") => ConfigKind::TrafficExtension,
            _ => return None,
        })
    }
}

impl ConfigKind {
    /// Istio's kinds, as they are defined.
    pub fn defined() -> impl Iterator<Item = (ConfigKind, &'static Kind)> {
        [
            (ConfigKind::ServiceEntry, ServiceEntrySpec::KIND),
            (ConfigKind::VirtualService, VirtualServiceSpec::KIND),
            (ConfigKind::DestinationRule, DestinationRuleSpec::KIND),
            (ConfigKind::Gateway, GatewaySpec::KIND),
            (ConfigKind::Sidecar, SidecarSpec::KIND),
            (ConfigKind::EnvoyFilter, EnvoyFilterSpec::KIND),
            (ConfigKind::RequestAuthentication, RequestAuthenticationSpec::KIND),
            (ConfigKind::AuthorizationPolicy, AuthorizationPolicySpec::KIND),
            (ConfigKind::PeerAuthentication, PeerAuthenticationSpec::KIND),
            (ConfigKind::Telemetry, TelemetrySpec::KIND),
            (ConfigKind::WasmPlugin, WasmPluginSpec::KIND),
            (ConfigKind::TrafficExtension, TrafficExtensionSpec::KIND),
            (ConfigKind::ProxyConfig, ProxyConfigSpec::KIND),
        ]
        .into_iter()
    }
}

impl Configs {
    /// Stores an object of one of Istio's kinds; what is wrong with it is returned. Services, ServiceEntries and PeerAuthentications
    /// come as the model's reader reads them, by [`put_input`](Self::put_input).
    pub fn put(&mut self, kind: ConfigKind, value: &Value) -> Vec<Diagnostic> {
        match kind {
            ConfigKind::Service | ConfigKind::ServiceEntry | ConfigKind::PeerAuthentication => Vec::new(),
            ConfigKind::VirtualService => put(Arc::make_mut(&mut self.virtual_services), value),
            ConfigKind::DestinationRule => put(Arc::make_mut(&mut self.destination_rules), value),
            ConfigKind::Gateway => put(Arc::make_mut(&mut self.gateways), value),
            ConfigKind::Sidecar => put(Arc::make_mut(&mut self.sidecars), value),
            ConfigKind::EnvoyFilter => put(Arc::make_mut(&mut self.envoy_filters), value),
            ConfigKind::RequestAuthentication => put(Arc::make_mut(&mut self.request_authentications), value),
            ConfigKind::AuthorizationPolicy => put(Arc::make_mut(&mut self.authorization_policies), value),
            ConfigKind::Telemetry => put(Arc::make_mut(&mut self.telemetries), value),
            ConfigKind::WasmPlugin => put(Arc::make_mut(&mut self.wasm_plugins), value),
            ConfigKind::TrafficExtension => put(Arc::make_mut(&mut self.traffic_extensions), value),
            ConfigKind::ProxyConfig => put(Arc::make_mut(&mut self.proxy_configs), value),
        }
    }

    /// Stores an object that the model's reader has read, if it is one of these kinds. Returns whether it is another than before.
    pub fn put_input(&mut self, object: &input::Object) -> bool {
        fn put<T: PartialEq>(
            table: &mut Arc<BTreeMap<(Name, Name), Arc<T>>>,
            meta: &input::Meta,
            object: &Arc<T>,
        ) -> bool {
            let key = (Name::clone(&meta.namespace), Name::clone(&meta.name));
            let differs = table.get(&key).is_none_or(|held| held != object);
            if differs {
                Arc::make_mut(table).insert(key, Arc::clone(object));
            }
            differs
        }
        match object {
            input::Object::Service(service) => put(&mut self.services, &service.meta, service),
            input::Object::ServiceEntry(entry) => put(&mut self.service_entries, &entry.meta, entry),
            input::Object::PeerAuthentication(policy) => put(&mut self.peer_authentications, &policy.meta, policy),
            _ => false,
        }
    }

    /// With objects that were made of others, instead of those that were made before. Tables without a difference stay the same; `None`:
    /// all of them do.
    pub fn with_generated(&self, before: &mut Generated, now: GeneratedObjects) -> Option<Configs> {
        let mut next = self.clone();
        let (gateways, routes, rules) = (now.gateways, now.virtual_services, now.destination_rules);
        let changed = [
            replace(&mut next.gateways, &mut before.gateways, gateways),
            replace(&mut next.virtual_services, &mut before.virtual_services, routes),
            replace(&mut next.destination_rules, &mut before.destination_rules, rules),
        ];
        changed.contains(&true).then_some(next)
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &ConfigKey) {
        let place = (Name::clone(&key.namespace), Name::clone(&key.name));
        match key.kind {
            ConfigKind::Service => drop(Arc::make_mut(&mut self.services).remove(&place)),
            ConfigKind::ServiceEntry => drop(Arc::make_mut(&mut self.service_entries).remove(&place)),
            ConfigKind::VirtualService => drop(Arc::make_mut(&mut self.virtual_services).remove(&place)),
            ConfigKind::DestinationRule => drop(Arc::make_mut(&mut self.destination_rules).remove(&place)),
            ConfigKind::Gateway => drop(Arc::make_mut(&mut self.gateways).remove(&place)),
            ConfigKind::Sidecar => drop(Arc::make_mut(&mut self.sidecars).remove(&place)),
            ConfigKind::EnvoyFilter => drop(Arc::make_mut(&mut self.envoy_filters).remove(&place)),
            ConfigKind::RequestAuthentication => drop(Arc::make_mut(&mut self.request_authentications).remove(&place)),
            ConfigKind::AuthorizationPolicy => drop(Arc::make_mut(&mut self.authorization_policies).remove(&place)),
            ConfigKind::PeerAuthentication => drop(Arc::make_mut(&mut self.peer_authentications).remove(&place)),
            ConfigKind::Telemetry => drop(Arc::make_mut(&mut self.telemetries).remove(&place)),
            ConfigKind::WasmPlugin => drop(Arc::make_mut(&mut self.wasm_plugins).remove(&place)),
            ConfigKind::TrafficExtension => drop(Arc::make_mut(&mut self.traffic_extensions).remove(&place)),
            ConfigKind::ProxyConfig => drop(Arc::make_mut(&mut self.proxy_configs).remove(&place)),
        }
    }
}

/// The names of objects that were made of others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    gateways: BTreeSet<(Name, Name)>,
    virtual_services: BTreeSet<(Name, Name)>,
    destination_rules: BTreeSet<(Name, Name)>,
}

impl Generated {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Generated::default()
    }
}

/// Objects that were made of others.
#[derive(Debug, Default)]
pub struct GeneratedObjects {
    /// Gateways.
    pub gateways: Vec<Resource<GatewaySpec>>,
    /// VirtualServices.
    pub virtual_services: Vec<Resource<VirtualServiceSpec>>,
    /// DestinationRules.
    pub destination_rules: Vec<Resource<DestinationRuleSpec>>,
}

fn replace<S: Spec + Clone + PartialEq>(
    table: &mut Arc<Table<S>>,
    before: &mut BTreeSet<(Name, Name)>,
    now: Vec<Resource<S>>,
) -> bool {
    let mut changed = false;
    let mut names = BTreeSet::new();
    for resource in now {
        let config = config(resource, false);
        let key = (Name::clone(&config.namespace), Name::clone(&config.name));
        if table.get(&key).is_none_or(|held| **held != config) {
            Arc::make_mut(table).insert(key.clone(), Arc::new(config));
            changed = true;
        }
        names.insert(key);
    }
    for gone in before.difference(&names) {
        changed |= Arc::make_mut(table).remove(gone).is_some();
    }
    *before = names;
    changed
}

fn put<S: Spec>(table: &mut Table<S>, value: &Value) -> Vec<Diagnostic> {
    let mut object = SpannedObject::from_value(value);
    S::KIND.kind.clone_into(&mut object.reference.kind);
    let (resource, diagnostics) = Resource::<S>::decode(&object);
    let damaged = diagnostics
        .iter()
        .any(|found| found.path.starts_with("spec") && (found.is_error() || found.code == Code::UNKNOWN_FIELD));
    let config = config(resource, damaged);
    table.insert(
        (Name::clone(&config.namespace), Name::clone(&config.name)),
        Arc::new(config),
    );
    diagnostics
}

fn config<S: Spec>(resource: Resource<S>, damaged: bool) -> Config<S> {
    let meta = resource.metadata;
    Config {
        namespace: Name::from(meta.namespace),
        name: Name::from(meta.name),
        created: meta.creation_timestamp.map_or(i64::MAX, |time| time.0.as_second()),
        labels: meta.labels,
        annotations: meta.annotations,
        spec: resource.spec,
        damaged,
    }
}

/// The objects of a table, oldest first.
pub fn by_age<S>(table: &Table<S>) -> Vec<Arc<Config<S>>> {
    let mut all: Vec<Arc<Config<S>>> = table.values().cloned().collect();
    all.sort_by(|a, b| a.age().cmp(&b.age()));
    all
}
