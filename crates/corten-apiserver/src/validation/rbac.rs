//! Roles and their bindings.

use corten_schema::{ErrorKind, FieldError};
use serde_json::{Value, json};

use super::{Faults, each, format, names, one_of, required_format, selectors, text};
use crate::object;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What is wrong with a role or cluster role.
pub(crate) fn role(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    for (path, rule) in each(new, "", "rules") {
        let none = |key: &str| object::items(&rule[key]).is_empty();
        let mut need = |key: &str, why: &str| {
            if none(key) {
                faults.push(FieldError::required(std::format!("{path}.{key}"), why));
            }
        };
        need("verbs", "verbs must contain at least one value");
        if none("nonResourceURLs") {
            need("apiGroups", "resource rules must supply at least one api group");
            need("resources", "resource rules must supply at least one resource");
            continue;
        }
        let mut refuse = |why: &str| {
            let path = std::format!("{path}.nonResourceURLs");
            faults.push(FieldError::invalid(path, rule["nonResourceURLs"].clone(), why));
        };
        if new["kind"] == "Role" {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !none(key)) {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
    }
    aggregation(&mut faults, &new["aggregationRule"]);
    faults
}

fn aggregation(faults: &mut Faults, rule: &Value) {
    if rule.is_null() {
        return;
    }
    let path = "aggregationRule";
    if object::items(&rule["clusterRoleSelectors"]).is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        faults.push(FieldError::required(std::format!("{path}.clusterRoleSelectors"), why));
    }
    for (path, selector) in each(rule, path, "clusterRoleSelectors") {
        let before = faults.len();
        selectors::selector(faults, &path, selector);
        if faults.len() > before {
            faults.push(FieldError::invalid(path, Value::Null, "invalid label selector."));
        }
    }
}

/// What is wrong with a binding.
pub(crate) fn binding(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let cluster = new["kind"] == "ClusterRoleBinding";
    let reference = &new["roleRef"];
    let group = reference["apiGroup"].as_str().filter(|group| !group.is_empty());
    one_of(
        &mut faults,
        "roleRef.apiGroup",
        &json!(group.unwrap_or(GROUP)),
        &[GROUP],
    );
    let kinds: &[&str] = if cluster {
        &["ClusterRole"]
    } else {
        &["Role", "ClusterRole"]
    };
    one_of(&mut faults, "roleRef.kind", &json!(text(reference, "kind")), kinds);
    required_format(
        &mut faults,
        "roleRef.name",
        text(reference, "name"),
        names::path_segment,
    );
    for (path, subject) in each(new, "", "subjects") {
        subject_of(&mut faults, &path, subject, cluster);
    }
    if let Some(old) = old
        && old["roleRef"] != *reference
    {
        let part = |key: &str| json!(text(reference, key));
        let (group, kind, name) = (part("apiGroup"), part("kind"), part("name"));
        let shown = std::format!("{{\"APIGroup\":{group},\"Kind\":{kind},\"Name\":{name}}}");
        let why = "cannot change roleRef";
        faults.push(super::structure(ErrorKind::Invalid, "roleRef", &shown, why));
    }
    faults
}

fn subject_of(faults: &mut Faults, path: &str, subject: &Value, cluster: bool) {
    let (kind, name) = (text(subject, "kind"), text(subject, "name"));
    if name.is_empty() {
        faults.push(FieldError::required(std::format!("{path}.name"), ""));
    }
    let group = subject["apiGroup"].as_str().unwrap_or("");
    let group_path = std::format!("{path}.apiGroup");
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                format(faults, &std::format!("{path}.name"), name, names::subdomain);
            }
            one_of(faults, &group_path, &json!(group), &[""]);
            if cluster && text(subject, "namespace").is_empty() {
                faults.push(FieldError::required(std::format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => {
            // The real API fills the group in where it is absent.
            let group = if group.is_empty() { GROUP } else { group };
            one_of(faults, &group_path, &json!(group), &[GROUP]);
        }
        other => faults.push(FieldError::not_supported(
            std::format!("{path}.kind"),
            other,
            ["ServiceAccount", "User", "Group"],
        )),
    }
}
