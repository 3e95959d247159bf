//! One resource's objects and its watch history.
//!
//! Readers take the lock only to clone references. Watchers hold a place in the history, not a queue: one that is slow costs nothing, and
//! learns that it is [`Expired`] when the history has moved past it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::object::Object;

/// Events kept for each resource.
const HISTORY_EVENTS_MAX: usize = 4096;
/// Bytes of serialized events kept for each resource.
const HISTORY_BYTES_MAX: usize = 4 << 20;
/// How long an event is kept at least, when there is room; as long as the real API server's etcd keeps revisions.
const HISTORY_AGE_MAX: Duration = Duration::from_secs(300);

/// The revision asked for is older than the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub(crate) struct Expired {
    /// The revision asked for.
    pub(crate) asked: u64,
    /// The oldest revision that can be watched from.
    pub(crate) oldest: u64,
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Record {
    /// The revision of the change.
    pub(crate) revision: u64,
    /// The object before; absent for a creation.
    pub(crate) old: Option<Object>,
    /// The object after; for a deletion, the last state with the deletion's revision.
    pub(crate) object: Object,
    /// Whether the object is gone.
    pub(crate) deleted: bool,
    /// `object` as JSON.
    pub(crate) json: Bytes,
    /// Lines of a watch stream by type, made when the first watcher needs them and shared by the rest.
    frames: [OnceLock<Bytes>; 3],
    at: Instant,
}

/// The types of watch events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Added = 0,
    Modified = 1,
    Deleted = 2,
}

impl Type {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Record {
    pub(crate) fn new(revision: u64, old: Option<Object>, object: Object, deleted: bool, json: Bytes) -> Self {
        Self {
            revision,
            old,
            object,
            deleted,
            json,
            frames: Default::default(),
            at: Instant::now(),
        }
    }

    /// The type of the event for a watcher who sees every object.
    pub(crate) fn kind(&self) -> Type {
        match (&self.old, self.deleted) {
            (_, true) => Type::Deleted,
            (None, false) => Type::Added,
            (Some(_), false) => Type::Modified,
        }
    }

    /// The line of a watch stream, shared between all watchers.
    pub(crate) fn frame(&self, kind: Type) -> Bytes {
        self.frames[kind as usize]
            .get_or_init(|| frame(kind.word(), &self.json))
            .clone()
    }
}

/// `{"type":"ADDED","object":...}` and a line feed.
pub(crate) fn frame(kind: &str, json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(json.len() + 32);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// The objects of a resource at a revision.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Object>,
    pub(crate) revision: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Object>,
    history: VecDeque<Arc<Record>>,
    history_bytes: usize,
    /// Changes up to this revision are no longer in the history.
    compacted: u64,
    /// The revision of the newest change.
    changed: u64,
}

/// One resource.
#[derive(Debug)]
pub(crate) struct Shard {
    state: RwLock<State>,
    wake: watch::Sender<u64>,
}

/// The key of an object in its shard: ordered as the real API orders lists.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

fn range(namespace: Option<&str>) -> (std::ops::Bound<String>, std::ops::Bound<String>) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    match namespace {
        Some(namespace) => (
            Included(format!("{namespace}/")),
            // '0' follows '/'.
            Excluded(format!("{namespace}0")),
        ),
        None => (Unbounded, Unbounded),
    }
}

impl Shard {
    /// A resource that was never written: every revision of it can be watched from.
    pub(crate) fn new() -> Self {
        Self::loaded(BTreeMap::new(), super::FIRST_REVISION)
    }

    pub(crate) fn loaded(objects: BTreeMap<String, Object>, changed: u64) -> Self {
        Self {
            state: RwLock::new(State {
                objects,
                history: VecDeque::new(),
                history_bytes: 0,
                compacted: changed,
                changed,
            }),
            wake: watch::Sender::new(changed),
        }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        self.read().objects.get(&key(namespace, name)).cloned()
    }

    pub(crate) fn get_key(&self, key: &str) -> Option<Object> {
        self.read().objects.get(key).cloned()
    }

    pub(crate) fn list(&self, namespace: Option<&str>) -> Snapshot {
        let state = self.read();
        Snapshot {
            objects: state.objects.range(range(namespace)).map(|(_, o)| o.clone()).collect(),
            revision: state.changed,
        }
    }

    /// The revision of the newest change.
    pub(crate) fn changed(&self) -> u64 {
        self.read().changed
    }

    /// The objects as they were at a revision, undone from the history.
    pub(crate) fn list_at(&self, namespace: Option<&str>, revision: u64) -> Result<Snapshot, Expired> {
        let state = self.read();
        if revision < state.compacted {
            return Err(Expired {
                asked: revision,
                oldest: state.compacted,
            });
        }
        let mut objects: BTreeMap<&str, &Object> = state
            .objects
            .range(range(namespace))
            .map(|(key, object)| (key.as_str(), object))
            .collect();
        let keys: Vec<String> = state
            .history
            .iter()
            .map(|record| {
                key(
                    crate::object::namespace(&record.object),
                    crate::object::name(&record.object),
                )
            })
            .collect();
        for (record, key) in state.history.iter().zip(&keys).rev() {
            if record.revision <= revision {
                break;
            }
            if namespace.is_some_and(|namespace| crate::object::namespace(&record.object) != namespace) {
                continue;
            }
            match &record.old {
                Some(old) => objects.insert(key, old),
                None => objects.remove(key.as_str()),
            };
        }
        Ok(Snapshot {
            objects: objects.into_values().cloned().collect(),
            revision,
        })
    }

    /// A place in the history after a revision.
    pub(crate) fn cursor(self: &Arc<Self>, after: u64) -> Result<Cursor, Expired> {
        let oldest = self.read().compacted;
        if after < oldest {
            return Err(Expired { asked: after, oldest });
        }
        Ok(Cursor {
            wake: self.wake.subscribe(),
            shard: self.clone(),
            after,
        })
    }

    /// Makes changes visible. Called by the writer alone, with rising revisions.
    pub(crate) fn publish(&self, records: Vec<Arc<Record>>) {
        let Some(newest) = records.last().map(|r| r.revision) else {
            return;
        };
        {
            let mut state = self.state.write().expect("no panic under this lock");
            for record in records {
                let key = key(
                    crate::object::namespace(&record.object),
                    crate::object::name(&record.object),
                );
                if record.deleted {
                    state.objects.remove(&key);
                } else {
                    state.objects.insert(key, record.object.clone());
                }
                state.history_bytes += record.json.len();
                state.history.push_back(record);
            }
            state.changed = newest;
            state.trim(HISTORY_EVENTS_MAX);
        }
        self.wake.send_replace(newest);
    }

    /// Forgets history until at most `events_max` events are left, as if time had passed.
    pub(crate) fn compact(&self, events_max: usize) {
        self.state.write().expect("no panic under this lock").trim(events_max);
        // Watchers that are now too late learn it at once.
        self.wake.send_modify(|_| {});
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic under this lock")
    }
}

impl State {
    fn trim(&mut self, events_max: usize) {
        while let Some(oldest) = self.history.front() {
            let full = self.history.len() > events_max || self.history_bytes > HISTORY_BYTES_MAX;
            if !full && oldest.at.elapsed() < HISTORY_AGE_MAX {
                break;
            }
            self.history_bytes -= oldest.json.len();
            self.compacted = oldest.revision;
            self.history.pop_front();
        }
    }
}

/// A watcher's place in the history of one resource.
#[derive(Debug)]
pub(crate) struct Cursor {
    shard: Arc<Shard>,
    wake: watch::Receiver<u64>,
    after: u64,
}

impl Cursor {
    /// The changes since the last call, at most `limit`, without waiting.
    pub(crate) fn take(&mut self, limit: usize) -> Result<Vec<Arc<Record>>, Expired> {
        self.wake.borrow_and_update();
        let state = self.shard.read();
        if self.after < state.compacted {
            return Err(Expired {
                asked: self.after,
                oldest: state.compacted,
            });
        }
        let from = state.history.partition_point(|record| record.revision <= self.after);
        let records: Vec<_> = state.history.range(from..).take(limit).cloned().collect();
        if let Some(newest) = records.last() {
            self.after = newest.revision;
        }
        Ok(records)
    }

    /// Waits until there may be something to [`take`](Self::take). False when the store is gone. Cancel safe.
    pub(crate) async fn wait(&mut self) -> bool {
        self.wake.changed().await.is_ok()
    }

    /// Waits for changes. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<Record>>, Expired> {
        loop {
            let records = self.take(256)?;
            if !records.is_empty() {
                return Ok(records);
            }
            if !self.wait().await {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The revision after which the next change is taken.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }
}
