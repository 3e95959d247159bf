//! create.

use std::sync::Arc;

use serde_json::Value;

use super::{meta, refused};
use crate::api::Api;
use crate::context::Context;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::status::Status;
use crate::store::{Change, Write};

/// How often a generated name that is taken is generated again.
const NAME_ATTEMPTS: usize = 8;

/// Creates an object.
pub(crate) async fn create(
    api: &Api,
    context: &Context,
    resource: &Resource,
    namespace: &str,
    body: Value,
) -> Result<Object, Status> {
    let generated = object::name(&body).is_empty();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match create_once(api, context, resource, namespace, body.clone()).await {
            Err(status) if generated && status.is_already_exists() && attempts < NAME_ATTEMPTS => {}
            result => return result,
        }
    }
}

async fn create_once(
    api: &Api,
    context: &Context,
    resource: &Resource,
    namespace: &str,
    mut body: Value,
) -> Result<Object, Status> {
    meta::check_kind(resource, &mut body)?;
    meta::check_namespace(resource, namespace, &mut body)?;
    if !object::resource_version(&body).is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    api.decode(context, resource, &mut body)?;
    meta::begin(resource, &mut body)?;
    resource.strategy.prepare_create(api, context, resource, &mut body)?;
    let name = object::name(&body).to_owned();
    api.check_create(context, resource, &mut body).await?;
    // What a dry run takes is given back at its end.
    let reserved = resource.strategy.reserve(api, resource, &mut body, None)?;
    if context.dry_run {
        if api.store.get(&resource.storage, namespace, &name).is_some() {
            return Err(Status::already_exists(resource.group(), resource.plural(), &name));
        }
        return Ok(Arc::new(body));
    }
    let write = Write {
        resource: resource.storage.clone(),
        namespace: if resource.namespaced {
            namespace.to_owned()
        } else {
            String::new()
        },
        name: name.clone(),
        change: Change::Create(body),
    };
    let stored = api
        .store
        .write(write)
        .await
        .map_err(|error| refused(resource, &name, error))?;
    reserved.keep();
    resource.strategy.after_write(api, resource, Some(&stored), None);
    Ok(super::read::in_version(resource, stored))
}
