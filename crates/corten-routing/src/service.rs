//! Services with everything that routing needs of them.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use corten_api::istio::{
    mesh_config::MeshConfig,
    service_entry::{ServiceEntryLocation, ServiceEntryResolution},
    workload_entry::WorkloadEntrySpec,
};
use corten_core::{Host, Protocol};
use corten_model::{
    Labels, Name, ObjectKey, ObjectKind, Settings,
    input::{self, TargetPort, TrafficDistribution},
    rules::parse_range,
};
use ipnet::IpNet;

use crate::{config::Configs, visibility::Visibility};

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The host name.
    pub host: Host,
    /// The namespace of the object it comes from.
    pub namespace: Name,
    /// The name of that object.
    pub name: Name,
    /// Its key in the model's snapshot, `namespace/host`: whose members are its workloads.
    pub key: Name,
    /// Where it comes from.
    pub registry: Registry,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// It is outside the mesh: no mutual TLS is expected of it.
    pub mesh_external: bool,
    /// Its addresses; none: it is known by name only.
    pub addresses: Box<[IpNet]>,
    /// Addresses that were given to it, for clients whose DNS proxy tells them.
    pub assigned: Box<[IpAddr]>,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// Who sees it.
    pub visibility: Visibility,
    /// The host it is only another name for.
    pub alias_of: Option<Host>,
    /// Other names for it.
    pub aliases: Vec<Host>,
    /// The object's labels.
    pub labels: Labels,
    /// The labels of its workloads; empty: none are selected.
    pub selector: Labels,
    /// When the object was created, in seconds since 1970.
    pub created: i64,
    /// Identities that its endpoints may have besides their own.
    pub identities: Box<[Name]>,
    /// Only endpoints of the client's node.
    pub node_local: bool,
    /// Endpoints that are not ready count as if they were.
    pub publish_not_ready: bool,
    /// What it says about near endpoints.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Clients race for the first connection.
    pub races_connections: bool,
    /// Endpoints that are written in a ServiceEntry.
    pub endpoints: Arc<[WorkloadEntrySpec]>,
    /// The object.
    pub source: ObjectKey,
}

/// Where a service comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// How a service's endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// The control plane knows them.
    ClientSide,
    /// By DNS, all addresses of the answer.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// By DNS, of the very name that is asked for.
    DynamicDns,
    /// The address called is the address reached.
    Passthrough,
    /// It is another name for a service.
    Alias,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    /// The name.
    pub name: Name,
    /// The number.
    pub number: u16,
    /// Where it leads at a workload.
    pub target: TargetPort,
    /// What is spoken.
    pub protocol: Protocol,
}

impl ServicePort {
    /// The workload's port as far as the service alone says it: a named one is the service's own number.
    pub fn target_number(&self) -> u16 {
        match self.target {
            TargetPort::Number(number) => number,
            TargetPort::Unset | TargetPort::Named(_) => self.number,
        }
    }
}

impl Service {
    /// A port by number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether it has no address of its own: Istio writes it as 0.0.0.0.
    pub fn is_headless(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether it is a Kubernetes service without an address, whose endpoints are called by their own.
    pub fn is_kubernetes_headless(&self) -> bool {
        self.registry == Registry::Kubernetes && self.resolution == Resolution::Passthrough
    }

    /// The addresses that a proxy's pods call it by: its own, or those given to it where the proxy's DNS tells them.
    pub fn addresses_for(&self, dns_capture: bool) -> Vec<IpNet> {
        if self.addresses.is_empty() && dns_capture && self.resolution != Resolution::Passthrough {
            return self.assigned.iter().copied().map(IpNet::from).collect();
        }
        self.addresses.to_vec()
    }

    /// The place in an order in which older services come first.
    pub fn age(&self) -> (i64, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }
}

/// All services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services {
    /// Oldest first.
    all: Vec<Arc<Service>>,
    by_host: HashMap<Host, Vec<Arc<Service>>>,
}

impl Services {
    /// All services; one that is equal to one of those `held` is that one.
    pub(crate) fn new(configs: &Configs, settings: &Settings, mesh: &MeshConfig, held: &Services) -> Services {
        let mut made: Vec<Service> = Vec::new();
        made.extend(
            configs
                .services
                .values()
                .map(|service| of_service(service, settings, mesh)),
        );
        made.extend(configs.service_entries.values().flat_map(|entry| of_entry(entry, mesh)));
        made.sort_by(|a, b| a.age().cmp(&b.age()));
        let mut services = Services::default();
        let mut place: BTreeMap<(Host, Name), usize> = BTreeMap::new();
        let mut kept: Vec<Service> = Vec::new();
        for service in made {
            let key = (service.host.clone(), Name::clone(&service.namespace));
            match place.get(&key).copied() {
                None => {
                    place.insert(key, kept.len());
                    kept.push(service);
                }
                Some(at) => {
                    if let Some(held) = kept.get_mut(at) {
                        unite(held, service);
                    }
                }
            }
        }
        name_aliases(&mut kept);
        let shared = |service: Service| match held.get(&service.host, &service.namespace) {
            Some(known) if **known == service => Arc::clone(known),
            _ => Arc::new(service),
        };
        for service in kept.into_iter().map(shared) {
            let by_host = services.by_host.entry(service.host.clone()).or_default();
            by_host.push(Arc::clone(&service));
            services.all.push(service);
        }
        services
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.all.iter()
    }

    /// Those of a host, oldest first, one for each namespace.
    pub fn of_host(&self, host: &Host) -> &[Arc<Service>] {
        self.by_host.get(host).map_or(&[], |found| found)
    }

    /// The one of a host in a namespace.
    pub fn get(&self, host: &Host, namespace: &str) -> Option<&Arc<Service>> {
        self.of_host(host)
            .iter()
            .find(|service| *service.namespace == *namespace)
    }

    /// The one of a host that a namespace means: its own, else a Kubernetes service, else the oldest that it sees.
    pub fn visible(&self, host: &Host, namespace: &str) -> Option<&Arc<Service>> {
        let seen = || {
            self.of_host(host)
                .iter()
                .filter(|service| service.visibility.includes(namespace))
        };
        seen()
            .find(|service| *service.namespace == *namespace)
            .or_else(|| seen().find(|service| service.registry == Registry::Kubernetes))
            .or_else(|| seen().next())
    }
}

/// Two objects of a namespace for one host: a Kubernetes service counts alone; entries that agree on everything else share ports.
fn unite(held: &mut Service, other: Service) {
    if other.registry == Registry::Kubernetes && held.registry != Registry::Kubernetes {
        *held = other;
        return;
    }
    let agree = held.registry == other.registry
        && held.registry == Registry::External
        && held.resolution == other.resolution
        && held.labels == other.labels
        && held.selector == other.selector
        && held.visibility == other.visibility;
    if agree {
        let more = other
            .ports
            .iter()
            .filter(|port| held.port(port.number).is_none())
            .cloned();
        let ports: Vec<ServicePort> = held.ports.iter().cloned().chain(more).collect();
        held.ports = ports.into();
        let more: Vec<IpNet> = other
            .addresses
            .iter()
            .filter(|a| !held.addresses.contains(a))
            .copied()
            .collect();
        held.addresses = held.addresses.iter().copied().chain(more).collect();
        if !other.endpoints.is_empty() && *other.endpoints != *held.endpoints {
            held.endpoints = held.endpoints.iter().chain(other.endpoints.iter()).cloned().collect();
        }
    }
}

/// Tells each service by which other names it is known; chains of names are followed, circles lead nowhere.
fn name_aliases(services: &mut [Service]) {
    let targets: HashMap<Host, Host> = services
        .iter()
        .filter_map(|service| Some((service.host.clone(), service.alias_of.clone()?)))
        .collect();
    let mut known: HashMap<Host, Vec<Host>> = HashMap::new();
    for alias in services.iter().filter(|service| service.alias_of.is_some()) {
        let mut end = alias.host.clone();
        let mut steps = 0;
        while let Some(next) = targets.get(&end) {
            end = next.clone();
            steps += 1;
            if steps > targets.len() {
                break;
            }
        }
        if steps <= targets.len() {
            known.entry(end).or_default().push(alias.host.clone());
        }
    }
    for service in services.iter_mut().filter(|service| service.alias_of.is_none()) {
        service.aliases = known.get(&service.host).cloned().unwrap_or_default();
    }
}

fn of_service(service: &input::Service, settings: &Settings, mesh: &MeshConfig) -> Service {
    let meta = &service.meta;
    let host = format!("{}.{}.svc.{}", meta.name, meta.namespace, settings.domain);
    let addresses: Vec<IpNet> = service.addresses.iter().flatten().copied().map(IpNet::from).collect();
    let resolution = if service.external_name.is_some() {
        Resolution::Alias
    } else if addresses.is_empty() {
        Resolution::Passthrough
    } else {
        Resolution::ClientSide
    };
    let local = service.service_accounts.iter().map(|account| {
        let domain = &settings.trust_domain;
        Name::from(format!("spiffe://{domain}/ns/{}/sa/{account}", meta.namespace))
    });
    Service {
        key: Name::from(format!("{}/{host}", meta.namespace)),
        host: Host::from(host.as_str()),
        namespace: Name::clone(&meta.namespace),
        name: Name::clone(&meta.name),
        registry: Registry::Kubernetes,
        resolution,
        mesh_external: false,
        addresses: addresses.into(),
        assigned: Box::default(),
        ports: service
            .ports
            .iter()
            .filter(|port| port.port != 0)
            .map(|port| ServicePort {
                name: Name::clone(&port.name),
                number: port.port,
                target: port.target.clone(),
                protocol: port.protocol,
            })
            .collect(),
        visibility: Visibility::of(
            service.export_to.iter().flatten().map(AsRef::as_ref),
            mesh.default_service_export_to.iter().map(String::as_str),
            &meta.namespace,
        ),
        alias_of: service.external_name.as_ref().map(|name| Host::from(name.as_ref())),
        aliases: Vec::new(),
        labels: meta.labels.clone(),
        selector: service.selector.clone(),
        created: meta.created,
        identities: service.identities.iter().cloned().chain(local).collect(),
        node_local: service.node_local,
        publish_not_ready: service.publish_not_ready,
        traffic_distribution: service.traffic_distribution,
        races_connections: false,
        endpoints: Arc::default(),
        source: ObjectKey::new(ObjectKind::Service, &meta.namespace, &meta.name),
    }
}

fn of_entry(entry: &input::ServiceEntry, mesh: &MeshConfig) -> Vec<Service> {
    let (meta, spec) = (&entry.meta, &entry.spec);
    let ports: Box<[ServicePort]> = spec
        .ports
        .iter()
        // One without a number, or with one that is none, would be taken for all ports; its reader said so.
        .filter(|port| port.number.is_given() && port.number.0 != 0)
        .map(|port| ServicePort {
            name: Name::from(port.name.as_str()),
            number: port.number.0,
            target: if port.target_port.is_given() {
                TargetPort::Number(port.target_port.0)
            } else {
                TargetPort::Unset
            },
            protocol: Protocol::parse(&port.protocol),
        })
        .collect();
    let selector = spec.workload_selector.iter().flat_map(|selector| &selector.labels);
    let selector = Labels::new(selector.map(|(key, value)| (Name::from(key.as_str()), Name::from(value.as_str()))));
    let endpoints: Arc<[WorkloadEntrySpec]> = spec.endpoints.iter().flatten().cloned().collect();
    let made = spec.hosts.iter().map(|host| Service {
        key: Name::from(format!("{}/{host}", meta.namespace)),
        host: host.clone(),
        namespace: Name::clone(&meta.namespace),
        name: Name::clone(&meta.name),
        registry: Registry::External,
        resolution: match spec.resolution {
            ServiceEntryResolution::None => Resolution::Passthrough,
            ServiceEntryResolution::Static => Resolution::ClientSide,
            ServiceEntryResolution::Dns => Resolution::Dns,
            ServiceEntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
            ServiceEntryResolution::DynamicDns => Resolution::DynamicDns,
        },
        mesh_external: spec.location == ServiceEntryLocation::MeshExternal,
        addresses: spec.addresses.iter().filter_map(|text| parse_range(text)).collect(),
        assigned: entry
            .assigned
            .iter()
            .filter(|(of, _)| entry.may_assign && of.as_ref() == host.as_str())
            .map(|(_, address)| *address)
            .collect(),
        ports: ports.clone(),
        visibility: Visibility::of(
            spec.export_to.iter().map(String::as_str),
            mesh.default_service_export_to.iter().map(String::as_str),
            &meta.namespace,
        ),
        alias_of: None,
        aliases: Vec::new(),
        labels: meta.labels.clone(),
        selector: selector.clone(),
        created: meta.created,
        identities: spec
            .subject_alt_names
            .iter()
            .map(|name| Name::from(name.as_str()))
            .collect(),
        node_local: false,
        publish_not_ready: false,
        traffic_distribution: entry.traffic_distribution,
        races_connections: entry.races_connections,
        endpoints: Arc::clone(&endpoints),
        source: ObjectKey::new(ObjectKind::ServiceEntry, &meta.namespace, &meta.name),
    });
    made.collect()
}
