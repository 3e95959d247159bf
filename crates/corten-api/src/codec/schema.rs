//! Schemas from the tables of the derive macros: OpenAPI as a CustomResourceDefinition holds it.

use serde_json::{Value, json};

use super::{FieldInfo, FieldKind, Json, JsonMap, MessageInfo};

/// Which schema is wanted.
#[derive(Debug, Clone, Copy)]
pub struct SchemaCx {
    /// Whether fields and values of the experimental channel are part of it.
    pub experimental: bool,
    /// The version of the kind.
    pub version: &'static str,
}

/// The schema of fields that are not properties themselves.
pub fn no_schema(_: &SchemaCx) -> Json {
    Json::Null
}

/// The schema of a struct.
pub fn message_schema(info: &'static MessageInfo, cx: &SchemaCx) -> Json {
    let mut properties = JsonMap::new();
    let mut required = Vec::new();
    let mut one_ofs = Vec::new();
    for field in info
        .fields
        .iter()
        .filter(|f| !f.hidden && (cx.experimental || !f.experimental))
    {
        match field.kind {
            FieldKind::Plain => {
                property(field, cx, &mut properties);
                if field.required {
                    required.push(Json::from(field.name));
                }
            }
            FieldKind::OneOf(variants) => {
                let variants: Vec<&FieldInfo> = variants
                    .iter()
                    .filter(|v| !v.hidden && (cx.experimental || !v.experimental))
                    .collect();
                variants
                    .iter()
                    .for_each(|variant| property(variant, cx, &mut properties));
                // Kinds that never have two properties in question leave the clause out.
                if field.facts != r#"{"oneOf":false}"# {
                    one_ofs.push(one_of(&variants));
                }
            }
        }
    }
    let mut schema = json!({ "type": "object" });
    if let Value::Object(map) = &mut schema {
        if !properties.is_empty() {
            map.insert("properties".to_owned(), Json::Object(properties));
        }
        if !required.is_empty() {
            map.insert("required".to_owned(), Json::Array(required));
        }
        describe(map, info.doc);
        match one_ofs.len() {
            0 => {}
            1 => map.extend(one_ofs.pop().map(|clause| ("oneOf".to_owned(), clause))),
            _ => {
                let clauses = one_ofs.into_iter().map(|clause| json!({ "oneOf": clause })).collect();
                map.insert("allOf".to_owned(), Json::Array(clauses));
            }
        }
    }
    merge_facts(&mut schema, info.facts, cx);
    schema
}

fn property(field: &FieldInfo, cx: &SchemaCx, properties: &mut JsonMap) {
    let mut schema = (field.schema)(cx);
    merge_facts(&mut schema, field.facts, cx);
    if let Value::Object(map) = &mut schema {
        describe(map, field.doc);
    }
    if !field.also.is_empty() {
        properties.insert(field.also.to_owned(), schema.clone());
    }
    properties.insert(field.name.to_owned(), schema);
}

fn describe(map: &mut JsonMap, doc: &str) {
    if !doc.is_empty() {
        map.insert("description".to_owned(), Json::from(doc));
    }
}

/// None of the properties, or exactly one of them.
fn one_of(variants: &[&FieldInfo]) -> Json {
    let each: Vec<Json> = variants.iter().map(|v| json!({ "required": [v.name] })).collect();
    let mut clauses = vec![json!({ "not": { "anyOf": each } })];
    clauses.extend(each);
    Json::Array(clauses)
}

/// Lays facts over a schema: members replace, `null` removes, `items` and `additionalProperties` go into the element,
/// rules are added to rules, and what stands under `$name` counts only in the channel or version of that name.
pub fn merge_facts(schema: &mut Json, facts: &str, cx: &SchemaCx) {
    if facts.is_empty() {
        return;
    }
    // The macros print these; a malformed one is a mistake in a `schema = "..."` attribute, and the schema tests' to find.
    if let Ok(facts) = serde_json::from_str::<Json>(facts) {
        merge(schema, facts, cx);
    }
}

impl SchemaCx {
    fn holds(&self, condition: &str) -> bool {
        match condition {
            "experimental" => self.experimental,
            "standard" => !self.experimental,
            version => version == self.version,
        }
    }
}

fn merge(schema: &mut Json, facts: Json, cx: &SchemaCx) {
    let Value::Object(facts) = facts else { return };
    for (key, fact) in facts {
        if let Some(condition) = key.strip_prefix('$') {
            if cx.holds(condition) {
                merge(schema, fact, cx);
            }
            continue;
        }
        let Value::Object(members) = schema else { return };
        match (key.as_str(), members.get_mut(&key)) {
            (_, _) if fact.is_null() => {
                members.remove(&key);
            }
            ("items" | "additionalProperties" | "properties", Some(inner)) => merge(inner, fact, cx),
            ("x-kubernetes-validations", Some(Value::Array(rules))) => {
                if let Value::Array(more) = fact {
                    rules.extend(more);
                }
            }
            _ => _ = members.insert(key, fact),
        }
    }
}
