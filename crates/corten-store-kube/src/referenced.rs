//! Single objects that others refer to, as they change: nothing else of their kinds is read.
//!
//! Who refers to what changes, and the watches follow. Each object that is asked for is told at least once: as it is, or as gone where
//! there is none or it may not be read. One that is not asked for any more is told as gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_core::NamespacedName;
use corten_rt::Drain;
use futures_util::{FutureExt, Stream, StreamExt, stream::SelectAll};
use kube::Client;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::Event as WatchEvent;
use tokio::sync::{mpsc, oneshot, watch};

use crate::kinds::{CONFIG_MAPS, Kind, SECRETS};
use crate::object::Whole;
use crate::source::{Change, Selection, objects};

/// A Secret or a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Referred {
    /// A Secret.
    Secret(NamespacedName),
    /// A ConfigMap.
    ConfigMap(NamespacedName),
}

impl Referred {
    fn kind(&self) -> Kind {
        match self {
            Referred::Secret(_) => SECRETS,
            Referred::ConfigMap(_) => CONFIG_MAPS,
        }
    }

    fn key(&self) -> &NamespacedName {
        match self {
            Referred::Secret(key) | Referred::ConfigMap(key) => key,
        }
    }

    fn removed(&self) -> Change {
        Change::Removed {
            kind: self.kind(),
            key: self.key().clone(),
        }
    }
}

/// The watches that there are. Dropping a sender ends its watch.
type Watched = BTreeMap<Referred, oneshot::Sender<()>>;
type Changes = std::pin::Pin<Box<dyn Stream<Item = Change> + Send>>;

/// Watches what is asked for, until told to stop or until nobody reads the changes.
pub async fn follow_references(
    client: Client,
    mut wanted: watch::Receiver<Arc<BTreeSet<Referred>>>,
    changes: mpsc::Sender<Change>,
    mut drain: Drain,
) {
    let mut watched = Watched::new();
    let mut streams: SelectAll<Changes> = SelectAll::new();
    let follow = async {
        loop {
            let now = wanted.borrow_and_update().clone();
            let gone: Vec<Referred> = watched.keys().filter(|one| !now.contains(*one)).cloned().collect();
            for one in gone {
                watched.remove(&one);
                if changes.send(one.removed()).await.is_err() {
                    return;
                }
            }
            for one in now.iter() {
                if !watched.contains_key(one) {
                    let (stop, stopped) = oneshot::channel();
                    streams.push(watch_one(&client, one.clone(), stopped));
                    watched.insert(one.clone(), stop);
                }
            }
            loop {
                tokio::select! {
                    changed = wanted.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(change) = streams.next(), if !streams.is_empty() => {
                        // What a watch had said before it was ended counts no more.
                        if watched.contains_key(&of(&change)) && changes.send(change).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    };
    tokio::select! {
        () = drain.wait() => {}
        () = changes.closed() => {}
        () = follow => {}
    }
}

fn of(change: &Change) -> Referred {
    let (kind, key) = match change {
        Change::Put { kind, object } => {
            let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
            (kind, NamespacedName::new(text("namespace"), text("name")))
        }
        Change::Removed { kind, key } => (kind, key.clone()),
    };
    if *kind == SECRETS {
        Referred::Secret(key)
    } else {
        Referred::ConfigMap(key)
    }
}

fn watch_one(client: &Client, one: Referred, stopped: oneshot::Receiver<()>) -> Changes {
    let kind = one.kind();
    let selection = Selection {
        namespace: Some(one.key().namespace.clone()),
        fields: Some(format!("metadata.name={}", one.key().name)),
        ..Selection::default()
    };
    let mut there = false;
    let mut listed = false;
    let told = objects::<Whole>(client, &kind, kind.version, &selection)
        .default_backoff()
        .filter_map(move |event| {
            let change = match event {
                Ok(WatchEvent::Init) => {
                    there = false;
                    None
                }
                Ok(WatchEvent::InitApply(object) | WatchEvent::Apply(object)) => {
                    (there, listed) = (true, true);
                    let object = object.value;
                    Some(Change::Put { kind, object })
                }
                Ok(WatchEvent::InitDone) => {
                    listed = true;
                    (!there).then(|| one.removed())
                }
                Ok(WatchEvent::Delete(_)) => Some(one.removed()),
                Err(error) => {
                    tracing::warn!(kind = kind.kind, object = %one.key(), %error, "cannot watch what is referred to; trying again");
                    // Whoever waits for it shall not wait for a permission.
                    let first = !std::mem::replace(&mut listed, true);
                    first.then(|| one.removed())
                }
            };
            std::future::ready(change)
        });
    told.take_until(stopped.map(drop)).boxed()
}
