//! Whether a route may attach to the parents it names.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::gateway_api::{gateway::RouteGroupKind, shared::ParentReference};
use corten_core::Host;

use super::{Parents, Route};
use crate::{
    class::{GATEWAY_CONTROLLER, MESH_CONTROLLER},
    gateway::Parent,
    index::Index,
    reference::{GATEWAY_GROUP, Key, Kind, ParentKey, parent_text},
};

/// The name of the mesh where gateways are named.
pub(crate) const MESH: &str = "mesh";
/// The label that names a waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The label that names a waypoint's namespace.
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// Why a parent does not take a route; the best of several is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Denial {
    /// It does not take routes of this kind or namespace.
    NotAllowed,
    /// None of its names is the route's.
    NoHostname,
    /// There is no such parent.
    NotAccepted,
}

impl Denial {
    /// The reason, as conditions name it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Denial::NotAllowed => "NotAllowedByListeners",
            Denial::NoHostname => "NoMatchingListenerHostname",
            Denial::NotAccepted => "NoMatchingParent",
        }
    }
}

/// A route's attempt at one listener of a parent, or at the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// What VirtualServices name the parent by.
    pub(crate) internal_name: String,
    /// The place of the reference in the route.
    pub(crate) position: usize,
    /// The reference.
    pub(crate) reference: ParentReference,
    /// Whose the parent is.
    pub(crate) owner: ParentKey,
    /// The listener's name.
    pub(crate) section: String,
    /// The listener's host name as written.
    pub(crate) hostname: String,
    /// Host names of listeners beside it, which may be a better match.
    pub(crate) others: BTreeSet<String>,
    /// Why it failed.
    pub(crate) denied: Option<(Denial, String)>,
    /// What is missing for a waypoint to obey the route.
    pub(crate) no_waypoint: Option<&'static str>,
}

/// A listener with a route on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// Whose the listener is.
    pub owner: ParentKey,
    /// Its name.
    pub section: String,
}

impl Attempt {
    /// Whether this is about traffic within the mesh.
    pub(crate) fn is_mesh(&self) -> bool {
        self.internal_name == MESH
    }

    pub(crate) fn attachment(&self) -> Option<Attachment> {
        [Kind::GATEWAY, Kind::LISTENER_SET]
            .contains(&self.owner.kind)
            .then(|| Attachment {
                owner: self.owner.clone(),
                section: self.section.clone(),
            })
    }

    /// Whether this listener is the one for a host name, rather than one beside it that says it more exactly.
    pub(crate) fn serves(&self, host: &str) -> bool {
        let (host, own) = (Host::from(host), Host::from(self.hostname.as_str()));
        if !self.hostname.is_empty() && !own.is_wildcard() {
            return true;
        }
        if !self.hostname.is_empty() && !host.matches(&own) {
            return false;
        }
        !self
            .others
            .iter()
            .any(|other| self.hostname.len() <= other.len() && host.is_subset_of(&Host::from(other.as_str())))
    }
}

/// All attempts of a route, ordered by reference.
pub(crate) fn attempts(index: &Index<'_>, parents: &Parents, route: Route<'_>) -> Vec<Attempt> {
    let namespace = &route.meta.namespace;
    let mesh = [mesh_parent()];
    let mut attempts = Vec::new();
    for (position, reference) in route.parents.iter().enumerate() {
        let Some(owner) = ParentKey::of(reference, namespace) else {
            continue;
        };
        let is_mesh = [Kind::SERVICE, Kind::SERVICE_ENTRY].contains(&owner.kind);
        let listeners: &[Parent] = if !is_mesh {
            parents.get(&owner).map_or(&[], Vec::as_slice)
        } else if has_foreign_waypoint(index, &owner) {
            continue;
        } else {
            &mesh
        };
        for (i, listener) in listeners.iter().enumerate() {
            let beside = listeners
                .iter()
                .enumerate()
                .filter(|(j, other)| i != *j && other.port == listener.port && other.protocol == listener.protocol);
            let mut others: BTreeSet<String> = beside.map(|(_, other)| other.hostname.clone()).collect();
            others.remove(&listener.hostname);
            let (denied, no_waypoint) = if is_mesh {
                check_mesh(index, &owner)
            } else {
                (check_listener(listener, reference, route), None)
            };
            let denied = denied.or_else(|| check_kind(listener, route.kind));
            attempts.push(Attempt {
                internal_name: listener.internal_name.clone(),
                position,
                reference: reference.clone(),
                owner: owner.clone(),
                section: listener.section.clone(),
                hostname: listener.hostname.clone(),
                others,
                denied,
                no_waypoint,
            });
        }
    }
    attempts.sort_by_cached_key(|attempt| parent_text(&attempt.reference, namespace));
    attempts
}

fn mesh_parent() -> Parent {
    let kinds = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"];
    Parent {
        internal_name: MESH.to_owned(),
        kinds: kinds.iter().map(|kind| route_kind(kind)).collect(),
        hosts: Vec::new(),
        hostname: String::new(),
        section: String::new(),
        port: 0,
        protocol: String::new(),
    }
}

fn route_kind(kind: &str) -> RouteGroupKind {
    RouteGroupKind {
        group: Some(GATEWAY_GROUP.to_owned()),
        kind: kind.to_owned(),
    }
}

type Labels = BTreeMap<String, String>;

/// The labels of a parent in the mesh; `None`: it does not exist.
fn labels_of<'a>(index: &Index<'a>, owner: &ParentKey) -> Option<&'a Labels> {
    let Key { namespace, name } = &owner.key;
    if owner.kind == Kind::SERVICE {
        index.service(namespace, name).map(|service| &service.labels)
    } else {
        index.service_entry(namespace, name).map(|entry| &entry.metadata.labels)
    }
}

/// Whether the waypoint of a parent is another controller's, who will see to the route.
fn has_foreign_waypoint(index: &Index<'_>, owner: &ParentKey) -> bool {
    let own = &owner.key.namespace;
    let Some(mut labels) = labels_of(index, owner) else {
        return false;
    };
    if !labels.contains_key(USE_WAYPOINT) {
        match index.namespace(own) {
            Some(namespace) => labels = &namespace.labels,
            None => return false,
        }
    }
    let name = labels.get(USE_WAYPOINT).map_or("", String::as_str);
    if name.is_empty() || name.eq_ignore_ascii_case("none") {
        return false;
    }
    let namespace = labels
        .get(USE_WAYPOINT_NAMESPACE)
        .filter(|namespace| !namespace.is_empty());
    let waypoint = index.gateway(namespace.unwrap_or(own), name);
    let class = waypoint.and_then(|waypoint| index.class(&waypoint.spec.gateway_class_name));
    class.is_some_and(|class| {
        let controller = class.spec.controller_name.as_str();
        controller != MESH_CONTROLLER && controller != GATEWAY_CONTROLLER
    })
}

fn names_waypoint(labels: &Labels) -> bool {
    let named = labels.get(USE_WAYPOINT);
    named.is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"))
}

type Checked = (Option<(Denial, String)>, Option<&'static str>);

/// Checks a parent in the mesh: that it exists, and whether a waypoint will see the route.
fn check_mesh(index: &Index<'_>, owner: &ParentKey) -> Checked {
    let Some(labels) = labels_of(index, owner) else {
        let what = if owner.kind == Kind::SERVICE {
            "service"
        } else {
            "service entry"
        };
        let message = format!("parent {what}: \"{}\" not found", owner.key.name);
        return (Some((Denial::NotAccepted, message)), Some("parent not found"));
    };
    let namespace = index.namespace(&owner.key.namespace);
    let missing = !names_waypoint(labels) && namespace.is_some_and(|namespace| !names_waypoint(&namespace.labels));
    let message = "istio.io/use-waypoint label missing from parent and parent namespace; in ambient mode, route will not be respected";
    (None, missing.then_some(message))
}

/// Checks a listener: port and section first, then names and namespace.
fn check_listener(listener: &Parent, reference: &ParentReference, route: Route<'_>) -> Option<(Denial, String)> {
    let port = reference.port.map_or(0, |port| port.0);
    if port != 0 && port != listener.port {
        return Some((Denial::NotAccepted, format!("port {port} not found")));
    }
    let section = reference.section_name.as_deref().unwrap_or_default();
    if !section.is_empty() && section != listener.section {
        return Some((Denial::NotAccepted, format!("sectionName \"{section}\" not found")));
    }
    if listener.hosts.is_empty() {
        return None;
    }
    let any = [Host::from("*")];
    let hostnames = if route.hostnames.is_empty() {
        &any
    } else {
        route.hostnames
    };
    let own = route.meta.namespace.as_str();
    let mut name_fits = false;
    for hostname in hostnames {
        for host in &listener.hosts {
            let (namespace, host) = host.split_once('/').unwrap_or(("*", host));
            if Host::from(host).matches(hostname) {
                name_fits = true;
                if namespace == "*" || namespace == own {
                    return None;
                }
            }
        }
    }
    let listener = &listener.hostname;
    Some(if name_fits {
        let message = format!(
            "hostnames matched parent hostname \"{listener}\", but namespace \"{own}\" is not allowed by the parent"
        );
        (Denial::NotAllowed, message)
    } else {
        (
            Denial::NoHostname,
            format!("no hostnames matched parent hostname \"{listener}\""),
        )
    })
}

fn check_kind(listener: &Parent, kind: Kind<'_>) -> Option<(Denial, String)> {
    let allowed = listener
        .kinds
        .iter()
        .any(|allowed| allowed.kind == kind.kind && allowed.group.as_deref().unwrap_or(GATEWAY_GROUP) == kind.group);
    let message = || format!("kind {}/v1/{} is not allowed", kind.group, kind.kind);
    (!allowed).then(|| (Denial::NotAllowed, message()))
}
