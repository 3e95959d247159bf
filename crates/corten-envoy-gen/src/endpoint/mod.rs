//! Endpoints: the workloads behind a cluster, with where they are and what is known about them.

pub(crate) mod locality;

use std::{collections::BTreeMap, sync::Arc};

use corten_api::istio::{
    destination_rule::{ClientTLSSettingsTLSmode, TrafficPolicy},
    peer_authentication::MutualTLSMode,
};
use corten_core::Locality;
use corten_envoy::{
    envoy::config::{
        core::v3::{
            Address, EnvoyInternalAddress, HealthStatus, Locality as Place, Metadata, Pipe, SocketAddress, address,
            envoy_internal_address::AddressNameSpecifier, socket_address::PortSpecifier,
        },
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as Called, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::Struct,
    string_value, structure, uint32,
};
use corten_model::{
    Scope as Near,
    input::{PeerAuthentication, TrafficDistribution},
};
use corten_routing::{self as routing, Endpoint, Health, Resolution, Service, ServicePort, tls_mode};

use self::locality::Preference;
use crate::{
    Context,
    cluster::{self, Way},
    names,
    security::{peer, tls},
};

/// Endpoints of one place, and how they count among others.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Where they are.
    pub(crate) locality: Locality,
    /// Groups of a higher number are called when those of lower ones fail.
    pub(crate) priority: u32,
    /// The share among groups of the same priority.
    pub(crate) weight: u32,
    /// The endpoints.
    pub(crate) members: Vec<Member>,
}

impl Group {
    /// Whether there is nobody to call.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Keeps one endpoint, where there can be only one.
    pub(crate) fn keep_first(&mut self) {
        self.members.truncate(1);
        self.weight = weight_of(&self.members);
    }
}

/// An endpoint, and how Envoy is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    endpoint: Endpoint,
    message: LbEndpoint,
}

impl Member {
    fn label(&self, key: &str) -> Option<&str> {
        self.endpoint.label(key)
    }

    /// Whether it is called with the mesh's mutual TLS.
    fn is_mutual(&self) -> bool {
        let metadata = self.message.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata.filter_metadata.contains_key(SOCKET_MATCH))
    }
}

/// Where an endpoint says what a listener inside the proxy takes for the address that was called.
pub(crate) const TUNNEL_TARGET: &str = "envoy.filters.listener.original_dst";
/// Beside it: who is there, as names in certificates separated by commas.
pub(crate) const TUNNEL_PEER: &str = "identity";
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// The endpoints of a cluster by its name; none for a cluster that there is not, or that finds them by itself.
pub fn load_assignment(cx: &Context<'_>, cluster_name: &str) -> ClusterLoadAssignment {
    let groups = names::Parsed::of(cluster_name).and_then(|parsed| {
        let (service, port) = cluster::service_of(cx, &parsed)?;
        let subset = Some(parsed.subset).filter(|subset| !subset.is_empty());
        let way = match (parsed.protocol, parsed.by_server_name) {
            (_, true) => Way::ByServerName,
            ("", _) => Way::Outbound,
            ("http", _) => Way::Vip("http"),
            (_, _) => Way::Vip("tcp"),
        };
        let of = Of::new(cx, &service, &port, subset, way);
        let known = of.groups(&|endpoint| !matches!(endpoint.address, routing::Address::Name(_)));
        Some(of.preferred(known))
    });
    ClusterLoadAssignment {
        cluster_name: cluster_name.to_owned(),
        endpoints: groups.map(messages).unwrap_or_default(),
        ..ClusterLoadAssignment::default()
    }
}

/// The groups as messages.
pub(crate) fn messages(groups: Vec<Group>) -> Vec<LocalityLbEndpoints> {
    let of = |group: Group| LocalityLbEndpoints {
        locality: Some(Place {
            region: group.locality.region,
            zone: group.locality.zone,
            sub_zone: group.locality.subzone,
        }),
        priority: group.priority,
        load_balancing_weight: uint32(group.weight),
        lb_endpoints: group.members.into_iter().map(|member| member.message).collect(),
        ..LocalityLbEndpoints::default()
    };
    groups.into_iter().map(of).collect()
}

/// The sum of the endpoints' weights.
fn weight_of(members: &[Member]) -> u32 {
    let weights = members
        .iter()
        .filter_map(|member| member.message.load_balancing_weight.as_ref());
    weights.fold(0u32, |sum, weight| sum.saturating_add(weight.value))
}

/// Whose endpoints are wanted: a subset of a service's port.
pub(crate) struct Of<'a> {
    cx: &'a Context<'a>,
    service: &'a Service,
    port: &'a ServicePort,
    subset: Option<&'a str>,
    /// Of what use the cluster is. A gateway that hands TLS on as it is calls only who takes mutual TLS.
    way: Way,
    policy: TrafficPolicy,
    /// The TLS that a rule asks for.
    tls: Option<ClientTLSSettingsTLSmode>,
}

impl<'a> Of<'a> {
    pub(crate) fn new(
        cx: &'a Context<'a>,
        service: &'a Service,
        port: &'a ServicePort,
        subset: Option<&'a str>,
        way: Way,
    ) -> Of<'a> {
        let rule = cx.scope.destination_rule(service);
        Of {
            policy: cluster::policy_of(cx, service, port.number, subset),
            tls: rule.and_then(|rule| tls_mode(&rule.spec, port.number, subset)),
            cx,
            service,
            port,
            subset,
            way,
        }
    }

    /// What prefers places.
    pub(crate) fn preference(&self) -> Option<Preference> {
        let rule = self.policy.load_balancer.as_ref();
        locality::effective(self.cx.mesh(), rule, distribution(self.cx, self.service))
    }

    /// The groups in the order that the settings ask for.
    pub(crate) fn preferred(&self, mut groups: Vec<Group>) -> Vec<Group> {
        if let Some(preference) = self.preference() {
            let detects = self.policy.outlier_detection.is_some();
            locality::apply(&mut groups, &preference, self.cx.proxy, detects);
        }
        groups
    }

    /// The endpoints that the proxy may call, by place.
    pub(crate) fn groups(&self, known: &dyn Fn(&Endpoint) -> bool) -> Vec<Group> {
        let cx = self.cx;
        let catalog = &cx.snapshot.catalog;
        let rule = cx.scope.destination_rule(self.service);
        let labels = self
            .subset
            .and_then(|name| rule?.spec.subsets.iter().find(|subset| subset.name == name))
            .map(|subset| &subset.labels);
        let all = routing::endpoints(&cx.snapshot.model, self.service, self.port);
        let root = &catalog.settings.root_namespace;
        let mut policies: BTreeMap<&str, Vec<&Arc<PeerAuthentication>>> = BTreeMap::new();
        let mut places: BTreeMap<String, Group> = BTreeMap::new();
        for endpoint in &all {
            let wanted = labels.is_none_or(|labels| endpoint.has(labels));
            if !known(endpoint) || !wanted || !self.may_call(endpoint) {
                continue;
            }
            let namespace = &*endpoint.workload.namespace;
            let of_namespace = policies.entry(namespace).or_insert_with(|| {
                let all = catalog.configs.peer_authentications.values();
                all.filter(|policy| *policy.meta.namespace == *namespace || policy.meta.namespace == *root)
                    .collect()
            });
            let member = Member {
                message: self.message(endpoint, self.is_mutual(endpoint, of_namespace)),
                endpoint: endpoint.clone(),
            };
            if self.way == Way::ByServerName && !member.is_mutual() {
                continue;
            }
            let locality = endpoint.locality();
            let group = places.entry(locality.to_string()).or_insert_with(|| Group {
                locality,
                priority: 0,
                weight: 0,
                members: Vec::new(),
            });
            group.members.push(member);
        }
        let mut groups: Vec<Group> = places.into_values().collect();
        for group in &mut groups {
            group.weight = weight_of(&group.members);
        }
        groups
    }

    /// Whether the proxy may call an endpoint at all.
    fn may_call(&self, endpoint: &Endpoint) -> bool {
        let (proxy, workload) = (self.cx.proxy, &endpoint.workload);
        if self.service.node_local && workload.node != proxy.node {
            return false;
        }
        let elsewhere = !workload.cluster.is_empty() && workload.cluster != proxy.cluster;
        if elsewhere && self.cx.snapshot.catalog.local_hosts.includes(&self.service.host) {
            return false;
        }
        let views = proxy.network_view();
        if !views.is_empty() && !workload.network.is_empty() && !views.contains(&&*workload.network) {
            return false;
        }
        endpoint.health == Health::Healthy || self.knows_unhealthy()
    }

    /// Whether endpoints that are not ready are told of, so that a client knows how much of a service is there. They are
    /// never called then: there is no panic in which all are. A rule that allows panic gets ready ones only.
    fn knows_unhealthy(&self) -> bool {
        let panics = |outliers: &corten_api::istio::destination_rule::OutlierDetection| outliers.min_health_percent > 0;
        distribution(self.cx, self.service) != TrafficDistribution::Any
            || !self.policy.outlier_detection.as_ref().is_some_and(panics)
    }

    /// Whether an endpoint is called with the mesh's mutual TLS, where the cluster leaves that to endpoints.
    fn is_mutual(&self, endpoint: &Endpoint, policies: &[&Arc<PeerAuthentication>]) -> bool {
        if !endpoint.tls {
            return false;
        }
        if let Some(mode) = self.tls {
            return mode == ClientTLSSettingsTLSmode::IstioMutual;
        }
        let workload = &endpoint.workload;
        let root = &self.cx.snapshot.catalog.settings.root_namespace;
        let modes = peer::of_workload(policies.iter().copied(), &workload.namespace, &workload.labels, root);
        peer::of_port(&modes, endpoint.port) != MutualTLSMode::Disable
    }

    /// Where the tunnel leads by which the endpoint is reached, `ADDRESS:PORT`; `None`: it or the proxy knows none, or it takes the
    /// mutual TLS of sidecars, which then goes before: what a service's policies say of its own port is seen by both sides.
    fn tunnel(&self, endpoint: &Endpoint) -> Option<String> {
        let address = endpoint.address.ip()?;
        // Envoy resolves the addresses of such clusters, and a listener of its own has none.
        let resolved = matches!(self.service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        let prefers = matches!(self.way, Way::Vip(_)) || self.way == Way::Outbound && !endpoint.tls;
        let takes = !resolved && prefers && self.cx.tunnels() && endpoint.is_tunnelled();
        takes.then(|| names::with_port(&address.to_string(), endpoint.port))
    }

    fn message(&self, endpoint: &Endpoint, mutual: bool) -> LbEndpoint {
        let mut metadata = Metadata::default();
        let tunnel = self.tunnel(endpoint);
        if let Some(target) = &tunnel {
            let names = tls::names_of(self.cx.mesh(), &endpoint.workload);
            let names = names.map(|names| (TUNNEL_PEER, string_value(names)));
            let local = ("local", string_value(target.as_str()));
            metadata
                .filter_metadata
                .insert(TUNNEL_TARGET.to_owned(), structure(std::iter::once(local).chain(names)));
        }
        if matches!(self.way, Way::Vip(_)) {
            // All endpoints are reached by the same socket.
        } else if tunnel.is_some() {
            let tunnel = structure([("tunnel", string_value("http"))]);
            metadata.filter_metadata.insert(SOCKET_MATCH.to_owned(), tunnel);
        } else if mutual {
            let tls = structure([("tlsMode", string_value("istio"))]);
            metadata.filter_metadata.insert(SOCKET_MATCH.to_owned(), tls);
        }
        metadata.filter_metadata.insert("istio".to_owned(), telemetry(endpoint));
        LbEndpoint {
            health_status: match endpoint.health {
                Health::Healthy => HealthStatus::Healthy.into(),
                Health::Unhealthy => HealthStatus::Unhealthy.into(),
            },
            load_balancing_weight: uint32(endpoint.workload.capacity.unwrap_or(1)),
            metadata: Some(metadata),
            host_identifier: Some(HostIdentifier::Endpoint(Called {
                address: Some(match tunnel {
                    Some(target) => internal(names::ORIGINATE, &target),
                    None => address_of(endpoint),
                }),
                ..Called::default()
            })),
        }
    }
}

/// Who it is, for metrics of clients: `workload;namespace;canonical name;canonical revision;cluster`.
fn telemetry(endpoint: &Endpoint) -> Struct {
    let workload = &endpoint.workload;
    let revision = match &*workload.canonical_revision {
        "latest" => "",
        revision => revision,
    };
    let text = format!(
        "{};{};{};{revision};{}",
        workload.workload_name, workload.namespace, workload.canonical_name, workload.cluster
    );
    structure([("workload", string_value(text))])
}

fn address_of(endpoint: &Endpoint) -> Address {
    match &endpoint.address {
        routing::Address::Ip(address) => socket(&address.to_string(), endpoint.port),
        routing::Address::Name(name) => socket(name, endpoint.port),
        routing::Address::Unix(path) => pipe(path),
    }
}

/// A TCP address.
pub(crate) fn socket(address: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

/// A listener inside the proxy; the identifier tells apart endpoints that are reached through the same.
pub(crate) fn internal(listener: &str, id: &str) -> Address {
    Address {
        address: Some(address::Address::EnvoyInternalAddress(EnvoyInternalAddress {
            endpoint_id: id.to_owned(),
            address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(listener.to_owned())),
        })),
    }
}

/// A socket in the file system.
pub(crate) fn pipe(path: &str) -> Address {
    Address {
        address: Some(address::Address::Pipe(Pipe {
            path: path.to_owned(),
            ..Pipe::default()
        })),
    }
}

/// A single endpoint at an address.
pub(crate) fn single(name: &str, at: Address) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(Called {
                    address: Some(at),
                    ..Called::default()
                })),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// What a service asks for of near endpoints: by itself, or by its namespace.
pub(crate) fn distribution(cx: &Context<'_>, service: &Service) -> TrafficDistribution {
    if let Some(own) = service.traffic_distribution {
        return own;
    }
    let model = cx.snapshot.model.service(&service.key);
    let preferences = model
        .and_then(|service| service.load_balancing)
        .filter(|balancing| balancing.mode == corten_model::LoadMode::Failover)
        .map_or(&[][..], |balancing| balancing.preferences);
    if preferences.contains(&Near::Node) {
        TrafficDistribution::SameNode
    } else if preferences.contains(&Near::Zone) {
        TrafficDistribution::SameZone
    } else {
        TrafficDistribution::Any
    }
}
