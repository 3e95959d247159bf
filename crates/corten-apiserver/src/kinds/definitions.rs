//! Custom resource definitions as objects: defaults, names, conditions; a change of one changes what is served.

use serde_json::{Value, json};

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::crd::{self, Definition};
use crate::object;
use crate::registry::Resource;
use crate::status::Status;
use crate::verbs::Part;

/// Custom resource definitions.
#[derive(Debug)]
pub(super) struct Definitions;

fn fill_in(definition: &mut Value) {
    let spec = object::child(definition, "spec");
    let names = spec.entry("names").or_insert(Value::Null);
    let names = object::as_map(names);
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
    object::default_to(names, "singular", kind.to_lowercase());
    object::default_to(names, "listKind", format!("{kind}List"));
    object::default_to(spec, "conversion", json!({ "strategy": "None" }));
}

fn judge(resource: &Resource, definition: &Value) -> Result<(), Status> {
    let problems = crd::problems(&Definition { object: definition });
    if problems.is_empty() {
        return Ok(());
    }
    Err(crate::verbs::invalid(resource, object::name(definition), &problems))
}

fn settle(api: &Api, resource: &Resource, definition: &mut Value) {
    let others = api.store.list(&resource.storage, None).objects;
    definition["status"] = crd::conditions(definition, &others);
}

impl Strategy for Definitions {
    fn prepare_create(&self, api: &Api, context: &Context, resource: &Resource, new: &mut Value) -> Result<(), Status> {
        fill_in(new);
        object::as_map(new).remove("status");
        judge(resource, new)?;
        settle(api, resource, new);
        let mut finalizers: Vec<String> = object::finalizers(new).into_iter().map(str::to_owned).collect();
        finalizers.push(crd::CLEANUP.to_owned());
        object::set_meta(new, "finalizers", json!(finalizers));
        let group = object::text(new, &["spec", "group"]);
        if group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io") {
            let approved = object::at(new, &["metadata", "annotations", "api-approved.kubernetes.io"]);
            if approved.is_null() {
                context.warn("metadata.annotations[api-approved.kubernetes.io]: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111");
            }
        }
        Ok(())
    }

    fn prepare_update(
        &self,
        api: &Api,
        _: &Context,
        resource: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if part == Part::Main {
            fill_in(new);
            judge(resource, new)?;
            if new["spec"] != old["spec"] && !object::is_terminating(new) {
                settle(api, resource, new);
            }
        }
        Ok(())
    }

    fn after_write(&self, api: &Api, _: &Resource, _: Option<&Value>, _: Option<&Value>) {
        api.serve_definitions();
    }

    fn prepare_delete(&self, ending: &mut Value) {
        let conditions = object::child(ending, "status").entry("conditions").or_insert(json!([]));
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|c| c["type"] != "Terminating");
            list.push(json!({
                "type": "Terminating",
                "status": "True",
                "lastTransitionTime": object::now(),
                "reason": "InstanceDeletionInProgress",
                "message": "CustomResource deletion is in progress",
            }));
        }
    }
}
