//! The in-process client: the API's verbs as a named user, without HTTP between.
//!
//! What it does goes through the same admission, validation and storage as a request from outside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::api::Api;
use crate::context::{Context, FieldValidation, User};
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::resources::ResourceId;
use crate::selector::{FieldSelector, LabelSelector, Selector};
use crate::status::Status;
use crate::store::{Cursor, Record};
use crate::verbs::{self, DeleteOptions, Part};

/// A client of an [`Api`] in the same process.
#[derive(Clone, Debug)]
pub struct Client {
    api: Arc<Api>,
    context: Context,
}

/// A change to a stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
    /// Server-side apply.
    Apply {
        /// The fields that the manager wants to have and own.
        object: Value,
        /// Take fields over from other managers.
        force: bool,
    },
}

/// A change seen by a [`Watch`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object is there.
    Added(Object),
    /// An object changed.
    Modified {
        /// As it was.
        old: Object,
        /// As it is.
        new: Object,
    },
    /// An object is gone; as it last was.
    Deleted(Object),
    /// All objects that were there when the watch began have been told.
    Synced,
}

impl Client {
    /// A client that acts as `user`, which is also the manager of the fields that it writes.
    pub fn new(api: Arc<Api>, user: &str) -> Self {
        let manager = user.rsplit(':').next().unwrap_or(user).to_owned();
        let mut context = Context::new(Arc::new(User::system(user)), manager);
        context.validation = FieldValidation::Ignore;
        Self { api, context }
    }

    /// The API behind it.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// One object. The namespace is empty for resources of the cluster.
    pub async fn get(&self, r: &ResourceId, namespace: &str, name: &str) -> Result<Object, Status> {
        verbs::get(&self.api, &*self.api.resource(r)?, namespace, name)
    }

    /// The objects of a namespace or of all, by label and field selectors.
    pub async fn list(
        &self,
        r: &ResourceId,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Vec<Object>, Status> {
        let selector = Selector {
            labels: LabelSelector::parse(labels.unwrap_or("")).map_err(Status::bad_request)?,
            fields: FieldSelector::parse(fields.unwrap_or("")).map_err(Status::bad_request)?,
        };
        Ok(verbs::list(&self.api, &*self.api.resource(r)?, namespace, &selector).0)
    }

    /// Follows the objects of a namespace or of all.
    pub async fn watch(&self, r: &ResourceId, namespace: Option<&str>) -> Result<Watch, Status> {
        Ok(Watch {
            resource: self.api.resource(r)?,
            api: self.api.clone(),
            namespace: namespace.map(str::to_owned),
            cursor: None,
            synced: false,
            known: BTreeMap::new(),
            ready: VecDeque::new(),
        })
    }

    /// One whose writes go through everything and are not stored.
    #[must_use]
    pub fn dry_run(&self) -> Client {
        let mut client = self.clone();
        client.context.dry_run = true;
        client
    }

    /// Creates an object; the namespace is the one in its metadata.
    pub async fn create(&self, r: &ResourceId, object: Value) -> Result<Object, Status> {
        let resource = self.api.resource(r)?;
        let namespace = object::namespace(&object).to_owned();
        verbs::create(&self.api, &self.context, &resource, &namespace, object).await
    }

    /// Replaces an object. A conflict when its `resourceVersion` is stale.
    pub async fn update(&self, r: &ResourceId, object: Value) -> Result<Object, Status> {
        self.put(r, Part::Main, object).await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, r: &ResourceId, object: Value) -> Result<Object, Status> {
        self.put(r, Part::Status, object).await
    }

    /// Replaces a namespace's `spec.finalizers`.
    pub async fn finalize(&self, namespace: Value) -> Result<Object, Status> {
        self.put(&crate::resources::NAMESPACES, Part::Finalize, namespace).await
    }

    async fn put(&self, r: &ResourceId, part: Part, object: Value) -> Result<Object, Status> {
        let resource = self.api.resource(r)?;
        let (namespace, name) = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        verbs::update(&self.api, &self.context, &resource, part, &namespace, &name, object).await
    }

    /// Changes an object, or its `status` subresource.
    pub async fn patch(
        &self,
        r: &ResourceId,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<Object, Status> {
        let resource = self.api.resource(r)?;
        let part = match subresource {
            None => Part::Main,
            Some("status") if resource.has_status() => Part::Status,
            Some(other) => return Err(Status::not_served(&format!("{r}/{other}"))),
        };
        verbs::patch(&self.api, &self.context, &resource, part, namespace, name, &patch).await
    }

    /// A token of a service account; `request` is a `TokenRequest` object, and so is the answer.
    pub async fn create_token(&self, namespace: &str, account: &str, request: &Value) -> Result<Value, Status> {
        self.api.tokens().request(&self.api, namespace, account, request)
    }

    /// Deletes an object, or begins to. Returns it as it last was or as it is now.
    pub async fn delete(
        &self,
        r: &ResourceId,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<Object, Status> {
        let resource = self.api.resource(r)?;
        verbs::delete(&self.api, &self.context, &resource, namespace, name, &options)
            .await
            .map(verbs::Deleted::object)
    }
}

/// Follows a resource: the present objects as [`Event::Added`], then [`Event::Synced`], then changes. Never loses an event: when it fell behind
/// the history it lists again by itself and tells the difference.
#[derive(Debug)]
pub struct Watch {
    api: Arc<Api>,
    resource: Arc<Resource>,
    namespace: Option<String>,
    cursor: Option<Cursor>,
    synced: bool,
    /// What has been told, by namespace and name.
    known: BTreeMap<(String, String), Object>,
    ready: VecDeque<Event>,
}

impl Watch {
    /// The next event; `None` when the API is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let Some(cursor) = &mut self.cursor else {
                self.list();
                continue;
            };
            match cursor.next().await {
                Ok(records) => {
                    for record in records {
                        self.tell(&record);
                    }
                }
                Err(_expired) => self.cursor = None,
            }
        }
    }

    /// The objects that have been told and not been deleted, as of the last event taken.
    pub fn known(&self) -> impl Iterator<Item = &Object> {
        self.known.values()
    }

    fn list(&mut self) {
        let snapshot = self.api.store.list(&self.resource.storage, self.namespace.as_deref());
        let present: BTreeMap<(String, String), Object> = snapshot
            .objects
            .into_iter()
            .map(|object| {
                let object = verbs::in_version(&self.resource, object);
                (place(&object), object)
            })
            .collect();
        for (place, old) in std::mem::take(&mut self.known) {
            if !present.contains_key(&place) {
                self.ready.push_back(Event::Deleted(old));
            } else {
                self.known.insert(place, old);
            }
        }
        for (place, new) in present {
            match self.known.insert(place, new.clone()) {
                None => self.ready.push_back(Event::Added(new)),
                Some(old) if object::uid(&old) != object::uid(&new) => {
                    self.ready.push_back(Event::Deleted(old));
                    self.ready.push_back(Event::Added(new));
                }
                Some(old) if object::resource_version(&old) != object::resource_version(&new) => {
                    self.ready.push_back(Event::Modified { old, new });
                }
                Some(_) => {}
            }
        }
        if !self.synced {
            self.synced = true;
            self.ready.push_back(Event::Synced);
        }
        // The history may move on between the list and this; then the next round lists again.
        self.cursor = self
            .api
            .store
            .shard(&self.resource.storage)
            .cursor(snapshot.revision)
            .ok();
    }

    fn tell(&mut self, record: &Record) {
        let object = verbs::in_version(&self.resource, record.object.clone());
        let place = place(&object);
        if self.namespace.as_deref().is_some_and(|namespace| namespace != place.0) {
            return;
        }
        if record.deleted {
            self.known.remove(&place);
            self.ready.push_back(Event::Deleted(object));
            return;
        }
        let event = match self.known.insert(place, object.clone()) {
            Some(old) => Event::Modified { old, new: object },
            None => Event::Added(object),
        };
        self.ready.push_back(event);
    }
}

fn place(object: &Value) -> (String, String) {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

#[cfg(test)]
mod tests;
