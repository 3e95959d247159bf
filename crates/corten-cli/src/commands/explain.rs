//! `corten explain`: one call followed through the proxies of both sides, by the control plane's own code and without sockets.

mod tokens;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use corten_core::{Host, Protocol as PortProtocol};
use corten_explain::{Call, Certificate, Config, Outcome, Protocol, Request, Tls, Trace, Via, follow, onward};
use corten_routing::{Service, ServicePort, endpoints};

use crate::commands::Form;
use crate::mesh::world::{Kind, Known, Objects, Pod};
use crate::output;

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

/// Follow one call through the proxies of both sides, and say why it goes where it goes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: the call is answered or arrives, 1: it is refused on the way. Examples:
  corten explain -f shop/ --from web.shop --to reviews:9080
  corten explain -f shop/ --from web.shop --to reviews:9080 --path /v1/x --header end-user=jason
  corten explain -f shop/ --from web.shop --to payments.bank:8080 --method POST --jwt '{\"iss\":\"me\",\"sub\":\"you\"}' -o json"
)]
pub(crate) struct Explain {
    #[command(flatten)]
    objects: Objects,
    /// The pod that calls: POD.NAMESPACE, or the name of a Deployment in place of the pod's
    #[arg(long, value_name = "POD.NAMESPACE")]
    from: String,
    /// Whom it calls, as it would write it; the port is 80 unless it says another
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// The path, with its query
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// A header; Host, too
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// A token as bearer: the token itself, its claims as JSON, or @FILE with either. Signatures are taken to be good
    #[arg(long, value_name = "TOKEN")]
    jwt: Option<String>,
    /// What it speaks [default: what the port is for]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<Speaks>,
    /// The address that the client's DNS gives for the host
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Take every pod to have a sidecar, whatever its labels and its namespace's say
    #[arg(long)]
    all_sidecars: bool,
    /// The form
    #[arg(short, long, value_name = "FORM", default_value = "short")]
    output: Form,
}

/// Whom the call is to.
struct Goal<'a> {
    host: String,
    port: u16,
    address: IpAddr,
    service: Option<(&'a Service, Option<&'a ServicePort>)>,
}

impl Explain {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let known = self.objects.read()?;
        let trace = self.trace(&known)?;
        match self.output {
            Form::Short => output::text(trace.to_string())?,
            Form::Json => output::line(output::json(&trace)?)?,
            Form::Yaml => output::text(corten_api::yaml::document(&serde_json::to_value(&trace)?))?,
        }
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
        let arrives = trace.ends().any(|hop| !refused(&hop.outcome));
        Ok(if arrives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn trace(&self, known: &Known) -> Result<Trace> {
        let client = known.pod(&self.from)?;
        let goal = self.goal(known, &client)?;
        let call = self.call(&client, &goal)?;
        let mut trace = Trace::default();
        if self.has_sidecar(&client) {
            let config = config(known, &client)?;
            trace = follow(&config, &call.outbound());
            trace.hops.iter_mut().for_each(|hop| hop.proxy = client.place());
            for at in 0..trace.hops.len() {
                self.servers(known, &client, at, &mut trace)?;
            }
        } else {
            eprintln!("{} has no sidecar, so the call leaves it as it is", client.place());
            let servers = self.called(known, &goal);
            for (server, port) in servers {
                let address: IpAddr = server.address.parse().context("the pod's address")?;
                let arriving = Call {
                    destination: SocketAddr::new(address, port),
                    ..call.clone()
                };
                self.arrive(known, &server, arriving.inbound(), None, &mut trace)?;
            }
            if trace.hops.is_empty() {
                bail!(
                    "neither {} nor who is called has a sidecar: there is no proxy to follow the call through",
                    client.place()
                );
            }
        }
        Ok(trace)
    }

    fn has_sidecar(&self, pod: &Pod) -> bool {
        self.all_sidecars || pod.has_sidecar
    }

    /// Follows a hop's call to the pods that it goes to: one of each kind.
    fn servers(&self, known: &Known, client: &Pod, at: usize, trace: &mut Trace) -> Result<()> {
        let certificate = Certificate {
            uris: vec![known.identity(client)],
            dns: Vec::new(),
        };
        let mut kinds = BTreeMap::new();
        let hop = trace.hops[at].clone();
        for destination in &hop.destinations {
            for endpoint in destination.upstream.iter().flat_map(|upstream| &upstream.endpoints) {
                let Some(arriving) = onward(&hop, destination, endpoint, Some(certificate.clone())) else {
                    continue;
                };
                let Some(server) = known.pod_at(&arriving.destination.ip().to_string()) else {
                    continue;
                };
                if endpoint.share <= 0.0 || !self.has_sidecar(&server) {
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
            self.arrive(known, &server, arriving, Some(via), trace)?;
        }
        Ok(())
    }

    /// Follows a call through a server's sidecar.
    fn arrive(&self, known: &Known, server: &Pod, call: Call, via: Option<Via>, trace: &mut Trace) -> Result<()> {
        let arrived = follow(&config(known, server)?, &call);
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
    fn goal<'a>(&self, known: &'a Known, client: &Pod) -> Result<Goal<'a>> {
        let (host, port) = match self.to.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port
                    .parse()
                    .with_context(|| format!("{port:?} in {:?} is no port", self.to))?;
                (host.trim_matches(['[', ']']).to_owned(), port)
            }
            _ => (self.to.clone(), 80),
        };
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
        let known_by = self
            .address
            .or(literal)
            .or_else(|| service.and_then(|service| address_of(known, service, port)));
        let address = known_by.unwrap_or_else(|| {
            eprintln!("the address of {host} is not known here: {UNKNOWN_ADDRESS} stands for it (--address names it)");
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
            eprintln!("{} has no port {port}; it has {}", service.host, ports.join(", "));
        }
        Ok(Goal {
            host,
            port,
            address,
            service,
        })
    }

    fn call(&self, client: &Pod, goal: &Goal<'_>) -> Result<Call> {
        let usual = match goal.service.and_then(|(_, port)| port).map(|port| port.protocol) {
            Some(PortProtocol::Http2) => Speaks::Http2,
            Some(PortProtocol::Grpc) => Speaks::Grpc,
            Some(PortProtocol::Https) => Speaks::Https,
            Some(PortProtocol::Tls) => Speaks::Tls,
            Some(protocol) if protocol.is_tcp() => Speaks::Tcp,
            None if goal.port == 443 => Speaks::Https,
            _ => Speaks::Http,
        };
        let speaks = self.protocol.unwrap_or(usual);
        let mut call = Call::new(SocketAddr::new(goal.address, goal.port));
        let source: IpAddr = client
            .address
            .parse()
            .with_context(|| format!("the address of {}", client.place()))?;
        call.source = SocketAddr::new(source, CLIENT_PORT);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        call.now = now.ok().map(|now| now.as_secs());
        call.protocol = match speaks {
            Speaks::Http | Speaks::Https => Protocol::Http1,
            Speaks::Http2 | Speaks::Grpc => Protocol::Http2,
            Speaks::Tcp | Speaks::Tls => Protocol::Tcp,
        };
        if call.protocol.is_http() {
            call.request = Some(self.request(speaks, goal)?);
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

    fn request(&self, speaks: Speaks, goal: &Goal<'_>) -> Result<Request> {
        let usual = if speaks == Speaks::Https { 443 } else { 80 };
        let host = if goal.port == usual {
            goal.host.clone()
        } else {
            format!("{}:{}", goal.host, goal.port)
        };
        let method = if speaks == Speaks::Grpc {
            "POST".to_owned()
        } else {
            self.method.to_ascii_uppercase()
        };
        let mut request = Request {
            method,
            host,
            path: self.path.clone(),
            headers: Vec::new(),
        };
        if !request.path.starts_with('/') {
            bail!("the path {:?} does not begin with a slash", request.path);
        }
        if speaks == Speaks::Grpc {
            request = request.header("content-type", "application/grpc");
        }
        for header in &self.headers {
            let split = header.split_once('=').or_else(|| header.split_once(':'));
            let (name, value) = split.with_context(|| format!("the header {header:?} is not NAME=VALUE"))?;
            if name.eq_ignore_ascii_case("host") {
                request.host = value.trim().to_owned();
            } else {
                request = request.header(name.trim(), value.trim());
            }
        }
        if let Some(token) = &self.jwt {
            request = request.header("authorization", &format!("Bearer {}", tokens::token(token)?));
        }
        Ok(request)
    }

    /// The pods that a call without a proxy reaches, one of each kind, and their ports.
    fn called(&self, known: &Known, goal: &Goal<'_>) -> Vec<(Pod, u16)> {
        let mut kinds = BTreeMap::new();
        let mut add = |pod: Pod, port: u16| {
            if self.has_sidecar(&pod) {
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

/// What a pod's sidecar is sent.
fn config(known: &Known, pod: &Pod) -> Result<Config> {
    let made = corten_envoy_gen::generate(&known.snapshot, &known.proxy(&pod.place(), Kind::Sidecar)?);
    Ok(Config::new(
        made.listeners,
        made.routes.into_values(),
        made.clusters,
        made.endpoints.into_values(),
    ))
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

#[cfg(test)]
mod tests;
