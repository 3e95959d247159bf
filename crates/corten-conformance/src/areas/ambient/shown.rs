//! Messages in the form that the data has: protobuf JSON with addresses as text. Whatever is at its default is left out
//! on both sides, since protobuf does not tell it from absent.

use std::net::IpAddr;

use corten_proto::{
    security,
    workload::{self as proto, application_tunnel, gateway_address::Destination, load_balancing},
};
use serde_json::{Map, Value, json};

/// Values that are the first of their enumeration.
const DEFAULTS: [&str; 12] = [
    "HEALTHY",
    "NONE",
    "PUBLIC",
    "AUTOMATIC",
    "STANDARD",
    "UNKNOWN",
    "DEPLOYMENT",
    "UNSPECIFIED",
    "UNSPECIFIED_MODE",
    "ONLY_HEALTHY",
    "GLOBAL",
    "ALLOW",
];

/// A value in camel case, without what is at its default.
pub(super) fn normalized(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (key, value) in members {
                let is_enumeration = matches!(
                    key.as_str(),
                    "status"
                        | "tunnelProtocol"
                        | "protocol"
                        | "visibility"
                        | "ipFamilies"
                        | "networkMode"
                        | "appProtocol"
                        | "workloadType"
                        | "mode"
                        | "healthPolicy"
                        | "scope"
                        | "action"
                );
                let value = normalized(value);
                let default = match &value {
                    Value::Null => true,
                    Value::Bool(truth) => !truth,
                    Value::Number(number) => number.as_u64() == Some(0) && key != "capacity" && key != "length",
                    Value::String(text) => text.is_empty() || (is_enumeration && DEFAULTS.contains(&text.as_str())),
                    Value::Array(items) => items.is_empty(),
                    Value::Object(_) => false,
                };
                if !default {
                    kept.insert(camel(key), value);
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(normalized).collect()),
        other => other.clone(),
    }
}

/// Keys of maps, which hold a name, stay.
fn camel(key: &str) -> String {
    if key.contains(['/', '.', '-']) {
        return key.to_owned();
    }
    let mut words = key.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// A workload, as rows have it.
pub(super) fn workload_of(one: &proto::Workload) -> Value {
    normalized(&workload(one))
}

/// A service, as rows have it.
pub(super) fn service_of(one: &proto::Service) -> Value {
    normalized(&service(one))
}

fn workload(one: &proto::Workload) -> Value {
    let services: Map<String, Value> = one
        .services
        .iter()
        .map(|(key, list)| {
            (
                key.clone(),
                json!({ "ports": list.ports.iter().map(port).collect::<Vec<_>>() }),
            )
        })
        .collect();
    json!({
        "uid": one.uid, "name": one.name, "namespace": one.namespace,
        "addresses": one.addresses.iter().map(|octets| ip(octets)).collect::<Vec<_>>(),
        "network": one.network,
        "tunnelProtocol": name(proto::TunnelProtocol::try_from(one.tunnel_protocol)),
        "trustDomain": one.trust_domain, "serviceAccount": one.service_account,
        "waypoint": one.waypoint.as_ref().map(gateway), "node": one.node,
        "canonicalName": one.canonical_name, "canonicalRevision": one.canonical_revision,
        "workloadType": name(proto::WorkloadType::try_from(one.workload_type)), "workloadName": one.workload_name,
        "nativeTunnel": one.native_tunnel, "authorizationPolicies": one.authorization_policies,
        "status": name(proto::WorkloadStatus::try_from(one.status)), "clusterId": one.cluster_id,
        "networkGateway": one.network_gateway.as_ref().map(gateway), "hostname": one.hostname,
        "services": if services.is_empty() { Value::Null } else { Value::Object(services) },
        "applicationTunnel": one.application_tunnel.as_ref().map(|tunnel| json!({
            "protocol": name(application_tunnel::Protocol::try_from(tunnel.protocol)), "port": tunnel.port,
        })),
        "locality": one.locality.as_ref().map(|place| json!({
            "region": place.region, "zone": place.zone, "subzone": place.subzone,
        })),
        "networkMode": name(proto::NetworkMode::try_from(one.network_mode)),
        "capacity": one.capacity,
    })
}

fn service(one: &proto::Service) -> Value {
    json!({
        "name": one.name, "namespace": one.namespace, "hostname": one.hostname,
        "addresses": one.addresses.iter().map(network_address).collect::<Vec<_>>(),
        "ports": one.ports.iter().map(port).collect::<Vec<_>>(),
        "subjectAltNames": one.subject_alt_names,
        "waypoint": one.waypoint.as_ref().map(gateway),
        "loadBalancing": one.load_balancing.as_ref().map(|wanted| json!({
            "routingPreference": wanted.routing_preference.iter()
                .map(|scope| name(load_balancing::Scope::try_from(*scope))).collect::<Vec<_>>(),
            "mode": name(load_balancing::Mode::try_from(wanted.mode)),
            "healthPolicy": name(load_balancing::HealthPolicy::try_from(wanted.health_policy)),
        })),
        "ipFamilies": name(proto::IpFamilies::try_from(one.ip_families)),
        "canonical": one.canonical, "ingressUseWaypoint": one.ingress_use_waypoint,
        "weightedWaypoints": one.weighted_waypoints.iter().map(|waypoint| json!({
            "destination": waypoint.destination.as_ref().map(gateway), "weight": waypoint.weight,
        })).collect::<Vec<_>>(),
        "visibility": name(proto::Visibility::try_from(one.visibility)),
    })
}

fn gateway(gateway: &proto::GatewayAddress) -> Value {
    let (hostname, address) = match &gateway.destination {
        Some(Destination::Hostname(name)) => (
            json!({ "namespace": name.namespace, "hostname": name.hostname }),
            Value::Null,
        ),
        Some(Destination::Address(address)) => (Value::Null, network_address(address)),
        None => (Value::Null, Value::Null),
    };
    json!({ "hostname": hostname, "address": address, "hboneMtlsPort": gateway.hbone_mtls_port })
}

fn network_address(address: &proto::NetworkAddress) -> Value {
    json!({ "network": address.network, "address": ip(&address.address), "length": address.length })
}

fn port(port: &proto::Port) -> Value {
    json!({
        "servicePort": port.service_port, "targetPort": port.target_port,
        "appProtocol": name(proto::AppProtocol::try_from(port.app_protocol)),
    })
}

/// A policy; the data calls rules groups, and clauses rules.
pub(super) fn policy(policy: &security::Authorization) -> Value {
    let groups = policy.rules.iter().map(|rule| {
        let rules = rule
            .clauses
            .iter()
            .map(|clause| json!({ "matches": clause.matches.iter().map(one_match).collect::<Vec<_>>() }));
        json!({ "rules": rules.collect::<Vec<_>>() })
    });
    normalized(&json!({
        "name": policy.name, "namespace": policy.namespace,
        "scope": name(security::Scope::try_from(policy.scope)),
        "action": name(security::Action::try_from(policy.action)),
        "groups": groups.collect::<Vec<_>>(), "dryRun": policy.dry_run,
    }))
}

fn one_match(one: &security::Match) -> Value {
    let patterns = |list: &[security::StringMatch]| list.iter().map(pattern).collect::<Vec<_>>();
    let ranges = |list: &[security::Address]| {
        list.iter()
            .map(|range| json!({ "address": base64(&range.address), "length": range.length }))
            .collect::<Vec<_>>()
    };
    let accounts = |list: &[security::ServiceAccountMatch]| {
        list.iter()
            .map(|one| json!({ "namespace": one.namespace, "serviceAccount": one.service_account }))
            .collect::<Vec<_>>()
    };
    json!({
        "namespaces": patterns(&one.namespaces), "notNamespaces": patterns(&one.not_namespaces),
        "principals": patterns(&one.principals), "notPrincipals": patterns(&one.not_principals),
        "sourceIps": ranges(&one.source_ips), "notSourceIps": ranges(&one.not_source_ips),
        "destinationIps": ranges(&one.destination_ips), "notDestinationIps": ranges(&one.not_destination_ips),
        "destinationPorts": one.destination_ports, "notDestinationPorts": one.not_destination_ports,
        "serviceAccounts": accounts(&one.service_accounts), "notServiceAccounts": accounts(&one.not_service_accounts),
    })
}

fn pattern(pattern: &security::StringMatch) -> Value {
    use security::string_match::MatchType;
    match &pattern.match_type {
        Some(MatchType::Exact(text)) => json!({ "exact": text }),
        Some(MatchType::Prefix(text)) => json!({ "prefix": text }),
        Some(MatchType::Suffix(text)) => json!({ "suffix": text }),
        Some(MatchType::Presence(())) => json!({ "presence": {} }),
        None => Value::Null,
    }
}

/// The name of an enumeration's value, as protobuf writes it.
fn name<E>(value: Result<impl std::fmt::Debug, E>) -> String {
    let Ok(value) = value else {
        return "a number that is none".to_owned();
    };
    let mut name = String::new();
    for letter in format!("{value:?}").chars() {
        // Digits belong to the word before them.
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn ip(octets: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        IpAddr::from(v4).to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(octets) {
        IpAddr::from(v6).to_string()
    } else {
        format!("{octets:?}")
    }
}

/// Bytes as protobuf JSON has them, which is how policies write addresses.
fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| {
        LETTERS
            .get((bits & 63) as usize)
            .map_or('=', |letter| char::from(*letter))
    };
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let bits = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0, |bits, octet| (bits << 8) | u32::from(*octet));
        for place in 0..4 {
            text.push(if place <= chunk.len() {
                letter(bits >> (18 - 6 * place))
            } else {
                '='
            });
        }
    }
    text
}
