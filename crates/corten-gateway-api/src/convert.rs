//! The conversion of all objects of a mesh at once.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::{
    codec::{Field, Json},
    diagnostic::Diagnostic,
    gateway_api::{
        BackendTLSPolicy, HTTPRoute, ListenerSet, gateway::GatewayStatus, gateway_class::GatewayClassStatus,
        grpc_route::GRPCRouteStatus, http_route::HTTPRouteStatus, listener_set::ListenerSetStatus,
        policy::PolicyStatus, shared::ParentReference, tcp_route::TCPRouteStatus, tls_route::TLSRouteStatus,
        x_backend::BackendStatus,
    },
    inference::InferencePoolStatus,
    istio::{DestinationRule, Gateway},
    metadata::Metadata,
};

use crate::{
    Inputs, class, conflict, diagnose,
    gateway::{self, ListenerSetResult},
    index::Index,
    inference,
    policy::{self, Ancestors},
    reference::{Key, Kind, ParentKey},
    route::{self, Parents, RouteResult, Routes, destination::Backend, merge, parent::Attachment},
};

/// What objects became.
#[derive(Debug, Default)]
pub struct Conversion {
    /// One gateway for each valid listener.
    pub gateways: Vec<Gateway>,
    /// Routes.
    pub virtual_services: Vec<Routes>,
    /// Rules about backends.
    pub destination_rules: Vec<DestinationRule>,
    /// Services that stand for InferencePools, to be applied.
    pub services: Vec<Json>,
    /// The status of every object that is ours.
    pub statuses: Vec<ObjectStatus>,
    /// What is not honoured, and where.
    pub diagnostics: Vec<Diagnostic>,
}

/// The status of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectStatus {
    /// The object's namespace and name.
    pub key: Key,
    /// The status.
    pub status: StatusValue,
}

/// The status of an object of a kind.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the status of the kind it is called after")]
pub enum StatusValue {
    GatewayClass(GatewayClassStatus),
    Gateway(GatewayStatus),
    ListenerSet(ListenerSetStatus),
    HTTPRoute(HTTPRouteStatus),
    GRPCRoute(GRPCRouteStatus),
    TCPRoute(TCPRouteStatus),
    TLSRoute(TLSRouteStatus),
    BackendTLSPolicy(PolicyStatus),
    XBackendTrafficPolicy(PolicyStatus),
    XBackend(BackendStatus),
    InferencePool(InferencePoolStatus),
}

impl StatusValue {
    /// The kind of the object.
    pub fn kind(&self) -> &'static str {
        match self {
            StatusValue::GatewayClass(_) => "GatewayClass",
            StatusValue::Gateway(_) => "Gateway",
            StatusValue::ListenerSet(_) => "ListenerSet",
            StatusValue::HTTPRoute(_) => "HTTPRoute",
            StatusValue::GRPCRoute(_) => "GRPCRoute",
            StatusValue::TCPRoute(_) => "TCPRoute",
            StatusValue::TLSRoute(_) => "TLSRoute",
            StatusValue::BackendTLSPolicy(_) => "BackendTLSPolicy",
            StatusValue::XBackendTrafficPolicy(_) => "XBackendTrafficPolicy",
            StatusValue::XBackend(_) => "XBackend",
            StatusValue::InferencePool(_) => "InferencePool",
        }
    }

    /// The status as JSON.
    pub fn encode(&self) -> Json {
        match self {
            StatusValue::GatewayClass(status) => status.encode(),
            StatusValue::Gateway(status) => status.encode(),
            StatusValue::ListenerSet(status) => status.encode(),
            StatusValue::HTTPRoute(status) => status.encode(),
            StatusValue::GRPCRoute(status) => status.encode(),
            StatusValue::TCPRoute(status) => status.encode(),
            StatusValue::TLSRoute(status) => status.encode(),
            StatusValue::BackendTLSPolicy(status) | StatusValue::XBackendTrafficPolicy(status) => status.encode(),
            StatusValue::XBackend(status) => status.encode(),
            StatusValue::InferencePool(status) => status.encode(),
        }
    }
}

/// Converts all objects. The order in which they are given changes nothing.
pub fn convert(inputs: &Inputs) -> Conversion {
    let index = Index::new(inputs);
    let mut out = Conversion::default();
    for class in &inputs.classes {
        if let Some(status) = class::status(class, index.settings, index.now) {
            out.status(&class.metadata, StatusValue::GatewayClass(status));
        }
    }
    let (parents, listeners) = gateways(&index, inputs, &mut out);
    let mut attached = Attached::default();
    routes(&index, inputs, &parents, &mut attached, &mut out);
    for (meta, mut status) in listeners {
        status.count(&attached);
        out.status(meta, status.value);
    }
    policies(&index, inputs, &mut out);
    if index.settings.inference {
        let routes: Vec<&HTTPRoute> = inputs.http_routes.iter().map(AsRef::as_ref).collect();
        for pool in &inputs.inference_pools {
            let status = inference::status(&index, pool, &routes);
            out.status(&pool.metadata, StatusValue::InferencePool(status));
            out.services.extend(inference::service(pool, &routes));
        }
    }
    diagnose::inputs(inputs, &mut out.diagnostics);
    out.sort();
    out
}

impl Conversion {
    fn status(&mut self, meta: &Metadata, status: StatusValue) {
        self.statuses.push(ObjectStatus {
            key: Key::new(&meta.namespace, &meta.name),
            status,
        });
    }

    /// Orders everything by age and name, so that equal inputs give equal outputs.
    fn sort(&mut self) {
        fn age(meta: &Metadata) -> (Option<corten_api::codec::Timestamp>, String, String) {
            (meta.creation_timestamp, meta.namespace.clone(), meta.name.clone())
        }
        self.gateways.sort_by_cached_key(|gateway| age(&gateway.metadata));
        self.virtual_services
            .sort_by_cached_key(|routes| age(&routes.object.metadata));
        self.destination_rules.sort_by_cached_key(|rule| age(&rule.metadata));
        self.services.sort_by_cached_key(ToString::to_string);
        self.statuses
            .sort_by(|a, b| (a.status.kind(), &a.key).cmp(&(b.status.kind(), &b.key)));
        let place = |d: &Diagnostic| (d.object.clone(), d.path.clone(), d.message.clone());
        self.diagnostics.sort_by_cached_key(place);
        self.diagnostics.dedup();
    }
}

/// A status that waits for the counts of routes.
struct Waiting {
    owner: ParentKey,
    value: StatusValue,
}

/// The routes on each listener.
#[derive(Default)]
struct Attached(BTreeMap<Attachment, BTreeSet<(Kind<'static>, Key)>>);

impl Attached {
    fn add(&mut self, kind: Kind<'static>, meta: &Metadata, attachments: Vec<Attachment>) {
        for attachment in attachments {
            let route = (kind, Key::new(&meta.namespace, &meta.name));
            self.0.entry(attachment).or_default().insert(route);
        }
    }

    fn count(&self, owner: &ParentKey, section: &str) -> i32 {
        let attachment = Attachment {
            owner: owner.clone(),
            section: section.to_owned(),
        };
        let count = self.0.get(&attachment).map_or(0, BTreeSet::len);
        i32::try_from(count).unwrap_or(i32::MAX)
    }
}

impl Waiting {
    fn count(&mut self, attached: &Attached) {
        match &mut self.value {
            StatusValue::Gateway(status) => {
                for listener in &mut status.listeners {
                    listener.attached_routes = attached.count(&self.owner, &listener.name);
                }
            }
            StatusValue::ListenerSet(status) => {
                for listener in &mut status.listeners {
                    listener.attached_routes = attached.count(&self.owner, &listener.name);
                }
            }
            _ => {}
        }
    }
}

/// Converts Gateways and ListenerSets.
fn gateways<'a>(
    index: &Index<'_>,
    inputs: &'a Inputs,
    out: &mut Conversion,
) -> (Parents, Vec<(&'a Metadata, Waiting)>) {
    let mut by_gateway: BTreeMap<Key, Vec<&'a ListenerSet>> = BTreeMap::new();
    for set in &inputs.listener_sets {
        by_gateway.entry(conflict::gateway_of(set)).or_default().push(set);
    }
    let mut waiting = Vec::new();
    let mut parents = Parents::new();
    for object in &inputs.gateways {
        let key = gateway::key(object);
        let sets = by_gateway.get(&key).cloned().unwrap_or_default();
        let conflicts = conflict::conflicts(index, object, &sets);
        let results: Vec<ListenerSetResult> = sets
            .iter()
            .map(|set| gateway::listener_set(index, set, Some(object), &conflicts))
            .collect();
        for (set, result) in sets.iter().zip(&results) {
            let Some(status) = &result.status else {
                continue;
            };
            diagnose::conditions(Kind::LISTENER_SET, &set.metadata, &status.conditions, out);
            for listener in &status.listeners {
                diagnose::listener(
                    Kind::LISTENER_SET,
                    &set.metadata,
                    &listener.name,
                    &listener.conditions,
                    out,
                );
            }
            let value = StatusValue::ListenerSet(status.clone());
            let owner = conflict::set_key(set);
            waiting.push((&set.metadata, Waiting { owner, value }));
        }
        let results: Vec<&ListenerSetResult> = results.iter().collect();
        let result = gateway::gateway(index, object, &conflicts, &results);
        if let Some(status) = result.status {
            diagnose::conditions(Kind::GATEWAY, &object.metadata, &status.conditions, out);
            for listener in &status.listeners {
                diagnose::listener(
                    Kind::GATEWAY,
                    &object.metadata,
                    &listener.name,
                    &listener.conditions,
                    out,
                );
            }
            let value = StatusValue::Gateway(status);
            let owner = conflict::gateway_key(object);
            waiting.push((&object.metadata, Waiting { owner, value }));
        }
        for listener in result.listeners {
            if listener.valid {
                out.gateways.push(listener.gateway);
            }
            parents.entry(listener.owner).or_default().push(listener.parent);
        }
    }
    (parents, waiting)
}

/// Converts routes of all kinds.
fn routes(index: &Index<'_>, inputs: &Inputs, parents: &Parents, attached: &mut Attached, out: &mut Conversion) {
    let mut http = Vec::new();
    let mut taken = |kind: Kind<'static>, meta: &Metadata, result: RouteResult, out: &mut Conversion| {
        attached.add(kind, meta, result.attachments);
        diagnose::route(kind, meta, &result.parents, &result.problems, out);
        (result.parents, result.routes)
    };
    for object in &inputs.http_routes {
        let result = route::http::convert(index, parents, object);
        let (parents, routes) = taken(Kind::HTTP_ROUTE, &object.metadata, result, out);
        http.extend(routes);
        out.status(&object.metadata, StatusValue::HTTPRoute(HTTPRouteStatus { parents }));
    }
    for object in &inputs.grpc_routes {
        let result = route::grpc::convert(index, parents, object);
        let (parents, routes) = taken(Kind::GRPC_ROUTE, &object.metadata, result, out);
        http.extend(routes);
        out.status(&object.metadata, StatusValue::GRPCRoute(GRPCRouteStatus { parents }));
    }
    let mut each: Vec<Vec<(String, Routes)>> = Vec::new();
    for object in &inputs.tcp_routes {
        let result = route::l4::tcp(index, parents, object);
        let (parents, routes) = taken(Kind::TCP_ROUTE, &object.metadata, result, out);
        each.push(routes);
        out.status(&object.metadata, StatusValue::TCPRoute(TCPRouteStatus { parents }));
    }
    for object in &inputs.tls_routes {
        let result = route::l4::tls(index, parents, object);
        let (parents, routes) = taken(Kind::TLS_ROUTE, &object.metadata, result, out);
        each.push(routes);
        out.status(&object.metadata, StatusValue::TLSRoute(TLSRouteStatus { parents }));
    }
    out.virtual_services = merge::merge(http);
    out.virtual_services
        .extend(each.into_iter().flatten().map(|(_, routes)| routes));
}

/// Converts policies about backends.
fn policies(index: &Index<'_>, inputs: &Inputs, out: &mut Conversion) {
    let ancestors = ancestors(inputs);
    let mut demands = Vec::new();
    if index.settings.experimental {
        for object in &inputs.backend_traffic_policies {
            let result = policy::traffic::convert(index, object);
            diagnose::policy("XBackendTrafficPolicy", &object.metadata, &result.problems, out);
            out.status(&object.metadata, StatusValue::XBackendTrafficPolicy(result.status));
            demands.extend(result.demands);
        }
    }
    let all: Vec<&BackendTLSPolicy> = inputs.backend_tls_policies.iter().map(AsRef::as_ref).collect();
    for object in &inputs.backend_tls_policies {
        let result = policy::tls::convert(index, object, &all, &ancestors);
        diagnose::policy("BackendTLSPolicy", &object.metadata, &result.problems, out);
        out.status(&object.metadata, StatusValue::BackendTLSPolicy(result.status));
        demands.extend(result.demands);
    }
    if index.settings.experimental {
        for object in &inputs.backends {
            let result = policy::backend::convert(index, object, &ancestors);
            diagnose::policy("XBackend", &object.metadata, &result.problems, out);
            out.status(&object.metadata, StatusValue::XBackend(result.status));
            demands.extend(result.demands);
        }
    }
    out.destination_rules = policy::rule::rules(index, demands);
}

/// The gateways that routes take to each backend.
fn ancestors(inputs: &Inputs) -> Ancestors {
    let mut found = Ancestors::new();
    // The kinds' rules are different types with the same field.
    macro_rules! add {
        ($($routes:ident)*) => {$(
            for route in &inputs.$routes {
                let rules = route.spec.rules.iter();
                let backends = rules.flat_map(|rule| rule.backend_refs.iter().map(Backend::from));
                add_ancestors(&mut found, &route.metadata, &route.spec.parent_refs, backends);
            }
        )*};
    }
    add!(http_routes grpc_routes tcp_routes tls_routes);
    found
}

fn add_ancestors<'a>(
    found: &mut Ancestors,
    meta: &'a Metadata,
    parents: &[ParentReference],
    backends: impl Iterator<Item = Backend<'a>>,
) {
    let of = |reference: &ParentReference| ParentKey::of(reference, &meta.namespace);
    let gateways: Vec<Key> = parents
        .iter()
        .filter_map(of)
        .filter(|parent| parent.kind == Kind::GATEWAY)
        .map(|parent| parent.key)
        .collect();
    let kinds = [Kind::SERVICE, Kind::SERVICE_ENTRY, Kind::X_BACKEND];
    for backend in backends {
        let (kind, namespace, name) = backend.target(&meta.namespace);
        if let Some(kind) = kinds.into_iter().find(|known| *known == kind) {
            let entry = found.entry((kind, Key::new(namespace, name))).or_default();
            entry.extend(gateways.iter().cloned());
        }
    }
}
