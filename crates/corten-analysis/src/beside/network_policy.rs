//! What a NetworkPolicy that names ports means once traffic travels in tunnels.
//!
//! Between two pods of the mesh every TCP connection goes to port 15008 of the called pod, whatever port the caller meant; the network sees
//! nothing else. A rule that lets 8080 in and not 15008 therefore lets nobody of the mesh in. The node's probes come to pods of the mesh
//! from an address of their own, which no plugin takes for the node.
//!
//! Policies add up: what one of a pod's policies does not let through another may. Peers are compared as they are written.

use std::net::{IpAddr, Ipv4Addr};

use corten_api::diagnostic::{Code, Diagnostic, Severity};
use ipnet::IpNet;
use serde_json::Value;

use super::{Cluster, Pod, reference, selects};

/// A rule by port that leaves the mesh's port out.
pub const TUNNEL_PORT: Code = Code("CRT0104");
/// The node's probes are kept out.
pub const PROBES: Code = Code("CRT0105");

/// The port of the mesh's tunnels.
const HBONE: u64 = 15008;
/// Where the node's probes come from.
const PROBE_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 7, 127));

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn rules(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    fn peers(self) -> &'static str {
        match self {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        }
    }

    /// Whether a policy says anything about the direction: what it does not let through is refused then.
    fn is_restricted_by(self, policy: &Value) -> bool {
        let word = match self {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        };
        match policy["spec"]["policyTypes"].as_array() {
            Some(types) if !types.is_empty() => types.iter().any(|found| found == word),
            _ => self == Direction::Ingress || !rules(policy, Direction::Egress).is_empty(),
        }
    }
}

fn rules(policy: &Value, direction: Direction) -> &[Value] {
    policy["spec"][direction.rules()].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn check(cluster: &Cluster<'_>, policies: &[Value]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for policy in policies {
        let selected: Vec<&Pod<'_>> = cluster
            .pods
            .iter()
            .filter(|pod| pod.in_mesh && applies(policy, pod))
            .collect();
        for direction in [Direction::Ingress, Direction::Egress] {
            if !direction.is_restricted_by(policy) {
                continue;
            }
            for (index, rule) in rules(policy, direction).iter().enumerate() {
                let concerns = |pod: &&&Pod<'_>| misses_tunnels(cluster, policies, direction, rule, pod);
                let pods: Vec<&&Pod<'_>> = selected.iter().filter(concerns).collect();
                found.extend(says_tunnels(policy, direction, index, &pods));
            }
        }
        if Direction::Ingress.is_restricted_by(policy) {
            let kept_out: Vec<&&Pod<'_>> = selected
                .iter()
                .filter(|pod| probes_are_kept_out(policies, pod))
                .collect();
            found.extend(says_probes(policy, &kept_out));
        }
    }
    found
}

fn applies(policy: &Value, pod: &Pod<'_>) -> bool {
    policy["metadata"]["namespace"].as_str().unwrap_or("default") == pod.namespace
        && selects(&policy["spec"]["podSelector"], pod.labels)
}

/// Whether a rule means traffic of the mesh, and neither it nor another rule for the pod lets the tunnels through.
fn misses_tunnels(
    cluster: &Cluster<'_>,
    policies: &[Value],
    direction: Direction,
    rule: &Value,
    pod: &Pod<'_>,
) -> bool {
    let ports = rule["ports"].as_array().map_or(&[][..], Vec::as_slice);
    // Without ports everything passes; and only TCP is tunnelled.
    if ports.is_empty() || !ports.iter().any(is_tcp) || lets_port(rule, HBONE, pod) {
        return false;
    }
    if !reaches_mesh(cluster, &rule[direction.peers()], pod.namespace) {
        return false;
    }
    let others = policies
        .iter()
        .filter(|policy| applies(policy, pod) && direction.is_restricted_by(policy));
    let covers = |other: &Value| {
        lets_port(other, HBONE, pod) && covers_peers(&other[direction.peers()], &rule[direction.peers()])
    };
    !others.flat_map(|policy| rules(policy, direction)).any(covers)
}

fn is_tcp(port: &Value) -> bool {
    port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP")
}

/// Whether a rule lets TCP to a port through.
fn lets_port(rule: &Value, wanted: u64, pod: &Pod<'_>) -> bool {
    let Some(ports) = rule["ports"].as_array().filter(|ports| !ports.is_empty()) else {
        return true;
    };
    ports.iter().filter(|port| is_tcp(port)).any(|port| {
        let begin = match &port["port"] {
            Value::Null => return true,
            Value::String(name) => return named_port(pod, name) == Some(wanted),
            number => number.as_u64(),
        };
        let Some(begin) = begin else { return false };
        (begin..=port["endPort"].as_u64().unwrap_or(begin)).contains(&wanted)
    })
}

fn containers<'a>(pod: &Pod<'a>) -> impl Iterator<Item = &'a Value> {
    let spec = &pod.object["spec"];
    let lists = [&spec["containers"], &spec["initContainers"]];
    lists.into_iter().filter_map(Value::as_array).flatten()
}

fn named_port(pod: &Pod<'_>, name: &str) -> Option<u64> {
    let mut ports = containers(pod)
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    ports.find(|port| port["name"] == name)?["containerPort"].as_u64()
}

/// Whether some pod of the mesh is among the peers.
fn reaches_mesh(cluster: &Cluster<'_>, peers: &Value, namespace: &str) -> bool {
    let Some(peers) = peers.as_array().filter(|peers| !peers.is_empty()) else {
        return true;
    };
    peers.iter().any(|peer| {
        if peer["ipBlock"].is_object() {
            // Blocks mean what is outside of the cluster, unless they mean everything.
            return peer["ipBlock"]["cidr"]
                .as_str()
                .and_then(network)
                .is_some_and(|block| block.prefix_len() == 0);
        }
        let among = |pod: &&Pod<'_>| {
            let in_namespace = match &peer["namespaceSelector"] {
                Value::Null => pod.namespace == namespace,
                selector => cluster.namespace_matches(selector, pod.namespace),
            };
            in_namespace && selects(&peer["podSelector"], pod.labels)
        };
        cluster.pods.iter().filter(|pod| pod.in_mesh).any(|pod| among(&pod))
    })
}

/// Whether some peers are all that others are.
fn covers_peers(wide: &Value, narrow: &Value) -> bool {
    let list = |peers: &Value| peers.as_array().filter(|peers| !peers.is_empty()).cloned();
    match (list(wide), list(narrow)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|peer| wide.contains(peer)),
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok()
}

fn probes_are_kept_out(policies: &[Value], pod: &Pod<'_>) -> bool {
    let ports = probe_ports(pod);
    let own = policies
        .iter()
        .filter(|policy| applies(policy, pod) && Direction::Ingress.is_restricted_by(policy));
    let rules: Vec<&Value> = own.flat_map(|policy| rules(policy, Direction::Ingress)).collect();
    let passes = |port: &u64| {
        rules
            .iter()
            .any(|rule| lets_port(rule, *port, pod) && lets_probe_source(&rule["from"]))
    };
    !ports.iter().all(passes)
}

fn lets_probe_source(peers: &Value) -> bool {
    let Some(peers) = peers.as_array().filter(|peers| !peers.is_empty()) else {
        return true;
    };
    let within = |text: &Value| {
        text.as_str()
            .and_then(network)
            .is_some_and(|block| block.contains(&PROBE_SOURCE))
    };
    peers.iter().any(|peer| {
        let block = &peer["ipBlock"];
        let mut except = block["except"].as_array().into_iter().flatten();
        within(&block["cidr"]) && !except.any(within)
    })
}

/// The ports at which the node probes the pod over the network.
fn probe_ports(pod: &Pod<'_>) -> Vec<u64> {
    let mut ports = Vec::new();
    for container in containers(pod) {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for way in ["httpGet", "tcpSocket", "grpc"] {
                let number = |port: &Value| {
                    let name = port.as_str()?;
                    container["ports"]
                        .as_array()?
                        .iter()
                        .find(|port| port["name"] == name)?["containerPort"]
                        .as_u64()
                };
                let port = &container[probe][way]["port"];
                ports.extend(port.as_u64().or_else(|| number(port)));
            }
        }
    }
    ports
}

/// One pod by name, and how many more there are.
fn names(pods: &[&&Pod<'_>]) -> Option<String> {
    let first = pods.first()?.object["metadata"]["name"].as_str().unwrap_or_default();
    Some(match pods.len() - 1 {
        0 => format!("pod {first}"),
        more => format!("pod {first} and {more} more"),
    })
}

fn says_tunnels(policy: &Value, direction: Direction, index: usize, pods: &[&&Pod<'_>]) -> Option<Diagnostic> {
    let who = names(pods)?;
    let (what, other) = match direction {
        Direction::Ingress => ("reached", "of callers in it"),
        Direction::Egress => ("left", "to pods in it"),
    };
    let message = format!(
        "within the mesh {who} can be {what} on TCP port {HBONE} only, whatever port is meant, and neither this rule nor another lets it \
         through: connections {other} will fail; add {{protocol: TCP, port: {HBONE}}} to the ports, and say which ports are meant by an \
         AuthorizationPolicy, which sees into the tunnel"
    );
    Some(diagnostic(
        policy,
        TUNNEL_PORT,
        format!("spec.{}[{index}].ports", direction.rules()),
        message,
    ))
}

fn says_probes(policy: &Value, pods: &[&&Pod<'_>]) -> Option<Diagnostic> {
    let who = names(pods)?;
    let message = format!(
        "probes of the node reach a pod of the mesh from {PROBE_SOURCE}, which no rule lets in: {who} may not become ready where the network \
         plugin enforces that; add an ingress rule with from: [{{ipBlock: {{cidr: {PROBE_SOURCE}/32}}}}] (for IPv6 \
         fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128)"
    );
    Some(diagnostic(policy, PROBES, "spec.ingress".to_owned(), message))
}

fn diagnostic(policy: &Value, code: Code, path: String, message: String) -> Diagnostic {
    Diagnostic {
        code,
        severity: Severity::Warning,
        object: Some(reference("networking.k8s.io/v1", "NetworkPolicy", policy)),
        path,
        location: None,
        message,
    }
}
