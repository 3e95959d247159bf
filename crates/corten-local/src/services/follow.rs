//! Keeping a catalog up to date with the API, in batches.

use std::collections::BTreeSet;
use std::sync::RwLock;
use std::time::Duration;

use corten_apiserver::{Client, Event, Object, Status, Watch, resources};

use super::{Catalog, ServiceId};

/// A burst of changes (a rollout, a start) becomes one transaction; a single change waits no longer than this.
const BATCH_TIME: Duration = Duration::from_millis(3);

/// The two watches that make up a catalog.
pub(crate) struct Follower {
    services: Watch,
    slices: Watch,
    unsynced: u8,
}

enum Source {
    Services,
    Slices,
}

impl Follower {
    pub(crate) async fn new(client: &Client) -> Result<Follower, Status> {
        Ok(Follower {
            services: client.watch(&resources::SERVICES, None).await?,
            slices: client.watch(&resources::ENDPOINT_SLICES, None).await?,
            unsynced: 2,
        })
    }

    /// Waits for changes, brings them into the catalog and says which services they are about; `None` when the API is gone.
    ///
    /// The first batch is everything that is there. Cancel safe: what was taken from the watches is in the catalog; a caller that
    /// cancels in the middle of a batch must not rely on the list of changes afterwards.
    pub(crate) async fn batch(&mut self, catalog: &RwLock<Catalog>) -> Option<BTreeSet<ServiceId>> {
        let mut changed = BTreeSet::new();
        let mut deadline = None;
        loop {
            let next = async {
                tokio::select! {
                    event = self.services.next() => (Source::Services, event),
                    event = self.slices.next() => (Source::Slices, event),
                }
            };
            let (source, event) = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline, next).await {
                    Ok(next) => next,
                    Err(_) => return Some(changed),
                },
                None => next.await,
            };
            let event = event?;
            if event == Event::Synced {
                self.unsynced = self.unsynced.saturating_sub(1);
            }
            let (object, present) = match event {
                Event::Added(object) | Event::Modified { new: object, .. } => (Some(object), true),
                Event::Deleted(object) => (Some(object), false),
                Event::Synced => (None, true),
            };
            if let Some(object) = object {
                changed.extend(apply(catalog, &source, &object, present));
            }
            // Until both watches have told all they have, services would seem to have no endpoints.
            if self.unsynced == 0 && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + BATCH_TIME);
            }
        }
    }
}

fn apply(catalog: &RwLock<Catalog>, source: &Source, object: &Object, present: bool) -> Option<ServiceId> {
    let mut catalog = catalog.write().expect("no panic while the catalog is locked");
    match source {
        Source::Services => catalog.set_service(object, present),
        Source::Slices => catalog.set_slice(object, present),
    }
}
