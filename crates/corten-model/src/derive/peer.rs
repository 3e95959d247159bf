//! PeerAuthentication to policies: a connection without an identity is refused where mutual TLS is demanded.
//!
//! What is generated and what workloads refer to come from the same function, so that no workload refers to a policy
//! that does not exist: a node proxy skips what it does not know, and would let plain text through.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::istio::peer_authentication::{MutualTLS, MutualTLSMode, PeerAuthenticationSpec};

use crate::{
    input::PeerAuthentication,
    policy::{Action, Clause, Match, Pattern, Policy, PolicyScope, Rule},
    text::{Labels, Name},
};

/// No Kubernetes name has an underscore, so no policy of a user has this one.
const STRICT: &str = "istio_converted_static_strict";
const CONVERTED: &str = "converted_peer_authentication_";

/// What the wider levels demand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wider {
    pub(crate) mesh: MutualTLSMode,
    pub(crate) namespace: MutualTLSMode,
}

impl Wider {
    /// The mode of workloads that no policy selects.
    pub(crate) fn mode(self) -> MutualTLSMode {
        match (self.namespace, self.mesh) {
            (MutualTLSMode::Unset, MutualTLSMode::Unset) => MutualTLSMode::Permissive,
            (MutualTLSMode::Unset, mesh) => mesh,
            (namespace, _) => namespace,
        }
    }
}

/// The mode of a level: that of its oldest policy for all workloads.
pub(crate) fn level<'a>(policies: impl Iterator<Item = &'a Arc<PeerAuthentication>>) -> MutualTLSMode {
    oldest(policies.filter(|policy| policy.selector.is_empty()))
        .map_or(MutualTLSMode::Unset, |policy| mode(&policy.spec))
}

/// The policy that counts among several of one level.
fn oldest<'a>(policies: impl Iterator<Item = &'a Arc<PeerAuthentication>>) -> Option<&'a Arc<PeerAuthentication>> {
    policies.min_by(|a, b| (a.meta.created, &a.meta.name).cmp(&(b.meta.created, &b.meta.name)))
}

fn mode(spec: &PeerAuthenticationSpec) -> MutualTLSMode {
    spec.mtls.as_ref().map_or(MutualTLSMode::Unset, |mtls| mtls.mode)
}

/// The modes that policies amount to for one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerModes {
    /// Of all ports that are not listed.
    pub mode: MutualTLSMode,
    /// Of single ports of the workload, as far as its policy lists them.
    pub ports: BTreeMap<u16, MutualTLSMode>,
}

/// What policies amount to that all apply to one workload: those of the mesh, of its namespace, and those selecting it.
pub fn peer_modes<'a>(
    policies: impl IntoIterator<Item = &'a Arc<PeerAuthentication>>,
    root_namespace: &str,
) -> PeerModes {
    let (of_root, others): (Vec<_>, Vec<_>) = policies
        .into_iter()
        .partition(|policy| policy.meta.namespace.as_ref() == root_namespace);
    let wider = Wider {
        mesh: level(of_root.into_iter()),
        namespace: level(others.iter().copied()),
    };
    let own = oldest(others.into_iter().filter(|policy| !policy.selector.is_empty()));
    let of_workload = effective(own.map_or(MutualTLSMode::Unset, |policy| mode(&policy.spec)), wider);
    let listed = own
        .into_iter()
        .flat_map(|policy| policy.spec.port_level_mtls.iter().flatten());
    let ports = listed.filter_map(|(port, mtls)| {
        let mode = if mtls.mode == MutualTLSMode::Unset {
            of_workload
        } else {
            mtls.mode
        };
        Some((u16::try_from(*port).ok()?, mode))
    });
    PeerModes {
        mode: of_workload,
        ports: ports.collect(),
    }
}

/// The key of the policy that refuses whoever has no identity.
pub(crate) fn strict_key(root_namespace: &str) -> Name {
    Arc::from(format!("{root_namespace}/{STRICT}"))
}

/// The policy that refuses whoever has no identity; it is there as soon as there is any PeerAuthentication.
pub(crate) fn strict(root_namespace: &Name) -> Policy {
    Policy {
        key: strict_key(root_namespace),
        namespace: Arc::clone(root_namespace),
        name: Arc::from(STRICT),
        scope: PolicyScope::Selector,
        action: Action::Deny,
        rules: vec![rule([no_identity()])],
        dry_run: false,
    }
}

fn no_identity() -> Match {
    Match {
        not_principals: vec![Pattern::Present],
        ..Match::default()
    }
}

fn rule(matches: impl IntoIterator<Item = Match>) -> Rule {
    let clauses = matches.into_iter().map(|one| Clause { matches: vec![one] });
    Rule {
        clauses: clauses.collect(),
    }
}

/// The policy for the ports of the workloads that a PeerAuthentication selects; `None`: it asks nothing special of any.
pub(crate) fn ports(policy: &PeerAuthentication, root_namespace: &Name, wider: Wider) -> Option<Policy> {
    if policy.selector.is_empty() || policy.meta.namespace == *root_namespace {
        return None;
    }
    let ports: Vec<(u16, MutualTLSMode)> = port_modes(&policy.spec);
    let own = mode(&policy.spec);
    let strict_wherever = effective(own, wider) == MutualTLSMode::Strict;
    let open = |mode: MutualTLSMode| matches!(mode, MutualTLSMode::Permissive | MutualTLSMode::Disable);
    let rules: Vec<Rule> = if strict_wherever {
        let open_ports = || ports.iter().filter(|(_, mode)| open(*mode)).map(|(port, _)| *port);
        open_ports().next()?;
        // One rule: any other port, and no identity.
        let exceptions = open_ports().map(|port| Match {
            not_destination_ports: vec![port],
            ..Match::default()
        });
        let mut matches: Vec<Match> = exceptions.collect();
        if own == MutualTLSMode::Strict {
            matches.insert(0, no_identity());
        } else {
            matches.push(no_identity());
        }
        vec![rule(matches)]
    } else {
        let strict_ports = ports.iter().filter(|(_, mode)| *mode == MutualTLSMode::Strict);
        let rules = strict_ports.map(|(port, _)| {
            rule([Match {
                destination_ports: vec![*port],
                ..no_identity()
            }])
        });
        rules.collect()
    };
    if rules.is_empty() {
        return None;
    }
    let name = format!("{CONVERTED}{}", policy.meta.name);
    Some(Policy {
        key: Arc::from(format!("{}/{name}", policy.meta.namespace)),
        namespace: Arc::clone(&policy.meta.namespace),
        name: Arc::from(name),
        scope: PolicyScope::Selector,
        action: Action::Deny,
        rules,
        dry_run: false,
    })
}

fn effective(own: MutualTLSMode, wider: Wider) -> MutualTLSMode {
    if own == MutualTLSMode::Unset { wider.mode() } else { own }
}

/// The modes of single ports, sorted, without those that leave it to the workload.
fn port_modes(spec: &PeerAuthenticationSpec) -> Vec<(u16, MutualTLSMode)> {
    let listed = spec.port_level_mtls.iter().flatten();
    let known = listed.filter_map(|(port, mtls): (&u32, &MutualTLS)| Some((u16::try_from(*port).ok()?, mtls.mode)));
    known.filter(|(_, mode)| *mode != MutualTLSMode::Unset).collect()
}

/// The keys of the policies of a workload with these labels, sorted. `policies` are those of its namespace.
pub(crate) fn keys<'a>(
    policies: impl Iterator<Item = &'a Arc<PeerAuthentication>>,
    labels: &Labels,
    root_namespace: &Name,
    wider: Wider,
) -> Vec<Name> {
    let selecting = policies.filter(|policy| {
        !policy.selector.is_empty() && policy.meta.namespace != *root_namespace && policy.selector.is_subset_of(labels)
    });
    let own = oldest(selecting);
    let own_mode = own.map_or(MutualTLSMode::Unset, |policy| mode(&policy.spec));
    let is_strict = effective(own_mode, wider) == MutualTLSMode::Strict;
    let special = own.and_then(|policy| ports(policy, root_namespace, wider)).filter(|_| {
        // Where the workload itself says nothing, closing a port to mutual TLS does not lift what is demanded of all.
        let only_disabled = own.is_some_and(|policy| {
            port_modes(&policy.spec)
                .iter()
                .all(|(_, mode)| *mode != MutualTLSMode::Permissive)
        });
        !(is_strict && own_mode == MutualTLSMode::Unset && only_disabled)
    });
    match special {
        // It contains what the strict policy says, except for its ports.
        Some(policy) => vec![policy.key],
        None if is_strict => vec![strict_key(root_namespace)],
        None => Vec::new(),
    }
}

/// What the PeerAuthentications of a mesh come to for one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedPeerAuthentication {
    /// The mode of the workload.
    pub mode: MutualTLSMode,
    /// The workload's ports for which a mode of their own counts, sorted.
    pub ports: Vec<(u16, MutualTLSMode)>,
    /// The policies that count, namespace and name: the mesh's, the namespace's, the workload's.
    pub policies: Vec<(Name, Name)>,
}

/// What PeerAuthentications come to for a workload with these labels. `policies` are those of the whole mesh.
pub fn applied(
    policies: &[Arc<PeerAuthentication>],
    namespace: &str,
    labels: &Labels,
    root_namespace: &str,
) -> AppliedPeerAuthentication {
    let of = |wanted: &str| {
        let wanted = wanted.to_owned();
        policies.iter().filter(move |policy| *policy.meta.namespace == *wanted)
    };
    let wider = Wider {
        mesh: level(of(root_namespace)),
        namespace: level(of(namespace)),
    };
    let selecting = of(namespace).filter(|policy| {
        !policy.selector.is_empty() && namespace != root_namespace && policy.selector.is_subset_of(labels)
    });
    let own = oldest(selecting);
    let own_mode = own.map_or(MutualTLSMode::Unset, |policy| mode(&policy.spec));
    let whole = effective(own_mode, wider);
    let mut ports = own.map_or_else(Vec::new, |policy| port_modes(&policy.spec));
    if whole == MutualTLSMode::Strict && own_mode == MutualTLSMode::Unset {
        // As in `keys`.
        let only_disabled = ports.iter().all(|(_, mode)| *mode != MutualTLSMode::Permissive);
        if only_disabled {
            ports.clear();
        }
    }
    ports.retain(|(_, mode)| *mode != whole);
    let for_all = |namespace: &str| oldest(of(namespace).filter(|policy| policy.selector.is_empty()));
    let levels = [for_all(root_namespace), for_all(namespace), own];
    let mut named: Vec<(Name, Name)> = levels
        .into_iter()
        .flatten()
        .map(|policy| (Arc::clone(&policy.meta.namespace), Arc::clone(&policy.meta.name)))
        .collect();
    named.dedup();
    AppliedPeerAuthentication {
        mode: whole,
        ports,
        policies: named,
    }
}
