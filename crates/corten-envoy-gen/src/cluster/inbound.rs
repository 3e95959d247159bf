//! The ports of the proxy's own application as clusters.

use std::{collections::BTreeMap, net::IpAddr};

use corten_api::istio::{
    destination_rule::ConnectionPoolSettings, mesh_config::InboundTrafficPolicyMode, sidecar::IstioIngressListener,
};
use corten_core::Protocol;
use corten_envoy::{
    envoy::config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy},
        },
        core::v3::Address,
    },
    google::protobuf::Duration,
    string_value,
};
use corten_model::Name;
use corten_routing::{Interception, Service, for_port};

use super::{http::Http, istio, policy, special, stat::Stat, stat_name};
use crate::{
    Context, endpoint,
    listener::{Target, all_targets},
    names,
};

/// An application's address does not become stale: nearly the longest time that Envoy's clock can count.
const NEVER: Duration = Duration {
    seconds: 9_000_000_000,
    nanos: 0,
};

/// The clusters of a sidecar's inbound ports: those that its Sidecar lists, else those that services lead to.
pub(super) fn clusters(cx: &Context<'_>) -> Vec<Cluster> {
    let targets = all_targets(cx);
    let listed = cx
        .scope
        .sidecar
        .as_ref()
        .map_or(&[][..], |sidecar| &sidecar.spec.ingress);
    if !listed.is_empty() {
        return listed
            .iter()
            .filter_map(|ingress| of_ingress(cx, &targets, ingress))
            .collect();
    }
    if cx.proxy.interception == Interception::None {
        return Vec::new();
    }
    let written = cx.mesh().inbound_traffic_policy.as_ref();
    let local = written.is_some_and(|policy| policy.mode == InboundTrafficPolicyMode::Localhost);
    let mut ports: BTreeMap<u16, Vec<&Target>> = BTreeMap::new();
    for target in &targets {
        ports.entry(target.number).or_default().push(target);
    }
    let of = ports.into_iter().filter_map(|(number, targets)| {
        let first = targets.first()?;
        let same = targets.iter().filter(|target| target.port.number == first.port.number);
        let inbound = Inbound {
            number,
            protocol: first.port.protocol,
            of: Some(first),
            listed: None,
            loops: !local,
            at: local.then(|| endpoint::socket(cx.proxy.loopback(), number)),
        };
        Some(inbound.cluster(cx, same.map(|target| &*target.service)))
    });
    of.collect()
}

/// The cluster of a port that a Sidecar lists; `None`: it says something that is no endpoint.
fn of_ingress(cx: &Context<'_>, targets: &[Target], ingress: &IstioIngressListener) -> Option<Cluster> {
    let port = ingress.port.as_ref()?;
    let number = port.number.0;
    let at = match ingress.default_endpoint.as_str() {
        "" => None,
        written => Some(application(cx, written)?),
    };
    let local = match &at {
        Some(At::Ip(address, _)) => address.is_loopback(),
        Some(At::Socket(_)) => true,
        None => false,
    };
    let of = targets.iter().find(|target| target.number == number);
    let inbound = Inbound {
        number,
        protocol: Protocol::parse(&port.protocol),
        of,
        listed: Some(&port.name),
        loops: !local,
        at: at.map(|at| match at {
            At::Ip(address, port) => endpoint::socket(&address.to_string(), port),
            At::Socket(path) => endpoint::pipe(&path),
        }),
    };
    Some(inbound.cluster(cx, of.iter().map(|target| &*target.service)))
}

/// Where the application listens.
enum At {
    Ip(IpAddr, u16),
    Socket(Name),
}

/// Reads where the application listens: `127.0.0.1:PORT`, `0.0.0.0:PORT` for the pod's own address, `unix://PATH`, and the same
/// with IPv6, as far as the pod has addresses of the family; else of the other.
fn application(cx: &Context<'_>, written: &str) -> Option<At> {
    if let Some(path) = written.strip_prefix("unix://") {
        return Some(At::Socket(Name::from(path)));
    }
    let at: std::net::SocketAddr = written.parse().ok()?;
    let own = |v6: bool| cx.proxy.addresses.iter().find(|own| own.is_ipv6() == v6).copied();
    let v6 = at.is_ipv6();
    let loopback = |v6: bool| -> IpAddr {
        if v6 {
            std::net::Ipv6Addr::LOCALHOST.into()
        } else {
            std::net::Ipv4Addr::LOCALHOST.into()
        }
    };
    let address = if at.ip().is_unspecified() {
        own(v6).unwrap_or_else(|| loopback(v6))
    } else if at.ip().is_loopback() {
        loopback(if own(v6).is_some() || own(!v6).is_none() {
            v6
        } else {
            !v6
        })
    } else {
        at.ip()
    };
    Some(At::Ip(address, at.port()))
}

/// A port of the application.
struct Inbound<'a> {
    number: u16,
    protocol: Protocol,
    of: Option<&'a Target>,
    /// The name that the Sidecar gives the port which it lists.
    listed: Option<&'a str>,
    /// Redirection would send what goes there back here.
    loops: bool,
    /// Where the application listens; `None`: where the connection was made to.
    at: Option<Address>,
}

impl Inbound<'_> {
    fn cluster<'s>(self, cx: &Context<'_>, services: impl Iterator<Item = &'s Service>) -> Cluster {
        let name = names::inbound(self.number);
        let mut cluster = Cluster {
            alt_stat_name: stat_name(&name),
            common_lb_config: Some(CommonLbConfig::default()),
            ..Cluster::default()
        };
        let kind = match self.at.clone() {
            Some(at) => {
                cluster.load_assignment = Some(endpoint::single(&name, at));
                DiscoveryType::Static
            }
            None => {
                cluster.lb_policy = LbPolicy::ClusterProvided.into();
                cluster.cleanup_interval = Some(NEVER);
                DiscoveryType::OriginalDst
            }
        };
        cluster.name = name;
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
        super::name_services(&mut cluster, services);
        let pattern = &cx.mesh().inbound_cluster_stat_name;
        if !pattern.is_empty()
            && let Some(filled) = self.stat(cx, pattern)
        {
            cluster.alt_stat_name = stat_name(&filled);
        }
        let mut http = Http::of_port(cx, self.protocol);
        let pool = self.pool(cx, &mut cluster);
        policy::connections(cx, &mut cluster, &mut http, pool.as_ref(), None);
        if self.loops {
            cluster.upstream_bind_config = Some(special::from_passthrough(cx));
        }
        special::set_http(&mut cluster, http);
        cluster
    }

    /// A pattern of names in statistics, filled; a port that a Sidecar lists is called as it is there, also where no service leads to it.
    fn stat(&self, cx: &Context<'_>, pattern: &str) -> Option<String> {
        let of_service = self.of.map(|target| Stat {
            target_port: self.number,
            ..Stat::of(&target.service, &target.port)
        });
        let Some(port_name) = self.listed else {
            return of_service.map(|stat| stat.fill(pattern));
        };
        let sidecar = cx.scope.sidecar.as_ref()?;
        let host = format!("{}.{}", sidecar.name, sidecar.namespace);
        let of_sidecar = Stat {
            host: &host,
            service: None,
            subset: "",
            port: self.number,
            port_name,
            target_port: self.number,
        };
        let stat = of_service.map_or(of_sidecar, |stat| Stat {
            port: self.number,
            port_name,
            ..stat
        });
        Some(stat.fill(pattern))
    }

    /// Limits on connections: the Sidecar's for the port, its own for all, what clients are told, the mesh's.
    fn pool(&self, cx: &Context<'_>, cluster: &mut Cluster) -> Option<ConnectionPoolSettings> {
        let rule = self
            .of
            .and_then(|target| Some((target, cx.scope.inbound_rule(&target.service)?)));
        let mut found = None;
        if let Some((target, rule)) = rule
            && let Some(policy) = &rule.spec.traffic_policy
        {
            found = for_port(policy, target.port.number).connection_pool;
            istio(cluster)
                .fields
                .insert("config".to_owned(), string_value(rule.path()));
        }
        let of_sidecar = cx.scope.sidecar.as_ref().and_then(|sidecar| {
            let mut ingress = sidecar.spec.ingress.iter();
            let is_it = |ingress: &&IstioIngressListener| {
                ingress.port.as_ref().is_some_and(|port| port.number.0 == self.number)
            };
            let own = ingress.find(is_it).and_then(|ingress| ingress.connection_pool.clone());
            own.or_else(|| sidecar.spec.inbound_connection_pool.clone())
        });
        let of_mesh = || cx.mesh().default_traffic_policy.as_ref()?.connection_pool.clone();
        of_sidecar.or(found).or_else(of_mesh)
    }
}
