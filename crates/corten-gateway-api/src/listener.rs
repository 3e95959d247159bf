//! A listener: the server it becomes, and what its status says.

use corten_api::{
    gateway_api::{
        gateway::{GatewayTLSConfig, Listener, ListenerStatus, RouteGroupKind, TLSModeType},
        shared::{Condition, ConditionStatus},
    },
    istio::gateway::{Server, ServerPort},
};

use crate::{
    class::Role,
    condition::{Conditions, Problem},
    index::Index,
    reference::{GATEWAY_GROUP, Kind},
    selector,
    tls::{self, Owner},
};

/// The port of tunnels.
pub(crate) const TUNNEL_PORT: u16 = 15008;
/// The protocol of tunnels, as listeners name it.
const TUNNEL: &str = "HBONE";

/// What became of a listener.
#[derive(Debug)]
pub(crate) struct Built {
    /// The server; `None`: it cannot be served at all.
    pub(crate) server: Option<Server>,
    /// Its status.
    pub(crate) status: ListenerStatus,
    /// It is valid.
    pub(crate) valid: bool,
}

/// Builds a listener of an owner for a gateway of a role.
pub(crate) fn build(
    index: &Index<'_>,
    owner: Owner<'_>,
    role: Role,
    gateway_tls: Option<&GatewayTLSConfig>,
    listener: &Listener,
    existing: &[Condition],
) -> Built {
    let port = listener.port.0;
    let fine = "No errors found";
    let mut conditions = Conditions::default()
        .good("Accepted", "Accepted", fine)
        .good("Programmed", "Programmed", fine)
        .good("ResolvedRefs", "ResolvedRefs", fine);
    conditions.set("Conflicted", ConditionStatus::False, "NoConflicts", fine);
    let mut valid = true;

    let mut settings = None;
    if let Some(listener_tls) = &listener.tls {
        let frontend = tls::frontend(port, gateway_tls);
        let (made, problem) = tls::settings(index, owner, port, listener_tls, frontend);
        settings = Some(made);
        if let Some(problem) = problem {
            valid = false;
            conditions.fail("Programmed", Problem::new("Invalid", "Bad TLS configuration"));
            if tls::leaves_no_authority(&problem) {
                conditions.fail(
                    "Accepted",
                    Problem::new("NoValidCACertificate", problem.message.clone()),
                );
            }
            conditions.fail("ResolvedRefs", problem);
        }
    }
    let unsupported = |message: String| Problem::new("UnsupportedProtocol", message);
    if port == 0 {
        valid = false;
        let message = format!("protocol {} requires a port to be set", listener.protocol);
        conditions.fail("Accepted", unsupported(message));
    }
    if let Some(message) = unsupported_protocol(role, &listener.protocol) {
        valid = false;
        conditions.fail("Accepted", unsupported(message));
    }
    if let Some(message) = unexpected_tunnel(role, listener) {
        conditions.fail("Accepted", unsupported(message.to_owned()));
    }
    let mut server = Some(Server {
        port: Some(ServerPort {
            // Each server has a gateway of its own, so that all may have the same name.
            name: "default".to_owned(),
            number: listener.port,
            protocol: if unsupported_protocol(role, &listener.protocol).is_none() {
                listener.protocol.clone()
            } else {
                String::new()
            },
            ..ServerPort::default()
        }),
        hosts: hosts(index, owner, listener),
        tls: settings,
        ..Server::default()
    });
    if listener.tls.is_none() && matches!(listener.protocol.as_str(), "HTTPS" | "TLS") {
        server = None;
        if owner.kind == Kind::LISTENER_SET {
            valid = false;
            let message = format!("protocol is {} but no TLS section is defined", listener.protocol);
            conditions.fail("Accepted", unsupported(message));
            conditions.fail("Programmed", Problem::new("Invalid", "Bad TLS configuration"));
        }
    }
    Built {
        server,
        status: status(index, owner, listener, existing, conditions),
        valid,
    }
}

/// The status of a listener that lost against another.
pub(crate) fn conflicted(
    index: &Index<'_>,
    owner: Owner<'_>,
    listener: &Listener,
    existing: &[Condition],
    reason: &str,
) -> ListenerStatus {
    let message = "Listener has a conflict with another listener attached to the same Gateway";
    let mut conditions = Conditions::default().good("Conflicted", reason, message);
    conditions.fail("Accepted", Problem::new(reason, message));
    conditions.fail("Programmed", Problem::new(reason, message));
    status(index, owner, listener, existing, conditions)
}

fn status(
    index: &Index<'_>,
    owner: Owner<'_>,
    listener: &Listener,
    existing: &[Condition],
    mut conditions: Conditions,
) -> ListenerStatus {
    let (supported_kinds, all) = supported_kinds(listener);
    if !all {
        let (reason, message) = ("InvalidRouteKinds", "Invalid route kinds");
        conditions.set("ResolvedRefs", ConditionStatus::False, reason, message);
    }
    ListenerStatus {
        name: listener.name.clone(),
        attached_routes: 0,
        supported_kinds,
        conditions: conditions.over(existing, owner.generation, index.now),
    }
}

/// The kinds of routes that a listener takes, and whether those are all that it names.
pub(crate) fn supported_kinds(listener: &Listener) -> (Vec<RouteGroupKind>, bool) {
    let terminates = listener
        .tls
        .as_ref()
        .is_some_and(|tls| tls.mode.unwrap_or(TLSModeType::Terminate) == TLSModeType::Terminate);
    let supported: &[&str] = match listener.protocol.as_str() {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TCP" => &["TCPRoute"],
        "TLS" if terminates => &["TLSRoute", "TCPRoute"],
        "TLS" => &["TLSRoute"],
        _ => &[],
    };
    let named = listener.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice());
    let named = named.unwrap_or_default();
    let is_named = |kind: &str| {
        let fits = |n: &RouteGroupKind| n.kind == kind && n.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP;
        named.is_empty() || named.iter().any(fits)
    };
    let kinds: Vec<RouteGroupKind> = supported
        .iter()
        .filter(|kind| is_named(kind))
        .map(|kind| RouteGroupKind {
            group: Some(GATEWAY_GROUP.to_owned()),
            kind: (*kind).to_owned(),
        })
        .collect();
    let all = named.is_empty() || kinds.len() == named.len();
    (kinds, all)
}

/// Why a protocol is not spoken by a role's gateways.
fn unsupported_protocol(role: Role, protocol: &str) -> Option<String> {
    let tunnels = matches!(role, Role::Waypoint | Role::EastWest);
    match protocol {
        "HTTP" | "HTTPS" | "TLS" | "TCP" => None,
        TUNNEL if tunnels => None,
        TUNNEL => Some(format!(
            "protocol \"{protocol}\" is only supported for waypoint proxies"
        )),
        _ => {
            let upper = protocol.to_uppercase();
            let meant = matches!(upper.as_str(), "HTTP" | "HTTPS" | "TLS" | "TCP" | TUNNEL);
            Some(if meant {
                format!("protocol \"{protocol}\" is unsupported. hint: \"{upper}\" (uppercase) may be supported")
            } else {
                format!("protocol \"{protocol}\" is unsupported")
            })
        }
    }
}

/// Why a listener is not one that a waypoint or a gateway between networks has.
fn unexpected_tunnel(role: Role, listener: &Listener) -> Option<&'static str> {
    let is_tunnel = listener.port.0 == TUNNEL_PORT && listener.protocol == TUNNEL;
    match role {
        Role::Waypoint if !is_tunnel => Some("Expected a single listener on port 15008 with protocol \"HBONE\""),
        Role::EastWest => {
            let mode = listener
                .tls
                .as_ref()
                .map(|tls| tls.mode.unwrap_or(TLSModeType::Terminate));
            let expected = if listener.port.0 == TUNNEL_PORT {
                is_tunnel && mode == Some(TLSModeType::Terminate)
            } else {
                listener.protocol == "TLS" && mode == Some(TLSModeType::Passthrough)
            };
            (!expected).then_some(
                "East-west gateway listeners must be either port 15008 with protocol \"HBONE\" and TLS.Mode == Terminate, or TLS with TLS.Mode == Passthrough",
            )
        }
        _ => None,
    }
}

/// The names a server answers to, by namespace of the routes that may name them.
fn hosts(index: &Index<'_>, owner: Owner<'_>, listener: &Listener) -> Vec<String> {
    let hostname = listener.hostname.as_ref().map_or("*", |hostname| hostname.as_str());
    let namespaces = selector::route_namespaces(index, owner.namespace, listener.allowed_routes.as_ref());
    let hosts: Vec<String> = namespaces
        .iter()
        .filter(|namespace| !namespace.is_empty())
        .map(|namespace| format!("{namespace}/{hostname}"))
        .collect();
    if hosts.is_empty() {
        // A server must have a name; no namespace is called so.
        vec![format!("~/{hostname}")]
    } else {
        hosts
    }
}
