//! Workloads, services and policies from a file instead of a control plane (`LOCAL_XDS_PATH`), in ztunnel's form: YAML or JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use corten_proto::{security, workload as proto};
use corten_traffic::Change;
use serde::Deserialize;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not of the form.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    workloads: Vec<Workload>,
    services: Vec<Service>,
    policies: Vec<Policy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Workload {
    uid: String,
    name: String,
    namespace: String,
    service_account: String,
    trust_domain: String,
    network: String,
    node: String,
    cluster_id: String,
    protocol: String,
    workload_ips: Vec<IpAddr>,
    workload_name: String,
    canonical_name: String,
    canonical_revision: String,
    native_tunnel: bool,
    hostname: String,
    waypoint: Option<Gateway>,
    network_gateway: Option<Gateway>,
    application_tunnel: Option<Tunnel>,
    authorization_policies: Vec<String>,
    services: BTreeMap<String, BTreeMap<String, u32>>,
    capacity: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gateway {
    destination: String,
    hbone_mtls_port: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tunnel {
    protocol: String,
    port: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Service {
    name: String,
    namespace: String,
    hostname: String,
    vips: Vec<String>,
    ports: BTreeMap<String, u32>,
    subject_alt_names: Vec<String>,
    waypoint: Option<Gateway>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    name: String,
    namespace: String,
    scope: String,
    action: String,
    rules: Vec<Vec<Vec<Match>>>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Match {
    namespaces: Vec<Text>,
    not_namespaces: Vec<Text>,
    principals: Vec<Text>,
    not_principals: Vec<Text>,
    source_ips: Vec<ipnet::IpNet>,
    not_source_ips: Vec<ipnet::IpNet>,
    destination_ips: Vec<ipnet::IpNet>,
    not_destination_ips: Vec<ipnet::IpNet>,
    destination_ports: Vec<u32>,
    not_destination_ports: Vec<u32>,
}

#[derive(Debug, Deserialize)]
enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Written with an empty list.
    Presence(serde::de::IgnoredAny),
}

/// Reads a file.
pub fn load(path: &Path) -> Result<Vec<Change>, LocalError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| LocalError::Read { path: shown(), source })?;
    read(&text, &shown())
}

/// Reads the text of one, found in `place`.
pub fn read(text: &str, place: &str) -> Result<Vec<Change>, LocalError> {
    parse(text).map_err(|reason| LocalError::Form {
        path: place.to_owned(),
        reason,
    })
}

/// Reads the text of one.
pub fn parse(text: &str) -> Result<Vec<Change>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut changes = Vec::new();
    for service in file.services {
        let name = format!("{}/{}", service.namespace, service.hostname);
        let message = service
            .into_message()
            .map_err(|reason| format!("service {name}: {reason}"))?;
        changes.push(address(name, proto::address::Type::Service(message)));
    }
    for policy in file.policies {
        let name = format!("{}/{}", policy.namespace, policy.name);
        let policy = Box::new(
            policy
                .into_message()
                .map_err(|reason| format!("policy {name}: {reason}"))?,
        );
        changes.push(Change::Authorization { name, policy });
    }
    for workload in file.workloads {
        let name = if workload.uid.is_empty() {
            workload.name.clone()
        } else {
            workload.uid.clone()
        };
        let message = workload
            .into_message()
            .map_err(|reason| format!("workload {name}: {reason}"))?;
        changes.push(address(name, proto::address::Type::Workload(message)));
    }
    Ok(changes)
}

fn address(name: String, message: proto::address::Type) -> Change {
    Change::Address {
        name,
        address: Box::new(proto::Address { r#type: Some(message) }),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ports(ports: &BTreeMap<String, u32>) -> Result<Vec<proto::Port>, String> {
    let port = |(port, target): (&String, &u32)| {
        Ok(proto::Port {
            service_port: port.parse().map_err(|_| format!("'{port}' is not a port"))?,
            target_port: *target,
            app_protocol: 0,
        })
    };
    ports.iter().map(port).collect()
}

/// A text of the form `network/address`.
fn network_address(text: &str) -> Result<proto::NetworkAddress, String> {
    let (network, address) = text
        .rsplit_once('/')
        .ok_or_else(|| format!("'{text}' is not network/address"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("'{text}' is not network/address"))?;
    Ok(proto::NetworkAddress {
        network: network.to_owned(),
        address: octets(address),
        length: None,
    })
}

impl Gateway {
    fn into_message(self) -> Result<proto::GatewayAddress, String> {
        let destination = match network_address(&self.destination) {
            Ok(address) => proto::gateway_address::Destination::Address(address),
            Err(reason) => {
                let (namespace, hostname) = self.destination.split_once('/').ok_or(reason)?;
                proto::gateway_address::Destination::Hostname(proto::NamespacedHostname {
                    namespace: namespace.to_owned(),
                    hostname: hostname.to_owned(),
                })
            }
        };
        Ok(proto::GatewayAddress {
            destination: Some(destination),
            hbone_mtls_port: if self.hbone_mtls_port == 0 {
                15008
            } else {
                self.hbone_mtls_port
            },
        })
    }
}

impl Workload {
    fn into_message(self) -> Result<proto::Workload, String> {
        let protocol = match self.protocol.as_str() {
            "HBONE" => proto::TunnelProtocol::Hbone,
            "TCP" | "" => proto::TunnelProtocol::None,
            other => return Err(format!("'{other}' is neither HBONE nor TCP")),
        };
        let mut services = BTreeMap::new();
        for (name, named) in &self.services {
            services.insert(name.clone(), proto::PortList { ports: ports(named)? });
        }
        let or_name = |text: String| if text.is_empty() { self.name.clone() } else { text };
        Ok(proto::Workload {
            uid: or_name(self.uid),
            workload_name: or_name(self.workload_name),
            canonical_name: or_name(self.canonical_name),
            canonical_revision: self.canonical_revision,
            name: self.name,
            namespace: self.namespace,
            service_account: self.service_account,
            trust_domain: self.trust_domain,
            network: self.network,
            node: self.node,
            cluster_id: self.cluster_id,
            tunnel_protocol: protocol.into(),
            addresses: self.workload_ips.into_iter().map(octets).collect(),
            native_tunnel: self.native_tunnel,
            hostname: self.hostname,
            waypoint: self.waypoint.map(Gateway::into_message).transpose()?,
            network_gateway: self.network_gateway.map(Gateway::into_message).transpose()?,
            application_tunnel: self.application_tunnel.map(|tunnel| proto::ApplicationTunnel {
                protocol: i32::from(tunnel.protocol == "PROXY"),
                port: tunnel.port,
            }),
            authorization_policies: self.authorization_policies,
            services,
            capacity: self.capacity,
            ..proto::Workload::default()
        })
    }
}

impl Service {
    fn into_message(self) -> Result<proto::Service, String> {
        let addresses: Result<_, String> = self.vips.iter().map(|vip| network_address(vip)).collect();
        Ok(proto::Service {
            addresses: addresses?,
            ports: ports(&self.ports)?,
            name: self.name,
            namespace: self.namespace,
            hostname: self.hostname,
            subject_alt_names: self.subject_alt_names,
            waypoint: self.waypoint.map(Gateway::into_message).transpose()?,
            ..proto::Service::default()
        })
    }
}

impl Policy {
    fn into_message(self) -> Result<security::Authorization, String> {
        let scope = match self.scope.as_str() {
            "Global" => security::Scope::Global,
            "Namespace" => security::Scope::Namespace,
            "WorkloadSelector" => security::Scope::WorkloadSelector,
            other => return Err(format!("scope '{other}' is not Global, Namespace or WorkloadSelector")),
        };
        let action = match self.action.as_str() {
            "Allow" => security::Action::Allow,
            "Deny" => security::Action::Deny,
            other => return Err(format!("action '{other}' is neither Allow nor Deny")),
        };
        let clause = |matches: Vec<Match>| security::Clause {
            matches: matches.into_iter().map(Match::into_message).collect(),
        };
        let rule = |clauses: Vec<Vec<Match>>| security::Rule {
            clauses: clauses.into_iter().map(clause).collect(),
        };
        Ok(security::Authorization {
            name: self.name,
            namespace: self.namespace,
            scope: scope.into(),
            action: action.into(),
            rules: self.rules.into_iter().map(rule).collect(),
            dry_run: self.dry_run,
        })
    }
}

impl Match {
    fn into_message(self) -> security::Match {
        fn texts(texts: Vec<Text>) -> Vec<security::StringMatch> {
            let message = |text| security::StringMatch {
                match_type: Some(match text {
                    Text::Exact(text) => security::string_match::MatchType::Exact(text),
                    Text::Prefix(text) => security::string_match::MatchType::Prefix(text),
                    Text::Suffix(text) => security::string_match::MatchType::Suffix(text),
                    Text::Presence(_) => security::string_match::MatchType::Presence(()),
                }),
            };
            texts.into_iter().map(message).collect()
        }
        fn ranges(ranges: Vec<ipnet::IpNet>) -> Vec<security::Address> {
            let message = |range: ipnet::IpNet| security::Address {
                address: octets(range.addr()),
                length: range.prefix_len().into(),
            };
            ranges.into_iter().map(message).collect()
        }
        security::Match {
            namespaces: texts(self.namespaces),
            not_namespaces: texts(self.not_namespaces),
            principals: texts(self.principals),
            not_principals: texts(self.not_principals),
            source_ips: ranges(self.source_ips),
            not_source_ips: ranges(self.not_source_ips),
            destination_ips: ranges(self.destination_ips),
            not_destination_ips: ranges(self.not_destination_ips),
            destination_ports: self.destination_ports,
            not_destination_ports: self.not_destination_ports,
            ..security::Match::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_traffic::TablesWriter;

    use super::*;

    #[test]
    fn a_file_becomes_tables() {
        let text = r#"
workloads:
- uid: cluster1//Pod/default/a
  name: a
  namespace: default
  serviceAccount: a-sa
  workloadIps: ["10.0.0.1", "fd00::1"]
  protocol: HBONE
  node: n1
  services: {"default/web.default.svc.cluster.local": {"80": 8080}}
services:
- name: web
  namespace: default
  hostname: web.default.svc.cluster.local
  vips: ["/10.96.0.1"]
  ports: {80: 8080}
policies:
- name: deny
  namespace: default
  scope: Namespace
  action: Deny
  rules: [[[{notPrincipals: [{Presence: []}]}]]]
"#;
        let mut writer = TablesWriter::new();
        writer.apply(parse(text).unwrap()).unwrap();
        let tables = writer.snapshot();
        assert_eq!(tables.counts(), (1, 1, 1));
        let workload = tables.local("default", "a", "a-sa").unwrap();
        assert_eq!(workload.addresses.len(), 2);
        assert!(tables.service_at("", "10.96.0.1".parse().unwrap(), "default").is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| parse(text).unwrap_err();
        assert_eq!(
            error("workloads: [{name: a, protocol: X}]"),
            "workload a: 'X' is neither HBONE nor TCP"
        );
        assert_eq!(
            error("services: [{name: a, namespace: n, hostname: h, vips: [1.2.3.4]}]"),
            "service n/h: '1.2.3.4' is not network/address"
        );
    }
}
