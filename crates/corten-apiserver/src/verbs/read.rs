//! get and list.

use std::sync::Arc;

use crate::api::Api;
use crate::object::Object;
use crate::registry::Resource;
use crate::selector::Selector;
use crate::status::Status;

/// One object.
pub(crate) fn get(api: &Api, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
    api.store
        .get(&resource.storage, namespace, name)
        .map(|object| in_version(resource, object))
        .ok_or_else(|| Status::not_found(resource.group(), resource.plural(), name))
}

/// The objects that match, and the revision this is true of.
pub(crate) fn list(api: &Api, resource: &Resource, namespace: Option<&str>, selector: &Selector) -> (Vec<Object>, u64) {
    let mut snapshot = api.store.list(&resource.storage, namespace);
    if !selector.is_everything() {
        snapshot.objects.retain(|object| selector.matches(object));
    }
    if resource.custom.is_some() {
        for object in &mut snapshot.objects {
            *object = in_version(resource, object.clone());
        }
    }
    (snapshot.objects, snapshot.revision)
}

/// The object in the version it is asked for. Conversion between versions of a custom resource changes the `apiVersion` alone.
pub(crate) fn in_version(resource: &Resource, object: Object) -> Object {
    if resource.custom.is_none() {
        return object;
    }
    let wanted = resource.api_version();
    if object["apiVersion"] == wanted {
        return object;
    }
    let mut value = (*object).clone();
    value["apiVersion"] = wanted.into();
    Arc::new(value)
}
