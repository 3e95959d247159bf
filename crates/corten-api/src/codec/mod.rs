//! What the derive macros of `corten-derive` implement: decoding a spanned tree into a type with diagnostics, encoding
//! it back to JSON, and the schema of the type, all from one definition.
//!
//! Two dialects are spoken: protobuf's JSON (Istio's resources: absent means default, `snake_case` names, enum numbers
//! and numbers in strings are understood) and Kubernetes' (Gateway API: exact names, presence is kept).

mod containers;
mod context;
mod enumeration;
mod message;
mod scalars;
mod schema;
#[cfg(test)]
mod tests;
mod time;

use serde_json::{Map, Value};

pub use self::{
    context::{Cx, FieldProblem},
    enumeration::{Enumeration, ValueInfo, decode_enumeration, enumeration_schema},
    message::{Flatten, Message, MessageInfo, OneOf, decode_message, decode_over, encode_field, encode_message},
    scalars::{Bytes, IntOrString, Struct},
    schema::{SchemaCx, merge_facts, message_schema, no_schema},
    time::Timestamp,
};
use crate::decode::Node;

/// The members of a JSON object.
pub type JsonMap = Map<String, Value>;
/// A JSON value.
pub type Json = Value;

/// A type that a field of a resource can have.
pub trait Field: Sized {
    /// Reads a value. `None`: it is not usable, and `cx` was told why. Never called with `null`.
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self>;
    /// The value as JSON.
    fn encode(&self) -> Json;
    /// Whether the value says no more than an absent field would, so that encoding leaves it out.
    fn is_absent(&self) -> bool {
        false
    }
    /// The OpenAPI schema of the type.
    fn schema(cx: &SchemaCx) -> Json;
}

/// What is known of a field from its definition.
#[derive(Debug)]
pub struct FieldInfo {
    /// The name in JSON.
    pub name: &'static str,
    /// The name in protobuf's spelling.
    pub proto: &'static str,
    /// A second spelling that the schema has as a property of its own; empty for nearly all.
    pub also: &'static str,
    /// The description.
    pub doc: &'static str,
    /// Facts of the schema beyond the type's own, a JSON object; empty when there are none.
    pub facts: &'static str,
    /// Whether objects without the field are refused.
    pub required: bool,
    /// Whether the schema leaves the field out.
    pub hidden: bool,
    /// Whether only the experimental channel has the field.
    pub experimental: bool,
    /// Whether this is one property or a one-of.
    pub kind: FieldKind,
    /// The schema of the field's type.
    pub schema: fn(&SchemaCx) -> Json,
}

/// One property, or several of which one may be given.
#[derive(Debug)]
pub enum FieldKind {
    /// A property.
    Plain,
    /// The properties of a one-of, which stand among those of the parent.
    OneOf(&'static [FieldInfo]),
}

/// Decodes a whole value, such as a `MeshConfig` document.
pub fn decode<T: Field>(node: &Node) -> (Option<T>, Vec<FieldProblem>) {
    let mut cx = Cx::default();
    let value = T::decode(node, &mut cx);
    (value, cx.into_problems())
}
