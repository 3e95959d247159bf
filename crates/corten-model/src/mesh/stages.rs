//! The stages of derivation in their order, each over the keys that those before it touched; and the setters that they share.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use corten_api::diagnostic::Diagnostic;

use super::{
    Delta, Derived, Mesh, Role,
    dirty::Dirty,
    policies::{allow_key, allow_policy},
};
use crate::{
    derive::{
        waypoints::{self, NetworkGateway},
        workloads::{self, Common},
    },
    input::{ObjectKey, ObjectKind},
    policy::Policy,
    snapshot::{AddressKey, Snapshot},
    status::Status,
    text::Name,
};

const NETWORK: &str = "topology.istio.io/network";

impl Mesh {
    pub(super) fn derive(&mut self, mut dirty: Dirty, delta: &mut Delta) {
        if dirty.common {
            self.derive_common(&mut dirty, delta);
        }
        self.derive_waypoints(&mut dirty, delta);
        let touched = self.derive_candidates(&mut dirty, delta);
        self.derive_services(&touched, &mut dirty, delta);
        self.derive_policies(&mut dirty, delta);
        self.derive_peers(&mut dirty, delta);
        for (namespace, selector) in std::mem::take(&mut dirty.selected) {
            match namespace {
                Some(namespace) => self.mark_workloads(&namespace, &selector, &mut dirty),
                None => self.mark_all_workloads(&selector, &mut dirty),
            }
        }
        for object in &dirty.workloads {
            self.derive_workloads(object, delta);
        }
        self.derive_policy_statuses(&dirty, delta);
    }

    /// What all workloads share. When it is different, everything is derived again.
    pub(super) fn derive_common(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        let settings = Arc::clone(&self.snapshot.settings);
        let system = self.objects.namespaces.get(&settings.system_namespace);
        let network = Arc::clone(
            system
                .and_then(|system| system.meta.labels.get(NETWORK))
                .unwrap_or(&settings.network),
        );
        let mut gateways: Vec<NetworkGateway> = self
            .objects
            .gateways
            .iter()
            .flat_map(|gateway| waypoints::network_gateways(gateway))
            .collect();
        gateways.sort_by(|a, b| (&a.network, &a.source, &a.host).cmp(&(&b.network, &b.source, &b.host)));
        // Several gateways may stand for one way; to clients it is one workload.
        let mut seen = BTreeSet::new();
        gateways.retain(|way| seen.insert(way.uid()));
        let held = &self.derived.common;
        if *held.settings == *settings && held.network == network && *held.gateways == gateways {
            return;
        }
        self.snapshot.network = Arc::clone(&network);
        self.derived.common = Common::new(settings, network, gateways);
        self.mark_all(dirty);
        // Which gateway a way comes from may change while the way stays: all of them count as one object's.
        let ways = self.derived.common.gateways.iter();
        let made = ways
            .map(|way| workloads::of_network_gateway(&self.derived.common, way))
            .collect();
        self.set_workloads(&ObjectKey::new(ObjectKind::Gateway, "", ""), made, delta);
    }

    pub(super) fn derive_waypoints(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        for place in std::mem::take(&mut dirty.gateways) {
            let (namespace, name) = &place;
            let waypoint_key: Name = Arc::from(format!("{namespace}/{name}"));
            let made = self.objects.gateways.get(namespace, name).and_then(|gateway| {
                let class = self.objects.classes.get(&gateway.class).map(AsRef::as_ref);
                let instances = self.derived.instances.get(&waypoint_key);
                let pods = instances.filter_map(|(namespace, name)| self.snapshot.pods.get(namespace)?.get(name));
                let accounts = pods.map(|pod| Arc::clone(&pod.service_account)).collect();
                waypoints::waypoint(gateway, class, accounts, &self.snapshot.network)
            });
            let allow = made.as_ref().and_then(|one| allow_policy(one, &self.snapshot));
            let allow_key = allow_key(namespace, name);
            if self.snapshot.policies.contains_key(&allow_key) != allow.is_some() {
                self.mark_behind(&waypoint_key, dirty);
            }
            self.set_policy(&allow_key, allow, delta);
            if self.snapshot.waypoints.get(&waypoint_key).map(AsRef::as_ref) == made.as_ref() {
                continue;
            }
            for (role, user) in self.derived.waypoint_users.get(&waypoint_key) {
                match role {
                    Role::Service => dirty.sources.insert(user.clone()),
                    Role::Workloads => dirty.workloads.insert(user.clone()),
                };
            }
            dirty.targets = true;
            self.snapshot
                .waypoints
                .set(Arc::clone(&waypoint_key), made.map(Arc::new));
            delta.waypoints.insert(waypoint_key);
        }
    }

    /// Marks the workloads of the services behind a waypoint.
    pub(super) fn mark_behind(&self, waypoint: &Name, dirty: &mut Dirty) {
        let users = self.derived.waypoint_users.get(waypoint);
        let sources = users
            .filter(|(role, _)| *role == Role::Service)
            .map(|(_, source)| source);
        let keys = sources.flat_map(|source| self.derived.services_of.get(source));
        for service in keys.filter_map(|key| self.snapshot.services.get(key)) {
            self.mark_members(service, dirty);
        }
    }

    pub(super) fn set_policy(&mut self, key: &Name, new: Option<Policy>, delta: &mut Delta) {
        if self.snapshot.policies.get(key).map(AsRef::as_ref) != new.as_ref() {
            self.snapshot.policies.set(Arc::clone(key), new.map(Arc::new));
            delta.policies.insert(Arc::clone(key));
        }
    }

    pub(super) fn set_status(&mut self, object: &ObjectKey, new: Option<Status>, delta: &mut Delta) {
        if self.snapshot.statuses.get(object).map(AsRef::as_ref) != new.as_ref() {
            self.snapshot.statuses.set(object.clone(), new.map(Arc::new));
            delta.statuses.insert(object.clone());
        }
    }

    pub(super) fn set_diagnostics(&mut self, object: &ObjectKey, new: Vec<Diagnostic>, delta: &mut Delta) {
        let old = self.snapshot.diagnostics.get(object);
        if old.map_or(&[][..], |old| old) != new.as_slice() {
            let new = (!new.is_empty()).then(|| Arc::from(new));
            self.snapshot.diagnostics.set(object.clone(), new);
            delta.diagnostics.insert(object.clone());
        }
    }
}

impl Derived {
    /// Notes whose derivation looked for which waypoints.
    pub(super) fn note_consulted(&mut self, user: (Role, ObjectKey), new: Vec<Name>) {
        let old = if new.is_empty() {
            self.consulted.remove(&user)
        } else {
            self.consulted.insert(user.clone(), new.clone())
        };
        let old = old.unwrap_or_default();
        for gone in old.iter().filter(|waypoint| !new.contains(waypoint)) {
            self.waypoint_users.remove(gone, &user);
        }
        for waypoint in new.into_iter().filter(|waypoint| !old.contains(waypoint)) {
            self.waypoint_users.insert(waypoint, user.clone());
        }
    }
}

/// Files a key under an address, or takes it out.
pub(super) fn index_address(snapshot: &mut Snapshot, place: (Name, IpAddr), key: AddressKey, present: bool) {
    let held = snapshot.addresses.get(&place);
    let mut keys: Vec<AddressKey> = held.map(|held| held.to_vec()).unwrap_or_default();
    match (keys.binary_search(&key), present) {
        (Err(at), true) => keys.insert(at, key),
        (Ok(at), false) => drop(keys.remove(at)),
        _ => return,
    }
    snapshot
        .addresses
        .set(place, (!keys.is_empty()).then(|| Arc::from(keys)));
}
