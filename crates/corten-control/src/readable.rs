//! The wire messages as JSON for people: names as in their protobuf JSON, addresses as text, what is absent left out.

use std::net::IpAddr;

use corten_proto::security::{Action, Authorization, Match, Scope, StringMatch, string_match::MatchType};
use corten_proto::workload::{
    Address, AppProtocol, GatewayAddress, NetworkMode, Port, Service, TunnelProtocol, Workload, WorkloadStatus,
    WorkloadType, address::Type, gateway_address::Destination, load_balancing,
};
use corten_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Message, WORKLOAD_TYPE};
use serde_json::{Map, Value, json};

/// A resource of a type; one that cannot be read is null.
pub(crate) fn resource(type_url: &str, body: &[u8]) -> Value {
    match type_url {
        ADDRESS_TYPE => match Address::decode(body).ok().and_then(|address| address.r#type) {
            Some(Type::Workload(found)) => json!({"workload": workload(&found)}),
            Some(Type::Service(found)) => json!({"service": service(&found)}),
            None => Value::Null,
        },
        WORKLOAD_TYPE => Workload::decode(body).map_or(Value::Null, |found| json!({"workload": workload(&found)})),
        AUTHORIZATION_TYPE => Authorization::decode(body).map_or(Value::Null, |found| authorization(&found)),
        _ => Value::Null,
    }
}

/// A workload.
pub(crate) fn workload(found: &Workload) -> Value {
    let services = found
        .services
        .iter()
        .map(|(name, list)| (name.clone(), ports(&list.ports)));
    trimmed(json!({
        "uid": found.uid,
        "name": found.name,
        "namespace": found.namespace,
        "addresses": found.addresses.iter().map(|bytes| ip(bytes)).collect::<Vec<_>>(),
        "hostname": found.hostname,
        "network": found.network,
        "tunnelProtocol": name(TunnelProtocol::try_from(found.tunnel_protocol)),
        "nativeTunnel": found.native_tunnel,
        "trustDomain": found.trust_domain,
        "serviceAccount": found.service_account,
        "node": found.node,
        "canonicalName": found.canonical_name,
        "canonicalRevision": found.canonical_revision,
        "workloadType": name(WorkloadType::try_from(found.workload_type)),
        "workloadName": found.workload_name,
        "authorizationPolicies": found.authorization_policies,
        "status": name(WorkloadStatus::try_from(found.status)),
        "clusterId": found.cluster_id,
        "networkMode": name(NetworkMode::try_from(found.network_mode)),
        "services": services.collect::<Map<_, _>>(),
        "waypoint": found.waypoint.as_ref().map(gateway),
        "networkGateway": found.network_gateway.as_ref().map(gateway),
        "locality": found.locality.as_ref().map(|at| trimmed(json!({"region": at.region, "zone": at.zone, "subzone": at.subzone}))),
        "applicationTunnel": found.application_tunnel.map(|tunnel| json!({"protocol": tunnel.protocol, "port": tunnel.port})),
        "capacity": found.capacity,
    }))
}

/// A service.
pub(crate) fn service(found: &Service) -> Value {
    let addresses = found.addresses.iter().map(|at| {
        let length = at.length.map_or(String::new(), |length| format!("/{length}"));
        format!("{}/{}{length}", at.network, ip(&at.address))
    });
    let waypoints = found.weighted_waypoints.iter();
    let waypoints =
        waypoints.map(|at| json!({"weight": at.weight, "destination": at.destination.as_ref().map(gateway)}));
    trimmed(json!({
        "name": found.name,
        "namespace": found.namespace,
        "hostname": found.hostname,
        "addresses": addresses.collect::<Vec<_>>(),
        "ports": ports(&found.ports),
        "subjectAltNames": found.subject_alt_names,
        "waypoint": found.waypoint.as_ref().map(gateway),
        "weightedWaypoints": waypoints.collect::<Vec<_>>(),
        "loadBalancing": found.load_balancing.as_ref().map(|balancing| {
            let scopes = balancing.routing_preference.iter();
            trimmed(json!({
                "routingPreference": scopes.map(|&scope| name(load_balancing::Scope::try_from(scope))).collect::<Vec<_>>(),
                "mode": name(load_balancing::Mode::try_from(balancing.mode)),
                "healthPolicy": name(load_balancing::HealthPolicy::try_from(balancing.health_policy)),
            }))
        }),
        "canonical": found.canonical,
        "ingressUseWaypoint": found.ingress_use_waypoint,
    }))
}

/// A policy.
pub(crate) fn authorization(found: &Authorization) -> Value {
    let rules = found.rules.iter().map(|rule| {
        let clauses = rule.clauses.iter();
        clauses
            .map(|clause| clause.matches.iter().map(one_match).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    });
    trimmed(json!({
        "name": found.name,
        "namespace": found.namespace,
        "scope": name(Scope::try_from(found.scope)),
        "action": name(Action::try_from(found.action)),
        "rules": rules.collect::<Vec<_>>(),
        "dryRun": found.dry_run,
    }))
}

fn one_match(found: &Match) -> Value {
    let texts = |all: &[StringMatch]| all.iter().map(text).collect::<Vec<_>>();
    let ranges = |all: &[corten_proto::security::Address]| {
        all.iter()
            .map(|at| format!("{}/{}", ip(&at.address), at.length))
            .collect::<Vec<_>>()
    };
    let accounts = |all: &[corten_proto::security::ServiceAccountMatch]| {
        all.iter()
            .map(|at| format!("{}/{}", at.namespace, at.service_account))
            .collect::<Vec<_>>()
    };
    trimmed(json!({
        "namespaces": texts(&found.namespaces),
        "notNamespaces": texts(&found.not_namespaces),
        "principals": texts(&found.principals),
        "notPrincipals": texts(&found.not_principals),
        "sourceIps": ranges(&found.source_ips),
        "notSourceIps": ranges(&found.not_source_ips),
        "destinationIps": ranges(&found.destination_ips),
        "notDestinationIps": ranges(&found.not_destination_ips),
        "destinationPorts": found.destination_ports,
        "notDestinationPorts": found.not_destination_ports,
        "serviceAccounts": accounts(&found.service_accounts),
        "notServiceAccounts": accounts(&found.not_service_accounts),
    }))
}

fn text(found: &StringMatch) -> Value {
    match &found.match_type {
        Some(MatchType::Exact(text)) => json!({"exact": text}),
        Some(MatchType::Prefix(text)) => json!({"prefix": text}),
        Some(MatchType::Suffix(text)) => json!({"suffix": text}),
        Some(MatchType::Presence(())) => json!({"presence": {}}),
        None => json!({}),
    }
}

fn gateway(found: &GatewayAddress) -> Value {
    let destination = match &found.destination {
        Some(Destination::Hostname(host)) => format!("{}/{}", host.namespace, host.hostname),
        Some(Destination::Address(at)) => format!("{}/{}", at.network, ip(&at.address)),
        None => String::new(),
    };
    json!({"destination": destination, "hboneMtlsPort": found.hbone_mtls_port})
}

fn ports(ports: &[Port]) -> Value {
    let shown = ports.iter().map(|port| {
        json!({
            "servicePort": port.service_port,
            "targetPort": port.target_port,
            "appProtocol": name(AppProtocol::try_from(port.app_protocol)),
        })
    });
    shown.collect()
}

/// An enumeration's value in capitals, as protobuf has it.
fn name<T: std::fmt::Debug, E>(value: Result<T, E>) -> String {
    let text = value.map(|value| format!("{value:?}")).unwrap_or_default();
    let mut name = String::new();
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn ip(bytes: &[u8]) -> String {
    let address = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(|_| format!("{bytes:02x?}"), |address| address.to_string())
}

/// Without the members that have their default.
fn trimmed(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let told = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(_) => true,
    };
    members.into_iter().filter(|(_, value)| told(value)).collect()
}
