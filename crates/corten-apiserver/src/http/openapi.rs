//! `/openapi/v3` and `/openapi/v2`: the shapes of all served kinds, and of each request as far as clients look at it.
//!
//! kubectl reads three things here: the schema of a kind (explain, strategic merge), the kind of each path, and whether a write has the
//! parameters `fieldValidation` and `dryRun`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::registry::{Registry, Resource};

/// `/openapi/v3`: where the documents are.
pub(crate) fn index(registry: &Registry, revision: u64) -> Value {
    let mut paths = Map::new();
    for group in registry.groups() {
        for version in registry.versions(&group) {
            let path = path_of(&group, &version);
            // Custom resources change their documents; the revision makes clients read again.
            let entry = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={revision:X}") });
            paths.insert(path, entry);
        }
    }
    json!({ "paths": paths })
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// `/openapi/v3/apis/G/V`.
pub(crate) fn v3(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let resources = registry.of_version(group, version);
    if resources.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in &resources {
        add_paths(&mut paths, resource, Dialect::V3);
        add_schemas(&mut schemas, resource, Dialect::V3);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": super::route::VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

/// `/openapi/v2`.
pub(crate) fn v2(registry: &Registry) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for resource in &registry.resources {
        add_paths(&mut paths, resource, Dialect::V2);
        add_schemas(&mut definitions, resource, Dialect::V2);
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": super::route::VERSION },
        "paths": paths,
        "definitions": definitions,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    V2,
    V3,
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, dialect: Dialect) {
    let base = format!("/{}", path_of(resource.group(), &resource.id.version));
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural())
    } else {
        format!("{base}/{}", resource.plural())
    };
    let kind = json!({ "group": resource.group(), "version": resource.id.version, "kind": resource.kind });
    let operation = |verb: &str, action: &str, write: bool| {
        let mut parameters = vec![parameter("pretty", "string", dialect)];
        if write {
            parameters.push(parameter("dryRun", "string", dialect));
            parameters.push(parameter("fieldManager", "string", dialect));
            parameters.push(parameter("fieldValidation", "string", dialect));
        }
        json!({
            "operationId": format!("{verb}{}{}", capital(&resource.id.version), resource.kind),
            "parameters": parameters,
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        })
    };
    let mut whole = Map::new();
    whole.insert("post".to_owned(), operation("create", "post", true));
    if !resource.review {
        whole.insert("get".to_owned(), operation("list", "list", false));
        whole.insert(
            "delete".to_owned(),
            operation("deletecollection", "deletecollection", false),
        );
    }
    paths.insert(collection.clone(), whole.into());
    if !resource.review {
        paths.insert(
            format!("{collection}/{{name}}"),
            json!({
                "get": operation("read", "get", false),
                "put": operation("replace", "put", true),
                "patch": operation("patch", "patch", true),
                "delete": operation("delete", "delete", true),
            }),
        );
    }
}

fn parameter(name: &str, kind: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({ "name": name, "in": "query", "type": kind, "uniqueItems": true }),
        Dialect::V3 => json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } }),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Adds the schema of a kind and all it refers to.
fn add_schemas(into: &mut Map<String, Value>, resource: &Resource, dialect: Dialect) {
    let prefix = match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    };
    let kind = json!([{ "group": resource.group(), "version": resource.id.version, "kind": resource.kind }]);
    for (name, mut schema) in resource_schemas(resource) {
        rewrite_references(&mut schema, prefix);
        if crate::object::as_map(&mut schema).remove("x-corten-root").is_some() {
            schema["x-kubernetes-group-version-kind"] = kind.clone();
        } else if into.contains_key(&name) {
            // Shared by several kinds; the root of another kind must keep its mark.
            continue;
        }
        into.insert(name, schema);
    }
}

/// The schemas of a resource by name; the one of the kind itself is marked.
fn resource_schemas(resource: &Resource) -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    if let Some(custom) = &resource.custom {
        let mut root = custom.openapi();
        root["x-corten-root"] = json!(true);
        schemas.insert(custom_name(resource), root);
        return schemas;
    }
    let (group, version, kind) = (resource.group(), &*resource.id.version, resource.kind.as_str());
    if let Some(root) = corten_schema::kubernetes::definition_of(group, version, kind) {
        for named in corten_schema::kubernetes::closure(root) {
            let mut schema = named.schema().to_openapi();
            if named.name == root.name {
                schema["x-corten-root"] = json!(true);
            }
            schemas.insert(named.name.clone(), schema);
        }
    }
    schemas
}

/// `com.example.v1.Widget`.
fn custom_name(resource: &Resource) -> String {
    let mut parts: Vec<&str> = resource.group().split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), resource.id.version, resource.kind)
}

fn rewrite_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.rsplit('/').next().map(str::to_owned)
            {
                *reference = format!("{prefix}{name}");
            }
            map.values_mut().for_each(|value| rewrite_references(value, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rewrite_references(value, prefix)),
        _ => {}
    }
}
