//! Which identities are needed: each by so many pods of all shards, and forgotten with the last of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::Identity;
use corten_identity::Identities;

/// How many pods have each identity.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashMap<Arc<Identity>, usize>>);

impl Holds {
    /// A pod has this identity from now on.
    pub(crate) fn take(&self, identity: &Arc<Identity>) {
        *self.lock().entry(identity.clone()).or_default() += 1;
    }

    /// A pod no longer has it. With the last one its certificate is dropped; whoever comes later asks for another.
    pub(crate) fn release(&self, identity: &Identity, identities: &Identities) {
        let mut held = self.lock();
        let Some(count) = held.get_mut(identity) else { return };
        *count -= 1;
        if *count == 0 {
            held.remove(identity);
            // Before the lock goes: a pod that comes at this moment asks after it, not before.
            identities.forget(identity);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<Identity>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
