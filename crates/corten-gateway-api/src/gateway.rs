//! Gateways and ListenerSets: one of Istio's gateways for each listener, and their status.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::{
    gateway_api::{
        Gateway, ListenerSet,
        gateway::{
            FrontendValidationModeType, GatewayStatus, GatewayStatusAddress, Listener, ListenerStatus, RouteGroupKind,
        },
        listener_set::{ListenerEntryStatus, ListenerSetStatus},
        shared::Condition,
    },
    istio::{self, gateway::Server},
    metadata::Metadata,
};

use crate::{
    annotation,
    class::{Role, Shown},
    condition::{Conditions, Problem},
    conflict::{Conflicts, gateway_key, set_key},
    index::Index,
    instances::{self, Instances},
    listener::{self, TUNNEL_PORT},
    reference::{Key, Kind, ParentKey},
    selector, tls,
    tls::Owner,
};

/// A listener as routes see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parent {
    /// What VirtualServices name it by: `namespace/name` of the generated gateway, or `mesh`.
    pub internal_name: String,
    /// The kinds of routes it takes.
    pub kinds: Vec<RouteGroupKind>,
    /// Its host names, each with the namespace whose routes may name it.
    pub hosts: Vec<String>,
    /// Its host name as written; empty: it has none.
    pub hostname: String,
    /// Its name.
    pub section: String,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: String,
}

/// A listener that routes can attach to.
#[derive(Debug, Clone)]
pub struct Attachable {
    /// Whose it is.
    pub owner: ParentKey,
    /// How routes see it.
    pub parent: Parent,
    /// What it became; only valid ones are configured.
    pub gateway: istio::Gateway,
    /// It is valid.
    pub valid: bool,
}

/// What became of a Gateway.
#[derive(Debug, Default)]
pub struct GatewayResult {
    /// Its status, without the counts of routes; `None`: it is not ours.
    pub status: Option<GatewayStatus>,
    /// The listeners that routes can attach to, its own and those added to it.
    pub listeners: Vec<Attachable>,
}

/// What became of a ListenerSet.
#[derive(Debug, Default)]
pub struct ListenerSetResult {
    /// Its status, without the counts of routes; `None`: its gateway is not ours.
    pub status: Option<ListenerSetStatus>,
    /// Its listeners.
    pub listeners: Vec<Attachable>,
}

/// A Gateway, its status and its listeners. `sets` are the results of its ListenerSets.
pub(crate) fn gateway(
    index: &Index<'_>,
    gateway: &Gateway,
    conflicts: &Conflicts,
    sets: &[&ListenerSetResult],
) -> GatewayResult {
    let mut result = GatewayResult::default();
    let Some(role) = index.role(&gateway.spec.gateway_class_name) else {
        return result;
    };
    let mut status = gateway.status.clone().unwrap_or_default();
    if role == Role::Remote {
        report_remote(index, gateway, &mut status);
        result.status = Some(status);
        return result;
    }
    let (services, mut problem) = services(index, gateway, role);
    let mut count = Count::default();
    if services.is_empty() && problem.is_some() {
        report(index, gateway, role, &services, problem, &count, &mut status);
        result.status = Some(status);
        return result;
    }
    problem = problem.or_else(|| parameters_problem(index, gateway));

    let owner = Owner {
        kind: Kind::GATEWAY,
        namespace: &gateway.metadata.namespace,
        labels: &gateway.metadata.labels,
        generation: gateway.metadata.generation,
    };
    let key = gateway_key(gateway);
    let lost = conflicts.get(&key);
    let made = Made {
        index,
        owner,
        role,
        gateway,
        services: &services,
        meta: &gateway.metadata,
        key,
    };
    let existing = std::mem::take(&mut status.listeners);
    for (i, listener) in gateway.spec.listeners.iter().enumerate() {
        let conditions = existing.get(i).map_or(&[][..], |l| &l.conditions);
        let built = made.listener(listener, conditions, lost);
        status.listeners.push(built.status);
        count.valid += usize::from(built.valid);
        count.ports.extend(built.port);
        result.listeners.extend(built.attachable);
    }
    for set in sets {
        let valid: Vec<&Attachable> = set.listeners.iter().filter(|l| l.valid).collect();
        count.sets += usize::from(!valid.is_empty());
        count.ports.extend(valid.iter().map(|l| l.parent.port));
        result.listeners.extend(valid.into_iter().cloned());
    }
    report(index, gateway, role, &services, problem, &count, &mut status);
    result.status = Some(status);
    result
}

/// A ListenerSet, its status and its listeners. `conflicts` are those of its gateway.
pub(crate) fn listener_set(
    index: &Index<'_>,
    set: &ListenerSet,
    parent: Option<&Gateway>,
    conflicts: &Conflicts,
) -> ListenerSetResult {
    let mut result = ListenerSetResult::default();
    let named = &set.spec.parent_ref;
    let kind = Kind::of(named.group.as_deref(), named.kind.as_deref(), Kind::GATEWAY);
    let Some(gateway) = parent.filter(|_| kind == Kind::GATEWAY) else {
        return result;
    };
    let class = &gateway.spec.gateway_class_name;
    let Some(role) = index.role(class) else {
        return result;
    };
    let mut status = set.status.clone().unwrap_or_default();
    let refusal = if !role.takes_listener_sets() {
        Some(format!("The \"{class}\" GatewayClass does not support ListenerSet"))
    } else if !selector::takes_listeners_of(index, gateway, &set.metadata.namespace) {
        Some("The parent Gateway does not allow this reference; check the 'spec.allowedRoutes'".to_owned())
    } else {
        None
    };
    if let Some(message) = refusal {
        let mut conditions = Conditions::default();
        conditions.fail("Accepted", Problem::new("NotAllowed", message.clone()));
        conditions.fail("Programmed", Problem::new("NotAllowed", message));
        status.listeners.clear();
        status.conditions = conditions.over(&status.conditions, set.metadata.generation, index.now);
        result.status = Some(status);
        return result;
    }
    let (services, problem) = services(index, gateway, role);
    let mut count = Count::default();
    if services.is_empty() && problem.is_some() {
        count.valid = 1;
        report_set(index, gateway, set, &services, problem, &count, &mut status);
        result.status = Some(status);
        return result;
    }
    let owner = Owner {
        kind: Kind::LISTENER_SET,
        namespace: &set.metadata.namespace,
        labels: &set.metadata.labels,
        generation: set.metadata.generation,
    };
    let key = set_key(set);
    let lost = conflicts.get(&key);
    let made = Made {
        index,
        owner,
        role,
        gateway,
        services: &services,
        meta: &set.metadata,
        key,
    };
    let existing = std::mem::take(&mut status.listeners);
    for (i, entry) in set.spec.listeners.iter().enumerate() {
        let conditions = existing.get(i).map_or(&[][..], |l| &l.conditions);
        let built = made.listener(&crate::conflict::entry(entry), conditions, lost);
        status.listeners.push(entry_status(built.status));
        count.valid += usize::from(built.valid && built.port.is_some());
        count.ports.extend(built.port);
        result.listeners.extend(built.attachable);
    }
    report_set(index, gateway, set, &services, problem, &count, &mut status);
    result.status = Some(status);
    result
}

/// What a status is told of the listeners.
#[derive(Default)]
struct Count {
    valid: usize,
    sets: usize,
    ports: BTreeSet<u16>,
}

/// What listeners are made for.
struct Made<'a> {
    index: &'a Index<'a>,
    owner: Owner<'a>,
    role: Role,
    gateway: &'a Gateway,
    services: &'a [String],
    meta: &'a Metadata,
    key: ParentKey,
}

struct MadeListener {
    status: ListenerStatus,
    valid: bool,
    /// The port it serves; `None`: none.
    port: Option<u16>,
    attachable: Option<Attachable>,
}

impl Made<'_> {
    fn listener(
        &self,
        listener: &Listener,
        existing: &[Condition],
        lost: Option<&BTreeMap<String, &'static str>>,
    ) -> MadeListener {
        if let Some(reason) = lost.and_then(|lost| lost.get(&listener.name)) {
            return MadeListener {
                status: listener::conflicted(self.index, self.owner, listener, existing, reason),
                valid: false,
                port: None,
                attachable: None,
            };
        }
        let tls = self.gateway.spec.tls.as_ref();
        let built = listener::build(self.index, self.owner, self.role, tls, listener, existing);
        // Tunnels take no routes: a waypoint finds its own, and passes on what arrives.
        let tunnels = match self.role {
            Role::Waypoint => true,
            Role::EastWest => listener.port.0 == TUNNEL_PORT,
            Role::Gateway | Role::Remote => false,
        };
        let port = built.server.as_ref().map(|_| listener.port.0);
        let attachable = built
            .server
            .filter(|_| !tunnels)
            .map(|server| self.attachable(listener, server, built.valid));
        MadeListener {
            status: built.status,
            valid: built.valid,
            port,
            attachable,
        }
    }

    fn attachable(&self, listener: &Listener, server: Server, valid: bool) -> Attachable {
        let (namespace, owner) = (&self.meta.namespace, &self.meta.name);
        let name = format!("{owner}~{}~{}", annotation::GENERATED, listener.name);
        let mut annotations = BTreeMap::from([
            (
                annotation::PARENTS.to_owned(),
                format!("{}/{owner}/{}.{namespace}", self.owner.kind.kind, listener.name),
            ),
            (annotation::GATEWAY_SEMANTICS.to_owned(), "gateway".to_owned()),
            (annotation::GATEWAY_SERVICE.to_owned(), self.services.join(",")),
            (
                annotation::SERVICE_ACCOUNT.to_owned(),
                service_account(self.gateway, self.role),
            ),
        ]);
        if self.owner.kind == Kind::LISTENER_SET {
            let parent = self.gateway.metadata.namespace.clone();
            annotations.insert(annotation::PARENT_NAMESPACE.to_owned(), parent);
        }
        Attachable {
            owner: self.key.clone(),
            parent: Parent {
                internal_name: format!("{namespace}/{name}"),
                kinds: listener::supported_kinds(listener).0,
                hosts: server.hosts.clone(),
                hostname: listener
                    .hostname
                    .as_ref()
                    .map(|h| h.as_str().to_owned())
                    .unwrap_or_default(),
                section: listener.name.clone(),
                port: listener.port.0,
                protocol: listener.protocol.clone(),
            },
            gateway: istio::Gateway {
                metadata: Metadata {
                    name,
                    namespace: namespace.clone(),
                    annotations,
                    creation_timestamp: self.meta.creation_timestamp,
                    ..Metadata::default()
                },
                spec: istio::gateway::GatewaySpec {
                    servers: vec![server],
                    selector: BTreeMap::new(),
                },
                status: None,
            },
            valid,
        }
    }
}

/// Whether a controller makes the gateway's workload: it names no service of its own.
pub fn is_managed(gateway: &Gateway) -> bool {
    match gateway.spec.addresses.as_slice() {
        [] => true,
        [one] => one.type_.as_deref().unwrap_or("IPAddress") == "IPAddress",
        _ => false,
    }
}

/// What the Deployment and the Service of a gateway are called.
pub fn workload_name(gateway: &Gateway, role: Role) -> String {
    role.workload_name(&gateway.metadata.name, &gateway.spec.gateway_class_name)
}

/// The service account of a gateway's workload; empty: it is not known.
fn service_account(gateway: &Gateway, role: Role) -> String {
    if !is_managed(gateway) {
        return String::new();
    }
    let named = gateway.metadata.annotations.get(annotation::SERVICE_ACCOUNT_OVERRIDE);
    named
        .filter(|named| !named.is_empty())
        .cloned()
        .unwrap_or_else(|| workload_name(gateway, role))
}

/// The host names of the services a gateway is behind, and what is wrong with its addresses.
/// Host names of the services that a Gateway is reached by; none for one that is not ours, or not here.
pub(crate) fn services_of(index: &Index<'_>, gateway: &Gateway) -> Vec<String> {
    match index.role(&gateway.spec.gateway_class_name) {
        None | Some(Role::Remote) => Vec::new(),
        Some(role) => services(index, gateway, role).0,
    }
}

fn services(index: &Index<'_>, gateway: &Gateway, role: Role) -> (Vec<String>, Option<Problem>) {
    let (namespace, annotations) = (&gateway.metadata.namespace, &gateway.metadata.annotations);
    if is_managed(gateway) {
        let named = annotations
            .get(annotation::NAME_OVERRIDE)
            .filter(|named| !named.is_empty());
        let name = named.cloned().unwrap_or_else(|| workload_name(gateway, role));
        return (vec![index.service_host(&name, namespace)], None);
    }
    let (mut services, mut skipped) = (Vec::new(), Vec::new());
    for address in &gateway.spec.addresses {
        let value = address.value.as_deref().unwrap_or_default();
        if address.type_.as_deref().is_some_and(|kind| kind != "Hostname") {
            skipped.push(value);
        } else if value.contains('.') {
            services.push(value.to_owned());
        } else {
            services.push(index.service_host(value, namespace));
        }
    }
    let problem = if !skipped.is_empty() {
        let message = format!("only Hostname is supported, ignoring [{}]", skipped.join(" "));
        Some(Problem::new("UnsupportedAddress", message))
    } else if annotations.contains_key(annotation::SERVICE_TYPE) {
        let message = format!(
            "annotation {} is deprecated, use Spec.Infrastructure.Routeability",
            annotation::SERVICE_TYPE
        );
        Some(Problem::new("DeprecatedField", message))
    } else {
        None
    };
    (services, problem)
}

fn parameters_problem(index: &Index<'_>, gateway: &Gateway) -> Option<Problem> {
    let parameters = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let namespace = &gateway.metadata.namespace;
    let kind = Kind {
        group: &parameters.group,
        kind: &parameters.kind,
    };
    let message = if kind != Kind::CONFIG_MAP {
        format!(
            "Unsupported parametersRef group/kind {}/{}, only ConfigMap is supported",
            parameters.group, parameters.kind
        )
    } else if index.config_map(namespace, &parameters.name).is_none() {
        format!("parametersRef ConfigMap {namespace}/{} does not exist", parameters.name)
    } else {
        return None;
    };
    Some(Problem::new("InvalidParameters", message))
}

fn report_remote(index: &Index<'_>, gateway: &Gateway, status: &mut GatewayStatus) {
    let addresses = gateway.spec.addresses.iter().map(|address| GatewayStatusAddress {
        type_: address.type_.clone(),
        value: address.value.clone().unwrap_or_default(),
    });
    status.addresses = addresses.collect();
    status.listeners.clear();
    status.conditions = Conditions::default()
        .good("Accepted", "Accepted", "Resource accepted")
        .good(
            "Programmed",
            "Programmed",
            "This Gateway is remote; Istio will not program it",
        )
        .over(&status.conditions, gateway.metadata.generation, index.now);
}

fn report(
    index: &Index<'_>,
    gateway: &Gateway,
    role: Role,
    services: &[String],
    problem: Option<Problem>,
    count: &Count,
    status: &mut GatewayStatus,
) {
    let found = instances::resolve(index, &gateway.metadata.namespace, services, &count.ports);
    let mut conditions = Conditions::default()
        .good("Accepted", "Accepted", "Resource accepted")
        .good("Programmed", "Programmed", "Resource programmed")
        .good("ResolvedRefs", "ResolvedRefs", "All references resolved");
    let reason = "ListenersNotValid";
    if let Some(problem) = problem {
        conditions.fail("Accepted", problem);
    } else if count.valid == 0 && !gateway.spec.listeners.is_empty() {
        let message = "None of the Gateway's listeners are valid";
        conditions.fail("Accepted", Problem::new(reason, message));
    } else if count.valid < gateway.spec.listeners.len() {
        let message = "One or more of the Gateway's listeners are invalid";
        conditions.say("Accepted", Some(reason), message);
    }
    if let Some(problem) = tls::client_certificate(index, gateway) {
        conditions.fail("ResolvedRefs", problem);
    }
    if count.sets != 0 {
        status.attached_listener_sets = i32::try_from(count.sets).ok();
    }
    let insecure = "InsecureFrontendValidationMode";
    if let Some(falls_back) = falls_back(gateway) {
        if falls_back {
            let message = "Gateway is operating in AllowInsecureFallback mode for frontend validation";
            conditions = conditions.good(insecure, "ConfigurationChanged", message);
        } else {
            status.conditions.retain(|condition| condition.type_ != insecure);
        }
    }
    found.tell(&mut conditions, services);
    let addresses = shown_addresses(gateway, role, &found);
    // A gateway keeps the addresses it once had.
    if !addresses.is_empty() {
        status.addresses = addresses;
    }
    status.conditions = conditions.over(&status.conditions, gateway.metadata.generation, index.now);
}

/// Whether a gateway lets in clients that it cannot verify; `None`: it verifies none.
fn falls_back(gateway: &Gateway) -> Option<bool> {
    let frontend = gateway.spec.tls.as_ref()?.frontend.as_ref()?;
    let ports = frontend.per_port.iter().map(|port| &port.tls);
    let mut modes = std::iter::once(&frontend.default)
        .chain(ports)
        .filter_map(|tls| tls.validation.as_ref()?.mode);
    Some(modes.any(|mode| mode == FrontendValidationModeType::AllowInsecureFallback))
}

fn shown_addresses(gateway: &Gateway, role: Role, found: &Instances) -> Vec<GatewayStatusAddress> {
    let mut addresses = found.external.clone();
    if addresses.is_empty() {
        let shown = match gateway
            .metadata
            .annotations
            .get(annotation::ADDRESS_TYPE)
            .map(String::as_str)
        {
            None => role.shown(),
            Some("Hostname") => Shown::Hostname,
            Some("IPAddress") => Shown::Ip,
            Some(_) => Shown::Both,
        };
        if shown != Shown::Hostname {
            addresses.extend(found.internal_ips.iter().cloned());
        }
        if shown != Shown::Ip {
            for host in found
                .internal
                .iter()
                .filter_map(|at| at.rsplit_once(':'))
                .map(|(host, _)| host)
            {
                if !found.pending.contains(host) && !addresses.iter().any(|address| address == host) {
                    addresses.push(host.to_owned());
                }
            }
        }
    }
    let typed = |value: String| {
        let ip = value.parse::<std::net::IpAddr>().is_ok();
        let kind = if ip { "IPAddress" } else { "Hostname" };
        GatewayStatusAddress {
            type_: Some(kind.to_owned()),
            value,
        }
    };
    addresses.into_iter().map(typed).collect()
}

fn report_set(
    index: &Index<'_>,
    gateway: &Gateway,
    set: &ListenerSet,
    services: &[String],
    problem: Option<Problem>,
    count: &Count,
    status: &mut ListenerSetStatus,
) {
    let found = instances::resolve(index, &gateway.metadata.namespace, services, &count.ports);
    let mut conditions = Conditions::default()
        .good("Accepted", "Accepted", "Resource accepted")
        .good("Programmed", "Programmed", "Resource programmed");
    found.tell(&mut conditions, services);
    let none = Problem::new("ListenersNotValid", "None of the ListenerSet's listeners are valid");
    if let Some(problem) = problem {
        let message = format!("Parent not accepted: {}", problem.message);
        conditions.fail("Accepted", Problem::new(&problem.reason, message));
    } else if count.valid == 0 {
        conditions.fail("Accepted", none.clone());
    }
    if count.valid == 0 {
        conditions.fail("Programmed", none);
    }
    status.conditions = conditions.over(&status.conditions, set.metadata.generation, index.now);
}

fn entry_status(status: ListenerStatus) -> ListenerEntryStatus {
    ListenerEntryStatus {
        attached_routes: status.attached_routes,
        conditions: status.conditions,
        name: status.name,
        supported_kinds: status.supported_kinds,
    }
}

/// The key of a Gateway.
pub(crate) fn key(gateway: &Gateway) -> Key {
    Key::new(&gateway.metadata.namespace, &gateway.metadata.name)
}
