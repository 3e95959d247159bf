//! The node proxies on the way of a call: what they do with it, asked of their own tables, as hops of a trace.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use corten_core::Identity;
use corten_explain::{
    Call, Choice, Destination, EndpointShare, FilterVerdict, Hop, Outcome, PolicyVerdict, Refusal, Upstream, Verdict,
    Via,
};
use corten_model::Snapshot;
use corten_traffic::{
    Connect, HBONE_PORT, Hop as Next, Outbound, Peer, Protocol as Wire, Settings, Tables, Upstream as Chosen, Workload,
};

use super::explain::action;
use super::world::Pod;

/// How often a node proxy is asked where a call goes: it draws lots.
const DRAWS: u64 = 256;

/// What node proxies know.
pub(crate) struct Nodes {
    tables: Arc<Tables>,
    settings: Settings,
}

/// A call on its way to a pod, by a tunnel or as it is.
pub(crate) struct Onward {
    pub(crate) to: IpAddr,
    /// The next hop is a waypoint.
    pub(crate) waypoint: bool,
    pub(crate) call: Call,
    pub(crate) via: Via,
}

impl Nodes {
    /// Of a world.
    pub(crate) fn new(snapshot: &Snapshot) -> Nodes {
        // What they refuse is told where objects are judged.
        let (tables, _refused) = super::tables(snapshot);
        Nodes {
            tables,
            settings: Settings {
                network: corten_traffic::Name::from(&**snapshot.network()),
                cluster_domain: corten_traffic::Name::from(&*snapshot.settings().domain),
                ..Settings::default()
            },
        }
    }

    fn at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.tables.workload_at(&self.settings.network, address)
    }

    /// The workload of a pod whose connections a node proxy takes.
    pub(crate) fn captured(&self, pod: &Pod) -> Option<&Arc<Workload>> {
        let workload = self.at(pod.address.parse().ok()?)?;
        workload.is_hbone().then_some(workload)
    }

    /// A call as the node proxy of its client has it: the hop, whose place in the trace will be `place`, and where it goes on.
    pub(crate) fn leaves(&self, client: &Pod, source: &Workload, call: &Call, place: usize) -> (Hop, Vec<Onward>) {
        let mut hop = hop(client, call.clone().outbound());
        let mut drawn: BTreeMap<String, (Chosen, u64)> = BTreeMap::new();
        for number in 0..DRAWS {
            let asked = Outbound {
                source,
                client: call.source.ip(),
                destination: call.destination,
                // Spread over the whole range, whichever digits chance looks at.
                random: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            match self.tables.outbound(&self.settings, &asked) {
                Ok(chosen) => {
                    let key = format!("{:?} {:?}", chosen.connect, chosen.authority);
                    drawn.entry(key).or_insert((chosen, 0)).1 += 1;
                }
                Err(error) => {
                    hop.outcome = refused(Refusal::NoEndpoint, None, error.to_string());
                    return (hop, Vec::new());
                }
            }
        }
        let total: u64 = drawn.values().map(|(_, count)| count).sum();
        let name = |chosen: &Chosen| match (chosen.hop, &chosen.service) {
            (Next::ServiceWaypoint | Next::WorkloadWaypoint, _) => {
                let workload = chosen.workload.as_ref();
                workload.map_or_else(
                    || "waypoint".to_owned(),
                    |of| format!("waypoint {}/{}", of.namespace, of.name),
                )
            }
            (Next::Gateway, _) => "gateway of another network".to_owned(),
            (Next::Passthrough, _) => "the address that was called".to_owned(),
            (Next::Destination, Some(service)) => format!("service {}", service.hostname),
            (Next::Destination, None) => "the workload that was called".to_owned(),
        };
        let mut onward = Vec::new();
        let mut groups: BTreeMap<String, Vec<EndpointShare>> = BTreeMap::new();
        for (chosen, count) in drawn.values() {
            let Connect::Address(address) = chosen.connect else {
                groups.entry(name(chosen)).or_default();
                continue;
            };
            let cluster = name(chosen);
            let authority = chosen.authority.as_ref().map(|of| of.text(address.ip()));
            let tunnelled = chosen.protocol != Wire::Tcp;
            let identity = chosen
                .workload
                .as_ref()
                .filter(|_| tunnelled)
                .map(|of| of.identity.to_string());
            groups.entry(cluster.clone()).or_default().push(EndpointShare {
                address: address.to_string(),
                #[expect(clippy::cast_precision_loss, reason = "there are a few hundred draws")]
                share: *count as f64 / total as f64,
                weight: 1,
                priority: 0,
                health: "HEALTHY".to_owned(),
                locality: String::new(),
                target: authority.as_ref().and_then(|authority| authority.parse().ok()),
                transport: Choice {
                    mode: if tunnelled { "mtls" } else { "plain" }.to_owned(),
                    sans: identity.into_iter().collect(),
                    ..Choice::default()
                },
            });
            let waypoint = matches!(chosen.hop, Next::ServiceWaypoint | Next::WorkloadWaypoint);
            if chosen.protocol != Wire::DoubleHbone {
                onward.push(Onward {
                    to: address.ip(),
                    waypoint,
                    call: match authority {
                        Some(authority) => through(call, address, &authority, &source.identity),
                        None => Call {
                            destination: address,
                            ..call.clone()
                        },
                    },
                    via: Via {
                        hop: place,
                        cluster,
                        endpoint: address.to_string(),
                    },
                });
            }
        }
        hop.destinations = groups.into_iter().map(destination).collect();
        (hop, onward)
    }

    /// A call at the node proxy of its server: a tunnel with something inside, or what came as it is.
    pub(crate) fn arrives(&self, server: &Pod, local: &Workload, call: Call, via: Option<Via>) -> Hop {
        let tunnel = call.request.as_ref().filter(|request| request.method == "CONNECT");
        let authority = tunnel.map(|request| request.host.clone());
        let shown = call.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        let identity =
            shown.and_then(|certificate| certificate.uris.iter().find_map(|uri| uri.parse::<Identity>().ok()));
        let (source, arrived) = (call.source.ip(), call.destination);
        let mut hop = hop(server, if authority.is_some() { call } else { call.inbound() });
        hop.via = via;
        let destination = match &authority {
            None => arrived,
            Some(authority) => {
                let here = SocketAddr::new(arrived.ip(), HBONE_PORT);
                match self.tables.inbound(&self.settings, local, here, authority) {
                    Ok(target) => target.destination,
                    Err(error) => {
                        hop.outcome = refused(Refusal::BadRequest, Some(400), error.to_string());
                        return hop;
                    }
                }
            }
        };
        let peer = Peer {
            source,
            identity: identity.as_ref().filter(|_| authority.is_some()),
            destination,
        };
        let verdict = self.tables.authorize(local, &peer);
        let policies = self.tables.applicable(local).flatten().map(|policy| PolicyVerdict {
            name: format!("{}/{}", policy.namespace, policy.name),
            action: action(policy).to_owned(),
            shadow: policy.dry_run,
            matched: policy.matches(&peer),
            why: String::new(),
        });
        hop.filters.push(FilterVerdict {
            name: "the node proxy".to_owned(),
            verdict: if verdict.allowed {
                Verdict::Allowed
            } else {
                Verdict::Denied
            },
            why: verdict.reason.to_string(),
            policies: policies.collect(),
        });
        if verdict.allowed {
            let application = EndpointShare {
                address: destination.to_string(),
                share: 1.0,
                weight: 1,
                priority: 0,
                health: "HEALTHY".to_owned(),
                locality: String::new(),
                target: None,
                transport: Choice {
                    mode: "plain".to_owned(),
                    ..Choice::default()
                },
            };
            hop.destinations = vec![self::destination(("the application".to_owned(), vec![application]))];
        } else {
            let status = authority.is_some().then_some(401);
            hop.outcome = refused(Refusal::Denied, status, verdict.reason.to_string());
        }
        hop
    }
}

/// A call in a tunnel, as it arrives at the tunnel's other end.
fn through(call: &Call, address: SocketAddr, authority: &str, identity: &Identity) -> Call {
    let inside = Call {
        destination: authority.parse().unwrap_or(call.destination),
        ..call.clone()
    };
    inside.tunnelled(address, authority, identity.to_string())
}

fn hop(of: &Pod, call: Call) -> Hop {
    Hop::new(format!("the node proxy of {}", of.place()), call)
}

fn destination((cluster, endpoints): (String, Vec<EndpointShare>)) -> Destination {
    let share = endpoints.iter().map(|endpoint| endpoint.share).sum();
    Destination {
        cluster,
        share: if endpoints.is_empty() { 1.0 } else { share },
        request: None,
        upstream: Some(Upstream {
            discovery: "workload discovery".to_owned(),
            policy: "by weight".to_owned(),
            settings: Vec::new(),
            note: String::new(),
            endpoints,
        }),
        response: Vec::new(),
    }
}

fn refused(error: Refusal, status: Option<u16>, why: String) -> Outcome {
    Outcome::Refused { error, status, why }
}
