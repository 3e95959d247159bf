//! Configurations of admission webhooks: names, where they are called, what they are called for.

use std::collections::BTreeSet;

use corten_schema::FieldError;
use serde_json::{Value, json};

use super::{Faults, each, format, names, one_of, required, selectors, text};
use crate::object;

const URL_FORM: &str = "desired format: https://host[/path]";
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// What is wrong with a configuration of webhooks, of either kind.
pub(crate) fn webhooks(new: &Value, _old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let mut taken = BTreeSet::new();
    for (path, webhook) in each(new, "", "webhooks") {
        one(
            &mut faults,
            &path,
            webhook,
            new["kind"] == "MutatingWebhookConfiguration",
        );
        versions(&mut faults, &path, webhook);
        let name = text(webhook, "name");
        if !name.is_empty() && !taken.insert(name) {
            faults.push(FieldError::duplicate(std::format!("{path}.name"), name));
        }
    }
    faults
}

fn one(faults: &mut Faults, path: &str, webhook: &Value, mutating: bool) {
    let field = |key: &str| std::format!("{path}.{key}");
    let name = text(webhook, "name");
    if name.is_empty() {
        faults.push(FieldError::required(field("name"), ""));
    } else {
        let before = faults.len();
        format(faults, &field("name"), name, names::subdomain);
        if faults.len() == before && name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            faults.push(FieldError::invalid(field("name"), name, why));
        }
    }
    for (path, rule) in each(webhook, path, "rules") {
        rules(faults, &path, rule);
    }
    one_of(
        faults,
        &field("failurePolicy"),
        &webhook["failurePolicy"],
        &["Fail", "Ignore"],
    );
    one_of(
        faults,
        &field("matchPolicy"),
        &webhook["matchPolicy"],
        &["Equivalent", "Exact"],
    );
    if webhook["sideEffects"].is_null() {
        let why = "must specify one of None, NoneOnDryRun";
        faults.push(FieldError::required(field("sideEffects"), why));
    } else {
        let allowed = ["None", "NoneOnDryRun"];
        one_of(faults, &field("sideEffects"), &webhook["sideEffects"], &allowed);
    }
    if let Some(seconds) = webhook["timeoutSeconds"].as_i64().filter(|s| !(1..=30).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        faults.push(FieldError::invalid(field("timeoutSeconds"), seconds, why));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        selectors::selector(faults, &field(key), &webhook[key]);
    }
    client(faults, &field("clientConfig"), &webhook["clientConfig"]);
    if mutating {
        let allowed = ["IfNeeded", "Never"];
        one_of(
            faults,
            &field("reinvocationPolicy"),
            &webhook["reinvocationPolicy"],
            &allowed,
        );
    }
    for (path, condition) in each(webhook, path, "matchConditions") {
        if text(condition, "expression").trim().is_empty() {
            faults.push(FieldError::required(std::format!("{path}.expression"), ""));
        }
        let name = text(condition, "name");
        super::required_format(faults, &std::format!("{path}.name"), name, names::qualified);
    }
}

fn client(faults: &mut Faults, path: &str, config: &Value) {
    let (address, service) = (&config["url"], &config["service"]);
    match (address.as_str(), service.is_object()) {
        (Some(address), false) => url(faults, &std::format!("{path}.url"), address),
        (None, true) => called(faults, &std::format!("{path}.service"), service),
        _ => faults.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn url(faults: &mut Faults, path: &str, address: &str) {
    let bytes = address.as_bytes();
    let broken = address.match_indices('%').find(|(at, _)| {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    });
    if let Some((at, _)) = broken {
        let escape: String = address.chars().skip(address[..at].chars().count()).take(3).collect();
        let why = std::format!("url must be a valid URL: parse {address:?}: invalid URL escape {escape:?}; {URL_FORM}");
        faults.push(FieldError::required(path, why));
        return;
    }
    let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or("")
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    for (wrong, value, why) in [
        (
            scheme != "https",
            scheme,
            std::format!("'https' is the only allowed URL scheme; {URL_FORM}"),
        ),
        (
            host.is_empty(),
            host,
            std::format!("host must be specified; {URL_FORM}"),
        ),
        (
            !user.is_empty(),
            user,
            "user information is not permitted in the URL".to_owned(),
        ),
        (
            !fragment.is_empty(),
            fragment,
            "fragments are not permitted in the URL".to_owned(),
        ),
        (
            !query.is_empty(),
            query,
            "query parameters are not permitted in the URL".to_owned(),
        ),
    ] {
        if wrong {
            faults.push(FieldError::invalid(path, value, why));
        }
    }
}

fn called(faults: &mut Faults, path: &str, service: &Value) {
    for key in ["name", "namespace"] {
        required(faults, &std::format!("{path}.{key}"), text(service, key));
    }
    if let Some(port) = service["port"].as_i64().filter(|port| !(1..=65535).contains(port)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        faults.push(FieldError::invalid(std::format!("{path}.port"), port, why));
    }
    let Some(target) = service["path"].as_str() else { return };
    let path = &std::format!("{path}.path");
    if target == "/" {
        return;
    }
    if !target.starts_with('/') {
        faults.push(FieldError::invalid(path, target, "must start with a '/'"));
    }
    let trimmed = target.strip_suffix('/').unwrap_or(target);
    let segments: Vec<&str> = trimmed.get(1..).unwrap_or("").split('/').collect();
    for (index, segment) in segments.into_iter().enumerate() {
        if segment.is_empty() {
            let why = std::format!("segment[{index}] may not be empty");
            faults.push(FieldError::invalid(path, target, why));
        } else {
            for fault in names::subdomain(segment) {
                let why = std::format!("segment[{index}]: {fault}");
                faults.push(FieldError::invalid(path, target, why));
            }
        }
    }
}

fn versions(faults: &mut Faults, path: &str, webhook: &Value) {
    let versions = object::strings(&webhook["admissionReviewVersions"]);
    let list = std::format!("{path}.admissionReviewVersions");
    if versions.is_empty() {
        faults.push(FieldError::required(list, "must specify one of v1, v1beta1"));
        return;
    }
    let mut taken = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = std::format!("{list}[{index}]");
        if !taken.insert(*version) {
            faults.push(FieldError::invalid(path.as_str(), *version, "duplicate version"));
        }
        format(faults, &path, version, names::label_1035);
    }
    if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        faults.push(FieldError::invalid(list, json!(versions), why));
    }
}

fn rules(faults: &mut Faults, path: &str, rule: &Value) {
    for (key, others) in [
        ("operations", "other operations"),
        ("apiGroups", "other API groups"),
        ("apiVersions", "other API versions"),
    ] {
        let values = object::strings(&rule[key]);
        let list = std::format!("{path}.{key}");
        if values.is_empty() {
            faults.push(FieldError::required(list, ""));
            continue;
        }
        if values.len() > 1 && values.contains(&"*") {
            let why = std::format!("if '*' is present, must not specify {others}");
            faults.push(FieldError::invalid(list.as_str(), json!(values), why));
        }
        for (path, value) in each(rule, path, key) {
            match key {
                "operations" => one_of(faults, &path, value, &OPERATIONS),
                "apiVersions" if value == "" => faults.push(FieldError::required(path, "")),
                _ => {}
            }
        }
    }
    resources(faults, path, rule);
    one_of(
        faults,
        &std::format!("{path}.scope"),
        &rule["scope"],
        &["*", "Cluster", "Namespaced"],
    );
}

fn resources(faults: &mut Faults, path: &str, rule: &Value) {
    let values = object::strings(&rule["resources"]);
    let list = std::format!("{path}.resources");
    if values.is_empty() {
        faults.push(FieldError::required(list, ""));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        let path = std::format!("{list}[{index}]");
        let Some((resource, sub)) = value.split_once('/') else {
            if value.is_empty() {
                faults.push(FieldError::required(path, ""));
            }
            continue;
        };
        let every = std::format!("{resource}/*");
        if sub != "*" && values[..index].contains(&every.as_str()) {
            let why = std::format!("if '{every}' is present, must not specify {value}");
            faults.push(FieldError::invalid(path.as_str(), *value, why));
        }
        let every = std::format!("*/{sub}");
        if resource != "*" && values[..index].contains(&every.as_str()) {
            let why = std::format!("if '{every}' is present, must not specify {value}");
            faults.push(FieldError::invalid(path.as_str(), *value, why));
        }
    }
    if values.len() > 1 && values.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        faults.push(FieldError::invalid(list.as_str(), json!(values), why));
    }
    if values.contains(&"*") && values.iter().any(|value| *value != "*" && !value.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        faults.push(FieldError::invalid(list, json!(values), why));
    }
}
