//! patch in its four forms.

use corten_schema::apply::{self, ApplyError};
use corten_schema::patch::PatchError;
use serde_json::Value;

use super::update::{Part, change};
use crate::api::Api;
use crate::client::Patch;
use crate::context::Context;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::status::{Cause, Details, Status};

/// Changes an object, or a part of it. Applying to an object that does not exist creates it.
pub(crate) async fn patch(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    namespace: &str,
    name: &str,
    patch: &Patch,
) -> Result<Object, Status> {
    if let Patch::Apply { object, force } = patch {
        return apply(api, context, resource, part, namespace, name, object, *force).await;
    }
    change(api, context, resource, part, namespace, name, |old| {
        let new = match patch {
            Patch::Merge(patch) => corten_schema::patch::merge(old, patch),
            Patch::Json(patch) => corten_schema::patch::json(old, patch).map_err(failed)?,
            Patch::Strategic(patch) => {
                let schema = resource.schema().ok_or_else(|| {
                    Status::new(
                        415,
                        "UnsupportedMediaType",
                        "strategic merge patch is not supported for this kind",
                    )
                })?;
                corten_schema::patch::strategic(schema, old, patch).map_err(failed)?
            }
            Patch::Apply { .. } => unreachable!("handled above"),
        };
        checked(api, context, resource, name, old, new)
    })
    .await
}

/// What a patch may not change, and the decoding that every body goes through.
fn checked(
    api: &Api,
    context: &Context,
    resource: &Resource,
    name: &str,
    old: &Value,
    mut new: Value,
) -> Result<Value, Status> {
    if object::name(&new) != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            object::name(&new)
        )));
    }
    super::meta::check_kind(resource, &mut new)?;
    // A patch that says nothing of the revision is meant for whichever is there.
    if object::resource_version(&new) == object::resource_version(old) {
        object::remove_meta(&mut new, "resourceVersion");
    }
    api.decode(context, resource, &mut new)?;
    Ok(new)
}

#[expect(clippy::too_many_arguments, reason = "the same as patch, with the patch taken apart")]
async fn apply(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    namespace: &str,
    name: &str,
    applied: &Value,
    force: bool,
) -> Result<Object, Status> {
    let mut applied = applied.clone();
    super::meta::check_kind(resource, &mut applied)?;
    super::meta::check_namespace(resource, namespace, &mut applied)?;
    let given = object::name(&applied);
    if given.is_empty() {
        object::set_meta(&mut applied, "name", name);
    } else if given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let schema = resource
        .schema()
        .ok_or_else(|| Status::internal(format!("no schema of {}", resource.kind)))?;
    api.check_fields(context, resource, &applied)?;
    let manager = super::meta::manager(context).to_owned();
    let merged = |live: Option<&Value>| {
        let now = object::now();
        apply::apply(schema, live, &applied, &manager, part.subresource(), force, &now).map_err(refused)
    };
    if api.store.get(&resource.storage, namespace, name).is_none() {
        if part != Part::Main {
            return Err(Status::not_found(resource.group(), resource.plural(), name));
        }
        let mut applied_context = context.clone();
        applied_context.applied = true;
        let mut new = merged(None)?;
        object::remove_meta(&mut new, "resourceVersion");
        match super::create(api, &applied_context, resource, namespace, new).await {
            // Someone else created it in between: apply to that.
            Err(status) if status.is_already_exists() && !context.dry_run => {}
            result => return result,
        }
    }
    let mut applied_context = context.clone();
    applied_context.applied = true;
    change(api, &applied_context, resource, part, namespace, name, |old| {
        let mut new = merged(Some(old))?;
        if object::resource_version(&applied).is_empty() {
            object::remove_meta(&mut new, "resourceVersion");
        }
        api.decode(&applied_context, resource, &mut new)?;
        Ok(new)
    })
    .await
}

/// A patch that cannot be applied.
pub(super) fn failed(error: PatchError) -> Status {
    match error {
        PatchError::Malformed(text) => Status::bad_request(text),
        // The real server keeps the reason to itself, and clients print what it says.
        PatchError::Failed(_) => Status::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        ),
        PatchError::TooLarge(text) => Status::new(413, "RequestEntityTooLarge", text),
    }
}

fn refused(error: ApplyError) -> Status {
    let message = error.to_string();
    let conflicts = match error {
        ApplyError::Malformed(_) => return Status::bad_request(message),
        ApplyError::Untyped { .. } => return Status::new(500, "", message),
        ApplyError::Conflicts(conflicts) => conflicts,
    };
    let causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: conflict.message(),
            field: conflict.field.clone(),
        })
        .collect();
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(Box::new(Details {
        causes,
        ..Details::default()
    }));
    status
}
