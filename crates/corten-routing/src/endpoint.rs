//! The endpoints of a service's port.

#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use corten_api::istio::workload_entry::WorkloadEntrySpec;
use corten_core::Locality;
use corten_model::{Labels, Name, ObjectKind, Snapshot, Tunnel, Workload, input::TargetPort};

use crate::service::{Registry, Resolution, Service, ServicePort};

/// An endpoint: a workload at the port that a service's port leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where it is called.
    pub address: Address,
    /// Its other addresses.
    pub more: Box<[IpAddr]>,
    /// The port there; 0 for a socket in the file system.
    pub port: u16,
    /// The workload.
    pub workload: Arc<Workload>,
    /// It takes mutual TLS of the mesh: it has a sidecar, or says so.
    pub tls: bool,
    /// Whether it takes traffic.
    pub health: Health,
}

/// Where an endpoint is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// At an address.
    Ip(IpAddr),
    /// At the addresses that a name has.
    Name(Name),
    /// At a socket in the file system.
    Unix(Name),
}

impl Address {
    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Name(_) | Address::Unix(_) => None,
        }
    }
}

/// Whether an endpoint takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It does.
    Healthy,
    /// Not now.
    Unhealthy,
}

impl Endpoint {
    /// A label: of its place, where it has one, else its workload's own.
    pub fn label(&self, key: &str) -> Option<&str> {
        let place = self.workload.locality.as_deref();
        let of_place = match key {
            "topology.kubernetes.io/region" => place.map(|place| place.region.as_str()),
            "topology.kubernetes.io/zone" => place.map(|place| place.zone.as_str()),
            "topology.istio.io/subzone" => place.map(|place| place.subzone.as_str()),
            "topology.istio.io/network" => Some(&*self.workload.network),
            "topology.istio.io/cluster" => Some(&*self.workload.cluster),
            "kubernetes.io/hostname" => Some(&*self.workload.node),
            _ => None,
        };
        of_place
            .filter(|value| !value.is_empty())
            .or_else(|| self.workload.labels.get(key).map(AsRef::as_ref))
    }

    /// Its workload's labels.
    pub fn labels(&self) -> &Labels {
        &self.workload.labels
    }

    /// Whether it has all of these labels.
    pub fn has<'a>(&self, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> bool {
        labels
            .into_iter()
            .all(|(key, value)| self.label(key) == Some(value.as_str()))
    }

    /// Whether it is reached through a tunnel.
    pub fn is_tunnelled(&self) -> bool {
        self.workload.tunnel != Tunnel::None
    }

    /// Where it is; the default is unknown.
    pub fn locality(&self) -> Locality {
        self.workload.locality.as_deref().cloned().unwrap_or_default()
    }

    /// Its identity, if it has a service account.
    pub fn identity(&self, trust_domain: &str) -> Option<String> {
        let account = &self.workload.service_account;
        (!account.is_empty()).then(|| format!("spiffe://{trust_domain}/ns/{}/sa/{account}", self.workload.namespace))
    }
}

const TLS_MODE: &str = "security.istio.io/tlsMode";
const SOCKET: &str = "unix://";

/// The endpoints of a service's port: its workloads, sorted by uid, and then those that the service itself lists, in that order.
/// A service that DNS finds and that neither lists nor selects any is its own endpoint.
pub fn endpoints(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for workload in snapshot.members(&service.key).filter_map(|uid| snapshot.workload(uid)) {
        // The model knows one workload for each address; what the service lists may say more of the same address.
        if workload.source.kind != ObjectKind::ServiceEntry {
            found.extend(of_workload(service, port, workload));
        }
    }
    found.sort_by(|a, b| a.workload.uid.cmp(&b.workload.uid));
    if service.registry == Registry::External {
        let listed = service.endpoints.iter();
        found.extend(listed.map(|written| of_listed(snapshot, service, port, written)));
    }
    let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if found.is_empty() && by_name && service.selector.is_empty() {
        let itself = WorkloadEntrySpec {
            address: service.host.to_string(),
            ..WorkloadEntrySpec::default()
        };
        found.push(of_listed(snapshot, service, port, &itself));
    }
    found
}

fn of_workload(service: &Service, port: &ServicePort, workload: &Arc<Workload>) -> Option<Endpoint> {
    // A service of two pods, of which one has been replaced and is about to end, is whole, and not two thirds of three.
    if workload.terminating && !service.publish_not_ready {
        return None;
    }
    let (_, ports) = workload.services.iter().find(|(key, _)| *key == service.key)?;
    let number = ports.iter().find(|of| of.service_port == port.number)?.target_port;
    let (address, more) = match workload.addresses.split_first() {
        Some((first, more)) => (Address::Ip(*first), more.into()),
        None => (named(&workload.hostname)?, Box::default()),
    };
    Some(Endpoint {
        port: match address {
            Address::Unix(_) => 0,
            _ if number == 0 => port.number,
            _ => number,
        },
        address,
        more,
        tls: takes_tls(&workload.labels, &workload.service_account, workload.source.kind),
        health: if workload.healthy || service.publish_not_ready {
            Health::Healthy
        } else {
            Health::Unhealthy
        },
        workload: Arc::clone(workload),
    })
}

fn named(text: &str) -> Option<Address> {
    match text.strip_prefix(SOCKET) {
        _ if text.is_empty() => None,
        Some(path) => Some(Address::Unix(Name::from(path))),
        None => Some(Address::Name(Name::from(text))),
    }
}

/// An endpoint that a ServiceEntry lists.
fn of_listed(snapshot: &Snapshot, service: &Service, port: &ServicePort, written: &WorkloadEntrySpec) -> Endpoint {
    let name = |text: &str| Name::from(text);
    let labels = written
        .labels
        .iter()
        .map(|(key, value)| (name(key.as_str()), name(value.as_str())));
    let labels = Labels::new(labels);
    let address = match written.address.parse::<IpAddr>() {
        Ok(address) => Address::Ip(address),
        Err(_) => named(&written.address).unwrap_or_else(|| Address::Name(name(""))),
    };
    let number = match written.ports.get(&*port.name) {
        _ if matches!(address, Address::Unix(_)) => 0,
        Some(number) => number.0,
        None => match port.target {
            TargetPort::Number(number) => number,
            TargetPort::Unset | TargetPort::Named(_) => port.number,
        },
    };
    let locality = Locality::from(written.locality.as_str());
    let first = |keys: [&str; 3]| keys.iter().find_map(|key| labels.get(key)).cloned();
    let workload = Workload {
        uid: name(&format!("{}/{}/{}", service.namespace, service.name, written.address)),
        name: Name::clone(&service.name),
        namespace: Name::clone(&service.namespace),
        addresses: address.ip().into_iter().collect(),
        hostname: name(if address.ip().is_some() { "" } else { &written.address }),
        network: match written.network.as_str() {
            "" => Name::clone(snapshot.network()),
            network => name(network),
        },
        network_gateway: None,
        tunnel: if labels
            .get("networking.istio.io/tunnel")
            .is_some_and(|kind| **kind == *"http")
        {
            Tunnel::NativeHbone
        } else {
            Tunnel::None
        },
        trust_domain: name(""),
        service_account: name(&written.service_account),
        node: name(""),
        waypoint: None,
        application_tunnel: None,
        workload_name: Name::clone(&service.name),
        canonical_name: first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| Name::clone(&service.name)),
        canonical_revision: first([
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or_else(|| name("latest")),
        policies: Arc::default(),
        services: Arc::default(),
        healthy: true,
        terminating: false,
        cluster: Name::clone(&snapshot.settings().cluster),
        locality: (locality != Locality::default()).then(|| Arc::new(locality)),
        host_network: false,
        typed: true,
        capacity: (written.weight > 0).then_some(written.weight),
        source: service.source.clone(),
        labels,
    };
    Endpoint {
        address,
        more: Box::default(),
        port: number,
        tls: takes_tls(&workload.labels, &workload.service_account, ObjectKind::ServiceEntry),
        health: Health::Healthy,
        workload: Arc::new(workload),
    }
}

/// Whether a workload takes the mesh's mutual TLS: its label says so, or, for what is no pod, its service account does.
fn takes_tls(labels: &Labels, service_account: &str, kind: ObjectKind) -> bool {
    match labels.get(TLS_MODE) {
        Some(mode) => **mode == *"istio",
        None => kind != ObjectKind::Pod && !service_account.is_empty(),
    }
}
