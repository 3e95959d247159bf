//! Calls from outside of the mesh: which gateways could take one, and what becomes of it there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use corten_explain::{Call, Hop, Refusal, Trace};
use corten_routing::offline::TLS_MODE;
use corten_routing::{Service, endpoints};

use super::{Asked, Follower, Goal, Kind, Pod};

/// The label of pods of gateways that a controller made, with the Gateway's name.
const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// The label with the class of such a Gateway, and the class of waypoints.
const CLASS_LABEL: &str = "gateway.networking.k8s.io/gateway-class-name";
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// A gateway's pod, and its port that the call comes to.
struct Door {
    pod: Pod,
    port: u16,
    /// The call names the service that the pod is behind.
    named: bool,
}

/// Follows a call through the gateway that takes it. Where none does, the trace says why the first does not.
pub(super) fn trace(follower: &Follower<'_>, from: IpAddr, asked: &Asked) -> Result<Trace> {
    let doors = doors(follower, asked);
    let named = doors.iter().any(|door| door.named);
    let doors: Vec<&Door> = doors.iter().filter(|door| door.named || !named).collect();
    let mut first = None;
    for door in &doors {
        let trace = through(follower, from, asked, door)?;
        if trace.hops.first().is_some_and(takes) {
            let others: Vec<String> = doors.iter().map(|door| door.pod.place()).collect();
            if others.len() > 1 && !named {
                follower.note(format!(
                    "{} takes the call; gateways at this port are {}",
                    door.pod.place(),
                    others.join(", ")
                ));
            }
            return Ok(trace);
        }
        first.get_or_insert(trace);
    }
    match first {
        Some(trace) => Ok(trace),
        None => bail!(
            "no gateway has port {}: a gateway is a pod behind a Service that a Gateway selects, or that was made for one",
            asked.port
        ),
    }
}

/// Whether a gateway knows what to do with a call.
fn takes(hop: &Hop) -> bool {
    !matches!(
        hop.refusal(),
        Some(Refusal::NoListener | Refusal::NoFilterChain | Refusal::NoVirtualHost | Refusal::NoRoute)
    )
}

fn through(follower: &Follower<'_>, from: IpAddr, asked: &Asked, door: &Door) -> Result<Trace> {
    let address: IpAddr = door.pod.address.parse().context("the pod's address")?;
    let goal = Goal {
        host: asked.host.clone(),
        port: asked.port,
        address,
        service: None,
    };
    let call = Call {
        destination: SocketAddr::new(address, door.port),
        ..follower.call(from, &goal, asked)?
    };
    let mut trace = Trace::default();
    follower.pass(&door.pod, Kind::Gateway, call, None, &mut trace)?;
    for at in 0..trace.hops.len() {
        follower.servers(&door.pod, at, &mut trace)?;
    }
    Ok(trace)
}

/// The gateways that have the port, one pod of each kind.
fn doors(follower: &Follower<'_>, asked: &Asked) -> Vec<Door> {
    let known = follower.known;
    let mut found = BTreeMap::new();
    for service in known.snapshot.catalog.services.iter() {
        let Some(port) = service.port(asked.port) else { continue };
        let named = is_named(follower, service, asked);
        for endpoint in endpoints(&known.snapshot.model, service, port) {
            let Some(address) = endpoint.address.ip() else { continue };
            let Some(pod) = known.pod_at(&address.to_string()) else {
                continue;
            };
            if is_gateway(follower, &pod) {
                let door = found.entry(pod.kind()).or_insert(Door {
                    pod,
                    port: endpoint.port,
                    named: false,
                });
                door.named |= named;
            }
        }
    }
    found.into_values().collect()
}

/// Whether a call is to a service by its name or one of its addresses, inside or outside.
fn is_named(follower: &Follower<'_>, service: &Service, asked: &Asked) -> bool {
    let domain = &follower.known.snapshot.catalog.settings.domain;
    let host = asked.host.trim_end_matches('.');
    let names = [
        host.to_owned(),
        format!("{host}.{domain}"),
        format!("{host}.svc.{domain}"),
    ];
    if names.iter().any(|name| service.host.as_str() == name) {
        return true;
    }
    let address = asked.address.or_else(|| host.parse().ok());
    if address.is_some_and(|address| service.addresses.iter().any(|net| net.addr() == address)) {
        return true;
    }
    let name = service.host.as_str().split('.').next().unwrap_or_default();
    let object = follower.known.objects.iter().find(|object| {
        object["kind"] == "Service"
            && object["metadata"]["name"] == name
            && object["metadata"]["namespace"] == *service.namespace
    });
    let outside = object.map(|object| corten_gateway_api::service::outside(object).0);
    let called = address.map_or_else(|| host.to_owned(), |address| address.to_string());
    outside.is_some_and(|outside| outside.contains(&called))
}

/// Whether a pod is a gateway's: one that was made for a Gateway, or one that a Gateway selects and that has no sidecar.
fn is_gateway(follower: &Follower<'_>, pod: &Pod) -> bool {
    if pod.labels.contains_key(GATEWAY_LABEL) {
        return pod.labels.get(CLASS_LABEL).is_none_or(|class| class != WAYPOINT_CLASS);
    }
    let gateways = &follower.known.snapshot.catalog.configs.gateways;
    let mut selecting = gateways.values().filter(|gateway| !gateway.spec.selector.is_empty());
    let selects = selecting.any(|gateway| {
        let mut wanted = gateway.spec.selector.iter();
        wanted.all(|(key, value)| pod.labels.get(key) == Some(value))
    });
    selects && pod.labels.get(TLS_MODE).is_none_or(|mode| mode != "istio")
}
