//! Namespaces: the `kubernetes` finalizer in `spec.finalizers`, the phase, the name label.

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

/// Namespaces.
#[derive(Debug)]
pub(super) struct Namespaces;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn label(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    let labels = object::metadata(namespace).entry("labels").or_insert_with(|| json!({}));
    object::as_map(labels).insert(NAME_LABEL.to_owned(), json!(name));
}

impl Strategy for Namespaces {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::namespace(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, new: &mut Value) -> Result<(), Status> {
        label(new);
        let mut finalizers: Vec<Value> = object::items(&new["spec"]["finalizers"]).to_vec();
        if !finalizers.iter().any(|f| f == "kubernetes") {
            finalizers.push(json!("kubernetes"));
        }
        new["spec"] = json!({ "finalizers": finalizers });
        new["status"] = json!({ "phase": "Active" });
        Ok(())
    }

    fn prepare_update(
        &self,
        _: &Api,
        _: &Context,
        _: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        label(new);
        if part == Part::Main {
            new["spec"] = old["spec"].clone();
        }
        if object::items(&new["spec"]["finalizers"]).is_empty() {
            new["spec"] = json!({});
        }
        Ok(())
    }

    fn prepare_delete(&self, ending: &mut Value) {
        // The namespace controller sees the phase and the timestamp; the grace has no meaning here and is not shown.
        object::remove_meta(ending, "deletionGracePeriodSeconds");
        object::child(ending, "status").insert("phase".to_owned(), json!("Terminating"));
    }

    fn holds(&self, namespace: &Value) -> bool {
        !object::items(&namespace["spec"]["finalizers"]).is_empty()
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        &["labels", "annotations"]
    }

    fn selectable(&self, field: &str) -> bool {
        field == "status.phase"
    }
}
