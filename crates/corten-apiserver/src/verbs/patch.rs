//! patch in its four forms.

use serde_json::Value;

use super::update::{Part, change};
use crate::api::Api;
use crate::client::Patch;
use crate::context::Context;
use crate::object::Object;
use crate::registry::Resource;
use crate::status::Status;

/// Changes an object, or a part of it.
pub(crate) async fn patch(
    api: &Api,
    context: &Context,
    resource: &Resource,
    part: Part,
    namespace: &str,
    name: &str,
    patch: &Patch,
) -> Result<Object, Status> {
    change(api, context, resource, part, namespace, name, |old| {
        let mut new = old.clone();
        match patch {
            Patch::Merge(patch) => merge(&mut new, patch),
            _ => return Err(Status::new(415, "UnsupportedMediaType", "only merge patch here")),
        }
        crate::object::remove_meta(&mut new, "resourceVersion");
        Ok(new)
    })
    .await
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    let into = crate::object::as_map(into);
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), value);
        }
    }
}
