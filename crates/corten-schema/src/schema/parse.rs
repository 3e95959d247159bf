//! OpenAPI v3 to [`Schema`]. Reports what is malformed; whether the schema is a *structural* one is not asked here.

use super::model::{AdditionalProperties, Bounds, ListType, MapType, Pattern, Rule, Schema, SchemaRef, Type};
use crate::error::FieldError;
use serde_json::{Map, Value};

/// Deeper schemas are refused: no API has them, and recursion over them would end in a stack overflow.
const DEPTH_MAX: usize = 96;

/// Keywords of OpenAPI and JSON Schema that a CRD may not use.
const UNSUPPORTED: &[&str] = &[
    "$ref",
    "additionalItems",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
];

impl Schema {
    /// Reads a schema as it stands in a CRD's `openAPIV3Schema`. Paths of errors start at the schema itself.
    pub fn parse(openapi: &Value) -> Result<Schema, Vec<FieldError>> {
        Parser::new(None).finish(openapi)
    }

    /// Reads a schema like [`Schema::parse`], with the paths of errors starting at `path`.
    pub fn parse_at(openapi: &Value, path: &str) -> Result<Schema, Vec<FieldError>> {
        let mut parser = Parser::new(None);
        parser.path = path.to_owned();
        parser.finish(openapi)
    }

    /// Reads a schema of an OpenAPI document whose `$ref`s point into `components` (the document's
    /// `components.schemas`). A definition that contains itself is cut off there as an object that may hold anything.
    pub fn parse_resolved(openapi: &Value, components: &Value) -> Result<Schema, Vec<FieldError>> {
        Parser::new(components.as_object()).finish(openapi)
    }
}

struct Parser<'a> {
    components: Option<&'a Map<String, Value>>,
    resolving: Vec<&'a str>,
    path: String,
    depth: usize,
    errors: Vec<FieldError>,
}

impl<'a> Parser<'a> {
    fn new(components: Option<&'a Map<String, Value>>) -> Parser<'a> {
        Parser {
            components,
            resolving: Vec::new(),
            path: String::new(),
            depth: 0,
            errors: Vec::new(),
        }
    }

    fn finish(mut self, openapi: &'a Value) -> Result<Schema, Vec<FieldError>> {
        let schema = self.schema(openapi);
        if self.errors.is_empty() {
            Ok(schema)
        } else {
            Err(self.errors)
        }
    }

    fn within<T>(&mut self, segment: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !segment.starts_with('[') && !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(segment);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    fn wrong(&mut self, keyword: &str, value: &Value, expected: &str) {
        self.within(keyword, |p| {
            let path = p.path.clone();
            p.errors
                .push(FieldError::invalid(path, value.clone(), format!("must be {expected}")));
        });
    }

    fn schema(&mut self, openapi: &'a Value) -> Schema {
        let Some(fields) = openapi.as_object() else {
            let path = self.path.clone();
            self.errors.push(FieldError::type_invalid(
                path,
                openapi.clone(),
                "a schema must be an object",
            ));
            return Schema::default();
        };
        if self.depth >= DEPTH_MAX {
            let path = self.path.clone();
            self.errors.push(FieldError::forbidden(
                path,
                format!("schemas may not be nested deeper than {DEPTH_MAX}"),
            ));
            return Schema::default();
        }
        self.depth += 1;
        let schema = match self.reference(fields) {
            Some(schema) => schema,
            None => self.fields(fields),
        };
        self.depth -= 1;
        schema
    }

    /// Follows a `$ref`, also where it is wrapped in a one-element `allOf` (how Kubernetes gives a reference a default).
    fn reference(&mut self, fields: &'a Map<String, Value>) -> Option<Schema> {
        let components = self.components?;
        let wrapped = || match fields.get("allOf")?.as_array()?.as_slice() {
            [only] => only.get("$ref"),
            _ => None,
        };
        let target = fields.get("$ref").or_else(wrapped)?.as_str()?;
        let name = target.rsplit('/').next()?;
        let (name, definition) = components.get_key_value(name)?;
        let mut schema = if self.resolving.contains(&name.as_str()) {
            Schema {
                preserve_unknown_fields: true,
                ..Schema::of(Type::Object)
            }
        } else {
            self.resolving.push(name);
            let schema = self.schema(definition);
            self.resolving.pop();
            schema
        };
        // What stands beside the reference says more about this place than the definition does.
        if let Some(default) = fields.get("default") {
            schema.default = Some(default.clone());
        }
        if let Some(description) = fields.get("description").and_then(Value::as_str) {
            schema.description = Some(description.into());
        }
        if let Some(list) = fields.get("x-kubernetes-map-type") {
            schema.map_type = self.map_type(list);
        }
        Some(schema)
    }

    fn fields(&mut self, fields: &'a Map<String, Value>) -> Schema {
        let mut schema = Schema::default();
        let mut bounds = Bounds::default();
        for (key, value) in fields {
            match key.as_str() {
                "type" => schema.type_ = self.type_(value),
                "format" => schema.format = self.text(key, value),
                "title" => schema.title = self.text(key, value),
                "description" => schema.description = self.text(key, value),
                "properties" => self.properties(value, &mut schema),
                "additionalProperties" => schema.additional_properties = Some(self.additional(value)),
                "items" => schema.items = self.items(value, &mut schema.unsupported),
                "required" => schema.required = self.texts(key, value),
                "enum" => match value.as_array() {
                    Some(values) => schema.enum_ = values.clone(),
                    None => self.wrong(key, value, "a list"),
                },
                "minimum" => bounds.minimum = self.float(key, value),
                "maximum" => bounds.maximum = self.float(key, value),
                "exclusiveMinimum" => bounds.exclusive_minimum = self.flag(key, value),
                "exclusiveMaximum" => bounds.exclusive_maximum = self.flag(key, value),
                "multipleOf" => bounds.multiple_of = self.float(key, value),
                "minLength" => bounds.min_length = self.count(key, value),
                "maxLength" => bounds.max_length = self.count(key, value),
                "minItems" => bounds.min_items = self.count(key, value),
                "maxItems" => bounds.max_items = self.count(key, value),
                "uniqueItems" => bounds.unique_items = self.flag(key, value),
                "minProperties" => bounds.min_properties = self.count(key, value),
                "maxProperties" => bounds.max_properties = self.count(key, value),
                "pattern" => schema.pattern = self.text(key, value).map(|source| Box::new(Pattern::from(&*source))),
                "default" => schema.default = Some(value.clone()),
                "example" => schema.example = Some(value.clone()),
                "nullable" => schema.nullable = self.flag(key, value),
                "allOf" => schema.all_of = self.schemas(key, value),
                "anyOf" => schema.any_of = self.schemas(key, value),
                "oneOf" => schema.one_of = self.schemas(key, value),
                "not" => schema.not = Some(Box::new(self.within(key, |p| p.schema(value)))),
                "x-kubernetes-int-or-string" => schema.int_or_string = self.flag(key, value),
                "x-kubernetes-preserve-unknown-fields" => {
                    schema.preserve_unknown_fields = self.flag(key, value);
                    if value == &Value::Bool(false) {
                        schema
                            .unsupported
                            .push("x-kubernetes-preserve-unknown-fields=false".to_owned());
                    }
                }
                "x-kubernetes-embedded-resource" => schema.embedded_resource = self.flag(key, value),
                "x-kubernetes-list-type" => schema.list_type = self.list_type(value),
                "x-kubernetes-list-map-keys" => schema.list_map_keys = self.texts(key, value),
                "x-kubernetes-map-type" => schema.map_type = self.map_type(value),
                "x-kubernetes-patch-strategy" => schema.patch_strategy = self.text(key, value),
                "x-kubernetes-patch-merge-key" => schema.patch_merge_key = self.text(key, value),
                "x-kubernetes-validations" => schema.validations = self.rules(value).into(),
                key if UNSUPPORTED.contains(&key) => schema.unsupported.push(key.to_owned()),
                // Documentation (`externalDocs`, `$schema`, `id`) and vendor extensions mean nothing here.
                _ => {}
            }
        }
        if bounds != Bounds::default() {
            schema.bounds = Some(Box::new(bounds));
        }
        // Kubernetes' own documents say int-or-string by format.
        if self.components.is_some() && schema.format.as_deref() == Some("int-or-string") {
            schema = Schema {
                type_: None,
                format: None,
                int_or_string: true,
                one_of: Vec::new(),
                ..schema
            };
        }
        schema
    }

    fn type_(&mut self, value: &Value) -> Option<Type> {
        let type_ = match value.as_str() {
            Some("object") => Type::Object,
            Some("array") => Type::Array,
            Some("string") => Type::String,
            Some("integer") => Type::Integer,
            Some("number") => Type::Number,
            Some("boolean") => Type::Boolean,
            Some("") => return None,
            _ => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.unsupported_value("type", value, &known);
                return None;
            }
        };
        Some(type_)
    }

    fn unsupported_value(&mut self, keyword: &str, value: &Value, known: &[&str]) {
        self.within(keyword, |p| {
            let path = p.path.clone();
            p.errors.push(FieldError::not_supported(path, value.clone(), known));
        });
    }

    fn list_type(&mut self, value: &Value) -> Option<ListType> {
        match value.as_str() {
            Some("atomic") => Some(ListType::Atomic),
            Some("set") => Some(ListType::Set),
            Some("map") => Some(ListType::Map),
            _ => {
                self.unsupported_value("x-kubernetes-list-type", value, &["atomic", "set", "map"]);
                None
            }
        }
    }

    fn map_type(&mut self, value: &Value) -> Option<MapType> {
        match value.as_str() {
            Some("atomic") => Some(MapType::Atomic),
            Some("granular") => Some(MapType::Granular),
            _ => {
                self.unsupported_value("x-kubernetes-map-type", value, &["atomic", "granular"]);
                None
            }
        }
    }

    fn properties(&mut self, value: &'a Value, schema: &mut Schema) {
        let Some(fields) = value.as_object() else {
            return self.wrong("properties", value, "an object");
        };
        for (name, property) in fields {
            let property = self.within(&format!("properties[{name}]"), |p| p.schema(property));
            schema.properties.insert(name.clone(), SchemaRef::from(property));
        }
    }

    fn additional(&mut self, value: &'a Value) -> AdditionalProperties {
        match value {
            Value::Bool(allowed) => AdditionalProperties::Allowed(*allowed),
            value => {
                let schema = self.within("additionalProperties", |p| p.schema(value));
                AdditionalProperties::Schema(SchemaRef::from(schema))
            }
        }
    }

    fn items(&mut self, value: &'a Value, unsupported: &mut Vec<String>) -> Option<SchemaRef> {
        if value.is_array() {
            unsupported.push("items".to_owned());
            return None;
        }
        Some(SchemaRef::from(self.within("items", |p| p.schema(value))))
    }

    fn schemas(&mut self, keyword: &str, value: &'a Value) -> Vec<Schema> {
        let Some(schemas) = value.as_array() else {
            self.wrong(keyword, value, "a list");
            return Vec::new();
        };
        let each = |(index, schema)| self.within(&format!("{keyword}[{index}]"), |p| p.schema(schema));
        schemas.iter().enumerate().map(each).collect()
    }

    fn rules(&mut self, value: &Value) -> Vec<Rule> {
        let Some(rules) = value.as_array() else {
            self.wrong("x-kubernetes-validations", value, "a list");
            return Vec::new();
        };
        rules
            .iter()
            .enumerate()
            .map(|(index, rule)| self.rule(index, rule))
            .collect()
    }

    fn rule(&mut self, index: usize, value: &Value) -> Rule {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if !value.get("rule").is_some_and(Value::is_string) {
            self.wrong(&format!("x-kubernetes-validations[{index}].rule"), value, "text");
        }
        Rule {
            rule: text("rule").unwrap_or_default(),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }

    fn text(&mut self, keyword: &str, value: &Value) -> Option<Box<str>> {
        if value.as_str().is_none() {
            self.wrong(keyword, value, "text");
        }
        value.as_str().filter(|text| !text.is_empty()).map(Box::from)
    }

    fn texts(&mut self, keyword: &str, value: &Value) -> Vec<String> {
        let texts = value
            .as_array()
            .map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        match texts {
            Some(Some(texts)) => texts,
            _ => {
                self.wrong(keyword, value, "a list of text");
                Vec::new()
            }
        }
    }

    fn flag(&mut self, keyword: &str, value: &Value) -> bool {
        if !value.is_boolean() {
            self.wrong(keyword, value, "true or false");
        }
        value.as_bool().unwrap_or_default()
    }

    fn float(&mut self, keyword: &str, value: &Value) -> Option<f64> {
        if !value.is_number() {
            self.wrong(keyword, value, "a number");
        }
        value.as_f64()
    }

    fn count(&mut self, keyword: &str, value: &Value) -> Option<i64> {
        let count = value
            .as_i64()
            .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64));
        if count.is_none() {
            self.wrong(keyword, value, "a whole number");
        }
        count
    }
}
