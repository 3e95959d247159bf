//! Objects as they come and go, and what is to be read beside them.
//!
//! What a conversion is given is gathered here, and whether it is worth another one: an object that comes back as it was, or with
//! the status that was wanted for it, changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use corten_api::{
    decode::SpannedObject,
    diagnostic::Diagnostic,
    gateway_api,
    istio::ServiceEntry,
    kubernetes::networking::{Ingress, IngressClass},
    resource::{Resource, Spec},
};
use serde_json::Value;

use crate::{
    Inputs, ObjectStatus, Settings, StatusValue,
    deploy::{self, Deployed, Overlay},
    index::Index,
    ingress,
    input::{ConfigMap, Namespace, Secret, text},
    reference::{GATEWAY_GROUP, Grants, Key, Kind},
};

/// The label by which an object is for one revision of the control plane only.
const REVISION: &str = "istio.io/rev";
/// The group of Ingress.
const INGRESS_GROUP: &str = "networking.k8s.io";

/// Objects of a kind by name, each as it was decoded.
type Table<T> = BTreeMap<Key, Arc<T>>;

/// An object beside the others that is to be read: a Secret or a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind<'static>,
    /// Its name.
    pub key: Key,
}

/// What is different about all gateways of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassDefaults {
    /// The class.
    pub class: String,
    /// When its ConfigMap was made: of several the oldest counts.
    pub created: String,
    /// The entries.
    pub entries: Overlay,
}

impl ClassDefaults {
    /// Of a ConfigMap; `None`: it is none of these.
    pub fn of(object: &Value) -> Option<ClassDefaults> {
        let class = object["metadata"]["labels"][deploy::CLASS_DEFAULTS].as_str()?;
        Some(ClassDefaults {
            class: class.to_owned(),
            created: text(object, "/metadata/creationTimestamp"),
            entries: crate::input::strings(object, "/data"),
        })
    }

    /// The one that counts for a class, of all by the name of their ConfigMap.
    pub fn find<'a>(all: &'a BTreeMap<Key, ClassDefaults>, class: &str) -> Option<&'a Overlay> {
        let of_class = all.iter().filter(|(_, defaults)| defaults.class == class);
        let oldest = of_class.min_by_key(|(key, defaults)| (&defaults.created, *key));
        oldest.map(|(_, defaults)| &defaults.entries)
    }
}

/// All objects that conversions look at.
#[derive(Debug, Default)]
pub struct Store {
    settings: Settings,
    ingress: ingress::Settings,
    /// The revision whose objects are ours.
    revision: String,
    changed: bool,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    service_entries: Table<ServiceEntry>,
    secrets: Table<Secret>,
    config_maps: Table<ConfigMap>,
    /// The entries of ConfigMaps.
    overlays: Table<Overlay>,
    /// Those that are for all gateways of a class.
    class_defaults: BTreeMap<Key, ClassDefaults>,
    classes: Table<gateway_api::GatewayClass>,
    gateways: Table<gateway_api::Gateway>,
    listener_sets: Table<gateway_api::ListenerSet>,
    http_routes: Table<gateway_api::HTTPRoute>,
    grpc_routes: Table<gateway_api::GRPCRoute>,
    tcp_routes: Table<gateway_api::TCPRoute>,
    tls_routes: Table<gateway_api::TLSRoute>,
    udp_routes: Table<gateway_api::UDPRoute>,
    reference_grants: Table<gateway_api::ReferenceGrant>,
    backend_tls_policies: Table<gateway_api::BackendTLSPolicy>,
    ingresses: Table<Ingress>,
    ingress_classes: Table<IngressClass>,
    /// The statuses that were wanted last.
    wanted: BTreeMap<(&'static str, Key), StatusValue>,
}

/// Runs an expression over the tables of the Gateway API's kinds.
macro_rules! tables {
    ($visit:ident) => {
        $visit! {
            GatewayClass classes, Gateway gateways, ListenerSet listener_sets, HTTPRoute http_routes, GRPCRoute grpc_routes,
            TCPRoute tcp_routes, TLSRoute tls_routes, UDPRoute udp_routes, ReferenceGrant reference_grants,
            BackendTLSPolicy backend_tls_policies,
        }
    };
}

impl Store {
    /// Nothing is there yet. Objects that are for another revision are passed over, but for Gateways.
    pub fn new(revision: &str) -> Store {
        Store {
            revision: revision.to_owned(),
            ..Store::default()
        }
    }

    /// Takes settings.
    pub fn configure(&mut self, settings: Settings, ingress: ingress::Settings) {
        self.changed |= self.settings != settings || self.ingress != ingress;
        self.settings = settings;
        self.ingress = ingress;
    }

    /// Takes an object; what is wrong with it is returned. Those of other kinds are passed over.
    pub fn put(&mut self, group: &str, kind: &str, value: &Value) -> Vec<Diagnostic> {
        let key = Key::new(&text(value, "/metadata/namespace"), &text(value, "/metadata/name"));
        let rev = value["metadata"]["labels"][REVISION].as_str();
        // A Gateway is read by all revisions, so that its proxies keep what they have while its label changes.
        let of_any = group != GATEWAY_GROUP && group != "networking.istio.io" || kind == "Gateway";
        if rev.is_some_and(|rev| rev != self.revision) && !of_any {
            self.remove(group, kind, &key);
            return Vec::new();
        }
        let changed = match (group, kind) {
            ("", "Namespace") => {
                let name = key.name.clone();
                put_view(&mut self.namespaces, name, Namespace::read(value))
            }
            ("", "Secret") => put_view(&mut self.secrets, key, Secret::read(value)),
            ("", "ConfigMap") => {
                let entries = crate::input::strings(value, "/data");
                let changed = put_view(&mut self.overlays, key.clone(), entries);
                put_view(&mut self.config_maps, key, ConfigMap::read(value)) || changed
            }
            ("networking.istio.io", "ServiceEntry") => {
                // What is wrong with it is said by whoever reads all of Istio's kinds.
                let (entry, _) = decode(kind, value);
                put_resource(&mut self.service_entries, key, entry, |_, _| false)
            }
            (INGRESS_GROUP, "Ingress") => match serde_json::from_value::<Ingress>(without_notes(value)) {
                Ok(ingress) => put_view(&mut self.ingresses, key, ingress),
                Err(_) => self.ingresses.remove(&key).is_some(),
            },
            (INGRESS_GROUP, "IngressClass") => match serde_json::from_value::<IngressClass>(without_notes(value)) {
                Ok(class) => put_view(&mut self.ingress_classes, key, class),
                Err(_) => self.ingress_classes.remove(&key).is_some(),
            },
            (GATEWAY_GROUP, _) => return self.put_gateway_kind(kind, key, value),
            _ => false,
        };
        self.changed |= changed;
        Vec::new()
    }

    fn put_gateway_kind(&mut self, kind: &str, key: Key, value: &Value) -> Vec<Diagnostic> {
        macro_rules! put {
            ($($name:ident $table:ident,)*) => {
                match kind {
                    $(stringify!($name) => {
                        let (object, diagnostics) = decode(kind, value);
                        let object: gateway_api::$name = object;
                        let wanted = self.wanted.get(&(stringify!($name), key.clone()));
                        // Our own words, coming back, are no news.
                        let matters = |before: &_, now: &_| {
                            let now = $name(now);
                            if wanted.is_some() { now.as_ref() != wanted } else { now != $name(before) }
                        };
                        let changed = put_resource(&mut self.$table, key, object, matters);
                        (changed, diagnostics)
                    })*
                    _ => (false, Vec::new()),
                }
            };
        }
        let (changed, diagnostics) = tables!(put);
        self.changed |= changed;
        diagnostics
    }

    /// Takes what is different about all gateways of a class, by the ConfigMap that says so; `None`: it does not any more.
    pub fn put_class_defaults(&mut self, key: Key, defaults: Option<ClassDefaults>) {
        self.changed |= match defaults {
            Some(defaults) => self.class_defaults.insert(key, defaults.clone()) != Some(defaults),
            None => self.class_defaults.remove(&key).is_some(),
        };
    }

    /// An object is gone.
    pub fn remove(&mut self, group: &str, kind: &str, key: &Key) {
        macro_rules! remove {
            ($($name:ident $table:ident,)*) => {
                match kind {
                    $(stringify!($name) => {
                        self.wanted.remove(&(stringify!($name), key.clone()));
                        self.$table.remove(key).is_some()
                    })*
                    _ => false,
                }
            };
        }
        self.changed |= match (group, kind) {
            ("", "Namespace") => self.namespaces.remove(&key.name).is_some(),
            ("", "Secret") => self.secrets.remove(key).is_some(),
            ("", "ConfigMap") => {
                self.overlays.remove(key);
                self.config_maps.remove(key).is_some()
            }
            ("networking.istio.io", "ServiceEntry") => self.service_entries.remove(key).is_some(),
            (INGRESS_GROUP, "Ingress") => self.ingresses.remove(key).is_some(),
            (INGRESS_GROUP, "IngressClass") => self.ingress_classes.remove(key).is_some(),
            (GATEWAY_GROUP, _) => tables!(remove),
            _ => false,
        };
    }

    /// Something outside of the objects changed that conversions look at.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether there is nothing to convert: namespaces and what is referred to count for nothing by themselves.
    pub fn is_empty(&self) -> bool {
        macro_rules! is_empty {
            ($($name:ident $table:ident,)*) => { true $(&& self.$table.is_empty())* };
        }
        tables!(is_empty) && self.ingresses.is_empty()
    }

    /// Whether something changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What a conversion of the Gateway API is given, without services.
    pub fn inputs(&self, now: jiff::Timestamp) -> Inputs {
        let mut inputs = Inputs {
            settings: self.settings.clone(),
            // Times in objects have whole seconds.
            now: corten_api::codec::Timestamp(now.round(jiff::Unit::Second).unwrap_or(now)),
            namespaces: self.namespaces.values().cloned().collect(),
            secrets: self.secrets.values().cloned().collect(),
            config_maps: self.config_maps.values().cloned().collect(),
            service_entries: self.service_entries.values().cloned().collect(),
            ..Inputs::default()
        };
        macro_rules! fill {
            ($($name:ident $table:ident,)*) => { $(inputs.$table = self.$table.values().cloned().collect();)* };
        }
        tables!(fill);
        inputs
    }

    /// What a conversion of Ingresses is given, without services and addresses.
    pub fn ingress_inputs(&self) -> ingress::Inputs {
        ingress::Inputs {
            settings: self.ingress.clone(),
            ingresses: self.ingresses.values().cloned().collect(),
            classes: self.ingress_classes.values().cloned().collect(),
            ..ingress::Inputs::default()
        }
    }

    /// The workloads of all gateways that are ours to make.
    pub fn workloads(&self, inputs: &Inputs, settings: &deploy::Settings) -> Vec<Deployed> {
        deploy::workloads(
            inputs,
            settings,
            |class| ClassDefaults::find(&self.class_defaults, class),
            |key| self.overlays.get(key).map(AsRef::as_ref),
        )
    }

    /// An Ingress, with the status that it has.
    pub fn ingress(&self, key: &Key) -> Option<&Arc<Ingress>> {
        self.ingresses.get(key)
    }

    /// Secrets and ConfigMaps that are referred to by those who may.
    pub fn references(&self) -> BTreeSet<Reference> {
        let grants = Grants::new(self.reference_grants.values().map(AsRef::as_ref));
        let mut found = Found {
            grants,
            references: BTreeSet::new(),
        };
        for gateway in self.gateways.values() {
            let own = &gateway.metadata.namespace;
            for listener in &gateway.spec.listeners {
                found.certificates(Kind::GATEWAY, own, listener.tls.as_ref());
            }
            let tls = gateway.spec.tls.as_ref();
            let frontend = tls.and_then(|tls| tls.frontend.as_ref());
            let per_port = frontend
                .into_iter()
                .flat_map(|frontend| &frontend.per_port)
                .map(|port| &port.tls);
            for tls in frontend.map(|frontend| &frontend.default).into_iter().chain(per_port) {
                for named in tls
                    .validation
                    .iter()
                    .flat_map(|validation| &validation.ca_certificate_refs)
                {
                    let kind = Kind {
                        group: &named.group,
                        kind: &named.kind,
                    };
                    found.add(Kind::GATEWAY, own, kind, named.namespace.as_deref(), &named.name);
                    // Listeners that were added by others are checked by the same authorities.
                    for set in self.listener_sets.values() {
                        found.add(
                            Kind::LISTENER_SET,
                            &set.metadata.namespace,
                            kind,
                            named.namespace.as_deref(),
                            &named.name,
                        );
                    }
                }
            }
            let client = tls.and_then(|tls| tls.backend.as_ref()?.client_certificate_ref.as_ref());
            if let Some(named) = client {
                let kind = Kind::of(named.group.as_deref(), named.kind.as_deref(), Kind::SECRET);
                found.add(Kind::GATEWAY, own, kind, named.namespace.as_deref(), &named.name);
            }
            let parameters = gateway
                .spec
                .infrastructure
                .as_ref()
                .and_then(|i| i.parameters_ref.as_ref());
            if let Some(named) = parameters {
                let kind = Kind {
                    group: &named.group,
                    kind: &named.kind,
                };
                found.add(Kind::GATEWAY, own, kind, None, &named.name);
            }
        }
        for set in self.listener_sets.values() {
            for listener in &set.spec.listeners {
                found.certificates(Kind::LISTENER_SET, &set.metadata.namespace, listener.tls.as_ref());
            }
        }
        for policy in self.backend_tls_policies.values() {
            for named in &policy.spec.validation.ca_certificate_refs {
                let kind = Kind {
                    group: &named.group,
                    kind: &named.kind,
                };
                found.add(Kind::NONE, &policy.metadata.namespace, kind, None, &named.name);
            }
        }
        found.references
    }

    /// The grants, as they were written.
    pub fn grants(&self) -> Vec<Arc<gateway_api::ReferenceGrant>> {
        self.reference_grants.values().cloned().collect()
    }

    /// Host names of the services that a Gateway of ours is reached by, with its namespace.
    pub fn services(&self, inputs: &Inputs) -> BTreeSet<(String, String)> {
        let index = Index::new(inputs);
        let of = |gateway: &Arc<gateway_api::Gateway>| {
            let namespace = gateway.metadata.namespace.clone();
            let services = crate::gateway::services_of(&index, gateway);
            services.into_iter().map(move |service| (namespace.clone(), service))
        };
        self.gateways.values().flat_map(of).collect()
    }

    /// Takes the statuses that objects should have. Those that they do not have are returned, with what they have and its version.
    pub fn want(&mut self, statuses: Vec<ObjectStatus>) -> Vec<(ObjectStatus, Option<StatusValue>, String)> {
        let mut different = Vec::new();
        self.wanted.clear();
        for status in statuses {
            if let Some((live, version)) = self.live(&status)
                && live.as_ref() != Some(&status.status)
            {
                different.push((status.clone(), live, version));
            }
            self.wanted.insert((status.status.kind(), status.key), status.status);
        }
        different
    }

    /// The status that an object has, and its version; `None`: there is no such object.
    fn live(&self, status: &ObjectStatus) -> Option<(Option<StatusValue>, String)> {
        macro_rules! live {
            ($($name:ident $table:ident,)*) => {
                match status.status.kind() {
                    $(stringify!($name) => {
                        let object = self.$table.get(&status.key)?;
                        Some(($name(object), object.metadata.resource_version.clone()))
                    })*
                    _ => None,
                }
            };
        }
        tables!(live)
    }
}

/// Functions named after the kinds: the status of an object, if it has one.
macro_rules! statuses {
    ($($name:ident)*) => {$(
        #[expect(non_snake_case, reason = "named after the kind")]
        fn $name(object: &gateway_api::$name) -> Option<StatusValue> {
            object.status.clone().map(StatusValue::$name)
        }
    )*};
}
statuses!(GatewayClass Gateway ListenerSet HTTPRoute GRPCRoute TCPRoute TLSRoute BackendTLSPolicy);

/// Nobody of ours says anything about these.
#[expect(non_snake_case, reason = "named after the kind")]
fn UDPRoute(_: &gateway_api::UDPRoute) -> Option<StatusValue> {
    None
}

/// Grants have no status.
#[expect(non_snake_case, reason = "named after the kind")]
fn ReferenceGrant(_: &gateway_api::ReferenceGrant) -> Option<StatusValue> {
    None
}

/// References that were found.
struct Found<'a> {
    grants: Grants<'a>,
    references: BTreeSet<Reference>,
}

impl Found<'_> {
    fn certificates(&mut self, from: Kind<'_>, own: &str, tls: Option<&gateway_api::gateway::ListenerTLSConfig>) {
        for named in tls.into_iter().flat_map(|tls| &tls.certificate_refs) {
            let kind = Kind::of(named.group.as_deref(), named.kind.as_deref(), Kind::SECRET);
            self.add(from, own, kind, named.namespace.as_deref(), &named.name);
        }
    }

    fn add(&mut self, from: Kind<'_>, own: &str, kind: Kind<'_>, namespace: Option<&str>, name: &str) {
        let Some(kind) = [Kind::SECRET, Kind::CONFIG_MAP]
            .into_iter()
            .find(|known| *known == kind)
        else {
            return;
        };
        let namespace = namespace.unwrap_or(own);
        // What nobody consented to is not even looked at.
        if namespace == own || self.grants.allow(from, own, kind, namespace, name) {
            self.references.insert(Reference {
                kind,
                key: Key::new(namespace, name),
            });
        }
    }
}

fn decode<S: Spec>(kind: &str, value: &Value) -> (Resource<S>, Vec<Diagnostic>) {
    let mut object = SpannedObject::from_value(value);
    kind.clone_into(&mut object.reference.kind);
    Resource::decode(&object)
}

/// Puts a view of an object into a table, and tells whether it changed.
fn put_view<K: Ord, T: PartialEq>(table: &mut BTreeMap<K, Arc<T>>, key: K, view: T) -> bool {
    let same = table.get(&key).is_some_and(|before| **before == view);
    if !same {
        table.insert(key, Arc::new(view));
    }
    !same
}

/// Puts an object into a table, and tells whether it changed in more than bookkeeping. `matters` says whether the status does.
fn put_resource<S: Spec + PartialEq>(
    table: &mut Table<Resource<S>>,
    key: Key,
    mut object: Resource<S>,
    matters: impl FnOnce(&Resource<S>, &Resource<S>) -> bool,
) -> bool {
    object.metadata.managed_fields.clear();
    let changed = table.get(&key).is_none_or(|before| {
        let mut now = object.metadata.clone();
        now.resource_version.clone_from(&before.metadata.resource_version);
        now != before.metadata || object.spec != before.spec || matters(before, &object)
    });
    table.insert(key, Arc::new(object));
    changed
}

/// An object without what changes with every write.
fn without_notes(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    value
}
