//! Serving definitions: their conditions, the resources they make, the strategy of their objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Definition;
use crate::api::Api;
use crate::context::Context;
use crate::kinds::Strategy;
use crate::object;
use crate::registry::{Resource, SubresourceInfo};
use crate::resources::{self, ResourceId};
use crate::status::Status;
use crate::verbs::Part;

/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The strategy of all custom resources.
#[derive(Debug)]
pub(crate) struct Custom;

impl Strategy for Custom {
    fn prepare_create(&self, _: &Api, context: &Context, resource: &Resource, new: &mut Value) -> Result<(), Status> {
        if resource.has_status() {
            object::as_map(new).remove("status");
            // What the schema says of an absent status is shown from the start.
            if let Some(schema) = resource.schema() {
                corten_schema::defaults::apply(schema, new);
            }
        }
        if let Some(warning) = resource.custom.as_ref().and_then(|c| c.warning.as_ref()) {
            context.warn(warning);
        }
        Ok(())
    }

    fn prepare_update(
        &self,
        _: &Api,
        context: &Context,
        resource: &Resource,
        _: Part,
        _: &mut Value,
        _: &Value,
    ) -> Result<(), Status> {
        if let Some(warning) = resource.custom.as_ref().and_then(|c| c.warning.as_ref()) {
            context.warn(warning);
        }
        Ok(())
    }
}

/// The resources of an established definition, one for each served version.
pub(crate) fn resources(object: &object::Object) -> Vec<Arc<Resource>> {
    let established = object::items(&object["status"]["conditions"])
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if !established {
        return Vec::new();
    }
    let definition = Definition { object };
    let group = definition.group();
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let mut resources = Vec::new();
    for (index, version) in definition.versions().iter().enumerate() {
        if version["served"] != true {
            continue;
        }
        let custom = definition.version(object, index);
        let name = version["name"].as_str().unwrap_or("").to_owned();
        let kind = definition.name("kind").to_owned();
        let mut subresources = Vec::new();
        if version["subresources"]["scale"].is_object() {
            subresources.push(SubresourceInfo {
                name: "scale".to_owned(),
                group: "autoscaling".to_owned(),
                version: "v1".to_owned(),
                kind: "Scale".to_owned(),
                verbs: vec!["get", "patch", "update"],
            });
        }
        if version["subresources"]["status"].is_object() {
            subresources.push(SubresourceInfo {
                name: "status".to_owned(),
                group: group.to_owned(),
                version: name.clone(),
                kind: kind.clone(),
                verbs: vec!["get", "patch", "update"],
            });
        }
        resources.push(Arc::new(Resource {
            id: ResourceId::new(group, name, definition.name("plural")),
            list_kind: definition.name("listKind").to_owned(),
            singular: definition.name("singular").to_owned(),
            namespaced: object["spec"]["scope"] == "Namespaced",
            short_names: owned(definition.short_names()),
            categories: owned(object::strings(&object["spec"]["names"]["categories"])),
            review: false,
            generation: true,
            storage: format!("{group}/{}", definition.name("plural")).into(),
            strategy: &Custom,
            custom: Some(Arc::new(custom)),
            subresources,
            kind,
        }));
    }
    resources
}

/// The conditions and accepted names of a definition beside the others that are stored.
pub(crate) fn conditions(object: &Value, others: &[object::Object]) -> Value {
    let conflict = conflict(object, others);
    let now = object::now();
    let old = &object["status"];
    let condition = |kind: &str, ok: bool, reason: &str, message: &str| {
        let status = if ok { "True" } else { "False" };
        // The transition time is kept while the status stays what it is.
        let since = object::items(&old["conditions"])
            .iter()
            .find(|c| c["type"] == kind && c["status"] == status)
            .and_then(|c| c["lastTransitionTime"].as_str())
            .unwrap_or(&now);
        json!({ "type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message })
    };
    let was_established = object::items(&old["conditions"])
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    let conditions = match &conflict {
        None => json!([
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ]),
        Some((reason, message)) => json!([
            condition("NamesAccepted", false, reason, message),
            if was_established {
                condition(
                    "Established",
                    true,
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                )
            } else {
                condition("Established", false, "NotAccepted", "not all names are accepted")
            },
        ]),
    };
    let mut stored: Vec<String> = object::strings(&old["storedVersions"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let storage = Definition { object }.storage_version().to_owned();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    let accepted = if conflict.is_none() {
        object["spec"]["names"].clone()
    } else if old["acceptedNames"].is_object() {
        old["acceptedNames"].clone()
    } else {
        json!({ "plural": "", "kind": "" })
    };
    json!({ "conditions": conditions, "acceptedNames": accepted, "storedVersions": stored })
}

/// The first name of a definition that something else in its group has already.
fn conflict(object: &Value, others: &[object::Object]) -> Option<(String, String)> {
    let mine = Definition { object };
    let mut taken: Vec<(String, String, Vec<String>)> = Vec::new();
    for other in others.iter().filter(|o| object::name(o) != object::name(object)) {
        let accepted = &other["status"]["acceptedNames"];
        if other["spec"]["group"] != *mine.group() {
            continue;
        }
        let mut plurals: Vec<String> = object::strings(&accepted["shortNames"])
            .into_iter()
            .map(str::to_owned)
            .collect();
        for key in ["plural", "singular"] {
            plurals.push(object::text(accepted, &[key]).to_owned());
        }
        taken.push((
            object::text(accepted, &["kind"]).to_owned(),
            object::text(accepted, &["listKind"]).to_owned(),
            plurals,
        ));
    }
    for builtin in resources::BUILTINS.iter().filter(|b| b.id.group == mine.group()) {
        taken.push((
            builtin.kind.to_owned(),
            format!("{}List", builtin.kind),
            vec![builtin.id.plural.to_string(), builtin.singular.to_owned()],
        ));
    }
    let name_taken = |name: &str| !name.is_empty() && taken.iter().any(|(_, _, names)| names.iter().any(|n| n == name));
    let kind_taken = |kind: &str| !kind.is_empty() && taken.iter().any(|(k, l, _)| k == kind || l == kind);
    let found = |reason: &str, name: &str| Some((reason.to_owned(), format!("{name:?} is already in use")));
    if name_taken(mine.name("plural")) {
        return found("PluralConflict", mine.name("plural"));
    }
    if name_taken(mine.name("singular")) {
        return found("SingularConflict", mine.name("singular"));
    }
    if let Some(short) = mine.short_names().into_iter().find(|s| name_taken(s)) {
        return found("ShortNamesConflict", short);
    }
    if kind_taken(mine.name("kind")) {
        return found("KindConflict", mine.name("kind"));
    }
    if kind_taken(mine.name("listKind")) {
        return found("ListKindConflict", mine.name("listKind"));
    }
    None
}
