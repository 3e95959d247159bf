//! The pace of the pipeline: what comes is taken at once, and what follows from it is pushed when it is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::Drain;
use corten_store_kube::{Change, Event, kinds};
use tokio::sync::{mpsc, watch};

use crate::clients::Rejection;
use crate::issuers::Known;
use crate::pipeline::Pipeline;
use crate::throttle::Throttle;

/// How long the start waits for what objects refer to: a proxy that comes back would take a missing certificate for gone.
const REFERENCES_PATIENCE: Duration = Duration::from_secs(5);

/// What the pipeline is fed with.
pub(crate) struct Followed {
    /// Objects, as they are read.
    pub(crate) events: mpsc::Receiver<Event>,
    /// Secrets and ConfigMaps that objects refer to.
    pub(crate) references: mpsc::Receiver<Change>,
    /// What clients reject.
    pub(crate) rejections: mpsc::Receiver<Rejection>,
    /// What is known of issuers of tokens.
    pub(crate) known: watch::Receiver<Arc<Known>>,
}

/// How changes are gathered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Between two pushes.
    pub(crate) interval: Duration,
    /// A change waits for so long at most.
    pub(crate) longest: Duration,
    /// Whether endpoints wait like everything else.
    pub(crate) endpoints_wait: bool,
}

/// Whether a change is of what services have for endpoints.
fn is_of_endpoints(change: &Change) -> bool {
    let (Change::Put { kind, .. } | Change::Removed { kind, .. }) = change;
    [kinds::PODS, kinds::WORKLOAD_ENTRIES].contains(kind)
}

/// Feeds the pipeline: changes as they come, pushes when they are due.
pub(crate) async fn follow(
    mut pipeline: Pipeline,
    mut inputs: Followed,
    synced: watch::Sender<bool>,
    pace: Pace,
    mut drain: Drain,
) {
    let Pace {
        interval,
        longest,
        endpoints_wait,
    } = pace;
    let mut throttle = Throttle::new(interval, longest);
    let mut all_read = false;
    // What objects refer to may still be on its way when all of them have been read, for so long.
    let mut patience: Option<Instant> = None;
    loop {
        patience = patience.filter(|until| *until > Instant::now());
        // Keys and certificates are waited for (not for long), so that clients which come back are not told that there are none.
        let is_whole = patience.is_none() || !pipeline.awaits_references() && pipeline.knows_issuers();
        if all_read && !*synced.borrow() && is_whole {
            let now = Instant::now();
            pipeline.push(throttle.push(now).unwrap_or(now));
            synced.send_replace(true);
        }
        // Until everything has been read there is nothing to push.
        let due = throttle.due().filter(|_| *synced.borrow());
        let late = patience.filter(|_| !*synced.borrow());
        let event = tokio::select! {
            biased;
            () = drain.wait() => return,
            // What has come already belongs to this push; the queue is short, so that this ends.
            event = inputs.events.recv() => event,
            Some(change) = inputs.references.recv() => {
                throttle.event(Instant::now());
                pipeline.see_reference(&change);
                continue;
            }
            Some(rejection) = inputs.rejections.recv() => {
                pipeline.rejected(rejection);
                continue;
            }
            Ok(()) = inputs.known.changed() => {
                pipeline.learn(Arc::clone(&inputs.known.borrow_and_update()));
                throttle.event(Instant::now());
                continue;
            }
            () = sleep_until(late), if late.is_some() => continue,
            () = sleep_until(due), if due.is_some() => {
                if let Some(since) = throttle.push(Instant::now()) {
                    pipeline.push(since);
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::Changes(changes)) => {
                if endpoints_wait || !changes.iter().all(is_of_endpoints) {
                    throttle.event(Instant::now());
                } else {
                    throttle.urgent(Instant::now());
                }
                pipeline.see(changes);
                // A flood of changes must not keep the push that is due waiting.
                if *synced.borrow()
                    && throttle.due().is_some_and(|due| due + interval < Instant::now())
                    && let Some(since) = throttle.push(Instant::now())
                {
                    pipeline.push(since);
                }
            }
            Some(Event::Synced) => {
                let now = Instant::now();
                // What is to be fetched and read beside the objects is known once they have been looked at together.
                pipeline.push(throttle.push(now).unwrap_or(now));
                all_read = true;
                patience = Some(now + REFERENCES_PATIENCE);
            }
        }
    }
}

/// Resolves then; never, if there is no such time.
pub(crate) async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
