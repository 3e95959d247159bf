//! The one thread that writes: group commit.
//!
//! Takes whatever waits, decides each write against the state that the accepted ones before it leave, commits them together, publishes, answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, Line};
use super::shard::{Record, Shard, key};
use super::{Change, Shared, Waiting, Write, WriteError};
use crate::object::{self, Object};

/// Writes put into one transaction at most: bounds both its size and how long the first of them waits for the last.
const BATCH_MAX: usize = 256;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    revision: u64,
    shards: HashMap<Arc<str>, Arc<Shard>>,
}

/// A write that was accepted into the present transaction.
struct Accepted {
    resource: Arc<str>,
    key: String,
    record: Arc<Record>,
    reply: oneshot::Sender<Result<Object, WriteError>>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, disk: Disk, revision: u64) -> Self {
        Self {
            shared,
            disk,
            revision: revision.max(super::FIRST_REVISION),
            shards: HashMap::new(),
        }
    }

    pub(crate) fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(first) = waiting.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.commit(batch.drain(..));
        }
    }

    fn commit(&mut self, batch: impl Iterator<Item = Waiting>) {
        let before = self.revision;
        let mut accepted: Vec<Accepted> = Vec::new();
        // What the accepted writes leave behind, by resource and key; `None` after a deletion.
        let mut staged: HashMap<(Arc<str>, String), Option<Object>> = HashMap::new();
        for Waiting { write, reply } in batch {
            let place = (write.resource.clone(), key(&write.namespace, &write.name));
            let present = match staged.get(&place) {
                Some(staged) => staged.clone(),
                None => self.shard(&write.resource).get_key(&place.1),
            };
            match self.decide(write, present) {
                Ok(record) => {
                    let record = Arc::new(record);
                    let left = (!record.deleted).then(|| record.object.clone());
                    staged.insert(place.clone(), left);
                    accepted.push(Accepted {
                        resource: place.0,
                        key: place.1,
                        record,
                        reply,
                    });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        let lines: Vec<Line<'_>> = accepted
            .iter()
            .map(|accepted| Line {
                resource: &accepted.resource,
                key: &accepted.key,
                json: (!accepted.record.deleted).then_some(&accepted.record.json),
                revision: accepted.record.revision,
            })
            .collect();
        if let Err(error) = self.disk.commit(&lines) {
            tracing::error!(%error, writes = accepted.len(), "cannot commit to the database");
            self.revision = before;
            let error = WriteError::Disk(error.to_string());
            for accepted in accepted {
                let _ = accepted.reply.send(Err(error.clone()));
            }
            return;
        }
        self.publish(accepted);
    }

    /// Checks a write against the present object and makes the record of it.
    fn decide(&mut self, write: Write, present: Option<Object>) -> Result<Record, WriteError> {
        let next = self.revision + 1;
        let (mut value, deleted) = match (write.change, &present) {
            (Change::Create(_), Some(_)) => return Err(WriteError::Exists),
            (Change::Create(value), None) => (value, false),
            (Change::Update(..) | Change::Delete(_), None) => return Err(WriteError::Absent),
            (Change::Update(_, expected) | Change::Delete(expected), Some(present))
                if object::revision(present) != expected =>
            {
                return Err(WriteError::Stale);
            }
            (Change::Update(value, _), Some(_)) => (value, false),
            (Change::Delete(_), Some(present)) => ((**present).clone(), true),
        };
        object::set_meta(&mut value, "resourceVersion", next.to_string());
        let json = serde_json::to_vec(&value).map_err(|error| WriteError::Disk(error.to_string()))?;
        self.revision = next;
        Ok(Record::new(next, present, Arc::new(value), deleted, Bytes::from(json)))
    }

    fn publish(&mut self, accepted: Vec<Accepted>) {
        let mut by_resource: HashMap<Arc<str>, Vec<Arc<Record>>> = HashMap::new();
        for accepted in &accepted {
            by_resource
                .entry(accepted.resource.clone())
                .or_default()
                .push(accepted.record.clone());
        }
        for (resource, records) in by_resource {
            self.shard(&resource).publish(records);
        }
        self.shared.revision.store(self.revision, Ordering::Release);
        for accepted in accepted {
            let _ = accepted.reply.send(Ok(accepted.record.object.clone()));
        }
    }

    fn shard(&mut self, resource: &Arc<str>) -> Arc<Shard> {
        self.shards
            .entry(resource.clone())
            .or_insert_with(|| self.shared.shard(resource))
            .clone()
    }
}
