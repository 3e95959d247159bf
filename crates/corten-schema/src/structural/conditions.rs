//! Conditions: what may stand under `allOf`, `anyOf`, `oneOf` and `not`, and in rules.

use super::keywords;
use crate::cel;
use crate::error::FieldError;
use crate::schema::{Schema, Type};

/// The conditions of a place, and the nested ones under `allOf`, `anyOf`, `oneOf` and `not`.
pub(super) fn values(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(pattern) = &schema.pattern
        && let Err(error) = pattern.regex()
    {
        let detail = format!(
            "must be a valid regular expression, but isn't: error parsing regexp: {error}: `{}`",
            pattern.source()
        );
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
            let detail = "must be non-empty if specified";
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
            let detail = "must not contain line breaks";
            errors.push(FieldError::invalid(
                format!("{path}.message"),
                rule.message.clone(),
                detail,
            ));
        } else if rule.rule.trim().contains('\n') && rule.message.is_none() && rule.message_expression.is_none() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(format!("{path}.message"), detail));
        }
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        if let Some(field) = &rule.field_path
            && !cel::is_field_path(schema, field)
        {
            let path = format!("{path}.fieldPath");
            errors.push(FieldError::invalid(path, field.as_str(), "must be a valid path"));
        }
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

/// Whatever a condition at the root speaks of must also be declared as structure. (The API server does not ask this of
/// conditions deeper down.)
pub(super) fn completeness(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
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
}

fn declared(condition: &Schema, structure: Option<&Schema>, from: &str, at: &str, errors: &mut Vec<FieldError>) {
    let Some(structure) = structure else {
        errors.push(FieldError::required(at, format!("because it is defined in {from}")));
        return;
    };
    for (name, property) in &condition.properties {
        let at = format!("{at}.properties[{name}]");
        let inner = structure.properties.get(name).map(|schema| &**schema);
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
