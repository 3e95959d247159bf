//! The installation looked after: made when the agent can answer, and made again at once when somebody undoes it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_rt::Drain;
use tokio::sync::watch;

use super::watch::Watch;
use super::{InstallError, Installation};
use crate::metrics::{Installed, Metrics};

/// How often is looked where changes are not heard of (no directory yet, no room for another watch), and after a failure.
const POLL: Duration = Duration::from_secs(1);
/// How often is looked where they are: what is never heard of, such as a mount over the directory, is seen then.
const LOOK: Duration = Duration::from_secs(30);
/// Between two looks, however much happens: others' writing takes its time, too.
const PAUSE: Duration = Duration::from_millis(50);
/// So many repairs within [`QUARREL_TIME`] are a quarrel with another program.
const QUARREL: usize = 5;
const QUARREL_TIME: Duration = Duration::from_secs(60);

/// How the installation stands, for whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It is made.
    pub(crate) done: bool,
    /// What is wrong with it, and what to do.
    pub(crate) trouble: Option<String>,
}

/// Installs once `ready`, and whenever somebody undid it, until the drain.
pub(crate) async fn keep(
    installation: Installation,
    metrics: Arc<Metrics>,
    standing: watch::Sender<Standing>,
    mut ready: watch::Receiver<bool>,
    mut drain: Drain,
) {
    tokio::select! {
        () = drain.wait() => return,
        adopted = ready.wait_for(|adopted| *adopted) => if adopted.is_err() { return },
    }
    let mut said = String::new();
    let mut repairs = Repairs::default();
    loop {
        // Made before the look, so that nothing that happens after it is missed.
        let watch = Watch::new(&[&installation.conf_dir, &installation.bin_dir]);
        let what = installation.clone();
        let Ok(outcome) = tokio::task::spawn_blocking(move || what.apply()).await else {
            return;
        };
        let count = |result: &'static str| {
            metrics.installs.get_or_create(&Installed { result }).inc();
        };
        let wait = match &outcome {
            Ok(changed) => {
                let quarrel = *changed && repairs.note(Instant::now());
                if *changed {
                    count("SUCCESS");
                    said_installed(&installation.conf_dir, quarrel);
                }
                said.clear();
                set(&standing, true, quarrel.then(|| QUARREL_TROUBLE.to_owned()));
                metrics.install_ready.set(1);
                if watch.is_ok() { LOOK } else { POLL }
            }
            Err(error) => {
                metrics.install_ready.set(0);
                set(&standing, false, Some(error.to_string()));
                // Once for each reason; it is tried every second.
                if said != error.to_string() {
                    said = error.to_string();
                    count(error.result());
                    say_failed(error);
                }
                POLL
            }
        };
        let changed = async {
            match &watch {
                Ok(watch) => watch.changed().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.wait() => return,
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
        }
        tokio::select! {
            () = drain.wait() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn set(standing: &watch::Sender<Standing>, done: bool, trouble: Option<String>) {
    let now = Standing { done, trouble };
    standing.send_if_modified(|before| {
        let modified = *before != now;
        *before = now;
        modified
    });
}

const QUARREL_TROUBLE: &str = "another program keeps undoing the installation of the CNI plugin; pods may start outside of the mesh \
     meanwhile. If this node's network is Cilium's, set its cni.exclusive to false; if a plugin writes its configuration over and over, \
     let the agent keep one of its own (ISTIO_OWNED_CNI_CONFIG=true)";

fn said_installed(dir: &Path, quarrel: bool) {
    let dir = dir.display();
    if quarrel {
        tracing::warn!(%dir, "{QUARREL_TROUBLE}");
    } else {
        tracing::info!(%dir, "CNI plugin installed");
    }
}

fn say_failed(error: &InstallError) {
    match error {
        // A node that is new gets its network after its first pods: that is no failure.
        InstallError::NoConfiguration { .. } => tracing::info!(%error, "waiting for the node's network configuration"),
        _ => tracing::warn!(%error, "the CNI plugin is not installed"),
    }
}

/// When the installation was made again.
#[derive(Debug, Default)]
struct Repairs(Vec<Instant>);

impl Repairs {
    /// Notes one; whether there were so many of late that somebody else must want it otherwise.
    fn note(&mut self, now: Instant) -> bool {
        self.0.retain(|when| now.duration_since(*when) < QUARREL_TIME);
        self.0.push(now);
        self.0.len() >= QUARREL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarrel_is_many_repairs_in_a_short_time() {
        let mut repairs = Repairs::default();
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(
            [0, 20, 40, 61, 85].map(|when| repairs.note(at(when))),
            [false; 5],
            "one at a time"
        );
        assert_eq!([86, 87, 88].map(|when| repairs.note(at(when))), [false, true, true]);
    }
}
