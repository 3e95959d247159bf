//! What a control loop may want done, as plain values; and the shape of a control loop.
//!
//! Loops decide, `driver` does: nothing here touches the API, so that every decision can be tested by comparing values.

use std::time::Duration;

use corten_apiserver::{Propagation, ResourceId, Status};
use jiff::Timestamp;
use serde_json::Value;

use super::cache::{Change, Objects, Place};
use super::object::Key;

/// One thing to do. A list of actions is done in order and ends at the first failure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make an object. `{name}` in the announcement, which is recorded when it worked, stands for the made object's name.
    Create {
        resource: ResourceId,
        object: Value,
        announce: Option<Notice>,
    },
    /// Replace an object, unless somebody changed it since it was read.
    Update { resource: ResourceId, object: Value },
    /// Replace an object's status, unless somebody changed it since it was read.
    UpdateStatus { resource: ResourceId, object: Value },
    /// Merge-patch an object, or a subresource of it. An object that is gone is no failure.
    Patch {
        place: Place,
        subresource: Option<&'static str>,
        patch: Value,
        announce: Option<Notice>,
    },
    /// Delete the object that has this uid. One that is gone is no failure. The announcement is as for `Create`.
    Delete {
        place: Place,
        uid: String,
        propagation: Option<Propagation>,
        grace_seconds: Option<i64>,
        announce: Option<Notice>,
    },
    /// Delete the dependent, if indeed none of its owners exists.
    Collect {
        dependent: Place,
        uid: String,
        owners: Vec<Owner>,
    },
    /// Take a namespace's last finalizer off, if indeed nothing is left in it.
    Finalize {
        namespace: String,
        contents: Vec<ResourceId>,
    },
    /// Record an event.
    Notify(Notice),
    /// Do all of these side by side, at first few, then more and more: so that what fails for all fails for few.
    Batch(Vec<Action>),
    /// Do all of these side by side, whether or not some fail.
    All(Vec<Action>),
    /// Look at the key again after a while.
    Again(Duration),
}

/// An owner as an owner reference names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    pub(crate) place: Place,
    pub(crate) uid: String,
}

/// An event to record about an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) regarding: Value,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The part that speaks, for example `deployment-controller`.
    pub(crate) component: &'static str,
    /// What was being done, in the newer form of events that the scheduler uses.
    pub(crate) action: Option<&'static str>,
}

impl Notice {
    pub(crate) fn normal(component: &'static str, about: &Value, reason: &'static str, message: String) -> Self {
        Self {
            regarding: super::event::reference(about),
            warning: false,
            reason,
            message,
            component,
            action: None,
        }
    }

    pub(crate) fn warning(component: &'static str, about: &Value, reason: &'static str, message: String) -> Self {
        Self {
            warning: true,
            ..Self::normal(component, about, reason, message)
        }
    }
}

/// An action that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) action: Action,
    pub(crate) status: Status,
}

impl Failure {
    /// Whether making an object of this resource failed.
    pub(crate) fn is_create(&self, of: &ResourceId) -> bool {
        matches!(&self.action, Action::Create { resource, .. } if resource == of)
    }

    /// Whether the namespace is being emptied, so that nothing can be made in it and nobody need be told.
    pub(crate) fn is_terminating(&self) -> bool {
        self.status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(|cause| cause.reason == "NamespaceTerminating")
    }
}

/// A control loop: which keys a change concerns, and what is to be done about a key. Both are pure.
pub(crate) trait Controller: Send + Sync + 'static {
    /// The name in logs.
    fn name(&self) -> &'static str;

    /// The keys to look at after a change.
    fn keys(&self, change: &Change, objects: &Objects) -> Vec<Key>;

    /// The keys to look at once at the start, whether or not anything is there.
    fn start(&self) -> Vec<Key> {
        Vec::new()
    }

    /// What to do about a key.
    fn reconcile(&self, key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action>;

    /// What to do because an action for a key failed (other than trying again later, which happens anyway).
    fn failed(&self, _key: &Key, _objects: &Objects, _now: Timestamp, _failure: &Failure) -> Vec<Action> {
        Vec::new()
    }

    /// How many keys may be worked on at a time.
    fn workers(&self) -> usize {
        2
    }

    /// How long to wait for more changes before looking at a key.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

/// Shorthand for the place of an object.
pub(crate) fn place(resource: &ResourceId, object: &Value) -> Place {
    Place {
        resource: resource.clone(),
        key: Key::of(object),
    }
}
