//! Fields of one value: strings, numbers, booleans, and the vocabulary types of `corten-core` that are written as such.

use serde_json::json;

use super::{Cx, Field, Json, JsonMap, SchemaCx};
use crate::{
    base64,
    decode::{Data, Node},
};

impl Field for String {
    fn decode(node: &Node, cx: &mut Cx) -> Option<String> {
        match &node.data {
            Data::String(text) => Some(text.clone()),
            // The commonest mistake of all: a version or port that YAML reads as a number.
            Data::Number(_) | Data::Bool(_) => cx.wrong_type(node, "a string (put the value in quotes)"),
            _ => cx.wrong_type(node, "a string"),
        }
    }
    fn encode(&self) -> Json {
        Json::from(self.as_str())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "string" })
    }
}

impl Field for bool {
    fn decode(node: &Node, cx: &mut Cx) -> Option<bool> {
        match node.data {
            Data::Bool(b) => Some(b),
            _ => cx.wrong_type(node, "true or false"),
        }
    }
    fn encode(&self) -> Json {
        Json::from(*self)
    }
    fn is_absent(&self) -> bool {
        !*self
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "boolean" })
    }
}

/// An integer as JSON has it; numbers in strings and floats without a fraction count, as in protobuf's JSON.
fn integer(node: &Node, minimum: i128, maximum: i128, cx: &mut Cx) -> Option<i128> {
    let value = match &node.data {
        Data::Number(n) => whole(n),
        Data::String(text) => match text.parse::<i128>() {
            Ok(value) => Some(value),
            Err(_) => return cx.wrong_type(node, "an integer"),
        },
        _ => return cx.wrong_type(node, "an integer"),
    };
    match value {
        Some(value) if (minimum..=maximum).contains(&value) => Some(value),
        Some(value) => cx.out_of_range(node, format!("{value} is not between {minimum} and {maximum}")),
        None => cx.out_of_range(node, format!("{} is not an integer", node.to_value())),
    }
}

fn whole(n: &serde_json::Number) -> Option<i128> {
    if let Some(value) = n.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = n.as_u64() {
        return Some(value.into());
    }
    let float = n.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only whole numbers within i64's range get here"
    )]
    (float.fract() == 0.0 && float.abs() < 9.0e18).then_some(float as i128)
}

macro_rules! integers {
    ($($ty:ty => $schema:tt),*) => {$(
        impl Field for $ty {
            fn decode(node: &Node, cx: &mut Cx) -> Option<$ty> {
                <$ty>::try_from(integer(node, <$ty>::MIN.into(), <$ty>::MAX.into(), cx)?).ok()
            }
            fn encode(&self) -> Json {
                Json::from(*self)
            }
            fn is_absent(&self) -> bool {
                *self == 0
            }
            fn schema(_: &SchemaCx) -> Json {
                json!($schema)
            }
        }
    )*};
}

integers! {
    i32 => { "type": "integer", "format": "int32" },
    i64 => { "type": "integer", "format": "int64" },
    u16 => { "type": "integer", "minimum": 0, "maximum": 65535 },
    u32 => { "type": "integer", "minimum": 0, "maximum": 4294967295u32 },
    u64 => { "type": "integer", "minimum": 0 }
}

impl Field for f64 {
    fn decode(node: &Node, cx: &mut Cx) -> Option<f64> {
        let value = match &node.data {
            Data::Number(n) => n.as_f64(),
            Data::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) => Some(value),
            None => cx.wrong_type(node, "a number"),
        }
    }
    fn encode(&self) -> Json {
        // Whole numbers are written without a fraction, as everyone else's encoders do.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only whole numbers that an f64 holds exactly get here"
        )]
        if self.fract() == 0.0 && self.abs() < 9_007_199_254_740_992.0 {
            Json::from(*self as i64)
        } else {
            Json::from(*self)
        }
    }
    fn is_absent(&self) -> bool {
        *self == 0.0
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "number", "format": "double" })
    }
}

impl Field for Json {
    fn decode(node: &Node, _: &mut Cx) -> Option<Json> {
        Some(node.to_value())
    }
    fn encode(&self) -> Json {
        self.clone()
    }
    fn is_absent(&self) -> bool {
        self.is_null()
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// A JSON object without a schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Struct(pub JsonMap);

impl Field for Struct {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Struct> {
        match node.to_value() {
            Json::Object(map) => Some(Struct(map)),
            _ => cx.wrong_type(node, "a mapping"),
        }
    }
    fn encode(&self) -> Json {
        Json::Object(self.0.clone())
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// A number or a string, such as the target port of a probe.
#[derive(Debug, Clone, PartialEq)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A string.
    String(String),
}

impl Default for IntOrString {
    fn default() -> IntOrString {
        IntOrString::Int(0)
    }
}

impl Field for IntOrString {
    fn decode(node: &Node, cx: &mut Cx) -> Option<IntOrString> {
        match &node.data {
            Data::Number(n) => match n.as_i64() {
                Some(n) => Some(IntOrString::Int(n)),
                None => cx.out_of_range(node, format!("{n} is not an integer")),
            },
            Data::String(text) => Some(IntOrString::String(text.clone())),
            _ => cx.wrong_type(node, "a number or a string"),
        }
    }
    fn encode(&self) -> Json {
        match self {
            IntOrString::Int(n) => Json::from(*n),
            IntOrString::String(text) => Json::from(text.as_str()),
        }
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }], "x-kubernetes-int-or-string": true })
    }
}

/// The vocabulary types that are strings with a meaning: any text decodes, validation says whether it is one.
macro_rules! names {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn decode(node: &Node, cx: &mut Cx) -> Option<$ty> {
                String::decode(node, cx).map(<$ty>::from)
            }
            fn encode(&self) -> Json {
                Json::from(self.as_str())
            }
            fn is_absent(&self) -> bool {
                self.as_str().is_empty()
            }
            fn schema(_: &SchemaCx) -> Json {
                json!({ "type": "string" })
            }
        }
    )*};
}

names!(corten_core::Host);

impl Field for corten_core::Port {
    fn decode(node: &Node, cx: &mut Cx) -> Option<corten_core::Port> {
        let value = integer(node, 0, 65535, cx)?;
        u16::try_from(value).ok().map(corten_core::Port)
    }
    fn encode(&self) -> Json {
        Json::from(self.0)
    }
    fn is_absent(&self) -> bool {
        self.0 == 0
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "integer", "minimum": 0, "maximum": 4294967295u32 })
    }
}

impl Field for corten_core::Duration {
    fn decode(node: &Node, cx: &mut Cx) -> Option<corten_core::Duration> {
        let Data::String(text) = &node.data else {
            return cx.wrong_type(node, "a duration such as 5s or 1m30s");
        };
        match corten_core::Duration::parse(text) {
            Ok(duration) => Some(duration),
            Err(error) => cx.out_of_range(node, error.to_string()),
        }
    }
    fn encode(&self) -> Json {
        Json::from(self.to_string())
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "string" })
    }
}

/// Bytes, in base64 in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Field for Bytes {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Bytes> {
        let Data::String(text) = &node.data else {
            return cx.wrong_type(node, "a string of base64");
        };
        match base64::decode(text) {
            Some(bytes) => Some(Bytes(bytes)),
            None => cx.out_of_range(node, "not base64"),
        }
    }
    fn encode(&self) -> Json {
        Json::from(base64::encode(&self.0))
    }
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "string", "format": "binary" })
    }
}
