//! The metadata of every object: names, labels, annotations, finalizers, owners.

use corten_schema::{ErrorKind, FieldError};
use serde_json::{Value, json};

use super::{Faults, each, format, names, structure, text};
use crate::object;
use crate::registry::Resource;

const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with the metadata of an object; `old` is the object before an update.
pub(crate) fn metadata(resource: &Resource, new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let metadata = &new["metadata"];
    // Stored names are not judged again.
    if old.is_none() {
        if let Some(check) = name_format(resource) {
            if let Some(prefix) = metadata["generateName"].as_str()
                && !prefix.is_empty()
            {
                // What follows makes the last dash an inner one.
                let checked = prefix
                    .strip_suffix('-')
                    .map_or_else(|| prefix.to_owned(), |p| std::format!("{p}a"));
                // A service's name may be longer checked than its prefix: there only the name counts.
                if resource.plural() != "services" {
                    let wrong = check(&checked);
                    faults.extend(
                        wrong
                            .into_iter()
                            .map(|fault| FieldError::invalid("metadata.generateName", prefix, fault)),
                    );
                }
            }
            format(&mut faults, "metadata.name", object::name(new), check);
        }
        if resource.namespaced {
            format(&mut faults, "metadata.namespace", object::namespace(new), names::label);
        }
    }
    labels(&mut faults, "metadata.labels", &metadata["labels"]);
    annotations(&mut faults, "metadata.annotations", &metadata["annotations"]);
    owners(&mut faults, &metadata["ownerReferences"]);
    // Definitions and custom resources may name finalizers without a domain, as the API itself does for definitions.
    let any_domain = resource.custom.is_some() || resource.group() == "apiextensions.k8s.io";
    finalizers(&mut faults, &metadata["finalizers"], any_domain);
    faults
}

fn name_format(resource: &Resource) -> Option<names::Format> {
    if resource.custom.is_some() {
        return Some(names::subdomain);
    }
    match (resource.group(), resource.plural()) {
        ("rbac.authorization.k8s.io", _) => Some(names::path_segment),
        ("", "services") => Some(names::label_1035),
        ("", "namespaces") | ("apps", "statefulsets") => Some(names::label),
        (_, "events") => None,
        _ => Some(names::subdomain),
    }
}

/// The keys and values of labels.
pub(super) fn labels(faults: &mut Faults, path: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        format(faults, path, key, names::qualified);
        format(faults, path, value.as_str().unwrap_or(""), names::label_value);
    }
}

/// The keys and the size of annotations.
pub(super) fn annotations(faults: &mut Faults, path: &str, annotations: &Value) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let wrong = names::qualified(&key.to_lowercase());
        faults.extend(
            wrong
                .into_iter()
                .map(|fault| FieldError::invalid(path, key.as_str(), fault)),
        );
        bytes += key.len() + value.as_str().unwrap_or("").len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        faults.push(FieldError::too_long(path, 256 * 1024));
    }
}

fn owners(faults: &mut Faults, list: &Value) {
    let mut controller: Option<&Value> = None;
    let path = "metadata.ownerReferences";
    for owner in object::items(list) {
        let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        let mut refuse = |key: &str, why: &str| {
            faults.push(FieldError::invalid(std::format!("{path}.{key}"), text(owner, key), why));
        };
        if api_version.is_empty() || api_version.matches('/').count() > 1 || api_version.ends_with('/') {
            refuse("apiVersion", "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                refuse(key, "must not be empty");
            }
        }
        if kind == "Event" && matches!(api_version, "v1" | "events.k8s.io/v1") {
            let (group, version) = object::split_api_version(api_version);
            let why = std::format!("{group}/{version}, Kind={kind} is disallowed from being an owner");
            faults.push(structure(ErrorKind::Invalid, path, &shown(owner), &why));
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let why = std::format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {kind}/{}",
                    text(first, "kind"),
                    text(first, "name"),
                    text(owner, "name")
                );
                let all: Vec<String> = object::items(list).iter().map(shown).collect();
                let all = std::format!("[{}]", all.join(","));
                faults.push(structure(ErrorKind::Invalid, path, &all, &why));
            }
            controller = Some(owner);
        }
    }
}

/// An owner as the real API's messages show it.
fn shown(owner: &Value) -> String {
    let keys = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    super::ordered(owner, &keys)
}

fn finalizers(faults: &mut Faults, list: &Value, any_domain: bool) {
    let names: Vec<&str> = object::strings(list);
    for (path, finalizer) in each(&json!({ "finalizers": list }), "metadata", "finalizers") {
        let finalizer = finalizer.as_str().unwrap_or("");
        let wrong = names::qualified(finalizer);
        if !wrong.is_empty() {
            format(faults, "metadata.finalizers", finalizer, names::qualified);
        } else if !any_domain && !finalizer.contains('/') && !is_standard_finalizer(finalizer) {
            faults.push(FieldError::invalid(
                path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        faults.push(FieldError::invalid(
            "metadata.finalizers",
            list.clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

/// Whether a finalizer may be without a domain.
pub(super) fn is_standard_finalizer(name: &str) -> bool {
    matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}
