//! Meshes written as lines, for tests: `workload NAME KEY[=VALUE]...` and `service NAMESPACE/HOST KEY[=VALUE]...`.
//!
//! Gateways are `ADDRESS:PORT`, `NETWORK|ADDRESS:PORT` or `NAMESPACE/HOST:PORT`. Lists are separated by commas.

use std::{net::IpAddr, sync::Arc};

use corten_proto::{security, workload as proto};

use crate::{Change, Tables, TablesWriter};

pub(crate) fn mesh(lines: &str) -> Arc<Tables> {
    mesh_with(lines, [])
}

pub(crate) fn mesh_with(lines: &str, policies: impl IntoIterator<Item = security::Authorization>) -> Arc<Tables> {
    let mut writer = TablesWriter::new();
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let policies = policies.into_iter().map(|policy| Change::Authorization {
        name: format!("{}/{}", policy.namespace, policy.name),
        policy: Box::new(policy),
    });
    writer
        .apply(lines.map(change).chain(policies))
        .expect("the mesh of the test is good");
    writer.snapshot()
}

fn change(line: &str) -> Change {
    let mut words = line.split_whitespace();
    let (kind, name) = (words.next().unwrap(), words.next().unwrap());
    let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
    let r#type = match kind {
        "workload" => proto::address::Type::Workload(workload(name, pairs)),
        "service" => proto::address::Type::Service(service(name, pairs)),
        other => panic!("'{other}' is neither workload nor service"),
    };
    Change::Address {
        name: name.to_owned(),
        address: Box::new(proto::Address { r#type: Some(r#type) }),
    }
}

fn workload<'a>(name: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> proto::Workload {
    let mut workload = proto::Workload {
        uid: format!("c//Pod/ns/{name}"),
        name: name.to_owned(),
        namespace: "ns".to_owned(),
        ..proto::Workload::default()
    };
    for (key, value) in pairs {
        let text = value.to_owned();
        match key {
            "uid" => workload.uid = text,
            "ns" => workload.namespace = text,
            "sa" => workload.service_account = text,
            "td" => workload.trust_domain = text,
            "net" => workload.network = text,
            "node" => workload.node = text,
            "cluster" => workload.cluster_id = text,
            "host" => workload.hostname = text,
            "hbone" => workload.tunnel_protocol = 1,
            "unhealthy" => workload.status = 1,
            "hostnet" => workload.network_mode = 1,
            "capacity" => workload.capacity = Some(value.parse().unwrap()),
            "ip" => workload.addresses = value.split(',').map(|ip| bytes(ip.parse().unwrap())).collect(),
            "policies" => workload.authorization_policies = value.split(',').map(str::to_owned).collect(),
            "waypoint" => workload.waypoint = Some(gateway(value)),
            "gateway" => workload.network_gateway = Some(gateway(value)),
            "at" => {
                let mut parts = value.split('/').map(str::to_owned);
                workload.locality = Some(proto::Locality {
                    region: parts.next().unwrap_or_default(),
                    zone: parts.next().unwrap_or_default(),
                    subzone: parts.next().unwrap_or_default(),
                });
            }
            "tunnel" => {
                let (protocol, port) = value.split_once(':').unwrap_or((value, "0"));
                workload.application_tunnel = Some(proto::ApplicationTunnel {
                    protocol: i32::from(protocol == "proxy"),
                    port: port.parse().unwrap(),
                });
            }
            "of" => {
                for service in value.split(',') {
                    let mut parts = service.split('+');
                    let key = parts.next().unwrap().to_owned();
                    let ports = parts.map(port).collect();
                    workload.services.insert(key, proto::PortList { ports });
                }
            }
            other => panic!("workloads have no '{other}'"),
        }
    }
    workload
}

fn service<'a>(key: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> proto::Service {
    let (namespace, hostname) = key.split_once('/').unwrap();
    let mut service = proto::Service {
        name: hostname.split('.').next().unwrap().to_owned(),
        namespace: namespace.to_owned(),
        hostname: hostname.to_owned(),
        ..proto::Service::default()
    };
    for (key, value) in pairs {
        match key {
            "vip" => service.addresses.extend(value.split(',').map(network_address)),
            "range" => {
                let (address, length) = value.split_once('/').unwrap();
                service.addresses.push(proto::NetworkAddress {
                    length: Some(length.parse().unwrap()),
                    ..network_address(address)
                });
            }
            "ports" => service.ports = value.split(',').map(port).collect(),
            "san" => service.subject_alt_names = value.split(',').map(str::to_owned).collect(),
            "waypoint" => service.waypoint = Some(gateway(value)),
            "weighted" => {
                service.weighted_waypoints = value
                    .split(',')
                    .map(|entry| entry.split_once('@').unwrap())
                    .map(|(destination, weight)| proto::WeightedWaypoint {
                        destination: Some(gateway(destination)),
                        weight: weight.parse().unwrap(),
                    })
                    .collect();
            }
            "canonical" => service.canonical = true,
            "private" => service.visibility = 1,
            "families" => service.ip_families = value.parse().unwrap(),
            "any-health" => service.load_balancing.get_or_insert_default().health_policy = 1,
            "strict" | "failover" | "passthrough" => {
                let balancing = service.load_balancing.get_or_insert_default();
                balancing.mode = ["", "strict", "failover", "passthrough"]
                    .iter()
                    .position(|m| *m == key)
                    .unwrap() as i32;
                let names = ["", "region", "zone", "subzone", "node", "cluster", "network"];
                let number = |scope: &str| names.iter().position(|name| *name == scope).unwrap() as i32;
                balancing.routing_preference = value.split(',').filter(|s| !s.is_empty()).map(number).collect();
            }
            other => panic!("services have no '{other}'"),
        }
    }
    service
}

fn port(text: &str) -> proto::Port {
    let (port, target) = text.split_once(':').unwrap();
    proto::Port {
        service_port: port.parse().unwrap(),
        target_port: target.parse().unwrap(),
        app_protocol: 0,
    }
}

fn network_address(text: &str) -> proto::NetworkAddress {
    let (network, address) = text.split_once('|').unwrap_or(("", text));
    proto::NetworkAddress {
        network: network.to_owned(),
        address: bytes(address.parse().unwrap()),
        length: None,
    }
}

fn gateway(text: &str) -> proto::GatewayAddress {
    use proto::gateway_address::Destination;
    let (destination, port) = text.rsplit_once(':').unwrap();
    let destination = match destination.split_once('/') {
        Some((namespace, hostname)) => Destination::Hostname(proto::NamespacedHostname {
            namespace: namespace.to_owned(),
            hostname: hostname.to_owned(),
        }),
        None => Destination::Address(network_address(destination)),
    };
    proto::GatewayAddress {
        destination: Some(destination),
        hbone_mtls_port: port.parse().unwrap(),
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
