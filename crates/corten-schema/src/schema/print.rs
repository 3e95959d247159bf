//! [`Schema`] to OpenAPI v3, the inverse of parsing.

use super::model::{AdditionalProperties, Bounds, ListType, MapType, Rule, Schema, SchemaRef};
use serde_json::{Map, Value, json};

impl Schema {
    /// The schema as OpenAPI v3. Built-in definitions appear as references to `#/components/schemas/NAME`.
    pub fn to_openapi(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value);
            }
        };
        let text = |text: &Option<Box<str>>| text.as_deref().map(Value::from);
        let flag = |flag: bool| flag.then_some(Value::Bool(true));
        let texts = |texts: &[String]| (!texts.is_empty()).then(|| Value::from(texts));
        let schemas = |schemas: &[Schema]| {
            (!schemas.is_empty()).then(|| schemas.iter().map(Schema::to_openapi).collect::<Value>())
        };

        put("type", self.type_.map(|type_| type_.name().into()));
        put("format", text(&self.format));
        put("title", text(&self.title));
        put("description", text(&self.description));
        let properties = || {
            self.properties
                .iter()
                .map(|(name, schema)| (name.clone(), reference(schema)))
                .collect()
        };
        put(
            "properties",
            (!self.properties.is_empty()).then(|| Value::Object(properties())),
        );
        put(
            "additionalProperties",
            self.additional_properties.as_ref().map(additional),
        );
        put("items", self.items.as_ref().map(reference));
        put("required", texts(&self.required));
        put(
            "enum",
            (!self.enum_.is_empty()).then(|| Value::from(self.enum_.clone())),
        );
        put("pattern", self.pattern.as_ref().map(|pattern| pattern.source().into()));
        put("default", self.default.clone());
        put("example", self.example.clone());
        put("nullable", flag(self.nullable));
        put("allOf", schemas(&self.all_of));
        put("anyOf", schemas(&self.any_of));
        put("oneOf", schemas(&self.one_of));
        put("not", self.not.as_ref().map(|not| not.to_openapi()));
        put("x-kubernetes-int-or-string", flag(self.int_or_string));
        put(
            "x-kubernetes-preserve-unknown-fields",
            flag(self.preserve_unknown_fields),
        );
        put("x-kubernetes-embedded-resource", flag(self.embedded_resource));
        put("x-kubernetes-list-type", self.list_type.map(list_type));
        put("x-kubernetes-list-map-keys", texts(&self.list_map_keys));
        put("x-kubernetes-map-type", self.map_type.map(map_type));
        put("x-kubernetes-patch-strategy", text(&self.patch_strategy));
        put("x-kubernetes-patch-merge-key", text(&self.patch_merge_key));
        put(
            "x-kubernetes-validations",
            (!self.validations.is_empty()).then(|| self.validations.iter().map(rule).collect()),
        );
        if let Some(bounds) = &self.bounds {
            print_bounds(bounds, &mut out);
        }
        Value::Object(out)
    }
}

fn reference(schema: &SchemaRef) -> Value {
    match schema {
        SchemaRef::Here(schema) => schema.to_openapi(),
        SchemaRef::Named(named) => json!({"$ref": format!("#/components/schemas/{}", named.name)}),
    }
}

fn additional(additional: &AdditionalProperties) -> Value {
    match additional {
        AdditionalProperties::Allowed(allowed) => Value::Bool(*allowed),
        AdditionalProperties::Schema(schema) => reference(schema),
    }
}

fn list_type(type_: ListType) -> Value {
    match type_ {
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
    }
    .into()
}

fn map_type(type_: MapType) -> Value {
    match type_ {
        MapType::Atomic => "atomic",
        MapType::Granular => "granular",
    }
    .into()
}

fn rule(rule: &Rule) -> Value {
    let mut out = Map::new();
    out.insert("rule".to_owned(), rule.rule.clone().into());
    let texts = [
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("reason", &rule.reason),
        ("fieldPath", &rule.field_path),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            out.insert(key.to_owned(), text.clone().into());
        }
    }
    if let Some(optional) = rule.optional_old_self {
        out.insert("optionalOldSelf".to_owned(), optional.into());
    }
    Value::Object(out)
}

fn print_bounds(bounds: &Bounds, out: &mut Map<String, Value>) {
    let numbers = [
        ("minimum", bounds.minimum),
        ("maximum", bounds.maximum),
        ("multipleOf", bounds.multiple_of),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            out.insert(key.to_owned(), number_value(number));
        }
    }
    let counts = [
        ("minLength", bounds.min_length),
        ("maxLength", bounds.max_length),
        ("minItems", bounds.min_items),
        ("maxItems", bounds.max_items),
        ("minProperties", bounds.min_properties),
        ("maxProperties", bounds.max_properties),
    ];
    for (key, count) in counts {
        if let Some(count) = count {
            out.insert(key.to_owned(), count.into());
        }
    }
    let flags = [
        ("exclusiveMinimum", bounds.exclusive_minimum),
        ("exclusiveMaximum", bounds.exclusive_maximum),
        ("uniqueItems", bounds.unique_items),
    ];
    for (key, _) in flags.into_iter().filter(|(_, flag)| *flag) {
        out.insert(key.to_owned(), true.into());
    }
}

/// Whole numbers print without a fraction, as they were written.
pub(crate) fn number_value(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}
