//! Addresses for the hosts of ServiceEntries that have none, given by one of several replicas.
//!
//! Which ones is decided by the model; here they are written, and tried again until they are.

use std::sync::Arc;
use std::time::Duration;

use corten_core::NamespacedName;
use corten_model::allocate::{Allocator, Ranges};
use corten_model::input::ServiceEntry;
use corten_rt::Drain;
use corten_store_kube::write_addresses;
use tokio::sync::watch;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The entries as they are now.
pub(crate) type Entries = Arc<Vec<Arc<ServiceEntry>>>;

/// Gives addresses while we lead, until told to stop.
pub(crate) async fn run(
    client: kube::Client,
    mut entries: watch::Receiver<Entries>,
    mut leads: watch::Receiver<bool>,
    mut drain: Drain,
) {
    let mut allocator = Allocator::new(Ranges::default());
    let give = async {
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now = entries.borrow_and_update().clone();
            let failed = write(&client, &mut allocator, &now).await;
            tokio::select! {
                changed = entries.changed() => if changed.is_err() { return },
                // Who leads from now on begins with what there is.
                changed = leads.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = give => {}
    }
}

/// Writes what is to be written. Returns whether some of it failed.
async fn write(client: &kube::Client, allocator: &mut Allocator, entries: &[Arc<ServiceEntry>]) -> bool {
    let mut failed = false;
    for ((namespace, name), assigned) in allocator.assign(entries) {
        let entry = NamespacedName::new(&*namespace, &*name);
        let addresses: Vec<_> = assigned
            .into_iter()
            .map(|(host, address)| (host.to_string(), address))
            .collect();
        if let Err(error) = write_addresses(client, &entry, &addresses).await {
            tracing::warn!(%entry, %error, "cannot write the addresses of a ServiceEntry's hosts");
            failed = true;
        }
    }
    failed
}
