//! The stages of policies: what becomes of AuthorizationPolicies and PeerAuthentications, and what applies to a workload.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use corten_api::istio::peer_authentication::MutualTLSMode;

use super::{Delta, Mesh, dirty::Dirty};
use crate::{
    derive::{authorization, peer, statuses, workloads::Policies},
    input::ObjectKey,
    policy::{Action, Clause, Match, Pattern, Policy, PolicyScope, Rule},
    snapshot::Snapshot,
    status::Condition,
    text::{Labels, Name},
    waypoint::Waypoint,
};

impl Mesh {
    pub(super) fn derive_policies(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        let settings = Arc::clone(&self.snapshot.settings);
        let dirty_selected = &mut dirty.selected;
        for object in &dirty.policies {
            let policy = self.objects.policies.get(&object.namespace, &object.name).cloned();
            let converted = policy
                .as_ref()
                .map(|policy| Arc::new(authorization::convert(policy, &settings)));
            let targets = policy
                .as_ref()
                .is_some_and(|policy| policy.spec.target_ref.is_some() || !policy.spec.target_refs.is_empty());
            if targets {
                self.derived.targeting.insert(object.clone());
            } else {
                self.derived.targeting.remove(object);
            }
            let said = converted
                .as_ref()
                .map(|converted| converted.diagnostics.clone())
                .unwrap_or_default();
            self.set_diagnostics(object, said, delta);
            let made = converted.as_ref().and_then(|converted| converted.policy.clone());
            let key: Name = Arc::from(format!("{}/{}", object.namespace, object.name));
            let selection = policy
                .as_ref()
                .filter(|_| made.is_some())
                .and_then(|policy| policy.selector.clone());
            self.set_selection(&object.namespace, &key, selection, dirty_selected);
            self.set_policy(&key, made, delta);
            match converted {
                Some(converted) => drop(self.derived.converted.insert(object.clone(), converted)),
                None => drop(self.derived.converted.remove(object)),
            }
        }
    }

    /// The workloads that a policy selects, and the marks on those that it selects no longer, or now.
    pub(super) fn set_selection(
        &mut self,
        namespace: &Name,
        key: &Name,
        new: Option<Labels>,
        selected: &mut Vec<(Option<Name>, Labels)>,
    ) {
        let old = self.derived.selections.get(key).cloned();
        if old == new {
            return;
        }
        // The policies of the root namespace select in all namespaces.
        let root = *namespace == self.snapshot.settings.root_namespace;
        for (labels, is_new) in [(old, false), (new, true)] {
            let Some(labels) = labels else { continue };
            selected.push(((!root).then(|| Arc::clone(namespace)), labels.clone()));
            if is_new {
                self.derived.policy_selectors.insert(namespace, &labels, key);
                self.derived.selections.insert(Arc::clone(key), labels);
            } else {
                self.derived.policy_selectors.remove(namespace, &labels, key);
                self.derived.selections.remove(key);
            }
        }
    }

    pub(super) fn derive_peers(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        if dirty.peers.is_empty() {
            return;
        }
        let root = Arc::clone(&self.snapshot.settings.root_namespace);
        let mut namespaces: BTreeSet<Name> = dirty.peers.iter().map(|peer| Arc::clone(&peer.namespace)).collect();
        for namespace in namespaces.clone() {
            let level = peer::level(self.objects.peers.of(&namespace));
            let old = match level {
                MutualTLSMode::Unset => self.derived.levels.remove(&namespace),
                level => self.derived.levels.insert(Arc::clone(&namespace), level),
            };
            if old.unwrap_or_default() == level {
                continue;
            }
            if namespace == root {
                // What is unset anywhere may be set by this.
                namespaces.extend(self.objects.peers.iter().map(|peer| Arc::clone(&peer.meta.namespace)));
                dirty.selected.push((None, Labels::default()));
            } else {
                dirty.selected.push((Some(namespace), Labels::default()));
            }
        }
        for namespace in &namespaces {
            self.derive_port_policies(namespace, &root, delta);
        }
        let strict = (!self.objects.peers.is_empty()).then(|| peer::strict(&root));
        let key = strict.as_ref().map(|policy| Arc::clone(&policy.key));
        // The root namespace may be another one than before.
        let old = std::mem::replace(&mut self.derived.strict, key.clone()).filter(|old| Some(old) != key.as_ref());
        for (key, policy) in old
            .map(|old| (old, None))
            .into_iter()
            .chain(key.map(|key| (key, strict)))
        {
            self.set_policy(&key, policy, delta);
        }
    }

    /// The policies for ports that the PeerAuthentications of a namespace ask for.
    pub(super) fn derive_port_policies(&mut self, namespace: &Name, root: &Name, delta: &mut Delta) {
        let wider = self.wider(namespace);
        let peers = self.objects.peers.of(namespace);
        let mut made: BTreeMap<Name, Policy> = peers
            .filter_map(|policy| peer::ports(policy, root, wider))
            .map(|policy| (Arc::clone(&policy.key), policy))
            .collect();
        let keys: BTreeSet<Name> = made.keys().cloned().collect();
        let old = if keys.is_empty() {
            self.derived.port_policies.remove(namespace)
        } else {
            self.derived.port_policies.insert(Arc::clone(namespace), keys.clone())
        };
        for key in old.unwrap_or_default().union(&keys) {
            self.set_policy(key, made.remove(key), delta);
        }
    }

    /// What PeerAuthentications demand of the workloads of a namespace that none selects.
    pub(super) fn wider(&self, namespace: &Name) -> peer::Wider {
        let root = &self.snapshot.settings.root_namespace;
        let level = |namespace: &Name| self.derived.levels.get(namespace).copied().unwrap_or_default();
        peer::Wider {
            mesh: level(root),
            namespace: if namespace == root {
                MutualTLSMode::Unset
            } else {
                level(namespace)
            },
        }
    }

    /// Conditions of policies: of those that changed, and of those attached to objects, when such objects changed.
    pub(super) fn derive_policy_statuses(&mut self, dirty: &Dirty, delta: &mut Delta) {
        let mut objects = dirty.policies.clone();
        if dirty.targets {
            objects.extend(self.derived.targeting.iter().cloned());
        }
        for object in objects {
            let policy = self.objects.policies.get(&object.namespace, &object.name);
            let converted = self.derived.converted.get(&object);
            let status = policy.zip(converted).and_then(|(policy, converted)| {
                statuses::of_policy(
                    policy,
                    converted,
                    &self.targets(&|key| {
                        self.derived
                            .candidates
                            .get(key)
                            .map(|candidate| candidate.waypoint.clone())
                    }),
                )
            });
            self.set_status(&object, status, delta);
        }
    }

    pub(super) fn targets<'a>(
        &'a self,
        waypoint_of: &'a dyn Fn(&ObjectKey) -> Option<Option<Name>>,
    ) -> statuses::Targets<'a> {
        statuses::Targets {
            root_namespace: &self.snapshot.settings.root_namespace,
            classes: &self.objects.classes,
            waypoints: &self.snapshot.waypoints,
            waypoint_of,
        }
    }

    /// What is known of each target of a policy, one by one; the status has room only for a summary.
    pub fn target_conditions(&self, namespace: &str, name: &str) -> Vec<Condition> {
        let policy = self.objects.policies.get(namespace, name);
        let waypoint_of = |key: &ObjectKey| {
            self.derived
                .candidates
                .get(key)
                .map(|candidate| candidate.waypoint.clone())
        };
        policy
            .map(|policy| statuses::of_targets(policy, &self.targets(&waypoint_of)))
            .unwrap_or_default()
    }
}

/// The policies that apply to the workloads of a namespace.
pub(super) struct Applying<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) namespace: &'a Name,
}

impl Policies for Applying<'_> {
    fn of(&self, labels: &Labels) -> Vec<Name> {
        let (derived, settings) = (&self.mesh.derived, &self.mesh.snapshot.settings);
        let root = &settings.root_namespace;
        let of_root = (self.namespace != root).then(|| derived.policy_selectors.candidates(root, labels));
        let candidates = derived.policy_selectors.candidates(self.namespace, labels);
        let selecting = candidates.chain(of_root.into_iter().flatten()).filter(|key| {
            derived
                .selections
                .get(*key)
                .is_some_and(|selector| selector.is_subset_of(labels))
        });
        let mut keys: Vec<Name> = selecting.cloned().collect();
        keys.sort();
        let peers = self.mesh.objects.peers.of(self.namespace);
        keys.extend(peer::keys(peers, labels, root, self.mesh.wider(self.namespace)));
        keys
    }

    fn of_waypoint(&self, waypoint: &str) -> Option<Name> {
        let (namespace, name) = waypoint.split_once('/')?;
        let key = allow_key(namespace, name);
        self.mesh.snapshot.policies.contains_key(&key).then_some(key)
    }
}

pub(super) fn allow_key(namespace: &str, name: &str) -> Name {
    Arc::from(format!("{namespace}/istio_allow_waypoint_{namespace}_{name}"))
}

/// The policy that lets a waypoint reach what is behind it, where the settings ask for one.
pub(super) fn allow_policy(waypoint: &Waypoint, snapshot: &Snapshot) -> Option<Policy> {
    let settings = &snapshot.settings;
    if !settings.allow_waypoints || waypoint.service_accounts.is_empty() {
        return None;
    }
    let (namespace, name) = (&waypoint.source.namespace, &waypoint.source.name);
    let principal = |account: &Name| Pattern::Exact(format!("{}/ns/{namespace}/sa/{account}", settings.trust_domain));
    let principals = waypoint.service_accounts.iter().map(principal).collect();
    Some(Policy {
        key: allow_key(namespace, name),
        namespace: Arc::clone(namespace),
        name: Arc::from(format!("istio_allow_waypoint_{namespace}_{name}")),
        scope: PolicyScope::Selector,
        action: Action::Allow,
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match {
                    principals,
                    ..Match::default()
                }],
            }],
        }],
        dry_run: false,
    })
}
