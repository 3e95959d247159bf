//! How values merge: which lists and maps are one value, and which are told apart by key. Where the schema says nothing
//! the value itself decides: maps merge by key, lists are one value.

use super::set::{Element, scalar_text};
use crate::kubernetes;
use crate::schema::{ListType, MapType, Schema, Type};
use serde_json::{Map, Value};

/// A place in an object.
#[derive(Clone, Copy)]
pub(super) struct Shape<'s> {
    schema: Option<&'s Schema>,
    /// Whether the place is an object of its own, with `apiVersion`, `kind` and `metadata`.
    resource: bool,
}

/// How a value at a place merges.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Atom {
    /// As one value.
    Leaf,
    /// Key by key.
    Map,
    /// Item by item.
    List,
}

impl<'s> Shape<'s> {
    pub(super) fn root(schema: &'s Schema) -> Shape<'s> {
        Shape {
            schema: Some(schema),
            resource: true,
        }
    }

    fn of(schema: Option<&'s Schema>) -> Shape<'s> {
        Shape {
            schema,
            resource: schema.is_some_and(|schema| schema.embedded_resource),
        }
    }

    /// How `value` merges here.
    pub(super) fn atom(self, value: &Value) -> Atom {
        match value {
            Value::Object(_) => {
                let atomic = self
                    .schema
                    .is_some_and(|schema| schema.map_type == Some(MapType::Atomic));
                if atomic { Atom::Leaf } else { Atom::Map }
            }
            Value::Array(_) => match self.schema.and_then(|schema| schema.list_type) {
                Some(ListType::Set | ListType::Map) => Atom::List,
                Some(ListType::Atomic) | None => Atom::Leaf,
            },
            // A null takes the form of what it is compared with; alone it is a leaf.
            _ => Atom::Leaf,
        }
    }

    /// The place of a field, and whether the field is declared by name.
    pub(super) fn field(self, name: &str) -> (Shape<'s>, bool) {
        let declared = self.schema.and_then(|schema| schema.properties.get(name));
        if self.resource && matches!(name, "apiVersion" | "kind" | "metadata") {
            let meta = match declared {
                Some(schema) if !schema.properties.is_empty() => Some(&**schema),
                _ if name == "metadata" => kubernetes::object_meta(),
                _ => None,
            };
            return (Shape::of(meta), true);
        }
        match declared {
            Some(schema) => (Shape::of(Some(schema)), true),
            None => (Shape::of(self.schema.and_then(|schema| schema.field(name))), false),
        }
    }

    /// The place of a list's items.
    pub(super) fn items(self) -> Shape<'s> {
        Shape::of(self.schema.and_then(|schema| schema.items.as_deref()))
    }

    /// What tells an item of a list from the others.
    pub(super) fn element(self, item: &Value) -> Result<Element, String> {
        let Some(schema) = self.schema else {
            return Err("the list has no schema".to_owned());
        };
        if schema.list_type == Some(ListType::Set) {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                value => Ok(format!("v:{}", scalar_text(value))),
            };
        }
        let Value::Object(fields) = item else {
            return Err("associative list with keys may not have non-map elements".to_owned());
        };
        let default = |key: &String| schema.items.as_ref()?.properties.get(key)?.default.as_ref();
        let value = |key: &String| {
            fields
                .get(key)
                .or_else(|| default(key))
                .map(|value| (key.clone(), value.clone()))
        };
        let keys: Map<String, Value> = schema.list_map_keys.iter().filter_map(value).collect();
        if keys.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {:?} (and doesn't have default values for any key fields)",
                schema.list_map_keys
            ));
        }
        Ok(format!("k:{}", scalar_text(&Value::Object(keys))))
    }

    /// Built-in kinds declare what is in their metadata; custom resources cannot.
    fn is_built_in(self) -> bool {
        let metadata = self.schema.and_then(|schema| schema.properties.get("metadata"));
        metadata.is_some_and(|metadata| metadata.properties.contains_key("managedFields"))
    }

    /// Whether a field may stand here although it is not declared.
    pub(super) fn allows_undeclared(self) -> bool {
        self.schema.is_none_or(|schema| {
            let open = schema.preserve_unknown_fields || schema.additional_properties.is_some();
            open || schema.type_ != Some(Type::Object) || schema.properties.is_empty()
        })
    }

    /// The structs that a built-in kind always has, although nobody wrote them, and its required lists, as nulls; a new
    /// object is compared with these. Custom resources start from nothing.
    pub(super) fn skeleton(self) -> Value {
        let mut fields = Map::new();
        if self.resource && !self.is_built_in() {
            return Value::Object(fields);
        }
        for (name, property) in self.schema.iter().flat_map(|schema| &schema.properties) {
            let required = self.schema.is_some_and(|schema| schema.required.contains(name));
            if required && property.type_ == Some(Type::Array) {
                fields.insert(name.clone(), Value::Null);
            }
            match &property.default {
                Some(Value::Object(empty)) if empty.is_empty() => {
                    fields.insert(name.clone(), Shape::of(Some(property)).skeleton());
                }
                Some(default) if default == 0 || default == "" => {
                    fields.insert(name.clone(), default.clone());
                }
                _ => {}
            }
        }
        Value::Object(fields)
    }
}
