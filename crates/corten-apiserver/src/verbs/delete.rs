//! delete and deletecollection: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::refused;
use super::update::is_released;
use crate::api::Api;
use crate::context::Context;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Change, Write, WriteError};

/// How a deletion is to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    /// Seconds that a pod has to end; absent for its own choice, 0 for at once.
    pub grace_seconds: Option<i64>,
    /// What happens to the objects that it owns.
    pub propagation: Option<Propagation>,
    /// What must be true of the object.
    pub preconditions: Preconditions,
    /// Go through everything, but delete nothing.
    pub dry_run: bool,
}

/// What must be true of an object for it to be deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// What happens to the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner.
    Orphan,
    /// They are collected afterwards.
    Background,
    /// They go first.
    Foreground,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` object.
    pub fn from_object(value: &Value) -> Result<Self, Status> {
        let propagation = match value["propagationPolicy"].as_str() {
            None => match value["orphanDependents"].as_bool() {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
            Some(word) => Some(Propagation::parse(word)?),
        };
        let string = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            grace_seconds: value["gracePeriodSeconds"].as_i64(),
            propagation,
            preconditions: Preconditions {
                uid: string(&value["preconditions"]["uid"]),
                resource_version: string(&value["preconditions"]["resourceVersion"]),
            },
            dry_run: object::strings(&value["dryRun"]).contains(&"All"),
        })
    }
}

impl Propagation {
    /// Reads a `propagationPolicy`.
    pub fn parse(word: &str) -> Result<Self, Status> {
        match word {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            other => Err(Status::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                vec![crate::status::Cause {
                    reason: "FieldValueNotSupported".to_owned(),
                    message: format!(
                        "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                    ),
                    field: "propagationPolicy".to_owned(),
                }],
            )),
        }
    }
}

/// What came of a deletion.
#[derive(Clone, Debug)]
pub(crate) enum Deleted {
    /// The object is gone; as it last was.
    Gone(Object),
    /// The object ends later; as it is now.
    Ending(Object),
}

impl Deleted {
    pub(crate) fn object(self) -> Object {
        match self {
            Self::Gone(object) | Self::Ending(object) => object,
        }
    }
}

/// How often a deletion is tried again when the object changed in between.
const ATTEMPTS: usize = 20;

/// Deletes an object, or begins to.
pub(crate) async fn delete(
    api: &Api,
    context: &Context,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    let mut attempts = 0;
    let mut checked = false;
    loop {
        attempts += 1;
        let old = super::read::get(api, resource, namespace, name)?;
        check_preconditions(resource, &old, &options.preconditions)?;
        if !checked {
            api.check_delete(context, resource, &old).await?;
            checked = true;
        }
        let dry_run = options.dry_run || context.dry_run;
        match delete_once(api, resource, old, options, dry_run).await {
            Err(WriteError::Stale) if attempts < ATTEMPTS => {}
            Err(error) => return Err(refused(resource, name, error)),
            Ok(deleted) => {
                if !dry_run {
                    match &deleted {
                        Deleted::Gone(_) => api.after_delete(resource).await,
                        Deleted::Ending(definition) if *resource.id.plural == *"customresourcedefinitions" => {
                            api.empty_definition(context, definition).await;
                        }
                        Deleted::Ending(_) => {}
                    }
                }
                return Ok(deleted);
            }
        }
    }
}

async fn delete_once(
    api: &Api,
    resource: &Resource,
    old: Object,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<Deleted, WriteError> {
    let revision = object::revision(&old);
    let mut ending = (*old).clone();
    propagate(&mut ending, options.propagation);
    let grace = resource.strategy.grace(&old, options.grace_seconds);
    mark(resource, &mut ending, grace);
    resource.strategy.prepare_delete(&mut ending);
    let write = |change| Write {
        resource: resource.storage.clone(),
        namespace: object::namespace(&old).to_owned(),
        name: object::name(&old).to_owned(),
        change,
    };
    if is_released(resource, &ending) {
        if dry_run {
            return Ok(Deleted::Gone(old));
        }
        let last = api.store.write(write(Change::Delete(revision))).await?;
        resource.strategy.after_write(api, resource, None, Some(&last));
        return Ok(Deleted::Gone(last));
    }
    if ending == *old || dry_run {
        return Ok(Deleted::Ending(if dry_run { Arc::new(ending) } else { old }));
    }
    let stored = api.store.write(write(Change::Update(ending, revision))).await?;
    resource.strategy.after_write(api, resource, Some(&stored), Some(&old));
    Ok(Deleted::Ending(stored))
}

/// Puts the deletion into the metadata. A later deletion can shorten the grace of an earlier one, not lengthen it.
fn mark(resource: &Resource, ending: &mut Value, grace: i64) {
    let present = object::at(ending, &["metadata", "deletionGracePeriodSeconds"]).as_i64();
    if object::is_terminating(ending) && present.is_none_or(|present| present <= grace) {
        return;
    }
    let begun = object::text(ending, &["metadata", "deletionTimestamp"])
        .parse::<jiff::Timestamp>()
        .ok();
    // The timestamp is when the grace ends, counted from when the deletion was first asked for.
    let asked = match (begun, present) {
        (Some(begun), Some(present)) => begun - jiff::SignedDuration::from_secs(present),
        _ => jiff::Timestamp::now(),
    };
    let ends = asked + jiff::SignedDuration::from_secs(grace);
    object::set_meta(ending, "deletionTimestamp", object::timestamp(ends));
    object::set_meta(ending, "deletionGracePeriodSeconds", grace);
    if resource.generation
        && begun.is_none()
        && let Some(generation) = object::at(ending, &["metadata", "generation"]).as_i64()
    {
        object::set_meta(ending, "generation", generation + 1);
    }
}

/// Turns a propagation policy into the finalizers that the garbage collector acts on.
fn propagate(ending: &mut Value, propagation: Option<Propagation>) {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = object::finalizers(ending)
        .into_iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .map(str::to_owned)
        .collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        object::remove_meta(ending, "finalizers");
    } else {
        object::set_meta(ending, "finalizers", json!(finalizers));
    }
}

fn check_preconditions(resource: &Resource, old: &Value, wanted: &Preconditions) -> Result<(), Status> {
    let conflict = |what: &str, wanted: &str, found: &str| {
        Status::conflict(
            resource.group(),
            resource.plural(),
            object::name(old),
            &format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"),
        )
    };
    if let Some(uid) = &wanted.uid
        && uid != object::uid(old)
    {
        return Err(conflict("UID", uid, object::uid(old)));
    }
    if let Some(version) = &wanted.resource_version
        && version != object::resource_version(old)
    {
        return Err(conflict("ResourceVersion", version, object::resource_version(old)));
    }
    Ok(())
}

/// Deletes all objects that match, one after the other; returns them as they were or are now.
pub(crate) async fn delete_collection(
    api: &Api,
    context: &Context,
    resource: &Resource,
    namespace: Option<&str>,
    selector: &Selector,
    options: &DeleteOptions,
) -> Result<(Vec<Object>, u64), Status> {
    let (objects, revision) = super::read::list(api, resource, namespace, selector);
    let mut deleted = Vec::with_capacity(objects.len());
    for object in objects {
        let (namespace, name) = (object::namespace(&object), object::name(&object));
        match delete(api, context, resource, namespace, name, options).await {
            Ok(result) => deleted.push(result.object()),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    Ok((deleted, revision))
}
