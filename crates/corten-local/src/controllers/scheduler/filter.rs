//! Whether a pod may run on a node: the rules of the pod and of the node that are hard, and the one soft rule that is kept (PreferNoSchedule).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::controllers::{object, selector};

/// Why a node is refused; the first rule that fails counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Unschedulable,
    Taint,
    NodeAffinity,
    HostPort,
    TopologySpread,
    PodAffinity,
    PodAntiAffinity,
    ExistingAntiAffinity,
}

impl Reason {
    /// Kubernetes' words for it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::Taint => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::HostPort => "node(s) didn't have free ports for the requested pod ports",
            Self::TopologySpread => "node(s) didn't match pod topology spread constraints",
            Self::PodAffinity => "node(s) didn't match pod affinity rules",
            Self::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }

    /// Whether evicting other pods could change it.
    pub(super) fn may_be_preempted(self) -> bool {
        matches!(
            self,
            Self::HostPort | Self::TopologySpread | Self::PodAntiAffinity | Self::ExistingAntiAffinity
        )
    }
}

/// Why a pod may not run on a node; `None` when it may. `on` gives the pods on a node.
pub(super) fn refusal<'a>(
    pod: &Value,
    node: &Value,
    nodes: &[&'a Value],
    on: &dyn Fn(&str) -> &'a [&'a Value],
) -> Option<Reason> {
    None.or_else(|| is_cordoned(pod, node).then_some(Reason::Unschedulable))
        .or_else(|| (!tolerates_all(pod, node)).then_some(Reason::Taint))
        .or_else(|| (!matches_node(pod, node)).then_some(Reason::NodeAffinity))
        .or_else(|| has_port_conflict(pod, on(object::name(node))).then_some(Reason::HostPort))
        .or_else(|| (!spreads(pod, node, nodes, on)).then_some(Reason::TopologySpread))
        .or_else(|| pod_affinity(pod, node, nodes, on))
}

/// The rules that concern the node alone, but for its readiness.
pub(super) fn may_serve(pod: &Value, node: &Value) -> bool {
    !is_cordoned(pod, node) && tolerates_taints(pod, node) && matches_node(pod, node)
}

fn is_cordoned(pod: &Value, node: &Value) -> bool {
    object::flag(node, "/spec/unschedulable") && !tolerates(pod, "node.kubernetes.io/unschedulable", "", "NoSchedule")
}

/// Whether the pod tolerates all hard taints. A node that is not ready counts as tainted, whether or not its taints say so already.
fn tolerates_all(pod: &Value, node: &Value) -> bool {
    let ready = object::condition(node, "Ready").map_or("Unknown", |c| object::text(c, "/status"));
    let is_usable = match ready {
        "True" => true,
        "False" => tolerates(pod, "node.kubernetes.io/not-ready", "", "NoSchedule"),
        _ => tolerates(pod, "node.kubernetes.io/unreachable", "", "NoSchedule"),
    };
    is_usable && tolerates_taints(pod, node)
}

fn tolerates_taints(pod: &Value, node: &Value) -> bool {
    object::items(node, "/spec/taints")
        .iter()
        .filter(|taint| matches!(object::text(taint, "/effect"), "NoSchedule" | "NoExecute"))
        .all(|taint| tolerates_taint(pod, taint))
}

fn tolerates_taint(pod: &Value, taint: &Value) -> bool {
    let part = |field: &str| object::text(taint, field);
    tolerates(pod, part("/key"), part("/value"), part("/effect"))
}

fn tolerates(pod: &Value, key: &str, value: &str, effect: &str) -> bool {
    object::items(pod, "/spec/tolerations").iter().any(|toleration| {
        let part = |field: &str| object::text(toleration, field);
        let is_exists = part("/operator") == "Exists";
        let key_fits = part("/key") == key || (part("/key").is_empty() && is_exists);
        let effect_fits = part("/effect").is_empty() || part("/effect") == effect;
        key_fits && effect_fits && (is_exists || part("/value") == value)
    })
}

/// How many soft taints of the node the pod does not tolerate.
pub(super) fn avoidance(pod: &Value, node: &Value) -> usize {
    object::items(node, "/spec/taints")
        .iter()
        .filter(|taint| object::text(taint, "/effect") == "PreferNoSchedule" && !tolerates_taint(pod, taint))
        .count()
}

/// The node selector and the required node affinity.
fn matches_node(pod: &Value, node: &Value) -> bool {
    let labels = object::labels(node);
    if let Some(wanted) = object::map(pod, "/spec/nodeSelector")
        && !selector::matches_map(wanted, labels)
    {
        return false;
    }
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let Some(required) = pod.pointer(required) else {
        return true;
    };
    object::items(required, "/nodeSelectorTerms").iter().any(|term| {
        let expressions = object::items(term, "/matchExpressions");
        let fields = object::items(term, "/matchFields");
        let name = serde_json::Map::from_iter([("metadata.name".to_owned(), node["metadata"]["name"].clone())]);
        // A term without requirements matches nothing.
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|e| selector::matches_requirement(e, labels))
            && fields.iter().all(|f| selector::matches_requirement(f, Some(&name)))
    })
}

fn host_ports(pod: &Value) -> impl Iterator<Item = (i64, &str, &str)> {
    object::items(pod, "/spec/containers")
        .iter()
        .flat_map(|container| object::items(container, "/ports"))
        .filter_map(|port| {
            let number = object::number(port, "/hostPort").filter(|port| *port > 0)?;
            let ip = match object::text(port, "/hostIP") {
                "0.0.0.0" => "",
                ip => ip,
            };
            Some((number, object::text(port, "/protocol"), ip))
        })
}

fn has_port_conflict(pod: &Value, others: &[&Value]) -> bool {
    host_ports(pod).any(|(port, protocol, ip)| {
        others.iter().flat_map(|other| host_ports(other)).any(|other| {
            let same_ip = ip.is_empty() || other.2.is_empty() || ip == other.2;
            other.0 == port && other.1 == protocol && same_ip
        })
    })
}

/// The topology spread constraints that forbid scheduling: the domain must not get further ahead of the emptiest one than allowed.
fn spreads<'a>(pod: &Value, node: &Value, nodes: &[&'a Value], on: &dyn Fn(&str) -> &'a [&'a Value]) -> bool {
    object::items(pod, "/spec/topologySpreadConstraints")
        .iter()
        .filter(|constraint| object::text(constraint, "/whenUnsatisfiable") == "DoNotSchedule")
        .all(|constraint| {
            let topology = object::text(constraint, "/topologyKey");
            let wanted = constraint.pointer("/labelSelector").unwrap_or(&Value::Null);
            let Some(domain) = object::label(node, topology) else {
                return false;
            };
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for candidate in nodes.iter().filter(|n| matches_node(pod, n)) {
                let Some(domain) = object::label(candidate, topology) else {
                    continue;
                };
                let alike = on(object::name(candidate))
                    .iter()
                    .filter(|other| is_selected(pod, other, wanted))
                    .count();
                *counts.entry(domain).or_default() += i64::try_from(alike).unwrap_or(i64::MAX);
            }
            let skew_max = object::number(constraint, "/maxSkew").unwrap_or(1);
            let own = i64::from(selector::matches(wanted, object::labels(pod)));
            let here = counts.get(domain).copied().unwrap_or(0) + own;
            here - counts.values().min().copied().unwrap_or(0) <= skew_max
        })
}

/// Whether `other` is a pod of the same namespace that a selector of `pod` means.
fn is_selected(pod: &Value, other: &Value, wanted: &Value) -> bool {
    object::namespace(pod) == object::namespace(other)
        && !object::is_deleting(other)
        && selector::matches(wanted, object::labels(other))
}

fn terms<'a>(pod: &'a Value, kind: &str) -> &'a [Value] {
    let path = format!("/spec/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution");
    object::items(pod, &path)
}

/// Whether a term of `pod` means `other`, by its selector and namespaces.
fn term_means(pod: &Value, term: &Value, other: &Value) -> bool {
    let namespaces = object::items(term, "/namespaces");
    let by_selector = term.get("namespaceSelector").filter(|s| s.is_object());
    let in_namespace = match by_selector {
        // Selecting namespaces by label would need the namespaces; the empty selector means all of them.
        Some(all) if selector::is_empty(all) => true,
        _ if namespaces.is_empty() => object::namespace(pod) == object::namespace(other),
        _ => namespaces.iter().any(|n| n == object::namespace(other)),
    };
    let wanted = term.pointer("/labelSelector").unwrap_or(&Value::Null);
    in_namespace && selector::matches(wanted, object::labels(other))
}

fn pod_affinity<'a>(
    pod: &Value,
    node: &Value,
    nodes: &[&'a Value],
    on: &dyn Fn(&str) -> &'a [&'a Value],
) -> Option<Reason> {
    let same_domain = |topology: &str, holds: &dyn Fn(&Value) -> bool| {
        let domain = object::label(node, topology);
        domain.is_some()
            && nodes
                .iter()
                .filter(|n| object::label(n, topology) == domain)
                .any(|n| on(object::name(n)).iter().any(|other| holds(other)))
    };
    for term in terms(pod, "podAffinity") {
        let topology = object::text(term, "/topologyKey");
        let found = same_domain(topology, &|other| term_means(pod, term, other));
        // The first pod of a group that wants to be together may start anywhere.
        let anywhere = nodes
            .iter()
            .any(|n| on(object::name(n)).iter().any(|other| term_means(pod, term, other)));
        let is_first = !anywhere && term_means(pod, term, pod) && object::label(node, topology).is_some();
        if !found && !is_first {
            return Some(Reason::PodAffinity);
        }
    }
    for term in terms(pod, "podAntiAffinity") {
        if same_domain(object::text(term, "/topologyKey"), &|other| {
            term_means(pod, term, other)
        }) {
            return Some(Reason::PodAntiAffinity);
        }
    }
    let is_repelled = nodes.iter().any(|n| {
        on(object::name(n)).iter().any(|other| {
            terms(other, "podAntiAffinity").iter().any(|term| {
                let topology = object::text(term, "/topologyKey");
                object::label(node, topology).is_some()
                    && object::label(node, topology) == object::label(n, topology)
                    && term_means(other, term, pod)
            })
        })
    });
    is_repelled.then_some(Reason::ExistingAntiAffinity)
}
