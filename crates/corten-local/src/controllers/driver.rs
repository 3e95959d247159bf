//! Does what the loops decided: applies actions through the API, feeds the answers into the cache, and runs the loops' workers.
//!
//! Dull by intent. What is to be done is decided in the loops; here is only how.

use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::resources::{EVENTS, NAMESPACES};
use corten_apiserver::{Client, DeleteOptions, Object, Patch, Preconditions, Propagation, ResourceId, Status};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use serde_json::json;

use super::action::{Action, Controller, Failure, Notice, Owner};
use super::cache::{Cache, Change, Place};
use super::event::Recorder;
use super::object::{self, Key};
use super::queue::Queue;

/// The size of the first batch of side-by-side actions; each further one is twice as large.
const BATCH_FIRST: usize = 1;
/// The largest batch.
const BATCH_MAX: usize = 64;

/// What all loops share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) cache: Cache,
    pub(crate) recorder: Recorder,
    pub(crate) loops: Vec<Running>,
}

/// A loop and its queue.
pub(crate) struct Running {
    pub(crate) controller: Box<dyn Controller>,
    pub(crate) queue: Queue,
}

impl Shared {
    /// Tells every loop of a change.
    pub(crate) fn publish(&self, change: &Change) {
        let objects = self.cache.read();
        for running in &self.loops {
            for key in running.controller.keys(change, &objects) {
                running.queue.add_after(key, running.controller.settle());
            }
        }
    }

    fn publish_all(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.publish(&change);
        }
    }

    fn written(&self, resource: &ResourceId, object: Object) {
        let change = self.cache.write(|objects| objects.written(resource, object));
        self.publish_all(change);
    }

    /// Works on the keys of one loop, one at a time, for ever.
    pub(crate) async fn work(self: Arc<Self>, index: usize) {
        let Running { controller, queue } = &self.loops[index];
        loop {
            let key = queue.next().await;
            let success = self.look(&**controller, queue, &key).await;
            queue.done(&key, success);
        }
    }

    async fn look(&self, controller: &dyn Controller, queue: &Queue, key: &Key) -> bool {
        let actions = controller.reconcile(key, &self.cache.read(), Timestamp::now());
        let Err(failure) = self.perform_all(actions, queue, key).await else {
            return true;
        };
        let status = &failure.status;
        if status.is_conflict() {
            tracing::debug!(controller = controller.name(), %key, %status, "will look again");
        } else {
            tracing::info!(controller = controller.name(), %key, %status, "an action failed");
        }
        let actions = controller.failed(key, &self.cache.read(), Timestamp::now(), &failure);
        // A failure of the report is as good as none: the key comes back anyway.
        let _ = self.perform_all(actions, queue, key).await;
        false
    }

    async fn perform_all(&self, actions: Vec<Action>, queue: &Queue, key: &Key) -> Result<(), Box<Failure>> {
        for action in actions {
            match action {
                Action::Again(wait) => queue.add_after(key.clone(), wait),
                Action::Batch(actions) => self.perform_batch(actions).await?,
                Action::All(actions) => self.perform_every(actions).await?,
                action => self.perform(action).await?,
            }
        }
        Ok(())
    }

    /// Side by side, in growing batches; ends after the first batch with a failure.
    async fn perform_batch(&self, actions: Vec<Action>) -> Result<(), Box<Failure>> {
        let mut actions = actions.into_iter();
        let mut size = BATCH_FIRST;
        loop {
            let batch: Vec<_> = actions.by_ref().take(size).map(|action| self.perform(action)).collect();
            if batch.is_empty() {
                return Ok(());
            }
            for result in join_all(batch).await {
                result?;
            }
            size = (size * 2).min(BATCH_MAX);
        }
    }

    /// Side by side, all of them; the first failure is reported at the end.
    async fn perform_every(&self, actions: Vec<Action>) -> Result<(), Box<Failure>> {
        futures_util::stream::iter(actions.into_iter().map(|action| self.perform(action)))
            .buffered(BATCH_MAX)
            .fold(Ok(()), async |first: Result<(), Box<Failure>>, result| {
                first.and(result)
            })
            .await
    }

    fn perform(&self, action: Action) -> BoxFuture<'_, Result<(), Box<Failure>>> {
        Box::pin(async move {
            let result = self.attempt(&action).await;
            result.map_err(|status| Box::new(Failure { action, status }))
        })
    }

    async fn attempt(&self, action: &Action) -> Result<(), Status> {
        match action {
            Action::Create {
                resource,
                object,
                announce,
            } => {
                let made = self.client.create(resource, object.clone()).await?;
                self.announce(announce.as_ref(), object::name(&made));
                self.written(resource, made);
            }
            Action::Update { resource, object } => {
                let result = self.client.update(resource, object.clone()).await;
                self.written(resource, result?);
            }
            Action::UpdateStatus { resource, object } => {
                let result = self.client.update_status(resource, object.clone()).await;
                self.written(resource, result?);
            }
            Action::Patch {
                place,
                subresource,
                patch,
                announce,
            } => {
                let Place { resource, key } = place;
                let patch = Patch::Merge(patch.clone());
                let result = self
                    .client
                    .patch(resource, &key.namespace, &key.name, *subresource, patch)
                    .await;
                match result {
                    Err(status) if status.is_not_found() => {}
                    result => {
                        self.written(resource, result?);
                        self.announce(announce.as_ref(), &key.name);
                    }
                }
            }
            Action::Delete {
                place,
                uid,
                propagation,
                grace_seconds,
                announce,
            } => {
                if self.delete(place, uid, *propagation, *grace_seconds).await? {
                    self.announce(announce.as_ref(), &place.key.name);
                }
            }
            Action::Collect { dependent, uid, owners } => self.collect(dependent, uid, owners).await?,
            Action::Finalize { namespace, contents } => self.finalize(namespace, contents).await?,
            Action::Notify(notice) => self.recorder.record(notice.clone()),
            // Only meaningful at the top of a list, where they are handled.
            Action::Batch(_) | Action::All(_) | Action::Again(_) => {}
        }
        Ok(())
    }

    fn announce(&self, notice: Option<&Notice>, name: &str) {
        if let Some(notice) = notice {
            let message = notice.message.replace("{name}", name);
            self.recorder.record(Notice {
                message,
                ..notice.clone()
            });
        }
    }

    /// Deletes an object; false when it was gone already, or is another of that name.
    async fn delete(
        &self,
        place: &Place,
        uid: &str,
        propagation: Option<Propagation>,
        grace_seconds: Option<i64>,
    ) -> Result<bool, Status> {
        let Place { resource, key } = place;
        let options = DeleteOptions {
            grace_seconds,
            propagation,
            preconditions: Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            },
            ..DeleteOptions::default()
        };
        let last = match self.client.delete(resource, &key.namespace, &key.name, options).await {
            Ok(last) => last,
            Err(status) if status.is_not_found() || status.is_conflict() => return Ok(false),
            Err(status) => return Err(status),
        };
        let lingers = object::is_deleting(&last)
            && (!object::items(&last, "/metadata/finalizers").is_empty()
                || object::number(&last, "/metadata/deletionGracePeriodSeconds").is_some_and(|grace| grace > 0));
        if lingers {
            self.written(resource, last);
        } else {
            let change = self.cache.write(|objects| objects.removed(resource, key, uid));
            self.publish_all(change);
        }
        Ok(true)
    }

    /// Deletes a dependent after asking the API itself for each owner: the cache may not have seen an owner that was just made.
    async fn collect(&self, dependent: &Place, uid: &str, owners: &[Owner]) -> Result<(), Status> {
        for owner in owners {
            let Place { resource, key } = &owner.place;
            match self.client.get(resource, &key.namespace, &key.name).await {
                Ok(found) if object::uid(&found) == owner.uid => return Ok(()),
                Ok(_) => {}
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        self.delete(dependent, uid, Some(Propagation::Background), None)
            .await
            .map(|_| ())
    }

    /// Lets a namespace go, unless the API still has something in it.
    async fn finalize(&self, namespace: &str, contents: &[ResourceId]) -> Result<(), Status> {
        for resource in contents {
            let left = match self.client.list(resource, Some(namespace), None, None).await {
                Ok(left) => left,
                // A custom resource may have stopped being served.
                Err(status) if status.is_not_found() => continue,
                Err(status) => return Err(status),
            };
            if !left.is_empty() {
                let why = format!("{} {resource} are left in it", left.len());
                return Err(Status::conflict("", "namespaces", namespace, &why));
            }
        }
        let current = self.client.get(&NAMESPACES, "", namespace).await?;
        let mut released = (*current).clone();
        object::put(&mut released, &["spec", "finalizers"], json!([]));
        self.client.finalize(released).await?;
        Ok(())
    }

    /// Writes the events that the recorder hands out, one after the other. Events are news, not state: one that fails is dropped.
    pub(crate) async fn write_events(self: Arc<Self>) {
        loop {
            let notice = self.recorder.next().await;
            let Err(status) = self.write_event(&notice).await else {
                continue;
            };
            tracing::debug!(reason = notice.reason, %status, "an event was not recorded");
        }
    }

    async fn write_event(&self, notice: &Notice) -> Result<(), Status> {
        let now = Timestamp::now();
        if let Some((key, patch)) = self.recorder.repeat(notice, now) {
            let patched = self
                .client
                .patch(&EVENTS, &key.namespace, &key.name, None, Patch::Merge(patch))
                .await;
            match patched {
                Err(status) if status.is_not_found() => self.recorder.forget(notice),
                result => return result.map(|event| self.written(&EVENTS, event)),
            }
        }
        let event = super::event::first(notice, now);
        let made = self.client.create(&EVENTS, event).await?;
        self.recorder.remember(notice, Key::of(&made));
        self.written(&EVENTS, made);
        Ok(())
    }

    /// Follows one resource for ever: feeds the cache and tells the loops. `ready` resolves when the first state is in.
    pub(crate) async fn follow(self: Arc<Self>, resource: ResourceId, ready: tokio::sync::oneshot::Sender<()>) {
        let mut ready = Some(ready);
        let mut refused = false;
        loop {
            match self.client.watch(&resource, None).await {
                Ok(mut watch) => {
                    while let Some(event) = watch.next().await {
                        self.take(&resource, event, &mut ready);
                    }
                    return;
                }
                // A resource that has just been defined is served a moment later.
                Err(_) if !refused => {
                    refused = true;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(status) => {
                    tracing::warn!(%resource, %status, "cannot watch, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn take(
        &self,
        resource: &ResourceId,
        event: corten_apiserver::Event,
        ready: &mut Option<tokio::sync::oneshot::Sender<()>>,
    ) {
        use corten_apiserver::Event;
        let change = match event {
            Event::Added(object) | Event::Modified { new: object, .. } => {
                self.cache.write(|objects| objects.shown(resource, object))
            }
            Event::Deleted(object) => self.cache.write(|objects| objects.ended(resource, &object)),
            Event::Synced => {
                self.cache.write(|objects| objects.synced(resource));
                // Nobody waiting any more is fine.
                ready.take().map(|ready| ready.send(()));
                None
            }
        };
        self.publish_all(change);
    }
}
