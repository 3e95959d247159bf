//! Reads the notation of `kinds.txt` and `additions.txt`.
//!
//! A block is a definition: `core.v1.Pod @/v1/Pod` (the kind it is), then a line a field: name, `!` when required, a
//! type, and what there is to say about it. Types: `s` text, `i` and `l` whole numbers of 32 and 64 bits, `n` number,
//! `b` true or false, `t` time, `y` base64, `q` quantity, `x` number or text, `o` any object, `j` anything, `[T]`
//! list, `{T}` map, `.Name` a definition of the same package, else a definition. Then `~atomic`, `~set`, `~map:a,b`
//! the list type and its keys; `^merge` the patch strategy and `:key` its merge key; `="x"` the default; `|a,b` the
//! allowed values. A line of `additions.txt` is `definition.field` followed by such words.

use super::{Registry, definition};
use crate::schema::{AdditionalProperties, ListType, MapType, Named, Schema, SchemaRef, Type};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// Finds the blocks and kinds without reading them.
pub(super) fn index(kinds: &'static str, additions: &'static str) -> Registry {
    let mut registry = Registry {
        definitions: HashMap::new(),
        kinds: BTreeMap::new(),
        additions: HashMap::new(),
    };
    for line in additions
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let target = line.split(' ').next().unwrap_or_default();
        if let Some((name, _)) = target.rsplit_once('.') {
            registry
                .additions
                .entry(name)
                .or_default()
                .push(&line[name.len() + 1..]);
        }
    }
    for block in kinds.split("\n\n").filter(|block| !block.starts_with('#')) {
        let (header, fields) = block.split_once('\n').unwrap_or((block, ""));
        let mut words = header.split(' ');
        let Some(name) = words.next() else { continue };
        let mut atomic = false;
        for word in words {
            atomic |= word == "~atomic";
            let mut parts = word.strip_prefix('@').into_iter().flat_map(|kind| kind.split('/'));
            if let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next()) {
                registry.kinds.insert((group, version, kind), name);
            }
        }
        registry
            .definitions
            .insert(name, Named::new(full_name(name), move || read(name, fields, atomic)));
    }
    registry
}

/// The name a definition has in Kubernetes' OpenAPI documents.
fn full_name(name: &str) -> String {
    match name.split('.').next() {
        Some("meta") => format!("io.k8s.apimachinery.pkg.apis.{name}"),
        Some("apiextensions") => format!("io.k8s.apiextensions-apiserver.pkg.apis.{name}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

fn read(name: &'static str, fields: &'static str, atomic: bool) -> Schema {
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    let mut schema = Schema::of(Type::Object);
    schema.map_type = atomic.then_some(MapType::Atomic);
    let additions = super::registry()
        .additions
        .get(name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for line in fields.lines() {
        let mut words = line.split(' ');
        let (Some(field), Some(type_)) = (words.next(), words.next()) else {
            continue;
        };
        let plain = field.trim_end_matches('!');
        if plain != field {
            schema.required.push(plain.to_owned());
        }
        let added = additions
            .iter()
            .filter_map(|line| line.split_once(' '))
            .filter(|(name, _)| *name == plain);
        let mut words: Vec<&str> = words.collect();
        words.extend(added.flat_map(|(_, rest)| rest.split(' ')));
        schema
            .properties
            .insert(plain.to_owned(), field_schema(type_, package, &words));
    }
    schema
}

fn field_schema(type_: &str, package: &str, words: &[&str]) -> SchemaRef {
    let plain = schema_of(type_, package);
    if words.is_empty() {
        return plain;
    }
    // A definition that gets something added at this place is copied; that only happens for small ones.
    let mut schema = Schema::clone(&plain);
    for word in words {
        let rest = word.get(1..).unwrap_or_default();
        match word.chars().next() {
            Some('~') => add_merge_type(&mut schema, rest),
            Some('^') => schema.patch_strategy = Some(rest.into()),
            Some(':') => schema.patch_merge_key = Some(rest.into()),
            Some('=') => schema.default = serde_json::from_str(rest).ok(),
            Some('|') => schema.enum_ = rest.split(',').map(Value::from).collect(),
            _ => {}
        }
    }
    schema.into()
}

fn add_merge_type(schema: &mut Schema, type_: &str) {
    match type_ {
        "atomic" if schema.type_ == Some(Type::Array) => schema.list_type = Some(ListType::Atomic),
        "atomic" => schema.map_type = Some(MapType::Atomic),
        "set" => schema.list_type = Some(ListType::Set),
        keys => {
            schema.list_type = Some(ListType::Map);
            let keys = keys.strip_prefix("map:").unwrap_or_default();
            schema.list_map_keys = keys.split(',').map(str::to_owned).collect();
        }
    }
}

fn schema_of(type_: &str, package: &str) -> SchemaRef {
    if let Some(items) = type_.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Schema {
            items: Some(schema_of(items, package)),
            ..Schema::of(Type::Array)
        }
        .into();
    }
    if let Some(values) = type_.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let additional_properties = Some(AdditionalProperties::Schema(schema_of(values, package)));
        return Schema {
            additional_properties,
            ..Schema::of(Type::Object)
        }
        .into();
    }
    if let Some(scalar) = scalar(type_) {
        return SchemaRef::Here(scalar);
    }
    let name = match type_.strip_prefix('.') {
        Some(rest) => format!("{package}.{rest}"),
        None => type_.to_owned(),
    };
    match definition(&name) {
        Some(named) => SchemaRef::Named(named),
        // A test reads every definition, so this only keeps a broken data file from ending the process.
        None => Schema {
            preserve_unknown_fields: true,
            ..Schema::default()
        }
        .into(),
    }
}

/// The types of one letter, each made once and shared by all fields.
fn scalar(letter: &str) -> Option<Arc<Schema>> {
    static SCALARS: OnceLock<HashMap<&'static str, Arc<Schema>>> = OnceLock::new();
    let scalars = SCALARS.get_or_init(|| {
        let format = |type_, format: &str| Schema {
            format: Some(format.into()),
            ..Schema::of(type_)
        };
        let any = || Schema {
            preserve_unknown_fields: true,
            ..Schema::default()
        };
        let quantity = Schema {
            any_of: vec![Schema::of(Type::String), Schema::of(Type::Number)],
            format: Some("quantity".into()),
            ..Schema::default()
        };
        let all = [
            ("s", Schema::of(Type::String)),
            ("i", format(Type::Integer, "int32")),
            ("l", format(Type::Integer, "int64")),
            ("n", format(Type::Number, "double")),
            ("b", Schema::of(Type::Boolean)),
            ("t", format(Type::String, "date-time")),
            ("y", format(Type::String, "byte")),
            ("q", quantity),
            (
                "x",
                Schema {
                    int_or_string: true,
                    ..Schema::default()
                },
            ),
            (
                "o",
                Schema {
                    type_: Some(Type::Object),
                    ..any()
                },
            ),
            ("j", any()),
        ];
        all.into_iter()
            .map(|(letter, schema)| (letter, Arc::new(schema)))
            .collect()
    });
    scalars.get(letter).cloned()
}
