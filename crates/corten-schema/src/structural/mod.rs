//! What makes a schema a structural one: the rules a CRD's schema must follow, beyond being well-formed OpenAPI.

mod conditions;
mod defaults;
#[cfg(test)]
mod tests;

use crate::error::FieldError;
use crate::schema::{AdditionalProperties, ListType, MapType, Schema, Type};
use serde_json::Value;

pub use defaults::check_defaults;

/// Everything an API server refuses in the schema of a CRD. `path` is where the schema stands in the CRD, as
/// `spec.versions[0].schema.openAPIV3Schema`.
pub fn check(schema: &Schema, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    place(schema, Level::Root, path, &mut errors);
    conditions::completeness(schema, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors.dedup();
    errors
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// A place that defines structure: the root, properties, items, additional properties.
fn place(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    keywords(schema, path, errors);
    types(schema, level, path, errors);
    extensions(schema, path, errors);
    lists(schema, path, errors);
    metadata(schema, level, path, errors);
    conditions::values(schema, path, errors);

    for (name, property) in &schema.properties {
        place(property, Level::Field, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(items) = &schema.items {
        place(items, Level::Item, &format!("{path}.items"), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        let path = format!("{path}.additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if schema.embedded_resource {
            errors.push(FieldError::forbidden(
                &path,
                "must not be used if x-kubernetes-embedded-resource is set",
            ));
        }
        if !schema.properties.is_empty() {
            errors.push(FieldError::forbidden(
                &path,
                "additionalProperties and properties are mutual exclusive",
            ));
        }
        if let AdditionalProperties::Schema(additional) = additional {
            place(additional, Level::Field, &path, errors);
        }
    }
}

/// Keywords that structural schemas may not use anywhere.
pub(super) fn keywords(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    for keyword in &schema.unsupported {
        let error = match keyword.as_str() {
            "x-kubernetes-preserve-unknown-fields=false" => FieldError::invalid(
                format!("{path}.x-kubernetes-preserve-unknown-fields"),
                false,
                "must be true or undefined",
            ),
            "items" => FieldError::forbidden(
                format!("{path}.items"),
                "items must be a schema object and not an array",
            ),
            keyword => FieldError::forbidden(format!("{path}.{keyword}"), format!("{keyword} is not supported")),
        };
        errors.push(error);
    }
    if schema.bounds.as_ref().is_some_and(|bounds| bounds.unique_items) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
}

fn types(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let path = format!("{path}.type");
    match schema.type_ {
        type_ if schema.embedded_resource && type_ != Some(Type::Object) => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(match type_ {
                None => FieldError::required(path, detail),
                Some(type_) => FieldError::invalid(path, type_.name(), detail),
            });
        }
        None if schema.unsupported.iter().any(|keyword| keyword == "$ref") => {}
        None if !schema.int_or_string && !schema.preserve_unknown_fields => {
            let place = match level {
                Level::Root => "at the root",
                Level::Item => "for specified array items",
                Level::Field => "for specified object fields",
            };
            errors.push(FieldError::required(path, format!("must not be empty {place}")));
        }
        Some(type_) if level == Level::Root && type_ != Type::Object => {
            errors.push(FieldError::invalid(path, type_.name(), "must be object at the root"));
        }
        _ => {}
    }
}

fn extensions(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if schema.int_or_string {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        if schema.preserve_unknown_fields {
            errors.push(FieldError::invalid(
                format!("{path}.x-kubernetes-preserve-unknown-fields"),
                true,
                detail,
            ));
        }
        if schema.embedded_resource {
            errors.push(FieldError::invalid(
                format!("{path}.x-kubernetes-embedded-resource"),
                true,
                detail,
            ));
        }
    }
    if schema.embedded_resource && !schema.preserve_unknown_fields && schema.properties.is_empty() {
        errors.push(FieldError::required(
            format!("{path}.properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
    if schema.map_type.is_some() && schema.type_ != Some(Type::Object) {
        let type_ = schema.type_.map(Type::name).unwrap_or_default();
        let detail = "must be object if x-kubernetes-map-type is specified";
        errors.push(FieldError::invalid(format!("{path}.type"), type_, detail));
    }
}

fn lists(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let listed = schema.unsupported.iter().any(|keyword| keyword == "items");
    if schema.type_ == Some(Type::Array) && schema.items.is_none() && !listed {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    let Some(list_type) = schema.list_type else {
        if !schema.list_map_keys.is_empty() {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(FieldError::required(format!("{path}.x-kubernetes-list-type"), detail));
        }
        return;
    };
    if schema.type_ != Some(Type::Array) {
        let type_ = schema.type_.map(Type::name).unwrap_or_default();
        let detail = "must be array if x-kubernetes-list-type is specified";
        errors.push(FieldError::invalid(format!("{path}.type"), type_, detail));
    }
    let items = schema.items.as_deref();
    match list_type {
        ListType::Map if schema.list_map_keys.is_empty() => {
            errors.push(FieldError::required(
                keys_path,
                "must not be empty if x-kubernetes-list-type is map",
            ));
        }
        ListType::Map => {
            let Some(items) = items else { return };
            if items.type_ != Some(Type::Object) {
                let type_ = items.type_.map(Type::name).unwrap_or_default();
                let detail = "must be object if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(format!("{path}.items.type"), type_, detail));
                return;
            }
            map_keys(schema, items, path, errors);
        }
        ListType::Set if items.is_some_and(|items| items.nullable) => {
            let detail = "cannot be nullable when x-kubernetes-list-type is set";
            errors.push(FieldError::forbidden(format!("{path}.items.nullable"), detail));
        }
        ListType::Set
            if items
                .is_some_and(|items| items.type_ == Some(Type::Object) && items.map_type != Some(MapType::Atomic)) =>
        {
            let map_type = items.and_then(|items| items.map_type).map(|_| "granular");
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.push(FieldError::invalid(
                format!("{path}.items.x-kubernetes-map-type"),
                map_type,
                detail,
            ));
        }
        ListType::Set | ListType::Atomic if !schema.list_map_keys.is_empty() => {
            let detail = "may not be specified if x-kubernetes-list-type is not map";
            errors.push(FieldError::forbidden(keys_path, detail));
        }
        ListType::Set | ListType::Atomic => {}
    }
}

fn map_keys(schema: &Schema, items: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let keys = &schema.list_map_keys;
    let mut wrong = |detail: &str| {
        let path = format!("{path}.x-kubernetes-list-map-keys");
        errors.push(FieldError::invalid(path, Value::from(keys.clone()), detail));
    };
    if keys.iter().enumerate().any(|(index, key)| keys[..index].contains(key)) {
        wrong("must not contain duplicate entries");
    }
    if keys.iter().any(|key| !items.properties.contains_key(key)) {
        wrong("entries must all be names of item properties");
    }
    for key in keys {
        let Some(property) = items.properties.get(key) else {
            continue;
        };
        let property_path = format!("{path}.items.properties[{key}]");
        if matches!(property.type_, Some(Type::Object | Type::Array)) {
            let type_ = property.type_.map(Type::name).unwrap_or_default();
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(format!("{property_path}.type"), type_, detail));
        }
        if property.nullable {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{property_path}.nullable"), detail));
        }
        if property.default.is_none() && !items.required.contains(key) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{property_path}.default"), detail));
        }
    }
}

fn metadata(schema: &Schema, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    if level != Level::Root && !schema.embedded_resource {
        return;
    }
    for (name, type_) in [
        ("kind", Type::String),
        ("apiVersion", Type::String),
        ("metadata", Type::Object),
    ] {
        if let Some(property) = schema.properties.get(name)
            && property.type_ != Some(type_)
        {
            let path = format!("{path}.properties[{name}].type");
            let found = property.type_.map(Type::name).unwrap_or_default();
            errors.push(FieldError::invalid(path, found, format!("must be {}", type_.name())));
        }
    }
    let Some(metadata) = schema.properties.get("metadata").filter(|_| level == Level::Root) else {
        return;
    };
    let mut rest = Schema::clone(metadata);
    rest.properties
        .retain(|name, _| name != "name" && name != "generateName");
    (rest.type_, rest.description) = (None, None);
    if rest != Schema::default() {
        errors.push(FieldError::forbidden(
            format!("{path}.properties[metadata]"),
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}
