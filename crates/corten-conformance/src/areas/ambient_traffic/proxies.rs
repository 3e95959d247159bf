//! Calls by way of a client's sidecar or of the gateway, and calls to a workload that has a sidecar.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use corten_explain::{Call, Certificate, Config, Outcome as End, follow, onward};
use corten_routing::Proxy;
use serde_json::{Value, json};

use super::{Ambient, Ended, GATEWAY, NAMESPACE, PORTS, SIDECAR, ingress_label, sent};

/// Where calls to the gateway come from.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 1));

impl Ambient {
    /// What a proxy is sent.
    pub(super) fn made(&self, id: &str, metadata: &Value) -> Result<Config> {
        let made = crate::accepted::generate(&self.snapshot, &Proxy::of_node(id, metadata)?);
        Ok(Config::new(
            made.listeners,
            made.routes.into_values(),
            made.clusters,
            made.endpoints.into_values(),
        ))
    }

    /// What the sidecar is sent.
    fn sidecar(&self) -> Result<Config> {
        let address = self.workload(SIDECAR)?.addresses[0];
        let id = format!("sidecar~{address}~{SIDECAR}.{NAMESPACE}~{NAMESPACE}.svc.cluster.local");
        let labels = json!({"app": SIDECAR});
        self.made(
            &id,
            &json!({"NAMESPACE": NAMESPACE, "LABELS": labels, "ENABLE_HBONE": "true"}),
        )
    }

    /// What the gateway is sent.
    fn gateway(&self, address: IpAddr) -> Result<Config> {
        let (namespace, name, ..) = GATEWAY;
        let id = format!("router~{address}~{name}.{namespace}~{namespace}.svc.cluster.local");
        self.made(
            &id,
            &json!({"NAMESPACE": namespace, "LABELS": ingress_label(), "ENABLE_HBONE": "true"}),
        )
    }

    /// How a call of the sidecar's workload ends, or one through the gateway.
    pub(super) fn by_proxy(&self, from: &str, to: &str, scheme: &str, request: &Value) -> Result<Ended> {
        let (config, call, identity) = if from == SIDECAR {
            let (_, port, _) = *PORTS.iter().find(|(name, ..)| *name == scheme).context("a port")?;
            let host = format!("{to}.{NAMESPACE}.svc.cluster.local");
            let service = self.tables.service(NAMESPACE, &host).context("no service")?;
            let (_, vip) = *service.addresses.first().context("the service has no address")?;
            let client = self.workload(SIDECAR)?;
            let from = SocketAddr::new(client.addresses[0], 40_000);
            let call = sent(from, SocketAddr::new(vip, port), scheme, request).outbound();
            (self.sidecar()?, call, client.identity.to_string())
        } else {
            let (namespace, name, _, port) = GATEWAY;
            let found = self.tables.local(namespace, name, name);
            let gateway = found.context("no workload of the gateway")?;
            let address = gateway.addresses[0];
            let call = sent(
                SocketAddr::new(OUTSIDE, 40_000),
                SocketAddr::new(address, port),
                scheme,
                request,
            );
            (self.gateway(address)?, call, gateway.identity.to_string())
        };
        let trace = follow(&config, &call);
        let end = trace.ends().next().context("the call goes nowhere")?;
        if let Some(ended) = refusal(&end.outcome) {
            return Ok(ended);
        }
        let destination = end.destinations.first().context("no destination")?;
        let mut endpoints = destination.upstream.iter().flat_map(|upstream| &upstream.endpoints);
        let endpoint = endpoints
            .next()
            .with_context(|| format!("no endpoint of {}", destination.cluster))?;
        let shown = Certificate {
            uris: vec![identity],
            dns: Vec::new(),
        };
        let next = onward(end, destination, endpoint, Some(shown)).context("no address")?;
        self.land(next)
    }

    /// A call at its server, which has a sidecar, a node proxy or nothing.
    fn land(&self, call: Call) -> Result<Ended> {
        let at = call.destination;
        if at.ip() == self.workload(SIDECAR)?.addresses[0] {
            return self.at_sidecar(call);
        }
        let tunnel = call.request.as_ref().filter(|request| request.method == "CONNECT");
        if let Some(tunnel) = tunnel {
            let shown = call.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
            let identity = shown
                .and_then(|shown| shown.uris.first())
                .context("a tunnel of nobody")?;
            return self.arrive(call.source.ip(), &identity.parse()?, at, &tunnel.host);
        }
        let server = self.tables.workload_at("", at.ip()).context("nobody is there")?;
        Ok(self.judged(server, call.source.ip(), None, at))
    }

    /// A call at the sidecar of its server.
    pub(super) fn at_sidecar(&self, call: Call) -> Result<Ended> {
        let trace = follow(&self.sidecar()?, &call);
        let end = trace.ends().next().context("the call goes nowhere")?;
        Ok(refusal(&end.outcome).unwrap_or_else(|| Ended::new(true, "the server's sidecar lets it in")))
    }
}

/// Why a call has come to its end; none: it goes on.
fn refusal(outcome: &End) -> Option<Ended> {
    match outcome {
        End::Forwarded => None,
        End::Answered(answer) => Some(Ended {
            allowed: answer.status < 400,
            why: format!("answered with {}", answer.status),
            status: Some(answer.status.into()),
        }),
        End::Refused { status, why, .. } => Some(Ended {
            allowed: false,
            why: why.clone(),
            status: status.map(u32::from),
        }),
    }
}
