//! Secrets: `stringData` is written into `data` and not kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_schema::FieldError;
use serde_json::{Value, json};

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::object;
use crate::registry::Resource;
use crate::status::Status;
use crate::validation;
use crate::verbs::Part;

/// Secrets.
#[derive(Debug)]
pub(super) struct Secrets;

fn fold(secret: &mut Value) {
    let map = object::as_map(secret);
    if let Some(Value::Object(strings)) = map.remove("stringData") {
        let data = object::child(secret, "data");
        for (key, value) in strings {
            let text = value.as_str().unwrap_or("");
            data.insert(key, json!(STANDARD.encode(text)));
        }
    }
    object::default_to(object::as_map(secret), "type", "Opaque");
}

impl Strategy for Secrets {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::secret(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, new: &mut Value) -> Result<(), Status> {
        fold(new);
        Ok(())
    }

    fn prepare_update(
        &self,
        _: &Api,
        _: &Context,
        _: &Resource,
        _: Part,
        new: &mut Value,
        _: &Value,
    ) -> Result<(), Status> {
        fold(new);
        Ok(())
    }

    fn selectable(&self, field: &str) -> bool {
        field == "type"
    }
}
