//! What the proxy knows and does, as `config_dump` tells it.

use std::collections::BTreeMap;

use corten_admin::config_dump as view;
use corten_traffic::{
    Action, Destination, GatewayAddress, IpFamilies, Lists, LoadBalancing, Match, Mode, Name, Pattern, Policy,
    PolicyScope, Scope, Service, Tables, Workload, WorkloadType,
};
use serde::Serialize;

use super::data_plane::DataPlane;
use super::servers::VERSION;
use crate::config::Config;
use crate::shard::{ConnectionView, PodView};

/// Everything.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigDump {
    #[serde(flatten)]
    dump: view::Dump,
    staged_services: BTreeMap<String, BTreeMap<String, view::Endpoint>>,
    static_config: StaticConfig,
    version: BuildVersion,
    config: Config,
}

/// What came from a file; nothing is kept apart from what the control plane says.
#[derive(Debug, Default, Serialize)]
struct StaticConfig {
    workloads: [(); 0],
    services: [(); 0],
    policies: [(); 0],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildVersion {
    version: &'static str,
    git_tag: &'static str,
    build_status: &'static str,
}

/// Everything the proxy knows.
pub async fn config_dump(data_plane: &DataPlane) -> ConfigDump {
    let pods = data_plane.dump().await;
    let common = data_plane.common();
    let tables = common.tables.load_full();
    ConfigDump {
        dump: view::Dump {
            certificates: certificates(common.identities.dump()),
            workload_state: pods.iter().map(|pod| (pod.uid.clone(), state(pod))).collect(),
            ..dump(&tables)
        },
        staged_services: staged(&tables),
        static_config: StaticConfig::default(),
        version: BuildVersion {
            version: VERSION,
            git_tag: VERSION,
            build_status: "Clean",
        },
        config: Config::clone(&common.config),
    }
}

fn dump(tables: &Tables) -> view::Dump {
    let mut workloads: Vec<_> = tables.workloads().map(|known| workload(known)).collect();
    workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
    let mut services: Vec<_> = tables.services().map(|known| service(tables, known)).collect();
    services.sort_by(|a, b| (&a.hostname, &a.namespace).cmp(&(&b.hostname, &b.namespace)));
    let mut keyed: Vec<_> = tables.policies().collect();
    keyed.sort_by(|a, b| a.key.cmp(&b.key));
    view::Dump {
        workloads,
        services,
        policies: keyed.into_iter().map(|known| policy(known)).collect(),
        ..view::Dump::default()
    }
}

fn workload(w: &Workload) -> view::Workload {
    view::Workload {
        uid: text(&w.uid),
        workload_ips: w.addresses.iter().map(ToString::to_string).collect(),
        waypoint: w.waypoint.as_deref().map(gateway),
        network_gateway: w.network_gateway.as_deref().map(gateway),
        protocol: if w.is_hbone() { "HBONE" } else { "TCP" }.to_owned(),
        name: text(&w.name),
        namespace: text(&w.namespace),
        service_account: w.identity.service_account.clone(),
        workload_name: text(&w.workload_name),
        workload_type: match w.workload_type {
            WorkloadType::Deployment => "deployment",
            WorkloadType::CronJob => "cronjob",
            WorkloadType::Pod => "pod",
            WorkloadType::Job => "job",
        }
        .to_owned(),
        canonical_name: text(&w.canonical_name),
        canonical_revision: text(&w.canonical_revision),
        cluster_id: text(&w.cluster),
        trust_domain: w.identity.trust_domain.clone(),
        locality: view::Locality {
            region: w.locality.region.clone(),
            zone: w.locality.zone.clone(),
            subzone: w.locality.subzone.clone(),
        },
        node: text(&w.node),
        network: text(&w.network),
        status: health(w),
        hostname: text(&w.hostname),
        capacity: w.capacity,
        application_tunnel: w
            .application_tunnel
            .map_or_else(view::ApplicationTunnel::default, |tunnel| view::ApplicationTunnel {
                protocol: if tunnel.proxy { "PROXY" } else { "NONE" }.to_owned(),
                port: tunnel.port,
            }),
        authorization_policies: w.policies.iter().map(text).collect(),
        network_mode: if w.host_network { "HostNetwork" } else { "Standard" }.to_owned(),
        native_tunnel: w.native_tunnel,
        services: w
            .services
            .iter()
            .map(|member| format!("{}/{}", member.namespace, member.hostname))
            .collect(),
    }
}

fn health(w: &Workload) -> String {
    if w.healthy { "Healthy" } else { "Unhealthy" }.to_owned()
}

fn text(name: &Name) -> String {
    name.as_str().to_owned()
}

fn destination(destination: &Destination) -> String {
    match destination {
        Destination::Address { network, address } => format!("{network}/{address}"),
        Destination::Hostname { namespace, hostname } => format!("{namespace}/{hostname}"),
    }
}

fn gateway(gateway: &GatewayAddress) -> view::Gateway {
    view::Gateway {
        destination: destination(&gateway.destination),
        hbone_mtls_port: Some(gateway.hbone_port),
    }
}

fn ports(ports: &[(u16, u16)]) -> BTreeMap<String, u16> {
    ports.iter().map(|(port, target)| (port.to_string(), *target)).collect()
}

fn service(tables: &Tables, s: &Service) -> view::Service {
    view::Service {
        name: text(&s.name),
        namespace: text(&s.namespace),
        hostname: text(&s.hostname),
        vips: s
            .addresses
            .iter()
            .map(|(network, address)| format!("{network}/{address}"))
            .collect(),
        cidr_vips: s
            .ranges
            .iter()
            .map(|(network, range)| view::Range {
                network: text(network),
                cidr: range.to_string(),
            })
            .collect(),
        ports: ports(&s.ports),
        load_balancer: s.load_balancing.as_ref().map(load_balancer),
        waypoint: s.waypoint.as_deref().map(gateway),
        endpoints: tables.endpoints(s).map(endpoint).collect(),
        subject_alt_names: s.subject_alt_names.iter().map(ToString::to_string).collect(),
        ip_families: match s.ip_families {
            None => "",
            Some(IpFamilies::Dual) => "Dual",
            Some(IpFamilies::V4) => "IPv4",
            Some(IpFamilies::V6) => "IPv6",
        }
        .to_owned(),
        canonical: s.canonical,
        visibility: if s.namespace_only { "Namespace" } else { "Public" }.to_owned(),
        weighted_waypoints: s
            .weighted_waypoints
            .iter()
            .map(|(gateway, weight)| view::WeightedWaypoint {
                destination: destination(&gateway.destination),
                weight: *weight,
            })
            .collect(),
    }
}

fn endpoint(endpoint: &corten_traffic::Endpoint) -> (String, view::Endpoint) {
    let uid = text(&endpoint.workload.uid);
    let shown = view::Endpoint {
        workload_uid: uid.clone(),
        port: ports(endpoint.ports()),
        status: health(&endpoint.workload),
        ..view::Endpoint::default()
    };
    (uid, shown)
}

fn load_balancer(balancing: &LoadBalancing) -> view::LoadBalancer {
    let scope = |scope: &Scope| match scope {
        Scope::Region => "Region",
        Scope::Zone => "Zone",
        Scope::Subzone => "Subzone",
        Scope::Node => "Node",
        Scope::Cluster => "Cluster",
        Scope::Network => "Network",
    };
    view::LoadBalancer {
        mode: match balancing.mode {
            Mode::Standard => "Standard",
            Mode::Strict => "Strict",
            Mode::Failover => "Failover",
            Mode::Passthrough => "Passthrough",
        }
        .to_owned(),
        routing_preferences: balancing.preferences.iter().map(|one| scope(one).to_owned()).collect(),
        health_policy: if balancing.allow_unhealthy {
            "AllowAll"
        } else {
            "OnlyHealthy"
        }
        .to_owned(),
    }
}

fn staged(tables: &Tables) -> BTreeMap<String, BTreeMap<String, view::Endpoint>> {
    tables
        .staged()
        .map(|(namespace, hostname, endpoints)| (format!("{namespace}/{hostname}"), endpoints.map(endpoint).collect()))
        .collect()
}

fn policy(p: &Policy) -> view::Policy {
    view::Policy {
        name: text(&p.name),
        namespace: text(&p.namespace),
        scope: match p.scope {
            PolicyScope::Global => "Global",
            PolicyScope::Namespace => "Namespace",
            PolicyScope::WorkloadSelector => "WorkloadSelector",
        }
        .to_owned(),
        action: match p.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        }
        .to_owned(),
        rules: p
            .rules
            .iter()
            .map(|rule| {
                rule.iter()
                    .map(|clause| clause.iter().map(matching).collect())
                    .collect()
            })
            .collect(),
        dry_run: p.dry_run,
    }
}

fn matching(m: &Match) -> view::Match {
    fn both<T, V>(lists: &Lists<T>, show: impl Fn(&T) -> V) -> (Vec<V>, Vec<V>) {
        (
            lists.any_of.iter().map(&show).collect(),
            lists.none_of.iter().map(&show).collect(),
        )
    }
    let (namespaces, not_namespaces) = both(&m.namespaces, pattern);
    let (principals, not_principals) = both(&m.principals, pattern);
    let (source_ips, not_source_ips) = both(&m.source_ips, ToString::to_string);
    let (destination_ips, not_destination_ips) = both(&m.destination_ips, ToString::to_string);
    let (destination_ports, not_destination_ports) = both(&m.destination_ports, |port| *port);
    let account = |(namespace, name): &(Name, Name)| view::ServiceAccount {
        namespace: text(namespace),
        service_account: text(name),
    };
    let (service_accounts, not_service_accounts) = both(&m.service_accounts, account);
    view::Match {
        namespaces,
        not_namespaces,
        principals,
        not_principals,
        source_ips,
        not_source_ips,
        destination_ips,
        not_destination_ips,
        destination_ports,
        not_destination_ports,
        service_accounts,
        not_service_accounts,
    }
}

fn pattern(pattern: &Pattern) -> view::StringMatch {
    match pattern {
        Pattern::Exact(text) => view::StringMatch::Exact(text.to_string()),
        Pattern::Prefix(text) => view::StringMatch::Prefix(text.to_string()),
        Pattern::Suffix(text) => view::StringMatch::Suffix(text.to_string()),
        Pattern::Presence => view::StringMatch::Presence(serde_json::Value::Array(Vec::new())),
    }
}

fn certificates(known: Vec<corten_identity::CertificateView>) -> Vec<view::Certificate> {
    let entry = |entry: corten_identity::ChainEntry| view::ChainedCertificate {
        pem: entry.pem,
        serial_number: entry.serial_number,
        valid_from: entry.valid_from,
        expiration_time: entry.expiration_time,
    };
    known
        .into_iter()
        .map(|known| view::Certificate {
            identity: known.identity,
            state: known.state,
            cert_chain: known.cert_chain.into_iter().map(entry).collect(),
            root_certs: known.root_certs.into_iter().map(entry).collect(),
        })
        .collect()
}

fn state(pod: &PodView) -> view::WorkloadState {
    let side = |inbound: bool| {
        let connections = pod.connections.iter().filter(|known| known.inbound == inbound);
        connections.map(connection).collect()
    };
    view::WorkloadState {
        state: "Up".to_owned(),
        connections: view::Connections {
            inbound: side(true),
            outbound: side(false),
        },
        info: view::WorkloadInfo {
            name: pod.info.name.clone(),
            namespace: pod.info.namespace.clone(),
            trust_domain: String::new(),
            service_account: pod.info.service_account.clone(),
        },
    }
}

fn connection(known: &ConnectionView) -> view::Connection {
    view::Connection {
        src: known.source.to_string(),
        original_dst: known.original_destination.clone().unwrap_or_default(),
        actual_dst: known.actual_destination.clone().unwrap_or_default(),
        protocol: known.protocol.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use corten_traffic::TablesWriter;

    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        let yaml = "
workloads:
- {uid: c//Pod/default/a, name: a, namespace: default, serviceAccount: sa, workloadIps: [10.0.0.1], protocol: HBONE,
   services: {default/web.default.svc.cluster.local: {'80': 8080}, default/later: {}}}
services: [{name: web, namespace: default, hostname: web.default.svc.cluster.local, vips: [/10.96.0.1], ports: {'80': 8080}}]
policies: [{name: p, namespace: default, scope: Namespace, action: Deny, rules: [[[{notPrincipals: [{Presence: []}]}]]]}]
";
        let mut writer = TablesWriter::new();
        writer.apply(crate::control::local::parse(yaml).unwrap()).unwrap();
        let tables = writer.snapshot();
        let shown = dump(&tables);
        let written = serde_json::to_vec(&shown).unwrap();
        let read = view::Dump::parse(&written).unwrap();
        assert_eq!(read, shown);
        assert_eq!(read.services[0].endpoints["c//Pod/default/a"].port["80"], 8080);
        assert_eq!(staged(&tables).into_keys().collect::<Vec<_>>(), ["default/later"]);
    }
}
