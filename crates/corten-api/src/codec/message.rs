//! Objects: structs with a table of fields, and one-ofs whose variants stand among the fields of their parent.

use super::{Cx, Field, FieldInfo, FieldKind, Json, JsonMap};
use crate::{
    decode::{Data, Node},
    diagnostic::Code,
};

/// A struct whose fields are the properties of an object. Derived.
pub trait Message: Default {
    /// The table of fields.
    const INFO: &'static MessageInfo;
    /// Decodes the field at `index` of the table (`inner`: the variant of a one-of) from a value that is not `null`.
    fn decode_field(&mut self, index: usize, inner: usize, node: &Node, cx: &mut Cx);
    /// Encodes all fields that say something.
    fn encode_fields(&self, out: &mut JsonMap);
}

/// What is known of a struct from its definition.
#[derive(Debug)]
pub struct MessageInfo {
    /// The type's name.
    pub name: &'static str,
    /// The description.
    pub doc: &'static str,
    /// Facts of the schema, a JSON object.
    pub facts: &'static str,
    /// Whether protobuf's spelling of names is understood.
    pub proto_names: bool,
    /// The fields.
    pub fields: &'static [FieldInfo],
}

/// An enum whose variants are properties of the parent, of which one may be given. Derived.
pub trait OneOf: Sized {
    /// The table of variants.
    const VARIANTS: &'static [FieldInfo];
    /// Decodes a variant.
    fn decode_variant(index: usize, node: &Node, cx: &mut Cx) -> Option<Self>;
    /// Encodes the property of this variant.
    fn encode_variant(&self, out: &mut JsonMap);
    /// Which variant this is.
    fn index(&self) -> usize;
}

/// A field whose own fields stand in the parent.
pub trait Flatten {
    /// The fields.
    const FIELDS: &'static [FieldInfo];
    /// Decodes the field at `index` of the table.
    fn decode(&mut self, index: usize, node: &Node, cx: &mut Cx);
    /// Encodes what is set.
    fn encode(&self, out: &mut JsonMap);
}

impl<E: OneOf> Flatten for Option<E> {
    const FIELDS: &'static [FieldInfo] = E::VARIANTS;

    fn decode(&mut self, index: usize, node: &Node, cx: &mut Cx) {
        if let Some(other) = self {
            let first = E::VARIANTS.get(other.index()).map_or("", |v| v.name);
            cx.report(
                Code::CONFLICT,
                node.at,
                format!("only one of this and {first} may be given; remove one"),
            );
            return;
        }
        *self = E::decode_variant(index, node, cx);
    }

    fn encode(&self, out: &mut JsonMap) {
        if let Some(variant) = self {
            variant.encode_variant(out);
        }
    }
}

/// Decodes a struct: each key is looked up in its table, what is not there is reported with the nearest name.
pub fn decode_message<T: Message>(node: &Node, cx: &mut Cx) -> Option<T> {
    let mut message = T::default();
    walk(T::INFO, node, cx, &mut |index, inner, node, cx| {
        message.decode_field(index, inner, node, cx)
    })?;
    Some(message)
}

/// Decodes the fields that are given over those of a message; lists and nested messages are replaced as a whole.
pub fn decode_over<T: Message>(message: &mut T, node: &Node, cx: &mut Cx) {
    walk(T::INFO, node, cx, &mut |index, inner, node, cx| {
        message.decode_field(index, inner, node, cx)
    });
}

type Visit<'a> = dyn FnMut(usize, usize, &Node, &mut Cx) + 'a;

// Not generic, so that it is compiled once for all types.
fn walk(info: &'static MessageInfo, node: &Node, cx: &mut Cx, visit: &mut Visit<'_>) -> Option<()> {
    let Data::Map(entries) = &node.data else {
        return cx.wrong_type(node, "a mapping");
    };
    let mut seen: Vec<&'static str> = Vec::new();
    for entry in entries {
        let Some((index, inner, field)) = lookup(info, &entry.key) else {
            let message = unknown(info, &entry.key);
            // Kubernetes drops such fields when it stores an object, and Istio ignores them: to refuse the object would
            // refuse what works elsewhere. Strict field validation is the API server's to ask for.
            cx.field(&entry.key, |cx| cx.warn(Code::UNKNOWN_FIELD, entry.at, message));
            continue;
        };
        if seen.contains(&field.name) {
            let message = format!("the same field as {}, which is already given; remove one", field.name);
            cx.field(&entry.key, |cx| cx.report(Code::CONFLICT, entry.at, message));
            continue;
        }
        // Both protobuf and Kubernetes take `null` for absent.
        if !entry.value.is_null() {
            seen.push(field.name);
            cx.field(field.name, |cx| visit(index, inner, &entry.value, cx));
        }
    }
    if !info.proto_names {
        for field in info
            .fields
            .iter()
            .filter(|f| f.required && !f.facts.contains("\"default\""))
        {
            if !seen.contains(&field.name) {
                cx.field(field.name, |cx| {
                    cx.report(Code::REQUIRED, node.at, "required, but not given")
                });
            }
        }
    }
    Some(())
}

fn lookup(info: &'static MessageInfo, key: &str) -> Option<(usize, usize, &'static FieldInfo)> {
    let named = |field: &FieldInfo| {
        field.name == key || (info.proto_names && field.proto == key) || (!field.also.is_empty() && field.also == key)
    };
    info.fields
        .iter()
        .enumerate()
        .find_map(|(index, field)| match field.kind {
            FieldKind::Plain => named(field).then_some((index, 0, field)),
            FieldKind::OneOf(variants) => {
                let (inner, variant) = variants.iter().enumerate().find(|(_, variant)| named(variant))?;
                Some((index, inner, variant))
            }
        })
}

fn unknown(info: &'static MessageInfo, key: &str) -> String {
    let names = info.fields.iter().flat_map(|field| match field.kind {
        FieldKind::Plain => std::slice::from_ref(field),
        FieldKind::OneOf(variants) => variants,
    });
    let nearest = names
        .filter(|f| !f.hidden)
        .map(|f| (distance(key, f.name), f.name))
        .min();
    match nearest {
        Some((distance, name)) if distance <= 2.max(key.chars().count() / 3) => {
            format!("unknown field; did you mean {name}?")
        }
        _ => "unknown field; remove it, or see whether it belongs elsewhere".to_owned(),
    }
}

/// The number of letters to change to turn one name into the other; case does not count.
fn distance(key: &str, name: &str) -> usize {
    // No name is longer, and a key may be as long as a document.
    let key: String = key.chars().take(64).collect();
    strsim::levenshtein(&key.to_ascii_lowercase(), &name.to_ascii_lowercase())
}

/// Encodes a struct.
pub fn encode_message<T: Message>(message: &T) -> Json {
    let mut out = JsonMap::new();
    message.encode_fields(&mut out);
    Json::Object(out)
}

/// Encodes one field, unless it says nothing and need not be there.
pub fn encode_field<T: Field>(info: &FieldInfo, always: bool, value: &T, out: &mut JsonMap) {
    if always || !value.is_absent() {
        out.insert(info.name.to_owned(), value.encode());
    }
}
