//! Calls through a gateway, or between pods with sidecars, up to what the backend sees and what the client gets back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use corten_core::Host;
use corten_explain::{
    Call, Certificate, Config, Destination, EndpointShare, HeaderChange, Hop, Outcome as End, Protocol, Request,
    RouteTaken, Tls, follow, onward,
};
use serde_json::Value;

use super::backend::{self, Port};
use super::cluster::Cluster;
use crate::areas::traffic_features::protocol_of;

/// Where clients are (RFC 5737).
const CLIENT: &str = "192.0.2.10:40000";
/// The label of a gateway's pods.
const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// How the service that a gateway's pods stand behind is called, after the gateway.
const CLASS_SUFFIX: &str = "-istio";

/// What became of a share of the calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) share: f64,
    /// The status that the client gets; `None`: the connection is closed.
    pub(super) status: Option<u16>,
    /// gRPC's status, of requests of gRPC.
    pub(super) grpc: Option<String>,
    /// The pod that answered, as `namespace/name`; `None`: a proxy did.
    pub(super) backend: Option<(String, String)>,
    /// What the pod saw.
    pub(super) seen: Option<Call>,
    /// What the pod's port speaks.
    pub(super) port: Option<Port>,
    /// The certificate that was shown to the pod.
    pub(super) certificate: Option<String>,
    pub(super) location: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    /// Backends that get a copy, with the share of these calls.
    pub(super) mirrored: Vec<((String, String), f64)>,
    /// Why, where a proxy ended it.
    pub(super) why: String,
}

/// Whom a client of TLS believes.
pub(super) struct Trust {
    /// A certificate, as text.
    pub(super) trusted: String,
    /// The certificate that the client shows.
    pub(super) shown: Option<String>,
}

impl Cluster {
    /// The socket of a gateway's pod that a connection to a port of the gateway ends at.
    pub(super) fn entry_of(&self, gateway: &str, port: u16) -> Result<(&Value, SocketAddr)> {
        let (namespace, name) = gateway.split_once('/').context("a gateway without a namespace")?;
        let pod = self
            .pods()
            .find(|pod| pod["metadata"]["namespace"] == namespace && pod["metadata"]["labels"][GATEWAY_LABEL] == name)
            .with_context(|| format!("gateway {gateway} has no pod"))?;
        let service = self.service(namespace, &format!("{name}{CLASS_SUFFIX}"));
        let service = service.with_context(|| format!("gateway {gateway} has no service"))?;
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let found = ports.into_iter().find(|known| known["port"] == port);
        let target = found.with_context(|| format!("the service of gateway {gateway} has no port {port}"))?;
        let target = target["targetPort"]
            .as_u64()
            .and_then(|target| u16::try_from(target).ok());
        let address: IpAddr = pod["status"]["podIP"].as_str().unwrap_or_default().parse()?;
        Ok((pod, SocketAddr::new(address, target.unwrap_or(port))))
    }

    /// A call from outside through a gateway.
    pub(super) fn through(&self, gateway: &str, port: u16, call: Call, trust: Option<&Trust>) -> Result<Vec<Reply>> {
        let (pod, entry) = self.entry_of(gateway, port)?;
        let config = self.sent(pod, "router")?;
        let call = Call {
            destination: entry,
            source: CLIENT.parse()?,
            ..call
        };
        self.ends(pod, &config, &call, trust)
    }

    /// A call of a pod to a service.
    pub(super) fn between(&self, client: &Value, host: &str, port: u16, call: Call) -> Result<Vec<Reply>> {
        let namespace = client["metadata"]["namespace"].as_str().unwrap_or_default();
        let bare = host.split(':').next().unwrap_or_default();
        let (name, of) = bare.split_once('.').unwrap_or((bare, namespace));
        let of = of.split('.').next().unwrap_or_default();
        let service = self
            .service(of, name)
            .with_context(|| format!("no service is called {host}"))?;
        let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
        let source: IpAddr = client["status"]["podIP"].as_str().unwrap_or_default().parse()?;
        let config = self.sent(client, "sidecar")?;
        let call = Call {
            destination: SocketAddr::new(address, port),
            source: SocketAddr::new(source, 40_000),
            ..call
        };
        self.ends(client, &config, &call.outbound(), None)
    }

    /// Where a call ends that arrives at a proxy.
    fn ends(&self, pod: &Value, config: &Config, call: &Call, trust: Option<&Trust>) -> Result<Vec<Reply>> {
        let trace = follow(config, call);
        let mut replies = Vec::new();
        for hop in trace.ends() {
            if let Some(reply) = trust.and_then(|trust| self.distrusts(hop, call, trust)) {
                replies.push(reply);
                continue;
            }
            match &hop.outcome {
                End::Forwarded => {
                    for destination in &hop.destinations {
                        self.arrive(pod, config, hop, destination, trust, &mut replies)?;
                    }
                }
                _ => replies.push(refused(hop, 1.0)),
            }
        }
        Ok(replies)
    }

    /// The end of a call whose client and gateway do not believe each other; `None`: they do.
    fn distrusts(&self, hop: &Hop, call: &Call, trust: &Trust) -> Option<Reply> {
        let (tls, opened) = (call.tls.as_ref()?, hop.tls.as_ref()?);
        let closed = |why: String| {
            Some(Reply {
                share: 1.0,
                why,
                ..Reply::default()
            })
        };
        let shown = self.asked(&opened.certificate).unwrap_or_default();
        if !self.certificates.vouches(&trust.trusted, &shown) {
            return closed(format!(
                "the client does not believe the certificate of {}",
                opened.certificate
            ));
        }
        if !self.certificates.has_name(&shown, &tls.sni) {
            return closed(format!(
                "the certificate of {} is not for {}",
                opened.certificate, tls.sni
            ));
        }
        let client = trust.shown.as_ref().filter(|_| !opened.authorities.is_empty())?;
        let authority = self.asked(&opened.authorities).unwrap_or_default();
        if self.certificates.vouches(&authority, client) {
            return None;
        }
        closed(format!("{} does not vouch for the client", opened.authorities))
    }

    /// The pod with an address.
    fn pod_at(&self, address: IpAddr) -> Option<&Value> {
        let address = address.to_string();
        self.pods().find(|pod| pod["status"]["podIP"] == address.as_str())
    }

    /// A call that a proxy sends on, at each of the endpoints that it may go to.
    fn arrive(
        &self,
        from: &Value,
        config: &Config,
        hop: &Hop,
        destination: &Destination,
        trust: Option<&Trust>,
        replies: &mut Vec<Reply>,
    ) -> Result<()> {
        let route = hop.http.as_ref().and_then(|http| http.routes.first());
        let upstream = destination.upstream.as_ref();
        let endpoints = upstream.map_or(&[][..], |upstream| &upstream.endpoints);
        let used: Vec<&EndpointShare> = endpoints.iter().filter(|endpoint| endpoint.share > 0.0).collect();
        if used.is_empty() {
            replies.push(failed(hop, destination.share, 503, "there is no endpoint"));
        }
        for endpoint in used {
            let mut reply = self.exchange(from, config, hop, destination, endpoint, route, trust)?;
            reply.share = destination.share * endpoint.share;
            for mirror in route.iter().flat_map(|route| &route.mirrors) {
                let copies = mirror.upstream.iter().flat_map(|upstream| &upstream.endpoints);
                for copy in copies.filter(|copy| copy.share > 0.0) {
                    let address: SocketAddr = copy.address.parse().context("the address of a mirror")?;
                    if let Some(pod) = self.pod_at(address.ip()) {
                        reply.mirrored.push((place(pod), mirror.share * copy.share));
                    }
                }
            }
            replies.push(reply);
        }
        Ok(())
    }

    /// A request and its answer, with all attempts.
    #[expect(clippy::too_many_arguments, reason = "the parts of a way through a proxy")]
    fn exchange(
        &self,
        from: &Value,
        config: &Config,
        hop: &Hop,
        destination: &Destination,
        endpoint: &EndpointShare,
        route: Option<&RouteTaken>,
        trust: Option<&Trust>,
    ) -> Result<Reply> {
        let text = |path: &str| from.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let identity = format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            text("/metadata/namespace"),
            text("/spec/serviceAccountName")
        );
        let own = Certificate {
            uris: vec![identity],
            dns: Vec::new(),
        };
        let mut call = onward(hop, destination, endpoint, Some(own)).context("the endpoint has no address")?;
        if hop.http.is_some() {
            call.protocol = protocol_of(hop, config.clusters.get(&destination.cluster))?;
        }
        let pod = self
            .pod_at(call.destination.ip())
            .with_context(|| format!("nobody is at {}", call.destination))?;
        if pod["metadata"]["labels"][corten_routing::offline::TLS_MODE] == "istio" && hop.call.entry != INBOUND {
            let config = self.sent(pod, "sidecar")?;
            let mut inside = self.ends(pod, &config, &call.inbound(), None)?;
            let mut reply = inside.pop().context("the call goes nowhere")?;
            changed(&destination.response, &mut reply.headers);
            return Ok(reply);
        }
        let Some(port) = backend::port(pod, call.destination.port()) else {
            return Ok(failed(hop, 1.0, 503, "the backend does not listen there"));
        };
        if let Some(why) = backend::misread(&port, &call) {
            return Ok(failed(hop, 1.0, 503, why));
        }
        let mut shown = None;
        if let Port::Tls { secret, .. } = &port {
            let server = self.entry("Secret", secret, "tls.crt")?;
            let transport = &endpoint.transport;
            let opens = matches!(&*transport.mode, "tls" | "mtls");
            let believed = if opens {
                // Without authorities the server may be anybody.
                let roots = (!transport.authorities.is_empty()).then(|| self.asked(&transport.authorities));
                let vouched =
                    roots.is_none_or(|roots| roots.is_ok_and(|roots| self.certificates.vouches(&roots, &server)));
                let names = &transport.sans;
                vouched && (names.is_empty() || names.iter().any(|name| self.certificates.has_name(&server, name)))
            } else {
                let named = call.tls.as_ref().map_or("", |tls| &*tls.sni);
                trust.is_none_or(|trust| {
                    self.certificates.vouches(&trust.trusted, &server) && self.certificates.has_name(&server, named)
                })
            };
            if !believed {
                let status = if opens { 503 } else { 0 };
                return Ok(failed(hop, 1.0, status, "the backend's certificate is not believed"));
            }
            if transport.mode == "mtls" {
                shown = Some(self.asked(&transport.certificate)?);
            }
        }
        let mut reply = answered(&call, route, hop);
        changed(&destination.response, &mut reply.headers);
        reply.backend = reply.status.map(|_| place(pod));
        reply.certificate = shown;
        reply.port = Some(port);
        reply.seen = Some(call);
        Ok(reply)
    }
}

/// How calls come in at a sidecar.
const INBOUND: corten_explain::Entry = corten_explain::Entry::Redirected(15006);

fn changed(changes: &[HeaderChange], headers: &mut Vec<(String, String)>) {
    changes.iter().for_each(|change| change.apply(headers));
}

/// The backend's answer as the proxy passes it on: after all attempts, and if it comes in time.
fn answered(call: &Call, route: Option<&RouteTaken>, hop: &Hop) -> Reply {
    let time = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    let whole = route.and_then(|route| time(route.timeout_ms.unwrap_or_default()));
    let retries = route.and_then(|route| route.retries.as_ref());
    let each = retries.and_then(|retries| time(retries.each_ms));
    let mut elapsed = Duration::ZERO;
    for attempt in 0.. {
        let answer = backend::answer(call, attempt);
        let late = each.is_some_and(|each| answer.delay > each);
        elapsed += each.map_or(answer.delay, |each| answer.delay.min(each));
        if whole.is_some_and(|whole| elapsed > whole) {
            return failed(hop, 1.0, 504, "it took too long");
        }
        let again = retries.is_some_and(|retries| {
            let reason = match answer.status {
                _ if late => retries.on_reset() || retries.on_status(504),
                Some(status) => retries.on_status(status),
                None => retries.on_reset(),
            };
            reason && attempt < u64::from(retries.times)
        });
        if again {
            continue;
        }
        if late {
            return failed(hop, 1.0, 504, "an attempt took too long");
        }
        let Some(status) = answer.status else {
            return failed(hop, 1.0, 503, "the backend closed the connection");
        };
        return Reply {
            status: Some(status),
            grpc: answer.grpc.map(str::to_owned),
            headers: answer.headers,
            ..Reply::default()
        };
    }
    Reply::default()
}

/// What the client gets where something fails behind the proxy; without requests, or with status 0, the connection is closed.
fn failed(hop: &Hop, share: f64, status: u16, why: &str) -> Reply {
    let status = (hop.http.is_some() && status > 0).then_some(status);
    Reply {
        share,
        status,
        grpc: grpc_status(hop.call.request.as_ref(), status),
        why: why.to_owned(),
        ..Reply::default()
    }
}

/// What the client gets from the proxy itself.
fn refused(hop: &Hop, share: f64) -> Reply {
    let (status, location, headers, why) = match &hop.outcome {
        End::Forwarded => (None, None, Vec::new(), String::new()),
        End::Answered(answer) => (
            Some(answer.status),
            answer.location.clone(),
            answer.headers.clone(),
            "the proxy answers".to_owned(),
        ),
        End::Refused { status, why, .. } => (*status, None, Vec::new(), why.clone()),
    };
    Reply {
        share,
        status,
        grpc: grpc_status(hop.call.request.as_ref(), status),
        location,
        headers,
        why,
        ..Reply::default()
    }
}

/// What Envoy makes of a status of its own for a client of gRPC.
fn grpc_status(request: Option<&Request>, status: Option<u16>) -> Option<String> {
    let is_grpc = request?
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("application/grpc"));
    let name = match status? {
        400 => "Internal",
        401 => "Unauthenticated",
        403 => "PermissionDenied",
        404 => "Unimplemented",
        429 | 502..=504 => "Unavailable",
        _ => "Unknown",
    };
    is_grpc.then(|| name.to_owned())
}

fn place(pod: &Value) -> (String, String) {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// TLS as clients of HTTP open it.
pub(super) fn tls(sni: &str, protocol: Protocol, shows: bool) -> Tls {
    let alpn: &[&str] = match protocol {
        Protocol::Http2 => &["h2"],
        Protocol::Tcp => &[],
        _ => &["http/1.1"],
    };
    Tls {
        sni: Host::from(sni).to_string(),
        alpn: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        certificate: shows.then(Certificate::default),
        ..Tls::default()
    }
}
