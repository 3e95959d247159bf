//! Short ways to the wrapped values that the messages are full of.

use std::time::Duration as StdDuration;

use envoy_types::pb::google::protobuf::{
    Any, BoolValue, DoubleValue, Duration, Struct, UInt32Value, Value, value::Kind,
};
use prost::{DecodeError, Message, Name};

/// Wraps a message with its type. Equal messages become equal bytes.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: crate::encode(message),
    }
}

/// What is wrapped, if it is of this type; `None`: it is of another.
///
/// # Errors
///
/// The bytes are not of the type that they name.
pub fn decode<M: Message + Name + Default>(any: &Any) -> Result<Option<M>, DecodeError> {
    if crate::type_name(&any.type_url) != M::full_name() {
        return Ok(None);
    }
    M::decode(&any.value[..]).map(Some)
}

/// `xds.type.v3.TypedStruct`: a message of a type that only its receiver knows.
#[derive(Clone, PartialEq, Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

impl Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";
}

/// Wraps a message of a type that is not among these: its name, and what is in it.
pub fn any_struct(name: &str, value: Struct) -> Any {
    any(&TypedStruct {
        type_url: format!("type.googleapis.com/{name}"),
        value: Some(value),
    })
}

/// A duration. What is longer than a message can say is as long as one can say.
pub fn duration(duration: StdDuration) -> Duration {
    Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A duration of whole seconds.
pub fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

/// A number that is there even if it is 0.
pub fn uint32(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A truth that is there even if it is false.
pub fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A fraction that is there even if it is 0.
pub fn double(value: f64) -> Option<DoubleValue> {
    Some(DoubleValue { value })
}

/// A text as a value of a structure.
pub fn string_value(value: impl Into<String>) -> Value {
    Value {
        kind: Some(Kind::StringValue(value.into())),
    }
}

/// A number as a value of a structure.
pub fn number(value: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(value)),
    }
}

/// A structure.
pub fn structure<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Struct {
    Struct {
        fields: fields.into_iter().map(|(key, value)| (key.into(), value)).collect(),
    }
}
