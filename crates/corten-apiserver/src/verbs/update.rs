//! update of an object or one of its parts, and the read-change-write loop that patches share.

use std::sync::Arc;

use serde_json::Value;

use super::{meta, refused};
use crate::api::Api;
use crate::context::Context;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::status::Status;
use crate::store::{Change, Write};

/// Which part of an object a write is about; the rest is taken from the stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, where the kind has a status subresource.
    Main,
    /// The status.
    Status,
    /// A namespace's `spec.finalizers`.
    Finalize,
}

impl Part {
    /// The name of the subresource, as `managedFields` has it.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
        }
    }
}

/// How often a write is tried again when the object changed in between and the caller did not insist on a revision.
const ATTEMPTS: usize = 20;

/// Replaces an object, or a part of it.
pub(crate) async fn update(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    namespace: &str,
    name: &str,
    mut body: Value,
) -> Result<Object, Status> {
    meta::check_kind(resource, &mut body)?;
    meta::check_namespace(resource, namespace, &mut body)?;
    let given = object::name(&body);
    if given.is_empty() {
        object::set_meta(&mut body, "name", name);
    } else if given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    api.decode(context, resource, &mut body)?;
    change(api, context, resource, part, namespace, name, |_| Ok(body.clone())).await
}

/// Reads an object, lets `edit` make the wanted one of it, and writes that; again when someone else wrote in between.
pub(crate) async fn change(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    namespace: &str,
    name: &str,
    mut edit: impl FnMut(&Value) -> Result<Value, Status>,
) -> Result<Object, Status> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let old = super::read::get(api, resource, namespace, name)?;
        let wanted = edit(&old)?;
        // The stored object is in the storage version; the one at hand is in the request's. Conversion changes nothing else.
        let insists = insists_on(resource, &wanted, &old, name)?;
        match change_once(api, context, resource, part, old, wanted).await {
            Err(status) if status.is_conflict() && !insists && attempts < ATTEMPTS => {}
            result => return result,
        }
    }
}

/// Checks the revision and uid that the wanted object carries. True when the caller insists on the revision.
fn insists_on(resource: &Resource, wanted: &Value, old: &Value, name: &str) -> Result<bool, Status> {
    let uid = object::uid(wanted);
    if !uid.is_empty() && uid != object::uid(old) {
        return Err(Status::conflict(
            resource.group(),
            resource.plural(),
            name,
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object::uid(old)
            ),
        ));
    }
    match object::resource_version(wanted) {
        "" | "0" => Ok(false),
        version if version == object::resource_version(old) => Ok(true),
        version if version.parse::<u64>().is_err() => Err(Status::bad_request(format!(
            "metadata.resourceVersion: Invalid value: {version:?}: must be a number that this API gave out"
        ))),
        _ => Err(Status::stale(resource.group(), resource.plural(), name)),
    }
}

async fn change_once(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    old: Object,
    mut new: Value,
) -> Result<Object, Status> {
    let (name, namespace) = (object::name(&old).to_owned(), object::namespace(&old).to_owned());
    if object::is_terminating(&old) {
        refuse_new_finalizers(resource, &new, &old)?;
    }
    merge_parts(resource, part, &mut new, &old);
    meta::carry_over(resource, &mut new, &old);
    resource
        .strategy
        .prepare_update(api, context, resource, part, &mut new, &old)?;
    if new == *old {
        return Ok(super::read::in_version(resource, old));
    }
    api.check_update(context, resource, part, &mut new, &old).await?;
    if new == *old {
        return Ok(super::read::in_version(resource, old));
    }
    // What a dry run takes is given back at its end.
    let reserved = resource.strategy.reserve(api, resource, &mut new, Some(&old))?;
    if context.dry_run {
        return Ok(Arc::new(new));
    }
    let revision = object::revision(&old);
    let gone = is_released(resource, &new);
    let write = |change| Write {
        resource: resource.storage.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        change,
    };
    let refuse = |error| refused(resource, &name, error);
    let stored = api
        .store
        .write(write(Change::Update(new, revision)))
        .await
        .map_err(refuse)?;
    reserved.keep();
    resource.strategy.after_write(api, resource, Some(&stored), Some(&old));
    if gone {
        // The last finalizer is gone: what waited for it happens now. Someone else may have done it already.
        let revision = object::revision(&stored);
        if let Ok(last) = api.store.write(write(Change::Delete(revision))).await {
            resource.strategy.after_write(api, resource, None, Some(&last));
            api.after_delete(resource).await;
        }
    }
    Ok(super::read::in_version(resource, stored))
}

/// Whether nothing holds a terminating object any more.
pub(crate) fn is_released(resource: &Resource, object: &Value) -> bool {
    let grace = object::at(object, &["metadata", "deletionGracePeriodSeconds"])
        .as_i64()
        .unwrap_or(0);
    object::is_terminating(object)
        && grace == 0
        && object::finalizers(object).is_empty()
        && !resource.strategy.holds(object)
}

fn refuse_new_finalizers(resource: &Resource, new: &Value, old: &Value) -> Result<(), Status> {
    let before = object::finalizers(old);
    let added: Vec<String> = object::finalizers(new)
        .into_iter()
        .filter(|f| !before.contains(f))
        .map(|f| format!("{f:?}"))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    Err(Status::invalid(
        resource.group(),
        &resource.kind,
        object::name(old),
        vec![crate::status::Cause {
            reason: "FieldValueForbidden".to_owned(),
            message: detail,
            field: "metadata.finalizers".to_owned(),
        }],
    ))
}

/// Takes the parts that this request is not about from the stored object.
fn merge_parts(resource: &Resource, part: Part, new: &mut Value, old: &Value) {
    match part {
        Part::Main => {
            if resource.has_status() {
                copy(new, old, "status");
            }
        }
        Part::Status => {
            let mut whole = old.clone();
            copy(&mut whole, new, "status");
            for field in resource.strategy.status_metadata() {
                let value = new["metadata"][*field].clone();
                if value.is_null() {
                    object::remove_meta(&mut whole, field);
                } else {
                    object::set_meta(&mut whole, field, value);
                }
            }
            if !new["metadata"]["managedFields"].is_null() {
                let managed = new["metadata"]["managedFields"].clone();
                object::set_meta(&mut whole, "managedFields", managed);
            }
            *new = whole;
        }
        Part::Finalize => {
            let mut whole = old.clone();
            object::child(&mut whole, "spec").insert("finalizers".to_owned(), new["spec"]["finalizers"].clone());
            *new = whole;
        }
    }
}

/// Makes a top-level field of one object what it is in another.
fn copy(to: &mut Value, from: &Value, field: &str) {
    let map = object::as_map(to);
    match &from[field] {
        Value::Null => map.remove(field),
        value => map.insert(field.to_owned(), value.clone()),
    };
}
