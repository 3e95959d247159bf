//! Whether one pod may call something, by which policy, and who each side is: asked of the tables of a node proxy, as a proxy asks them.
//!
//! No connection is made. What a waypoint decides is not said, since it looks at requests.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use corten_traffic::{Action, Connect, HBONE_PORT, Hop, Outbound, Peer, Policy, Protocol, Reason, Upstream, Workload};
use serde::Serialize;

use super::Mesh;
use super::called::Called;

/// The name that the control plane gives to what is made of PeerAuthentications that demand mutual TLS of whole workloads.
const STRICT: &str = "istio_converted_static_strict";
/// How the names begin of what is made of PeerAuthentications with ports.
const CONVERTED: &str = "converted_peer_authentication_";

/// An answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    pub(crate) verdict: Verdict,
    pub(crate) from: Side,
    pub(crate) called: String,
    /// What differs between the endpoints that a call can reach.
    pub(crate) ways: Vec<Way>,
}

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    /// It depends on which endpoint is reached.
    Mixed,
    /// A waypoint or another network decides.
    Elsewhere,
}

/// One side of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    /// `namespace/name` of pods, or addresses.
    pub(crate) names: Vec<String>,
    /// Without its scheme.
    pub(crate) identity: Option<String>,
    pub(crate) in_mesh: bool,
}

/// A way that a call can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Way {
    pub(crate) to: Side,
    /// The port of the application.
    pub(crate) port: Option<u16>,
    pub(crate) wire: Wire,
    pub(crate) verdict: Verdict,
    /// The policy that decided, as its author knows it.
    pub(crate) policy: Option<String>,
    pub(crate) reason: String,
    /// What can be done about it.
    pub(crate) advice: Option<String>,
    /// All policies of the destination.
    pub(crate) policies: Vec<Considered>,
}

/// How a connection goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Wire {
    #[serde(rename = "plaintext")]
    Plaintext,
    #[serde(rename = "mTLS")]
    MutualTls,
    #[serde(rename = "none")]
    None,
}

/// A policy and whether it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Considered {
    pub(crate) policy: String,
    pub(crate) action: String,
    pub(crate) matches: bool,
    pub(crate) dry_run: bool,
}

impl Mesh {
    /// Whether a pod may call something.
    pub(crate) fn explain(&self, source: &Workload, called: &Called) -> Result<Explanation> {
        let mut ways: Vec<Way> = Vec::new();
        let mut seen = BTreeSet::new();
        let client = *source.addresses.first().context("the caller has no address")?;
        for address in called.addresses.iter().filter(|it| it.is_ipv4() == client.is_ipv4()) {
            let destination = SocketAddr::new(*address, called.port);
            let found = if source.is_hbone() {
                self.by_proxy(source, client, destination, &mut seen)
            } else {
                self.by_kubernetes(source, client, destination, called, &mut seen)
            };
            found.into_iter().for_each(|way| join(&mut ways, way));
        }
        if ways.is_empty() {
            bail!("{} has no address of the caller's family ({client})", called.name);
        }
        let all = |verdict| ways.iter().all(|way| way.verdict == verdict);
        let verdict = [Verdict::Allowed, Verdict::Denied, Verdict::Elsewhere]
            .into_iter()
            .find(|it| all(*it));
        Ok(Explanation {
            verdict: verdict.unwrap_or(Verdict::Mixed),
            from: side(source),
            called: called.name.clone(),
            ways,
        })
    }

    /// The ways that the caller's node proxy may choose: it is asked with many numbers for chance.
    fn by_proxy(
        &self,
        source: &Workload,
        client: IpAddr,
        destination: SocketAddr,
        seen: &mut BTreeSet<String>,
    ) -> Vec<Way> {
        let asked = self
            .tables
            .service_at(&self.settings.network, destination.ip(), &source.namespace);
        let endpoints = asked.map_or(1, |service| self.tables.endpoints(service).count().clamp(1, 256));
        let mut ways = Vec::new();
        for number in 0..(endpoints as u64).saturating_mul(16) {
            let call = Outbound {
                source,
                client,
                destination,
                // Spread over the whole range, whichever digits chance looks at.
                random: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            let (key, way) = match self.tables.outbound(&self.settings, &call) {
                Ok(upstream) => {
                    let reached = upstream.workload.as_ref().map(|it| it.uid.to_string());
                    (
                        format!("{reached:?} {:?}", upstream.connect),
                        self.through(source, client, &upstream),
                    )
                }
                Err(error) => (error.to_string(), unreachable(error.to_string(), destination)),
            };
            if seen.insert(key) {
                ways.push(way);
            }
        }
        ways
    }

    /// A way that a node proxy has chosen.
    fn through(&self, source: &Workload, client: IpAddr, upstream: &Upstream) -> Way {
        let reached = match &upstream.connect {
            Connect::Address(address) => *address,
            Connect::Hostname { hostname, port, .. } => {
                let mut way = unchecked(source, None, format!("{hostname}:{port}"), "it is outside the mesh");
                way.port = Some(*port);
                return way;
            }
        };
        let Some(workload) = upstream.workload.as_ref().filter(|_| upstream.hop != Hop::Passthrough) else {
            let reason = "nothing in the mesh has this address, so the connection is passed on as it is";
            return unchecked(source, None, reached.to_string(), reason);
        };
        let elsewhere = |reason: &str| Way {
            to: side(workload),
            port: None,
            wire: Wire::MutualTls,
            verdict: Verdict::Elsewhere,
            policy: None,
            reason: reason.to_owned(),
            advice: None,
            policies: Vec::new(),
        };
        match (upstream.hop, upstream.protocol) {
            (Hop::ServiceWaypoint | Hop::WorkloadWaypoint, _) => {
                elsewhere("it goes through this waypoint, whose policies look at requests")
            }
            (Hop::Gateway, _) | (_, Protocol::DoubleHbone) => {
                elsewhere("it goes to another network, whose policies decide")
            }
            (_, Protocol::Tcp) => {
                let mut way = unchecked(
                    source,
                    Some(workload),
                    reached.to_string(),
                    "the called pod is not in the mesh, so no policy is enforced for it",
                );
                way.port = Some(reached.port());
                way
            }
            (_, Protocol::Hbone) => {
                let authority = upstream
                    .authority
                    .as_ref()
                    .map(|it| it.text(reached.ip()))
                    .unwrap_or_default();
                let local = SocketAddr::new(reached.ip(), HBONE_PORT);
                match self.tables.inbound(&self.settings, workload, local, &authority) {
                    Ok(target) => self.judged(source, client, workload, target.destination, true),
                    Err(error) => unreachable(error.to_string(), reached),
                }
            }
        }
    }

    /// The ways of a connection that no proxy of the mesh opens: Kubernetes takes it to any endpoint, in plaintext.
    fn by_kubernetes(
        &self,
        source: &Workload,
        client: IpAddr,
        destination: SocketAddr,
        called: &Called,
        seen: &mut BTreeSet<String>,
    ) -> Vec<Way> {
        let network = &self.settings.network;
        let service = called
            .service
            .clone()
            .filter(|it| it.addresses.iter().any(|(_, ip)| *ip == destination.ip()));
        let service = service.or_else(|| {
            self.tables
                .service_at(network, destination.ip(), &source.namespace)
                .cloned()
        });
        let mut reached: Vec<(Arc<Workload>, SocketAddr)> = Vec::new();
        if let Some(service) = &service {
            let endpoints = self.tables.endpoints(service).filter(|it| it.workload.healthy);
            reached.extend(endpoints.filter_map(|endpoint| {
                let port = endpoint.target_port(destination.port());
                let port = port
                    .or_else(|| service.target_port(destination.port()))
                    .filter(|port| *port != 0)?;
                let addresses = endpoint.workload.addresses.iter();
                let address = addresses.copied().find(|it| it.is_ipv4() == destination.is_ipv4())?;
                Some((Arc::clone(&endpoint.workload), SocketAddr::new(address, port)))
            }));
            if reached.is_empty() {
                let reason = format!(
                    "no endpoint of service {} is ready for port {}",
                    service.hostname,
                    destination.port()
                );
                return vec![unreachable(reason, destination)];
            }
        } else if let Some(workload) = self.tables.workload_at(network, destination.ip()) {
            reached.push((Arc::clone(workload), destination));
        } else {
            return vec![unchecked(
                source,
                None,
                destination.to_string(),
                "nothing in the mesh has this address",
            )];
        }
        let new = reached
            .into_iter()
            .filter(|(workload, at)| seen.insert(format!("{} {at}", workload.uid)));
        let way = |(workload, at): (Arc<Workload>, SocketAddr)| {
            if workload.is_hbone() {
                self.judged(source, client, &workload, at, false)
            } else {
                let mut way = unchecked(
                    source,
                    Some(&workload),
                    at.to_string(),
                    "neither side is in the mesh, so no policy is enforced",
                );
                way.port = Some(at.port());
                way
            }
        };
        new.map(way).collect()
    }

    /// A way whose last step the called pod's node proxy judges.
    fn judged(&self, source: &Workload, client: IpAddr, local: &Workload, destination: SocketAddr, tls: bool) -> Way {
        let peer = Peer {
            source: client,
            identity: tls.then_some(&*source.identity),
            destination,
        };
        let verdict = self.tables.authorize(local, &peer);
        let deciding = verdict.reason.policy().and_then(|key| self.tables.policy(key));
        let considered = |policy: &Arc<Policy>| Considered {
            policy: self.title(policy, local),
            action: action(policy).to_owned(),
            matches: policy.matches(&peer),
            dry_run: policy.dry_run,
        };
        let mut policies: Vec<Considered> = self.tables.applicable(local).flatten().map(considered).collect();
        policies.sort_by(|a, b| (b.action.as_str(), &a.policy).cmp(&(a.action.as_str(), &b.policy)));
        let principal = identity(source);
        let (reason, advice) = self.reason(&verdict.reason, deciding, local, tls, &principal, destination.port());
        Way {
            to: side(local),
            port: Some(destination.port()),
            wire: if tls { Wire::MutualTls } else { Wire::Plaintext },
            verdict: if verdict.allowed {
                Verdict::Allowed
            } else {
                Verdict::Denied
            },
            policy: deciding.map(|policy| self.title(policy, local)),
            reason,
            advice,
            policies,
        }
    }

    fn reason(
        &self,
        reason: &Reason,
        deciding: Option<&Arc<Policy>>,
        local: &Workload,
        tls: bool,
        principal: &str,
        port: u16,
    ) -> (String, Option<String>) {
        let title = deciding.map(|policy| self.title(policy, local)).unwrap_or_default();
        match reason {
            Reason::NoAllowPolicies => ("no policy forbids it, and none says who may".to_owned(), None),
            Reason::Allowed(_) => (format!("{title} allows it"), None),
            Reason::Denied(_) if deciding.is_some_and(|it| is_converted(it)) && !tls => (
                format!("{title} demands mutual TLS on port {port}, and the caller is not in the mesh"),
                Some(
                    "take the caller into the mesh (`corten x describe pod` says what keeps it out), or make the port PERMISSIVE"
                        .to_owned(),
                ),
            ),
            Reason::Denied(_) => (format!("{title} denies it"), None),
            Reason::Broken(_) => (format!("{title} cannot be used by node proxies, which deny in its place"), None),
            Reason::Unknown(key) => (format!("policy {key} applies and is not known to node proxies, which deny in its place"), None),
            Reason::NotAllowed if tls => (
                "ALLOW policies apply to the called pod, and none of them allows this".to_owned(),
                Some(format!("an ALLOW policy with a rule for principal {principal} would allow it")),
            ),
            Reason::NotAllowed => (
                "ALLOW policies apply to the called pod, and none of them allows a caller without identity".to_owned(),
                Some("take the caller into the mesh, which gives it one (`corten x describe pod` says what keeps it out)".to_owned()),
            ),
        }
    }

    /// A policy as its author knows it.
    pub(crate) fn title(&self, policy: &Policy, local: &Workload) -> String {
        if !is_converted(policy) {
            return format!("AuthorizationPolicy {}/{}", policy.namespace, policy.name);
        }
        if let Some(name) = policy.name.strip_prefix(CONVERTED) {
            return format!("PeerAuthentication {}/{name}", policy.namespace);
        }
        let applied = self.applied_peer_authentication(local);
        // The narrowest one counts, and each of those listed may have left it to a wider one.
        let strict = applied.policies.iter().rev().find(|(namespace, name)| {
            let peer = self
                .peers
                .iter()
                .find(|it| it.meta.namespace == *namespace && it.meta.name == *name);
            let mode = peer.and_then(|it| it.spec.mtls.as_ref()).map(|it| it.mode);
            mode == Some(corten_api::istio::peer_authentication::MutualTLSMode::Strict)
        });
        match strict {
            Some((namespace, name)) => format!("PeerAuthentication {namespace}/{name}"),
            None => "PeerAuthentication".to_owned(),
        }
    }

    /// What PeerAuthentications come to for a workload.
    pub(crate) fn applied_peer_authentication(
        &self,
        local: &Workload,
    ) -> corten_model::rules::AppliedPeerAuthentication {
        let pod = self.snapshot.pod(&local.namespace, &local.name);
        let labels = pod.map(|pod| pod.meta.labels.clone()).unwrap_or_default();
        let root = &self.snapshot.settings().root_namespace;
        corten_model::rules::applied_peer_authentication(&self.peers, &local.namespace, &labels, root)
    }
}

/// Whether a policy was made of PeerAuthentications.
pub(crate) fn is_converted(policy: &Policy) -> bool {
    &*policy.name == STRICT || policy.name.starts_with(CONVERTED)
}

/// In Istio's words.
pub(crate) fn action(policy: &Policy) -> &'static str {
    match policy.action {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
    }
}

/// An identity as policies name it.
pub(crate) fn identity(workload: &Workload) -> String {
    workload.identity.to_string().trim_start_matches("spiffe://").to_owned()
}

fn side(workload: &Workload) -> Side {
    Side {
        names: vec![format!("{}/{}", workload.namespace, workload.name)],
        identity: Some(identity(workload)),
        in_mesh: workload.is_hbone(),
    }
}

/// A way that no policy is asked about.
fn unchecked(source: &Workload, workload: Option<&Workload>, name: String, reason: &str) -> Way {
    let to = workload.map(side).unwrap_or_else(|| Side {
        names: vec![name],
        identity: None,
        in_mesh: false,
    });
    // Without a proxy on the other side there is nobody to speak TLS with.
    let advice = source
        .is_hbone()
        .then(|| "it leaves the mesh unencrypted, unless the application encrypts it".to_owned());
    Way {
        to,
        port: None,
        wire: Wire::Plaintext,
        verdict: Verdict::Allowed,
        policy: None,
        reason: reason.to_owned(),
        advice,
        policies: Vec::new(),
    }
}

/// A way that ends before it begins.
fn unreachable(reason: String, destination: SocketAddr) -> Way {
    Way {
        to: Side {
            names: vec![destination.to_string()],
            identity: None,
            in_mesh: false,
        },
        port: None,
        wire: Wire::None,
        verdict: Verdict::Denied,
        policy: None,
        reason,
        advice: None,
        policies: Vec::new(),
    }
}

/// Adds a way; those that differ only in which pod they reach are one.
fn join(ways: &mut Vec<Way>, way: Way) {
    let same = |other: &Way| {
        let mut alike = other.clone();
        alike.to.names = way.to.names.clone();
        alike == way
    };
    match ways.iter_mut().find(|other| same(other)) {
        Some(other) => {
            other.to.names.extend(way.to.names);
            other.to.names.sort();
            other.to.names.dedup();
        }
        None => ways.push(way),
    }
}

#[cfg(test)]
pub(crate) mod tests;
