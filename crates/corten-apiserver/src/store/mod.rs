//! The store: every object in memory, every acknowledged write on disk, a bounded history for watchers.
//!
//! One thread writes. It takes all waiting writes together, checks each against the state that the ones before it leave, puts them into one
//! durable transaction, publishes them to memory and history, and only then answers. Readers never wait for the disk.
//! The store knows resources by name and objects by key; it knows no kinds, no admission, no HTTP.

mod disk;
mod shard;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub(crate) use disk::Medium;
pub(crate) use shard::{Cursor, Shard, Snapshot, Type, frame};
pub(crate) use shard::{Expired, Record};

use crate::object::Object;

/// How many writes may wait for the writer before callers wait for a place.
const WRITES_WAITING_MAX: usize = 1024;

/// The revision of an empty store. Not zero, which means "any" in the protocol.
const FIRST_REVISION: u64 = 1;

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) resource: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) change: Change,
}

/// What a [`Write`] does.
#[derive(Debug)]
pub(crate) enum Change {
    /// The object must not exist yet.
    Create(Value),
    /// The object must be at this revision.
    Update(Value, u64),
    /// The object must be at this revision.
    Delete(u64),
}

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the object exists already")]
    Exists,
    #[error("the object does not exist")]
    Absent,
    #[error("the object has been modified")]
    Stale,
    #[error("cannot write to the database: {0}")]
    Disk(String),
    #[error("the store is closed")]
    Closed,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the database: {0}")]
pub struct OpenError(#[from] pub(crate) disk::DiskError);

pub(crate) struct Waiting {
    write: Write,
    reply: oneshot::Sender<Result<Object, WriteError>>,
}

/// All objects.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writes: Mutex<Option<mpsc::Sender<Waiting>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the writer and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    shards: RwLock<HashMap<Arc<str>, Arc<Shard>>>,
    /// The newest published revision.
    revision: AtomicU64,
}

impl Shared {
    pub(crate) fn shard(&self, resource: &str) -> Arc<Shard> {
        if let Some(shard) = self.shards.read().expect("no panic under this lock").get(resource) {
            return shard.clone();
        }
        let mut shards = self.shards.write().expect("no panic under this lock");
        shards
            .entry(Arc::from(resource))
            .or_insert_with(|| Arc::new(Shard::new()))
            .clone()
    }
}

impl Store {
    /// Opens the database in a directory, made when it is absent.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::on(Medium::File(dir.join("objects.redb")))
    }

    /// A store that forgets everything when it is dropped.
    pub(crate) fn in_memory() -> Result<Self, OpenError> {
        Self::on(Medium::Memory)
    }

    /// A store on a medium.
    pub(crate) fn on(medium: Medium) -> Result<Self, OpenError> {
        let mut disk = disk::Disk::open(medium)?;
        let loaded = disk.load()?;
        let mut shards = HashMap::new();
        for (resource, contents) in loaded.resources {
            shards.insert(
                Arc::from(resource),
                Arc::new(Shard::loaded(contents.objects, contents.changed)),
            );
        }
        let shared = Arc::new(Shared {
            shards: RwLock::new(shards),
            revision: AtomicU64::new(loaded.revision.max(FIRST_REVISION)),
        });
        let (writes, waiting) = mpsc::channel(WRITES_WAITING_MAX);
        let writer = writer::Writer::new(shared.clone(), disk, loaded.revision);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(disk::DiskError::from)?;
        Ok(Self {
            shared,
            writes: Mutex::new(Some(writes)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    /// The shard of a resource, made when it is new.
    pub(crate) fn shard(&self, resource: &str) -> Arc<Shard> {
        self.shared.shard(resource)
    }

    /// An object.
    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.shard(resource).get(namespace, name)
    }

    /// The objects of a resource, in the order of their keys, and the revision this is true of.
    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> Snapshot {
        // Read before the shard: what the shard shows is at least this new.
        let published = self.revision();
        let mut snapshot = self.shard(resource).list(namespace);
        snapshot.revision = snapshot.revision.max(published);
        snapshot
    }

    /// Does a change and returns the object as stored (after a deletion: as it last was). Returns after the change is durable.
    pub(crate) async fn write(&self, write: Write) -> Result<Object, WriteError> {
        let sender = self.writes.lock().expect("no panic under this lock").clone();
        let Some(sender) = sender else {
            return Err(WriteError::Closed);
        };
        let (reply, answer) = oneshot::channel();
        sender
            .send(Waiting { write, reply })
            .await
            .map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)?
    }

    /// Ends the writer after the writes that wait, and closes the database.
    pub(crate) fn close(&self) {
        self.writes.lock().expect("no panic under this lock").take();
        if let Some(thread) = self.thread.lock().expect("no panic under this lock").take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
