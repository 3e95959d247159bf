//! What L7 proxies are sent: a store for each, kept up to date with every push while the proxy is connected.
//!
//! Without any L7 proxy nothing is derived for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use corten_api::diagnostic::Diagnostic;
use corten_model::Delta;
use corten_routing::{Proxy, Snapshot};
use corten_xds::server::Shared;

use crate::compile::{Compiler, Inputs};

/// What proxies that are connected are sent.
#[derive(Debug, Default)]
pub(crate) struct Views {
    compiler: Mutex<Compiler>,
}

/// A proxy's hold on what it is sent.
#[derive(Debug)]
pub(crate) struct Lease {
    views: Arc<Views>,
    number: u64,
}

impl Views {
    /// What a proxy is sent, for as long as it holds the lease. Its number is its own.
    pub(crate) fn hold(self: &Arc<Self>, number: u64, proxy: Proxy) -> (Arc<Shared>, Lease) {
        let shared = self.compiler().add(number, proxy);
        let views = Arc::clone(self);
        (shared, Lease { views, number })
    }

    /// Everything that proxies are configured from; none while nobody is.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.compiler().snapshot()
    }

    /// Brings everything up to date. `delta` is what is different in the model, `since` when the first of the changes was seen.
    pub(crate) fn update(&self, inputs: Inputs, delta: &Delta, since: Instant) {
        self.compiler().update(inputs, delta, since);
    }

    /// The roots that are to be trusted are these. `since` is when that was seen.
    pub(crate) fn trust(&self, roots: Vec<String>, since: Instant) {
        self.compiler().trust(roots, since);
    }

    /// What is configured and takes no effect, if it may be something else than when this was last asked.
    pub(crate) fn take_diagnostics(&self) -> Option<Vec<Diagnostic>> {
        self.compiler().take_diagnostics()
    }

    fn compiler(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.views.compiler().remove(self.number);
    }
}
