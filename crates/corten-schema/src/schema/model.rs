//! The types a schema is made of. They say what may stand where; what is done with that is told by the other modules.

use crate::cel::CompiledRules;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A map or a struct.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// The name in OpenAPI.
    pub fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListType {
    /// The list is one value and replaced as a whole.
    Atomic,
    /// The items are scalars, each at most once.
    Set,
    /// The items are objects told apart by `list_map_keys`.
    Map,
}

/// How an object is merged (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapType {
    /// The object is one value and replaced as a whole.
    Atomic,
    /// Every key is a value of its own.
    Granular,
}

/// What a map allows beside the declared properties.
#[derive(Clone, Debug, PartialEq)]
pub enum AdditionalProperties {
    /// `true`: anything, or `false`: nothing.
    Allowed(bool),
    /// Any key with values of this shape.
    Schema(SchemaRef),
}

/// Limits of numbers, texts, lists and maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Smallest number.
    pub minimum: Option<f64>,
    /// `minimum` itself is too small.
    pub exclusive_minimum: bool,
    /// Largest number.
    pub maximum: Option<f64>,
    /// `maximum` itself is too large.
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    pub multiple_of: Option<f64>,
    /// Fewest characters.
    pub min_length: Option<i64>,
    /// Most characters.
    pub max_length: Option<i64>,
    /// Fewest items.
    pub min_items: Option<i64>,
    /// Most items.
    pub max_items: Option<i64>,
    /// Items must differ.
    pub unique_items: bool,
    /// Fewest keys.
    pub min_properties: Option<i64>,
    /// Most keys.
    pub max_properties: Option<i64>,
}

/// A regular expression of a schema, compiled when first used.
#[derive(Clone, Default)]
pub struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The compiled expression, or why it cannot be compiled.
    pub fn regex(&self) -> &Result<Regex, String> {
        self.compiled.get_or_init(|| {
            // Kubernetes writes RE2; of the two syntaxes only \z and \Q..\E differ in what schemas use.
            Regex::new(&self.source).map_err(|error| {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                if reason == "unclosed group" {
                    "missing closing )".to_owned()
                } else {
                    reason.to_owned()
                }
            })
        })
    }
}

impl From<&str> for Pattern {
    fn from(source: &str) -> Pattern {
        Pattern {
            source: source.into(),
            compiled: OnceLock::new(),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// One CEL rule (`x-kubernetes-validations`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The expression that must be true.
    pub rule: String,
    /// What to say when it is not.
    pub message: Option<String>,
    /// An expression that makes the message.
    pub message_expression: Option<String>,
    /// `FieldValueInvalid` and the like.
    pub reason: Option<String>,
    /// The field to blame, relative to where the rule stands (`.spec.x`).
    pub field_path: Option<String>,
    /// The rule also runs when there is no old value.
    pub optional_old_self: Option<bool>,
}

/// The CEL rules of one place in a schema, compiled when first used.
#[derive(Clone, Default)]
pub struct Validations {
    rules: Vec<Rule>,
    pub(crate) compiled: OnceLock<Arc<CompiledRules>>,
    /// Whether there are rules here or deeper.
    pub(crate) inside: OnceLock<bool>,
}

impl Deref for Validations {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        &self.rules
    }
}

impl From<Vec<Rule>> for Validations {
    fn from(rules: Vec<Rule>) -> Validations {
        Validations {
            rules,
            compiled: OnceLock::new(),
            inside: OnceLock::new(),
        }
    }
}

impl PartialEq for Validations {
    fn eq(&self, other: &Validations) -> bool {
        self.rules == other.rules
    }
}

impl fmt::Debug for Validations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// A definition with a name, built when first used; the built-in kinds are made of these, some of them recursively.
pub struct Named {
    /// The name, as in `io.k8s.api.core.v1.PodSpec`.
    pub name: String,
    make: Box<dyn Fn() -> Schema + Send + Sync>,
    schema: OnceLock<Schema>,
}

impl Named {
    /// A definition that `make` builds when it is first looked at.
    pub fn new(name: String, make: impl Fn() -> Schema + Send + Sync + 'static) -> Named {
        Named {
            name,
            make: Box::new(make),
            schema: OnceLock::new(),
        }
    }

    /// The schema, built now if it was not before.
    pub fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| (self.make)())
    }
}

/// A schema inside of a schema.
#[derive(Clone)]
pub enum SchemaRef {
    /// Written out here.
    Here(Arc<Schema>),
    /// A built-in definition, shared and possibly recursive.
    Named(&'static Named),
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        match self {
            SchemaRef::Here(schema) => schema,
            SchemaRef::Named(named) => named.schema(),
        }
    }
}

impl From<Schema> for SchemaRef {
    fn from(schema: Schema) -> SchemaRef {
        SchemaRef::Here(Arc::new(schema))
    }
}

impl PartialEq for SchemaRef {
    fn eq(&self, other: &SchemaRef) -> bool {
        match (self, other) {
            (SchemaRef::Here(left), SchemaRef::Here(right)) => left == right,
            (SchemaRef::Named(left), SchemaRef::Named(right)) => left.name == right.name,
            _ => false,
        }
    }
}

impl fmt::Debug for SchemaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaRef::Here(schema) => schema.fmt(f),
            SchemaRef::Named(named) => write!(f, "${}", named.name),
        }
    }
}

/// The shape of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// What the value is.
    pub type_: Option<Type>,
    /// A refinement of the type, as `int32` or `date-time`.
    pub format: Option<Box<str>>,
    /// A short name for people.
    pub title: Option<Box<str>>,
    /// What the value means.
    pub description: Option<Box<str>>,
    /// The declared fields of an object.
    pub properties: BTreeMap<String, SchemaRef>,
    /// What an object may have beside them.
    pub additional_properties: Option<AdditionalProperties>,
    /// The items of a list.
    pub items: Option<SchemaRef>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The only allowed values.
    pub enum_: Vec<Value>,
    /// Limits.
    pub bounds: Option<Box<Bounds>>,
    /// An expression that text must match.
    pub pattern: Option<Box<Pattern>>,
    /// What an absent field is set to.
    pub default: Option<Value>,
    /// An example, for documentation.
    pub example: Option<Value>,
    /// Null is allowed.
    pub nullable: bool,
    /// A number or text (`x-kubernetes-int-or-string`).
    pub int_or_string: bool,
    /// Undeclared fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown_fields: bool,
    /// The value is an object of Kubernetes (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// How items are told apart.
    pub list_type: Option<ListType>,
    /// The fields that tell items apart.
    pub list_map_keys: Vec<String>,
    /// How an object is merged.
    pub map_type: Option<MapType>,
    /// `merge`, `replace`, `retainKeys`, comma-separated (`x-kubernetes-patch-strategy`).
    pub patch_strategy: Option<Box<str>>,
    /// The field that tells items apart in a strategic merge patch (`x-kubernetes-patch-merge-key`).
    pub patch_merge_key: Option<Box<str>>,
    /// CEL rules.
    pub validations: Validations,
    /// All of these must hold.
    pub all_of: Vec<Schema>,
    /// One of these must hold.
    pub any_of: Vec<Schema>,
    /// Exactly one of these must hold.
    pub one_of: Vec<Schema>,
    /// This must not hold.
    pub not: Option<Box<Schema>>,
    /// Keywords that were given and that a structural schema may not have (`$ref`, `definitions`...).
    pub unsupported: Vec<String>,
}

impl Schema {
    /// A schema that has a type and allows anything of it.
    pub fn of(type_: Type) -> Schema {
        Schema {
            type_: Some(type_),
            ..Schema::default()
        }
    }

    /// The field `name` of an object, declared or allowed as an additional property.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional_properties) {
            (Some(schema), _) => Some(schema),
            (None, Some(AdditionalProperties::Schema(schema))) => Some(schema),
            (None, _) => None,
        }
    }

    /// The schema at a path of field names; lists are passed through their items.
    pub fn at(&self, path: &[&str]) -> Option<&Schema> {
        path.iter().try_fold(self, |schema, name| {
            let mut schema = schema;
            while let Some(items) = &schema.items {
                schema = items;
            }
            schema.field(name)
        })
    }

    /// Whether the object is a map with values of one shape, rather than a struct with named fields.
    pub fn is_map(&self) -> bool {
        matches!(self.additional_properties, Some(AdditionalProperties::Schema(_))) && self.properties.is_empty()
    }
}

impl Schema {
    /// The built-in definitions that this schema refers to directly.
    pub fn references(&self) -> Vec<&'static Named> {
        let mut found = Vec::new();
        self.collect_references(&mut found);
        found
    }

    fn collect_references(&self, found: &mut Vec<&'static Named>) {
        let additional = match &self.additional_properties {
            Some(AdditionalProperties::Schema(schema)) => Some(schema),
            _ => None,
        };
        for inner in self.properties.values().chain(&self.items).chain(additional) {
            match inner {
                SchemaRef::Named(named) => found.push(named),
                SchemaRef::Here(schema) => schema.collect_references(found),
            }
        }
    }
}
