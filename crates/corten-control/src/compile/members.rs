//! The workloads of services, as values that stay the same while nothing about them changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use corten_model::{Delta, Name, Snapshot, Workload};

/// The workloads of a service, and what the model says of it.
#[derive(Debug)]
pub(crate) struct Members {
    workloads: Vec<Arc<Workload>>,
    service: Option<Arc<corten_model::Service>>,
}

impl Members {
    fn of(model: &Snapshot, key: &str) -> Members {
        Members {
            workloads: model
                .members(key)
                .filter_map(|uid| model.workload(uid))
                .cloned()
                .collect(),
            service: model.service(key).cloned(),
        }
    }

    fn is(&self, other: &Members) -> bool {
        let same_service = match (&self.service, &other.service) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        let same = |(ours, theirs): (&Arc<Workload>, &Arc<Workload>)| Arc::ptr_eq(ours, theirs);
        same_service
            && self.workloads.len() == other.workloads.len()
            && self.workloads.iter().zip(&other.workloads).all(same)
    }
}

/// The workloads of the services that anybody has asked about.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    known: HashMap<Name, Arc<Members>>,
}

impl Memberships {
    /// Those of a service.
    pub(crate) fn of(&mut self, model: &Snapshot, key: &Name) -> Arc<Members> {
        let known = self.known.entry(Arc::clone(key));
        Arc::clone(known.or_insert_with(|| Arc::new(Members::of(model, key))))
    }

    /// Follows the model; yields the services about which something is different.
    pub(crate) fn follow(&mut self, model: &Snapshot, touched: BTreeSet<Name>) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        for key in touched {
            let Some(known) = self.known.get_mut(&key) else {
                // Whoever makes all of a proxy's at once has not asked.
                changed.insert(key);
                continue;
            };
            let now = Members::of(model, &key);
            if now.is(known) {
                continue;
            }
            if now.workloads.is_empty() && now.service.is_none() {
                self.known.remove(&key);
            } else {
                *known = Arc::new(now);
            }
            changed.insert(key);
        }
        changed
    }
}

/// The services that a change of the model touches: those that changed workloads belonged to, or belong to now.
pub(crate) fn touched(delta: &Delta, before: &Snapshot, now: &Snapshot) -> BTreeSet<Name> {
    let mut keys = delta.services.clone();
    for uid in &delta.workloads {
        for workload in [before, now].into_iter().filter_map(|model| model.workload(uid)) {
            keys.extend(workload.services.iter().map(|(key, _)| Arc::clone(key)));
        }
    }
    keys
}
