//! Workloads from pods, WorkloadEntries, inline endpoints of ServiceEntries, endpoints that are no pods, and gateways
//! of other networks.

use std::{net::IpAddr, sync::Arc};

use corten_api::istio::{service_entry::ServiceEntryResolution, workload_entry::WorkloadEntrySpec};

use super::{
    binding::{Lookup, Refusal},
    waypoints::NetworkGateway,
};
use crate::{
    input::{self, Meta, ObjectKey, ObjectKind, Pod, tunnel},
    service::{Port, Service, ServicePort},
    settings::Settings,
    text::{Labels, Name},
    waypoint::{ApplicationTunnel, GatewayAddress, Waypoint},
    workload::{Locality, Tunnel, Workload},
};

/// What is the same for all workloads of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) settings: Arc<Settings>,
    pub(crate) network: Name,
    pub(crate) trust_domain: Name,
    pub(crate) gateways: Arc<Vec<NetworkGateway>>,
    empty: Name,
    latest: Name,
}

impl Common {
    pub(crate) fn new(settings: Arc<Settings>, network: Name, gateways: Vec<NetworkGateway>) -> Common {
        Common {
            trust_domain: settings.carried_trust_domain(),
            settings,
            network,
            gateways: Arc::new(gateways),
            empty: Arc::from(""),
            latest: Arc::from("latest"),
        }
    }

    /// The first way into a network.
    fn gateway(&self, network: &Name) -> Option<Arc<GatewayAddress>> {
        let way = self
            .gateways
            .iter()
            .find(|way| way.network == *network && way.port != 0)?;
        Some(Arc::new(way.as_address()))
    }

    /// A workload of which nothing is known yet.
    fn workload(&self, uid: String, meta: &Meta, kind: ObjectKind) -> Workload {
        let none = || Arc::clone(&self.empty);
        Workload {
            uid: Arc::from(uid),
            name: Arc::clone(&meta.name),
            namespace: Arc::clone(&meta.namespace),
            addresses: Box::default(),
            hostname: none(),
            network: Arc::clone(&self.network),
            network_gateway: None,
            tunnel: Tunnel::None,
            trust_domain: Arc::clone(&self.trust_domain),
            service_account: none(),
            node: none(),
            waypoint: None,
            application_tunnel: None,
            workload_name: none(),
            canonical_name: none(),
            canonical_revision: none(),
            policies: Arc::default(),
            services: Arc::default(),
            labels: Labels::default(),
            healthy: true,
            terminating: false,
            cluster: Arc::clone(&self.settings.cluster),
            locality: None,
            host_network: false,
            typed: true,
            capacity: None,
            source: ObjectKey {
                kind,
                namespace: Arc::clone(&meta.namespace),
                name: Arc::clone(&meta.name),
            },
        }
    }

    fn name_for_telemetry(&self, workload: &mut Workload, labels: &Labels) {
        let first = |keys: [&str; 3]| keys.iter().find_map(|key| labels.get(key)).cloned();
        workload.canonical_name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| Arc::clone(&workload.workload_name));
        workload.canonical_revision = first([
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or_else(|| Arc::clone(&self.latest));
    }
}

/// The policies that apply to a workload by its labels, and those that its waypoints bring.
pub(crate) trait Policies {
    /// Keys of the policies for the labels.
    fn of(&self, labels: &Labels) -> Vec<Name>;
    /// The key of the policy that lets a waypoint through, if there is one.
    fn of_waypoint(&self, waypoint: &str) -> Option<Name>;
}

/// How a workload stands to waypoints.
pub(crate) struct Attached {
    tunnel: Option<ApplicationTunnel>,
    waypoint: Option<Arc<Waypoint>>,
    /// Why it has no waypoint though it asks for one.
    pub(crate) refusal: Option<Refusal>,
}

impl Attached {
    fn nowhere() -> Attached {
        Attached {
            tunnel: None,
            waypoint: None,
            refusal: None,
        }
    }

    fn find(lookup: &mut Lookup<'_>, meta: &Meta) -> Attached {
        let mut attached = Attached::nowhere();
        if let Some(own) = lookup.instance(meta) {
            attached.tunnel = own.binding;
            return attached;
        }
        match lookup.of_workload(meta) {
            Ok(waypoint) => attached.waypoint = waypoint.cloned(),
            Err(refusal) => attached.refusal = Some(refusal),
        }
        attached
    }

    /// The key of the waypoint, when there is one.
    pub(crate) fn waypoint(&self) -> Option<&Name> {
        self.waypoint.as_ref().map(|waypoint| &waypoint.key)
    }

    fn apply(&self, workload: &mut Workload, services: &[Arc<Service>], labels: &Labels, policies: &impl Policies) {
        workload.waypoint = self.waypoint.as_ref().and_then(|waypoint| waypoint.address.clone());
        workload.application_tunnel = self.tunnel;
        let mut keys = policies.of(labels);
        let own = self.waypoint();
        let of_services = services.iter().filter_map(|service| service.waypoint_name.as_ref());
        let mut waypoints: Vec<&Name> = of_services.filter(|waypoint| Some(*waypoint) != own).collect();
        waypoints.sort();
        waypoints.dedup();
        waypoints.extend(own);
        for key in waypoints
            .into_iter()
            .filter_map(|waypoint| policies.of_waypoint(waypoint))
        {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        workload.policies = keys.into();
        workload.labels = labels.clone();
    }
}

/// The uid of a pod's workload.
pub(crate) fn pod_uid(cluster: &str, namespace: &str, name: &str) -> String {
    format!("{cluster}//Pod/{namespace}/{name}")
}

/// The workload of a pod; `None`: it has ended, or has no address.
pub(crate) fn of_pod(
    common: &Common,
    pod: &Pod,
    healthy: bool,
    locality: Option<&Arc<Locality>>,
    services: &[Arc<Service>],
    lookup: &mut Lookup<'_>,
    policies: &impl Policies,
) -> Option<Workload> {
    if pod.terminal || pod.addresses.is_empty() {
        return None;
    }
    let meta = &pod.meta;
    let uid = pod_uid(&common.settings.cluster, &meta.namespace, &meta.name);
    let mut workload = common.workload(uid, meta, ObjectKind::Pod);
    workload.addresses = pod.addresses.clone();
    workload.network_gateway = common.gateway(&common.network);
    workload.service_account = Arc::clone(&pod.service_account);
    workload.node = Arc::clone(&pod.node);
    workload.healthy = healthy;
    workload.terminating = pod.terminating;
    workload.host_network = pod.host_network;
    workload.tunnel = pod.tunnel;
    workload.locality = locality.cloned();
    workload.workload_name = Arc::clone(&pod.workload_name);
    common.name_for_telemetry(&mut workload, &meta.labels);
    workload.services = memberships(services, |service, port| pod_port(pod, service, port));
    Attached::find(lookup, meta).apply(&mut workload, services, &meta.labels, policies);
    Some(workload)
}

/// Where a service's port leads at a pod; `None`: nowhere.
fn pod_port(pod: &Pod, service: &Service, port: &ServicePort) -> Option<u16> {
    let named = |name: &Name| {
        pod.ports
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, number)| *number)
    };
    if !port.target_name.is_empty() {
        return named(&port.target_name);
    }
    if service.source.kind == ObjectKind::ServiceEntry && !port.name.is_empty() {
        // An entry cannot name the workload's port; its own port's name stands for it.
        return Some(named(&port.name).unwrap_or(if port.target == 0 { port.port } else { port.target }));
    }
    Some(port.target)
}

/// The workload of a WorkloadEntry, and how it stands to waypoints.
pub(crate) fn of_entry(
    common: &Common,
    entry: &input::WorkloadEntry,
    services: &[Arc<Service>],
    lookup: &mut Lookup<'_>,
    policies: &impl Policies,
) -> (Workload, Attached) {
    let meta = &entry.meta;
    let cluster = &common.settings.cluster;
    let uid = format!(
        "{cluster}/networking.istio.io/WorkloadEntry/{}/{}",
        meta.namespace, meta.name
    );
    let mut workload = common.workload(uid, meta, ObjectKind::WorkloadEntry);
    describe(common, &mut workload, &entry.spec);
    workload.tunnel = tunnel(&meta.labels, entry.redirected);
    let labelled = meta.labels.get("service.istio.io/workload-name");
    workload.workload_name = Arc::clone(entry.group.as_ref().or(labelled).unwrap_or(&meta.name));
    common.name_for_telemetry(&mut workload, &meta.labels);
    workload.services = memberships(services, |service, port| entry_port(&entry.spec, service, port));
    let attached = Attached::find(lookup, meta);
    attached.apply(&mut workload, services, &meta.labels, policies);
    (workload, attached)
}

/// What a WorkloadEntry, or an endpoint written in the same words, says of itself.
fn describe(common: &Common, workload: &mut Workload, spec: &WorkloadEntrySpec) {
    if !spec.network.is_empty() {
        workload.network = Arc::from(spec.network.as_str());
    }
    workload.network_gateway = common.gateway(&workload.network);
    match spec.address.parse::<IpAddr>() {
        Ok(address) => workload.addresses = Box::new([address]),
        Err(_) => workload.hostname = Arc::from(spec.address.as_str()),
    }
    workload.service_account = Arc::from(spec.service_account.as_str());
    workload.capacity = (spec.weight > 0).then_some(spec.weight);
    let locality = Locality::from(spec.locality.as_str());
    workload.locality = (locality != Locality::default()).then(|| Arc::new(locality));
}

/// Where a service's port leads at a workload that lists its ports by name; `None`: nowhere.
fn entry_port(spec: &WorkloadEntrySpec, service: &Service, port: &ServicePort) -> Option<u16> {
    let named = |name: &Name| spec.ports.get(name.as_ref()).map(|port| port.0);
    if !port.target_name.is_empty() {
        return named(&port.target_name);
    }
    let fallback = if service.source.kind == ObjectKind::ServiceEntry && port.target == 0 {
        port.port
    } else {
        port.target
    };
    Some(named(&port.name).unwrap_or(fallback))
}

/// The workloads of a ServiceEntry's own endpoints. `services` are those of its hosts that count.
pub(crate) fn of_service_entry(
    common: &Common,
    entry: &input::ServiceEntry,
    services: &[Arc<Service>],
    lookup: &mut Lookup<'_>,
    policies: &impl Policies,
) -> Vec<Workload> {
    let listed = entry.spec.endpoints.as_deref().unwrap_or_default();
    let resolved = matches!(
        entry.spec.resolution,
        ServiceEntryResolution::Dns | ServiceEntryResolution::DnsRoundRobin | ServiceEntryResolution::DynamicDns
    );
    let mut workloads: Vec<Workload> = Vec::new();
    if services.is_empty() {
        return workloads;
    }
    if !listed.is_empty() {
        for endpoint in listed {
            // An endpoint is not an object, and has labels of its own only.
            let pairs = endpoint
                .labels
                .iter()
                .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())));
            let meta = Meta {
                labels: Labels::new(pairs),
                ..entry.meta.clone()
            };
            let attached = Attached::find(lookup, &meta);
            workloads.push(of_endpoint(common, entry, endpoint, services, &attached, policies));
        }
    } else if resolved && entry.spec.workload_selector.is_none() {
        // Each host is its own endpoint.
        for service in services {
            let endpoint = WorkloadEntrySpec {
                address: service.hostname.to_string(),
                ..WorkloadEntrySpec::default()
            };
            let of_host = std::slice::from_ref(service);
            workloads.push(of_endpoint(
                common,
                entry,
                &endpoint,
                of_host,
                &Attached::nowhere(),
                policies,
            ));
        }
    }
    // The same address twice would be the same workload twice.
    let mut seen = std::collections::BTreeSet::new();
    workloads.retain(|workload| seen.insert(Arc::clone(&workload.uid)));
    workloads
}

fn of_endpoint(
    common: &Common,
    entry: &input::ServiceEntry,
    endpoint: &WorkloadEntrySpec,
    services: &[Arc<Service>],
    attached: &Attached,
    policies: &impl Policies,
) -> Workload {
    let meta = &entry.meta;
    let uid = format!(
        "{}/networking.istio.io/ServiceEntry/{}/{}/{}",
        common.settings.cluster, meta.namespace, meta.name, endpoint.address
    );
    let mut workload = common.workload(uid, meta, ObjectKind::ServiceEntry);
    describe(common, &mut workload, endpoint);
    workload.tunnel = tunnel(&meta.labels, entry.redirected);
    workload.workload_name = Arc::clone(&meta.name);
    common.name_for_telemetry(&mut workload, &meta.labels);
    workload.services = memberships(services, |service, port| entry_port(endpoint, service, port));
    attached.apply(&mut workload, services, &meta.labels, policies);
    workload
}

/// The workloads of endpoints that are no pods. `service` is the one the slice is for.
pub(crate) fn of_slice(common: &Common, slice: &input::EndpointSlice, service: &Arc<Service>) -> Vec<Workload> {
    let meta = &slice.meta;
    let ports: Arc<[Port]> = slice
        .ports
        .iter()
        .filter_map(|listed| {
            let port = service.ports.iter().find(|port| port.name == listed.name)?;
            Some(Port {
                service_port: port.port,
                target_port: listed.port,
            })
        })
        .collect();
    let services: Arc<[(Name, Arc<[Port]>)]> = Arc::new([(Arc::clone(&service.key), ports)]);
    let mut workloads: Vec<Workload> = Vec::new();
    for endpoint in &slice.endpoints {
        let uid = format!(
            "{}/discovery.k8s.io/EndpointSlice/{}/{}/{}",
            common.settings.cluster, meta.namespace, meta.name, endpoint.key
        );
        if workloads.iter().any(|known| *known.uid == *uid) {
            continue;
        }
        let mut workload = common.workload(uid, meta, ObjectKind::EndpointSlice);
        workload.addresses = endpoint.addresses.clone();
        workload.services = Arc::clone(&services);
        workload.healthy = endpoint.ready;
        // Nothing is known of them; they may share their address with others.
        workload.host_network = true;
        workload.typed = false;
        workloads.push(workload);
    }
    workloads
}

/// The workload that the gateway of another network is to clients.
pub(crate) fn of_network_gateway(common: &Common, way: &NetworkGateway) -> Workload {
    let uid = way.uid();
    let meta = Meta {
        namespace: Arc::clone(&way.namespace),
        name: Arc::clone(&uid),
        ..Meta::default()
    };
    let mut workload = common.workload(uid.to_string(), &meta, ObjectKind::Gateway);
    workload.service_account = Arc::clone(&way.service_account);
    workload.network = Arc::clone(&way.network);
    workload.cluster = Arc::clone(&common.empty);
    workload.typed = false;
    workload.source = way.source.clone();
    match way.address {
        Some(address) => workload.addresses = Box::new([address]),
        None => workload.hostname = Arc::clone(&way.host),
    }
    workload
}

/// The services of a workload, sorted by key, with the ports that lead somewhere.
fn memberships(
    services: &[Arc<Service>],
    target: impl Fn(&Service, &ServicePort) -> Option<u16>,
) -> Arc<[(Name, Arc<[Port]>)]> {
    let mut memberships: Vec<(Name, Arc<[Port]>)> = services
        .iter()
        .map(|service| {
            let ports = service.ports.iter().filter_map(|port| {
                Some(Port {
                    service_port: port.port,
                    target_port: target(service, port)?,
                })
            });
            (Arc::clone(&service.key), ports.collect())
        })
        .collect();
    memberships.sort_by(|(a, _), (b, _)| a.cmp(b));
    memberships.dedup_by(|(a, _), (b, _)| a == b);
    memberships.into()
}
