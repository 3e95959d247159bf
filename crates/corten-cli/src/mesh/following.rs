//! One call followed through the proxies of both sides, by what each of them would be sent.

mod outside;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use corten_core::{Host, Protocol as PortProtocol};
use corten_explain::{Call, Certificate, Config, Protocol, Request, Tls, Trace, Via, follow, onward};
use corten_install::values::known as spelling;
use corten_routing::{Service, ServicePort, endpoints};

use super::ambient::{Nodes, Onward};
use super::world::{Kind, Known, Pod};

/// What stands for the address of a host that nobody here knows: one of the range for documentation (RFC 5737).
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The port that clients connect from: any will do.
const CLIENT_PORT: u16 = 40_000;
/// How many servers a call is followed to.
const SERVERS_MAX: usize = 4;

/// What a call speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Speaks {
    Http,
    Http2,
    Grpc,
    /// HTTP in TLS that the client itself opens
    Https,
    Tcp,
    /// Bytes in TLS that the client itself opens
    Tls,
}

/// What is asked: who calls whom, with what.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whom, as the client would write it.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The address that the client's DNS gives for the host.
    pub(crate) address: Option<IpAddr>,
    pub(crate) speaks: Option<Speaks>,
    pub(crate) method: String,
    /// The path, with its query.
    pub(crate) path: String,
    /// Host, too.
    pub(crate) headers: Vec<(String, String)>,
    /// A bearer token.
    pub(crate) token: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followed {
    /// The hops; none: no proxy of ours is on the way.
    pub(crate) trace: Trace,
    /// What the user should know besides.
    pub(crate) notes: Vec<String>,
}

/// Follows calls in one world; what proxies are sent is made once.
pub(crate) struct Follower<'a> {
    pub(crate) known: &'a Known,
    all_sidecars: bool,
    /// Seconds since 1970.
    now: Option<u64>,
    configs: RefCell<BTreeMap<(String, Kind), Rc<Config>>>,
    nodes: OnceCell<Nodes>,
    notes: RefCell<Vec<String>>,
}

/// Whom the call is to.
struct Goal<'a> {
    host: String,
    port: u16,
    address: IpAddr,
    service: Option<(&'a Service, Option<&'a ServicePort>)>,
}

impl<'a> Follower<'a> {
    /// Of a world; with `all_sidecars` every pod has one.
    pub(crate) fn new(known: &'a Known, all_sidecars: bool) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            known,
            all_sidecars,
            now: now.ok().map(|now| now.as_secs()),
            configs: RefCell::default(),
            nodes: OnceCell::new(),
            notes: RefCell::default(),
        }
    }

    /// Follows a call of a pod.
    pub(crate) fn follow(&self, client: &Pod, asked: &Asked) -> Result<Followed> {
        self.notes.borrow_mut().clear();
        let trace = self.trace(client, asked)?;
        Ok(Followed {
            trace,
            notes: self.notes.take(),
        })
    }

    /// Follows a call from outside of the mesh, through whichever gateway takes it.
    pub(crate) fn enters(&self, from: IpAddr, asked: &Asked) -> Result<Followed> {
        self.notes.borrow_mut().clear();
        let trace = outside::trace(self, from, asked)?;
        Ok(Followed {
            trace,
            notes: self.notes.take(),
        })
    }

    fn note(&self, text: String) {
        self.notes.borrow_mut().push(text);
    }

    fn trace(&self, client: &Pod, asked: &Asked) -> Result<Trace> {
        let goal = self.goal(client, asked);
        let source: IpAddr = client
            .address
            .parse()
            .with_context(|| format!("the address of {}", client.place()))?;
        let call = self.call(source, &goal, asked)?;
        let mut trace = Trace::default();
        if self.has_sidecar(client) {
            let config = self.config(client, Kind::Sidecar)?;
            trace = follow(&config, &call.outbound());
            trace.hops.iter_mut().for_each(|hop| hop.proxy = client.place());
            for at in 0..trace.hops.len() {
                self.servers(client, at, &mut trace)?;
            }
        } else if let Some(source) = self.nodes().captured(client) {
            let (hop, onward) = self.nodes().leaves(client, source, &call, 0);
            trace.hops.push(hop);
            let mut kinds = BTreeMap::new();
            for onward in onward {
                // What no pod has is outside the mesh, or unknown.
                if let Some(server) = self.known.pod_at(&onward.to.to_string()) {
                    let kind = (onward.via.cluster.clone(), server.kind());
                    kinds.entry(kind).or_insert((server, onward));
                }
            }
            for (server, onward) in kinds.into_values().take(SERVERS_MAX) {
                self.reach(&server, onward, &mut trace)?;
            }
        } else {
            self.note(format!(
                "{} has no proxy, so the call leaves it as it is",
                client.place()
            ));
            for (server, port) in self.called(&goal) {
                let address: IpAddr = server.address.parse().context("the pod's address")?;
                let arriving = Call {
                    destination: SocketAddr::new(address, port),
                    ..call.clone()
                };
                self.enter(&server, arriving.inbound(), None, &mut trace)?;
            }
        }
        Ok(trace)
    }

    fn nodes(&self) -> &Nodes {
        self.nodes.get_or_init(|| Nodes::new(&self.known.snapshot.model))
    }

    /// Follows what a client's node proxy sends on: through a waypoint, or straight to the server.
    fn reach(&self, server: &Pod, onward: Onward, trace: &mut Trace) -> Result<()> {
        if !onward.waypoint {
            return self.enter(server, onward.call, Some(onward.via), trace);
        }
        let begins = trace.hops.len();
        self.pass(server, Kind::Waypoint, onward.call, Some(onward.via), trace)?;
        for at in begins..trace.hops.len() {
            self.servers(server, at, trace)?;
        }
        Ok(())
    }

    /// Follows a call to a server, through whichever proxy it has.
    fn enter(&self, server: &Pod, call: Call, via: Option<Via>, trace: &mut Trace) -> Result<()> {
        if self.has_sidecar(server) {
            let call = if call.inside.is_some() { call } else { call.inbound() };
            return self.pass(server, Kind::Sidecar, call, via, trace);
        }
        if let Some(local) = self.nodes().captured(server) {
            trace.hops.push(self.nodes().arrives(server, local, call, via));
        }
        Ok(())
    }

    /// Whether a proxy stands before a server.
    fn is_guarded(&self, server: &Pod) -> bool {
        self.has_sidecar(server) || self.nodes().captured(server).is_some()
    }

    /// What a pod's proxy is sent.
    fn config(&self, pod: &Pod, kind: Kind) -> Result<Rc<Config>> {
        let key = (pod.place(), kind);
        if let Some(config) = self.configs.borrow().get(&key) {
            return Ok(Rc::clone(config));
        }
        let made = corten_envoy_gen::generate(&self.known.snapshot, &self.known.proxy(&pod.place(), kind)?);
        let config = Rc::new(Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters,
            made.endpoints.into_values(),
        ));
        self.configs.borrow_mut().insert(key, Rc::clone(&config));
        Ok(config)
    }

    /// Whether a pod has a proxy of its own.
    pub(crate) fn has_sidecar(&self, pod: &Pod) -> bool {
        self.all_sidecars || pod.has_sidecar
    }

    /// Follows a hop's call to the pods that it goes to: one of each kind.
    fn servers(&self, client: &Pod, at: usize, trace: &mut Trace) -> Result<()> {
        let certificate = Certificate {
            uris: vec![self.known.identity(client)],
            dns: Vec::new(),
        };
        let mut kinds = BTreeMap::new();
        let hop = trace.hops[at].clone();
        for destination in &hop.destinations {
            for endpoint in destination.upstream.iter().flat_map(|upstream| &upstream.endpoints) {
                let Some(arriving) = onward(&hop, destination, endpoint, Some(certificate.clone())) else {
                    continue;
                };
                let Some(server) = self.known.pod_at(&arriving.destination.ip().to_string()) else {
                    continue;
                };
                if endpoint.share <= 0.0 || !self.is_guarded(&server) {
                    continue;
                }
                let via = Via {
                    hop: at,
                    cluster: destination.cluster.clone(),
                    endpoint: endpoint.address.clone(),
                };
                kinds
                    .entry((destination.cluster.clone(), server.kind()))
                    .or_insert((server, arriving, via));
            }
        }
        for (server, arriving, via) in kinds.into_values().take(SERVERS_MAX) {
            self.enter(&server, arriving, Some(via), trace)?;
        }
        Ok(())
    }

    /// Follows a call through a proxy of Envoy's.
    fn pass(&self, server: &Pod, kind: Kind, call: Call, via: Option<Via>, trace: &mut Trace) -> Result<()> {
        let arrived = follow(&*self.config(server, kind)?, &call);
        let begins = trace.hops.len();
        for mut hop in arrived.hops {
            hop.proxy = server.place();
            hop.via = match hop.via {
                Some(within) => Some(Via {
                    hop: within.hop + begins,
                    ..within
                }),
                None => via.clone(),
            };
            trace.hops.push(hop);
        }
        Ok(())
    }

    /// Who has the address, as the client's DNS says.
    fn goal(&self, client: &Pod, asked: &Asked) -> Goal<'a> {
        let (known, host, port) = (self.known, asked.host.clone(), asked.port);
        let catalog = &known.snapshot.catalog;
        let domain = &catalog.settings.domain;
        let written = host.trim_end_matches('.');
        // As a pod's resolver looks for it, in the order of its search list.
        let names = [
            format!("{written}.{}.svc.{domain}", client.namespace),
            format!("{written}.svc.{domain}"),
            format!("{written}.{domain}"),
            written.to_owned(),
        ];
        let service = names
            .iter()
            .find_map(|name| catalog.services.visible(&Host::from(name.as_str()), &client.namespace));
        let literal = host.parse().ok();
        let known_by = asked
            .address
            .or(literal)
            .or_else(|| service.and_then(|service| address_of(known, service, port)));
        let address = known_by.unwrap_or_else(|| {
            // A name of the cluster's own that is no service's is a mistake; any other may be somebody's.
            let own = !written.contains('.') || written.ends_with(".svc") || written.ends_with(&format!(".svc.{domain}"));
            self.note(if own {
                let of_namespace = catalog.services.iter().filter(|service| *service.namespace == *client.namespace);
                let near = spelling::hint(written, of_namespace.map(|service| &*service.name));
                format!(
                    "no service that {} could call is named {host}{near}: a pod finds no address for it; {UNKNOWN_ADDRESS} stands for one \
                     (services of other namespaces are written NAME.NAMESPACE)",
                    client.place()
                )
            } else {
                format!("the address of {host} is not known here: {UNKNOWN_ADDRESS} stands for it (--address names it)")
            });
            UNKNOWN_ADDRESS
        });
        let by_address = || {
            let has = |service: &&std::sync::Arc<Service>| service.addresses.iter().any(|net| net.addr() == address);
            catalog.services.iter().find(has)
        };
        let service = service.or_else(|| literal.and_then(|_: IpAddr| by_address()));
        let service = service.map(|service| (&**service, service.port(port)));
        if let Some((service, None)) = service {
            let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
            self.note(format!(
                "{} has no port {port}; it has {}",
                service.host,
                ports.join(", ")
            ));
        }
        Goal {
            host,
            port,
            address,
            service,
        }
    }

    fn call(&self, source: IpAddr, goal: &Goal<'_>, asked: &Asked) -> Result<Call> {
        let usual = match goal.service.and_then(|(_, port)| port).map(|port| port.protocol) {
            Some(PortProtocol::Http2) => Speaks::Http2,
            Some(PortProtocol::Grpc) => Speaks::Grpc,
            Some(PortProtocol::Https) => Speaks::Https,
            Some(PortProtocol::Tls) => Speaks::Tls,
            Some(protocol) if protocol.is_tcp() => Speaks::Tcp,
            None if goal.port == 443 => Speaks::Https,
            _ => Speaks::Http,
        };
        let speaks = asked.speaks.unwrap_or(usual);
        let mut call = Call::new(SocketAddr::new(goal.address, goal.port));
        call.source = SocketAddr::new(source, CLIENT_PORT);
        call.now = self.now;
        call.protocol = match speaks {
            Speaks::Http | Speaks::Https => Protocol::Http1,
            Speaks::Http2 | Speaks::Grpc => Protocol::Http2,
            Speaks::Tcp | Speaks::Tls => Protocol::Tcp,
        };
        if call.protocol.is_http() {
            call.request = Some(request(speaks, goal, asked)?);
        }
        if matches!(speaks, Speaks::Https | Speaks::Tls) {
            let alpn: &[&str] = if speaks == Speaks::Https {
                &["h2", "http/1.1"]
            } else {
                &[]
            };
            call.tls = Some(Tls {
                sni: if goal.host.parse::<IpAddr>().is_ok() {
                    String::new()
                } else {
                    goal.host.clone()
                },
                alpn: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
                ..Tls::default()
            });
        }
        Ok(call)
    }

    /// The pods that a call without a proxy reaches, one of each kind, and their ports.
    fn called(&self, goal: &Goal<'_>) -> Vec<(Pod, u16)> {
        let known = self.known;
        let mut kinds = BTreeMap::new();
        let mut add = |pod: Pod, port: u16| {
            if self.is_guarded(&pod) {
                kinds.entry(pod.kind()).or_insert((pod, port));
            }
        };
        match goal.service {
            Some((service, Some(port))) => {
                for endpoint in endpoints(&known.snapshot.model, service, port) {
                    let Some(address) = endpoint.address.ip() else { continue };
                    if let Some(pod) = known.pod_at(&address.to_string()) {
                        add(pod, endpoint.port);
                    }
                }
            }
            _ => {
                if let Some(pod) = known.pod_at(&goal.address.to_string()) {
                    add(pod, goal.port);
                }
            }
        }
        kinds.into_values().take(SERVERS_MAX).collect()
    }
}
/// The request that is asked about.
fn request(speaks: Speaks, goal: &Goal<'_>, asked: &Asked) -> Result<Request> {
    let usual = if speaks == Speaks::Https { 443 } else { 80 };
    let host = if goal.port == usual {
        goal.host.clone()
    } else {
        format!("{}:{}", goal.host, goal.port)
    };
    let method = if speaks == Speaks::Grpc {
        "POST".to_owned()
    } else {
        asked.method.to_ascii_uppercase()
    };
    let mut request = Request {
        method,
        host,
        path: asked.path.clone(),
        headers: Vec::new(),
    };
    ensure!(
        request.path.starts_with('/'),
        "the path {:?} does not begin with a slash",
        request.path
    );
    if speaks == Speaks::Grpc {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in &asked.headers {
        if name.eq_ignore_ascii_case("host") {
            request.host.clone_from(value);
        } else {
            request = request.header(name, value);
        }
    }
    if let Some(token) = &asked.token {
        request = request.header("authorization", &format!("Bearer {token}"));
    }
    Ok(request)
}

/// The first address of a service, or of its endpoints if it has none of its own.
fn address_of(known: &Known, service: &Service, port: u16) -> Option<IpAddr> {
    let own = service.addresses.first().map(|net| net.addr());
    own.or_else(|| {
        let port = service.port(port).or_else(|| service.ports.first())?;
        let found = endpoints(&known.snapshot.model, service, port);
        found.iter().find_map(|endpoint| endpoint.address.ip())
    })
}
