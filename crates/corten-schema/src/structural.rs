//! What makes a schema a structural one: the rules a CRD's schema must follow, beyond being well-formed OpenAPI.

use crate::error::FieldError;
use crate::schema::{AdditionalProperties, ListType, Schema, Type};
use serde_json::Value;

/// Everything an API server refuses in the schema of a CRD. `path` is where the schema stands in the CRD, as
/// `spec.versions[0].schema.openAPIV3Schema`.
pub fn check(schema: &Schema, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    place(schema, Level::Root, path, &mut errors);
    completeness(schema, path, &mut errors);
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
    values(schema, path, errors);

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
        } else if additional == &AdditionalProperties::Allowed(false) {
            errors.push(FieldError::forbidden(
                &path,
                "additionalProperties cannot be set to false",
            ));
        }
    }
}

/// Keywords that structural schemas may not use anywhere.
fn keywords(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
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
    if schema.preserve_unknown_fields && !matches!(schema.type_, None | Some(Type::Object)) {
        let type_ = schema.type_.map(Type::name).unwrap_or_default();
        let detail = "must be object if x-kubernetes-preserve-unknown-fields is true";
        errors.push(FieldError::invalid(format!("{path}.type"), type_, detail));
    }
    if let Some(map_type) = schema.map_type
        && schema.type_ != Some(Type::Object)
    {
        let detail = format!("must be object if x-kubernetes-map-type is {map_type:?}").to_lowercase();
        let type_ = schema.type_.map(Type::name).unwrap_or_default();
        errors.push(FieldError::invalid(format!("{path}.type"), type_, detail));
    }
}

fn lists(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if schema.type_ == Some(Type::Array) && schema.items.is_none() {
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
        ListType::Set | ListType::Atomic if !schema.list_map_keys.is_empty() => {
            let detail = "may not be specified if x-kubernetes-list-type is not map";
            errors.push(FieldError::forbidden(keys_path, detail));
        }
        ListType::Set | ListType::Atomic => {}
    }
}

fn map_keys(schema: &Schema, items: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    for (index, key) in schema.list_map_keys.iter().enumerate() {
        let key_path = format!("{path}.x-kubernetes-list-map-keys[{index}]");
        if schema.list_map_keys[..index].contains(key) {
            errors.push(FieldError::duplicate(key_path, key.as_str()));
            continue;
        }
        let Some(property) = items.properties.get(key) else {
            errors.push(FieldError::invalid(
                key_path,
                key.as_str(),
                "must be a declared property of the items",
            ));
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

/// The conditions of a place, and the nested ones under `allOf`, `anyOf`, `oneOf` and `not`.
fn values(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(pattern) = &schema.pattern
        && let Err(error) = pattern.regex()
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), pattern.source(), detail));
    }
    rules(schema, path, errors);
    let int_or_string = is_int_or_string(&schema.any_of);
    let first_int_or_string = schema
        .all_of
        .first()
        .is_some_and(|first| is_int_or_string(&first.any_of));
    let quantifiers = [
        ("allOf", &schema.all_of),
        ("anyOf", &schema.any_of),
        ("oneOf", &schema.one_of),
    ];
    for (keyword, alternatives) in quantifiers {
        if keyword == "anyOf" && int_or_string {
            continue;
        }
        for (index, alternative) in alternatives.iter().enumerate() {
            if keyword == "allOf" && index == 0 && first_int_or_string {
                let rest = Schema {
                    any_of: Vec::new(),
                    ..alternative.clone()
                };
                nested(&rest, &format!("{path}.{keyword}[{index}]"), errors);
                continue;
            }
            nested(alternative, &format!("{path}.{keyword}[{index}]"), errors);
        }
    }
    if let Some(not) = &schema.not {
        nested(not, &format!("{path}.not"), errors);
    }
}

/// The two alternatives that every int-or-string lists.
fn is_int_or_string(alternatives: &[Schema]) -> bool {
    matches!(alternatives, [first, second] if *first == Schema::of(Type::Integer) && *second == Schema::of(Type::String))
}

/// Under a quantifier only conditions may stand, no structure.
fn nested(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let given = [
        ("type", "must be empty to be structural", schema.type_.is_some()),
        (
            "additionalProperties",
            "must be undefined to be structural",
            schema.additional_properties.is_some(),
        ),
        (
            "default",
            "must be undefined to be structural",
            schema.default.is_some(),
        ),
        ("title", "must be empty to be structural", schema.title.is_some()),
        (
            "description",
            "must be empty to be structural",
            schema.description.is_some(),
        ),
        ("nullable", "must be false to be structural", schema.nullable),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
            schema.preserve_unknown_fields,
        ),
        (
            "x-kubernetes-embedded-resource",
            "must be false to be structural",
            schema.embedded_resource,
        ),
        (
            "x-kubernetes-int-or-string",
            "must be false to be structural",
            schema.int_or_string,
        ),
        (
            "x-kubernetes-list-map-keys",
            "must be empty to be structural",
            !schema.list_map_keys.is_empty(),
        ),
        (
            "x-kubernetes-list-type",
            "must be undefined to be structural",
            schema.list_type.is_some(),
        ),
        (
            "x-kubernetes-map-type",
            "must be undefined to be structural",
            schema.map_type.is_some(),
        ),
        (
            "x-kubernetes-validations",
            "must be empty to be structural",
            !schema.validations.is_empty(),
        ),
    ];
    for (keyword, detail, _) in given.into_iter().filter(|(.., given)| *given) {
        errors.push(FieldError::forbidden(format!("{path}.{keyword}"), detail));
    }
    keywords(schema, path, errors);
    values(schema, path, errors);
    if let Some(items) = &schema.items {
        nested(items, &format!("{path}.items"), errors);
    }
    for (name, property) in &schema.properties {
        let path = format!("{path}.properties[{name}]");
        if name == "metadata" {
            errors.push(FieldError::forbidden(
                &path,
                "must not be specified in a nested context",
            ));
        }
        nested(property, &path, errors);
    }
}

fn rules(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    for (index, rule) in schema.validations.iter().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{index}]");
        if rule.rule.trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.rule"), "rule is not specified"));
        }
        if rule.message.as_deref().is_some_and(|message| message.trim().is_empty()) {
            let detail = "message must be non-empty if specified";
            errors.push(FieldError::invalid(
                format!("{path}.message"),
                rule.message.clone(),
                detail,
            ));
        } else if rule
            .message
            .as_deref()
            .is_some_and(|message| message.trim().contains('\n'))
        {
            let detail = "message must not contain line breaks";
            errors.push(FieldError::invalid(
                format!("{path}.message"),
                rule.message.clone(),
                detail,
            ));
        } else if rule.rule.trim().contains('\n') && rule.message.is_none() && rule.message_expression.is_none() {
            let detail = "message or messageExpression must be specified if rule contains line breaks";
            errors.push(FieldError::required(format!("{path}.message"), detail));
        }
        let reasons = [
            "FieldValueRequired",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueDuplicate",
        ];
        if let Some(reason) = &rule.reason
            && !reasons.contains(&reason.as_str())
        {
            errors.push(FieldError::not_supported(
                format!("{path}.reason"),
                reason.as_str(),
                reasons,
            ));
        }
    }
}

/// Whatever a condition speaks of must also be declared in the structure around it.
fn completeness(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let quantifiers = [
        ("allOf", &schema.all_of),
        ("anyOf", &schema.any_of),
        ("oneOf", &schema.one_of),
    ];
    for (keyword, alternatives) in quantifiers {
        for (index, alternative) in alternatives.iter().enumerate() {
            declared(
                alternative,
                Some(schema),
                &format!("{path}.{keyword}[{index}]"),
                path,
                errors,
            );
        }
    }
    if let Some(not) = &schema.not {
        declared(not, Some(schema), &format!("{path}.not"), path, errors);
    }
    for (name, property) in &schema.properties {
        completeness(property, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(items) = &schema.items {
        completeness(items, &format!("{path}.items"), errors);
    }
    if let Some(AdditionalProperties::Schema(additional)) = &schema.additional_properties {
        completeness(additional, &format!("{path}.additionalProperties"), errors);
    }
}

fn declared(condition: &Schema, structure: Option<&Schema>, from: &str, at: &str, errors: &mut Vec<FieldError>) {
    let Some(structure) = structure else {
        errors.push(FieldError::required(at, format!("because it is defined in {from}")));
        return;
    };
    if structure.preserve_unknown_fields && structure.properties.is_empty() && structure.items.is_none() {
        return;
    }
    for (name, property) in &condition.properties {
        let at = format!("{at}.properties[{name}]");
        let inner = structure.properties.get(name).map(|schema| &**schema);
        let inner = inner.or_else(|| structure.preserve_unknown_fields.then_some(property).map(|_| structure));
        declared(property, inner, &format!("{from}.properties[{name}]"), &at, errors);
    }
    if let Some(items) = &condition.items {
        let inner = structure.items.as_deref();
        declared(items, inner, &format!("{from}.items"), &format!("{at}.items"), errors);
    }
    let nested = [
        ("allOf", &condition.all_of),
        ("anyOf", &condition.any_of),
        ("oneOf", &condition.one_of),
    ];
    for (keyword, alternatives) in nested {
        for (index, alternative) in alternatives.iter().enumerate() {
            declared(
                alternative,
                Some(structure),
                &format!("{from}.{keyword}[{index}]"),
                at,
                errors,
            );
        }
    }
    if let Some(not) = &condition.not {
        declared(not, Some(structure), &format!("{from}.not"), at, errors);
    }
}

/// Defaults of a schema must be valid values of it, without undeclared fields.
pub fn check_defaults(schema: &Schema, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    defaults(schema, path, &mut errors);
    errors
}

fn defaults(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(default) = &schema.default {
        let path = format!("{path}.default");
        let mut pruned = default.clone();
        if !crate::prune::prune_value(schema, &mut pruned).is_empty() {
            errors.push(FieldError::invalid(
                &path,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let problems = crate::validate::validate_value(schema, &completed(schema, default), &path);
        errors.extend(problems);
    }
    for (name, property) in &schema.properties {
        defaults(property, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(items) = &schema.items {
        defaults(items, &format!("{path}.items"), errors);
    }
    if let Some(AdditionalProperties::Schema(additional)) = &schema.additional_properties {
        defaults(additional, &format!("{path}.additionalProperties"), errors);
    }
}

fn completed(schema: &Schema, default: &Value) -> Value {
    let mut default = default.clone();
    crate::defaults::apply(schema, &mut default);
    default
}
