//! Services from Services and ServiceEntries, and which of those that share a host name counts.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use corten_api::istio::service_entry::ServiceEntryResolution;
use corten_core::{Host, Protocol};
use ipnet::IpNet;

use super::binding::{Lookup, Refusal, ingress_use_waypoint};
use crate::{
    input::{self, Meta, Namespace, ObjectKey, ObjectKind, TargetPort, TrafficDistribution},
    service::{
        AddressRange, HealthPolicy, IpFamilies, LoadBalancing, LoadMode, Scope, Service, ServicePort, ServiceScope,
        Visibility,
    },
    settings::Settings,
    text::{Labels, Name},
    waypoint::{Waypoint, WeightedWaypoint},
};

/// What one object contributes: a service for each of its hosts, and how it stands to waypoints.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    /// Before it is known which is canonical.
    pub(crate) services: Vec<Arc<Service>>,
    /// The waypoint, when there is one.
    pub(crate) waypoint: Option<Name>,
    /// Whether gateways go through the waypoint; `None`: nothing says.
    pub(crate) ingress: Option<bool>,
    /// Why there is no waypoint, or no canary.
    pub(crate) refusal: Option<Refusal>,
    /// Who sees the services.
    pub(crate) visibility: Visibility,
}

/// How an object stands to waypoints.
struct Attachment {
    waypoint: Option<Arc<Waypoint>>,
    weighted: Vec<WeightedWaypoint>,
    ingress: Option<bool>,
    refusal: Option<Refusal>,
}

fn attach(lookup: &mut Lookup<'_>, meta: &Meta, weight: Option<&Name>, hidden: bool) -> Attachment {
    let mut attachment = Attachment {
        waypoint: None,
        weighted: Vec::new(),
        ingress: None,
        refusal: None,
    };
    match lookup.of_service(meta, hidden) {
        Ok(waypoint) => attachment.waypoint = waypoint.cloned(),
        Err(refusal) => attachment.refusal = Some(refusal),
    }
    if let Some(waypoint) = &attachment.waypoint {
        attachment.ingress = ingress_use_waypoint(&meta.labels, lookup.namespace.map(|own| &own.meta.labels));
        match lookup.weighted(meta, weight, waypoint) {
            Ok(weighted) => attachment.weighted = weighted,
            Err(refusal) => attachment.refusal = Some(refusal),
        }
    }
    attachment
}

impl Attachment {
    fn candidate(&self, services: Vec<Arc<Service>>, visibility: Visibility) -> Candidate {
        Candidate {
            services,
            waypoint: self.waypoint.as_ref().map(|waypoint| Arc::clone(&waypoint.key)),
            ingress: self.ingress,
            refusal: self.refusal.clone(),
            visibility,
        }
    }
}

/// The host name of a Kubernetes service.
pub(crate) fn hostname(name: &str, namespace: &str, domain: &str) -> Name {
    Arc::from(format!("{name}.{namespace}.svc.{domain}"))
}

/// What a Kubernetes service contributes: nothing when it is only a name for something outside, or when one of its
/// addresses is none.
pub(crate) fn of_service(
    service: &input::Service,
    settings: &Settings,
    network: &Name,
    lookup: &mut Lookup<'_>,
) -> Candidate {
    let meta = &service.meta;
    let attachment = attach(lookup, meta, service.canary_weight.as_ref(), false);
    let Some(addresses) = service.addresses.as_ref().filter(|_| service.external_name.is_none()) else {
        return attachment.candidate(Vec::new(), Visibility::Public);
    };
    let hostname = hostname(&meta.name, &meta.namespace, &settings.domain);
    let namespace = lookup.namespace;
    let mut load_balancing = if service.node_local {
        Some(LoadBalancing {
            preferences: &[Scope::Node],
            mode: LoadMode::Strict,
            health: HealthPolicy::OnlyHealthy,
        })
    } else {
        distribution(service.traffic_distribution, namespace)
    };
    if service.publish_not_ready {
        load_balancing.get_or_insert_default().health = HealthPolicy::AllowAll;
    }
    let made = Service {
        key: key(&meta.namespace, &hostname),
        hostname,
        addresses: addresses.iter().map(|address| single(*address)).collect(),
        ports: service.ports.iter().map(port).collect(),
        subject_alt_names: Box::default(),
        load_balancing,
        ip_families: service.ip_families,
        canonical: true,
        visibility: Visibility::Public,
        scope: settings.scope(&meta.labels, namespace.map(|own| &own.meta.labels)),
        selector: service.selector.clone(),
        ..common(meta, ObjectKind::Service, network, &attachment)
    };
    attachment.candidate(vec![Arc::new(made)], Visibility::Public)
}

/// What a ServiceEntry contributes.
pub(crate) fn of_entry(
    entry: &input::ServiceEntry,
    settings: &Settings,
    network: &Name,
    lookup: &mut Lookup<'_>,
) -> Candidate {
    let meta = &entry.meta;
    let namespace = lookup.namespace;
    let visibility = settings.visibility(&namespace.map(|own| own.meta.labels.clone()).unwrap_or_default());
    let hidden = visibility == Visibility::Namespace;
    let attachment = attach(lookup, meta, entry.canary_weight.as_ref(), hidden);
    let given: Option<Vec<AddressRange>> = entry.spec.addresses.iter().map(|text| range(text)).collect();
    let Some(given) = given.filter(|_| visibility != Visibility::None) else {
        return attachment.candidate(Vec::new(), visibility);
    };
    let resolution = entry.spec.resolution;
    let load_balancing = if resolution == ServiceEntryResolution::None {
        Some(LoadBalancing {
            preferences: &[],
            mode: LoadMode::Passthrough,
            health: HealthPolicy::AllowAll,
        })
    } else {
        distribution(entry.traffic_distribution, namespace)
    };
    let ports: Vec<ServicePort> = entry
        .spec
        .ports
        .iter()
        .map(|port| ServicePort {
            name: Arc::from(port.name.as_str()),
            port: port.number.0,
            target: if port.target_port.is_given() {
                port.target_port.0
            } else {
                port.number.0
            },
            target_name: Arc::from(""),
            protocol: Protocol::parse(&port.protocol).into(),
        })
        .collect();
    let selector = entry.spec.workload_selector.as_ref().map(|selector| {
        Labels::new(
            selector
                .labels
                .iter()
                .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str()))),
        )
    });
    let services = entry.spec.hosts.iter().map(|host| {
        let hostname: Name = Arc::from(host.as_str());
        let addresses = if given.is_empty() {
            assigned(entry, host)
        } else {
            given.clone()
        };
        Arc::new(Service {
            key: key(&meta.namespace, &hostname),
            hostname,
            addresses: addresses.into(),
            ports: ports.clone().into(),
            subject_alt_names: entry
                .spec
                .subject_alt_names
                .iter()
                .map(|name| Arc::from(name.as_str()))
                .collect(),
            load_balancing,
            ip_families: IpFamilies::Automatic,
            canonical: false,
            visibility,
            scope: ServiceScope::Local,
            selector: selector.clone().unwrap_or_default(),
            ..common(meta, ObjectKind::ServiceEntry, network, &attachment)
        })
    });
    attachment.candidate(services.collect(), visibility)
}

/// What both kinds have in common; the rest is filled in by the caller.
fn common(meta: &Meta, kind: ObjectKind, network: &Name, attachment: &Attachment) -> Service {
    Service {
        key: Arc::from(""),
        name: Arc::clone(&meta.name),
        namespace: Arc::clone(&meta.namespace),
        hostname: Arc::from(""),
        network: Arc::clone(network),
        addresses: Box::default(),
        ports: Box::default(),
        subject_alt_names: Box::default(),
        waypoint: attachment
            .waypoint
            .as_ref()
            .and_then(|waypoint| waypoint.address.clone()),
        weighted_waypoints: attachment.weighted.clone().into(),
        ingress_use_waypoint: attachment.ingress == Some(true),
        load_balancing: None,
        ip_families: IpFamilies::Automatic,
        canonical: false,
        visibility: Visibility::Public,
        scope: ServiceScope::Local,
        selector: Labels::default(),
        source: ObjectKey {
            kind,
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        },
        created: meta.created,
        waypoint_name: attachment.waypoint.as_ref().map(|waypoint| Arc::clone(&waypoint.key)),
    }
}

fn key(namespace: &str, hostname: &str) -> Name {
    Arc::from(format!("{namespace}/{hostname}"))
}

fn port(port: &input::ServicePort) -> ServicePort {
    let (target, target_name) = match &port.target {
        TargetPort::Unset => (0, Arc::from("")),
        TargetPort::Number(number) => (*number, Arc::from("")),
        TargetPort::Named(name) => (0, Arc::clone(name)),
    };
    ServicePort {
        name: Arc::clone(&port.name),
        port: port.port,
        target,
        target_name,
        protocol: port.protocol.into(),
    }
}

/// What is preferred, by the object or else by its namespace.
fn distribution(own: Option<TrafficDistribution>, namespace: Option<&Namespace>) -> Option<LoadBalancing> {
    const ZONE: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone];
    const NODE: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
    let wanted = effective_distribution(own, namespace.and_then(|namespace| namespace.traffic_distribution));
    let preferences = match wanted {
        TrafficDistribution::Any => return None,
        TrafficDistribution::SameZone => ZONE,
        TrafficDistribution::SameNode => NODE,
    };
    Some(LoadBalancing {
        preferences,
        mode: LoadMode::Failover,
        health: HealthPolicy::OnlyHealthy,
    })
}

/// What is preferred, when a service and its namespace may say so.
pub fn effective_distribution(
    service: Option<TrafficDistribution>,
    namespace: Option<TrafficDistribution>,
) -> TrafficDistribution {
    service.or(namespace).unwrap_or(TrafficDistribution::Any)
}

/// The addresses that were given to a host of an entry that names none.
fn assigned(entry: &input::ServiceEntry, host: &Host) -> Vec<AddressRange> {
    let resolvable = !host.is_wildcard() || entry.spec.resolution == ServiceEntryResolution::DynamicDns;
    if !entry.may_assign || !resolvable {
        return Vec::new();
    }
    let of_host = entry.assigned.iter().filter(|(of, _)| of.as_ref() == host.as_str());
    of_host.map(|(_, address)| single(*address)).collect()
}

fn single(address: IpAddr) -> AddressRange {
    AddressRange { address, length: None }
}

/// An address or a range in its canonical form; `None`: the text is neither.
pub fn parse_range(text: &str) -> Option<IpNet> {
    if text.contains('/') {
        text.parse::<IpNet>().ok().map(|range| range.trunc())
    } else {
        text.parse::<IpAddr>().ok().map(IpNet::from)
    }
}

fn range(text: &str) -> Option<AddressRange> {
    let range = parse_range(text)?;
    let whole = range.prefix_len() == range.max_prefix_len();
    Some(AddressRange {
        address: range.network(),
        length: (!whole).then_some(range.prefix_len()),
    })
}

/// Of services that share a host name, one for each namespace: the Kubernetes service, or else the oldest entry. One of
/// them is canonical: a Kubernetes service, or else the oldest that everybody sees.
pub(crate) fn select(candidates: &[Arc<Service>]) -> BTreeMap<Name, Arc<Service>> {
    // Equally old ones are told apart by name, so that the order of events does not matter.
    let rank = |service: &Service| {
        (
            service.source.kind != ObjectKind::Service,
            service.created,
            Arc::clone(&service.namespace),
            Arc::clone(&service.name),
        )
    };
    let mut best: BTreeMap<Name, Arc<Service>> = BTreeMap::new();
    for candidate in candidates {
        let held = best.get(&candidate.key);
        if held.is_none_or(|held| rank(candidate) < rank(held)) {
            best.insert(Arc::clone(&candidate.key), Arc::clone(candidate));
        }
    }
    let canonical = best
        .values()
        .filter(|service| service.source.kind == ObjectKind::Service || service.visibility == Visibility::Public)
        .min_by_key(|service| rank(service))
        .map(|service| Arc::clone(&service.key));
    for (key, service) in &mut best {
        let is_canonical = Some(key) == canonical.as_ref() || service.source.kind == ObjectKind::Service;
        if service.canonical != is_canonical {
            Arc::make_mut(service).canonical = is_canonical;
        }
    }
    best
}
