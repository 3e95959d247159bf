//! Writes `src/kubernetes/kinds.txt`: the structural facts (names, types, list types, merge keys) about the built-in
//! kinds, from the OpenAPI v3 documents that a Kubernetes API server publishes, without any of their prose.
//!
//! `cargo run -p corten-schema --example kubernetes_facts -- DIR > crates/corten-schema/src/kubernetes/kinds.txt`
//!
//! DIR holds one document per group and version, named as in Kubernetes' `api/openapi-spec/v3`; from a live server:
//! `kubectl get --raw /openapi/v3/apis/apps/v1 > DIR/apis__apps__v1_openapi.json`, and so on.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The groups whose kinds are wanted; lists of kinds are left out, they all look alike.
const DOCUMENTS: &[&str] = &[
    "api__v1",
    "apis__apps__v1",
    "apis__discovery.k8s.io__v1",
    "apis__events.k8s.io__v1",
    "apis__coordination.k8s.io__v1",
    "apis__rbac.authorization.k8s.io__v1",
    "apis__networking.k8s.io__v1",
    "apis__apiextensions.k8s.io__v1",
    "apis__admissionregistration.k8s.io__v1",
    "apis__authentication.k8s.io__v1",
    "apis__authorization.k8s.io__v1",
    "apis__autoscaling__v1",
    "apis__autoscaling__v2",
    "apis__policy__v1",
];
/// Kinds that are published under every group.
const META: &[&str] = &[
    "DeleteOptions",
    "Status",
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
];

/// Definitions that are written as one letter.
const SCALARS: &[(&str, &str)] = &[
    ("meta.v1.Time", "t"),
    ("meta.v1.MicroTime", "t"),
    ("resource.Quantity", "q"),
    ("intstr.IntOrString", "x"),
    ("runtime.RawExtension", "o"),
    ("meta.v1.FieldsV1", "o"),
    ("apiextensions.v1.JSON", "j"),
    ("apiextensions.v1.JSONSchemaPropsOrArray", "j"),
    ("apiextensions.v1.JSONSchemaPropsOrBool", "j"),
    ("apiextensions.v1.JSONSchemaPropsOrStringArray", "j"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args()
        .nth(1)
        .ok_or("name the directory of the OpenAPI documents")?;
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(Path::new(&dir).join(format!("{document}_openapi.json")))?;
        let mut document: Value = serde_json::from_str(&text)?;
        if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas").map(Value::take) {
            definitions.extend(schemas.into_iter().map(|(name, schema)| (short(&name), schema)));
        }
    }
    let mut wanted: Vec<String> = definitions
        .keys()
        .filter(|name| kind(name, &definitions[*name]).is_some())
        .cloned()
        .collect();
    let mut done = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if done.insert(name.clone()) {
            references(&definitions[&name], &mut wanted);
        }
    }
    println!(
        "# Made by `cargo run -p corten-schema --example kubernetes_facts`; see that file and parse.rs for the notation."
    );
    for name in done {
        print_definition(&name, &definitions[&name]);
    }
    Ok(())
}

fn short(name: &str) -> String {
    let prefixes = [
        ("io.k8s.api.", ""),
        ("io.k8s.apimachinery.pkg.apis.", ""),
        ("io.k8s.apimachinery.pkg.api.", ""),
        ("io.k8s.apimachinery.pkg.util.", ""),
        ("io.k8s.apimachinery.pkg.", ""),
        ("io.k8s.apiextensions-apiserver.pkg.apis.", ""),
    ];
    let found = prefixes
        .iter()
        .find_map(|(prefix, to)| name.strip_prefix(prefix).map(|rest| format!("{to}{rest}")));
    found.unwrap_or_else(|| name.to_owned())
}

/// `group/version/Kind` of a definition that is a kind of its own.
fn kind(name: &str, definition: &Value) -> Option<String> {
    let kinds = definition.get("x-kubernetes-group-version-kind")?.as_array()?;
    let short = name.rsplit('.').next()?;
    if (short.ends_with("List") && short != "APIResourceList" && short != "APIGroupList") || short == "WatchEvent" {
        return None;
    }
    let text = |kind: &Value, key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = match META.contains(&short) {
        true => kinds.iter().find(|kind| text(kind, "group").is_empty())?,
        false => kinds.first()?,
    };
    Some(format!(
        "{}/{}/{}",
        text(first, "group"),
        text(first, "version"),
        text(first, "kind")
    ))
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                let name = short(target.rsplit('/').next().unwrap_or_default());
                if !SCALARS.iter().any(|(scalar, _)| *scalar == name) {
                    found.push(name);
                }
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn print_definition(name: &str, definition: &Value) {
    let mut header = format!("\n{name}");
    if let Some(kind) = kind(name, definition) {
        header.push_str(&format!(" @{kind}"));
    }
    if definition.get("x-kubernetes-map-type") == Some(&Value::from("atomic")) {
        header.push_str(" ~atomic");
    }
    println!("{header}");
    let package = name.rsplit_once('.').map(|(package, _)| package).unwrap_or_default();
    let required: Vec<&str> = texts(definition.get("required"));
    let fields = definition.get("properties").and_then(Value::as_object);
    for (field, schema) in fields.into_iter().flatten() {
        let mark = if required.contains(&field.as_str()) { "!" } else { "" };
        println!("{field}{mark} {}{}", type_of(schema, package), modifiers(schema));
    }
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn type_of(schema: &Value, package: &str) -> String {
    let wrapped = schema.pointer("/allOf/0/$ref");
    if let Some(target) = schema.get("$ref").or(wrapped).and_then(Value::as_str) {
        let name = short(target.rsplit('/').next().unwrap_or_default());
        if let Some((_, letter)) = SCALARS.iter().find(|(scalar, _)| *scalar == name) {
            return (*letter).to_owned();
        }
        return match name
            .strip_prefix(package)
            .filter(|rest| rest.starts_with('.') && !package.is_empty())
        {
            Some(rest) => rest.to_owned(),
            None => name,
        };
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
        ("string", "byte") => "y".to_owned(),
        ("string", "date-time") => "t".to_owned(),
        ("string", _) => "s".to_owned(),
        ("integer", "int64") => "l".to_owned(),
        ("integer", _) => "i".to_owned(),
        ("number", _) => "n".to_owned(),
        ("boolean", _) => "b".to_owned(),
        ("array", _) => format!("[{}]", type_of(&schema["items"], package)),
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) => format!("{{{}}}", type_of(values, package)),
            None => "o".to_owned(),
        },
        _ => "j".to_owned(),
    }
}

fn modifiers(schema: &Value) -> String {
    let mut out = String::new();
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("map") => out.push_str(&format!(
            " ~map:{}",
            texts(schema.get("x-kubernetes-list-map-keys")).join(",")
        )),
        Some(other) => out.push_str(&format!(" ~{other}")),
        None => {}
    }
    if schema.get("x-kubernetes-map-type") == Some(&Value::from("atomic")) {
        out.push_str(" ~atomic");
    }
    if let Some(strategy) = schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str) {
        out.push_str(&format!(" ^{strategy}"));
    }
    if let Some(key) = schema.get("x-kubernetes-patch-merge-key").and_then(Value::as_str) {
        out.push_str(&format!(" :{key}"));
    }
    // Empty scalars as defaults only say that the field is always printed; empty structs really are there always.
    let empty = [Value::from(""), Value::from(0), Value::from(false)];
    if let Some(default) = schema.get("default").filter(|default| !empty.contains(default)) {
        out.push_str(&format!(" ={default}"));
    }
    out
}
