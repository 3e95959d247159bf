//! Request bodies in Kubernetes' protobuf form, which kubectl sends for the objects that it makes itself.
//!
//! Only read: answers are JSON, which every client that sends protobuf accepts. Field numbers stand in `protobuf.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::object;

/// How deep messages may be nested.
const DEPTH_MAX: usize = 64;

/// What the envelope of every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the body does not begin with k8s\\0")]
    Magic,
    #[error("the body ends within a field")]
    Truncated,
    #[error("messages are nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("a field has the unknown wire type {0}")]
    WireType(u64),
    #[error("{0} is not read in protobuf here")]
    Kind(String),
    #[error("field {0} does not hold what its type says")]
    Field(&'static str),
}

/// The type of a field.
#[derive(Debug, Clone)]
enum Type {
    Text,
    Integer,
    Boolean,
    Bytes,
    Quantity,
    IntOrString,
    Time {
        micro: bool,
    },
    /// JSON in bytes.
    Raw,
    /// A message that is only a list of strings.
    Strings,
    Message(&'static str),
    List(Box<Type>),
    Map(Box<Type>),
    /// Kept even when it is zero.
    Pointer(Box<Type>),
}

#[derive(Debug)]
struct Field {
    /// `^` for a part whose fields stand in the message itself.
    name: &'static str,
    type_: Type,
}

type Messages = HashMap<&'static str, HashMap<u64, Field>>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let mut messages = Messages::new();
        let mut current = "";
        for line in include_str!("protobuf.txt").lines() {
            let parts: Vec<&'static str> = line.split(' ').collect();
            match parts.as_slice() {
                [name] if !name.is_empty() => {
                    current = name;
                    messages.insert(name, HashMap::new());
                }
                [number, name, type_] if *number != "#" => {
                    let number = number.parse().unwrap_or(0);
                    let field = Field {
                        name,
                        type_: parse(type_),
                    };
                    messages.entry(current).or_default().insert(number, field);
                }
                _ => {}
            }
        }
        messages
    })
}

fn parse(text: &'static str) -> Type {
    let inner = |open: char, close: char| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
    if let Some(rest) = text.strip_prefix('*') {
        return Type::Pointer(Box::new(parse(rest)));
    }
    if let Some(rest) = inner('[', ']') {
        return Type::List(Box::new(parse(rest)));
    }
    if let Some(rest) = inner('{', '}') {
        return Type::Map(Box::new(parse(rest)));
    }
    match text {
        "s" => Type::Text,
        "i" => Type::Integer,
        "b" => Type::Boolean,
        "y" => Type::Bytes,
        "quantity" => Type::Quantity,
        "intstr" => Type::IntOrString,
        "time" => Type::Time { micro: false },
        "micro" => Type::Time { micro: true },
        "raw" | "fields" => Type::Raw,
        "strings" => Type::Strings,
        message => Type::Message(message),
    }
}

/// Decodes a body into the object that the same request would carry as JSON.
pub(crate) fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(envelope)? {
        match field {
            (1, Wire::Bytes(meta)) => {
                for field in fields(meta)? {
                    match field {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, version) = object::split_api_version(&api_version);
    // DeleteOptions are of every group.
    let message = if kind == "DeleteOptions" {
        "meta.v1.DeleteOptions".to_owned()
    } else {
        let group = group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        format!("{group}.{version}.{kind}")
    };
    let Some((name, _)) = messages().get_key_value(message.as_str()) else {
        return Err(DecodeError::Kind(format!("{kind} of {api_version}")));
    };
    let mut object = read_message(name, raw, 0)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(object.into())
}

/// A field as it stands on the wire.
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, DecodeError> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            1 => Wire::Bytes(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| DecodeError::Truncated)?;
                Wire::Bytes(take(&mut bytes, length)?)
            }
            5 => Wire::Bytes(take(&mut bytes, 4)?),
            other => return Err(DecodeError::WireType(other)),
        };
        fields.push((tag >> 3, wire));
    }
    Ok(fields)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8], DecodeError> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::Truncated)
}

fn read_message(name: &'static str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::Depth);
    }
    let known = messages().get(name).ok_or_else(|| DecodeError::Kind(name.to_owned()))?;
    let mut map = Map::new();
    for (number, wire) in fields(bytes)? {
        // Fields of newer versions are left out, as protobuf has it.
        let Some(field) = known.get(&number) else { continue };
        put(&mut map, field, &wire, depth)?;
    }
    Ok(map)
}

fn put(map: &mut Map<String, Value>, field: &Field, wire: &Wire<'_>, depth: usize) -> Result<(), DecodeError> {
    match &field.type_ {
        Type::List(of) => {
            let item = read(of, wire, field.name, depth)?;
            let list = map.entry(field.name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(item);
            }
        }
        Type::Map(of) => {
            let Wire::Bytes(bytes) = wire else {
                return Err(DecodeError::Field(field.name));
            };
            let (mut key, mut value) = (String::new(), None);
            for (number, wire) in fields(bytes)? {
                match (number, &wire) {
                    (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                    (2, wire) => value = Some(read(of, wire, field.name, depth)?),
                    _ => {}
                }
            }
            let entries = map.entry(field.name).or_insert_with(|| json!({}));
            object::as_map(entries).insert(key, value.unwrap_or_else(|| json!("")));
        }
        Type::Pointer(of) => {
            let value = read(of, wire, field.name, depth)?;
            map.insert(field.name.to_owned(), value);
        }
        type_ => {
            let value = read(type_, wire, field.name, depth)?;
            if field.name == "^" {
                if let Value::Object(part) = value {
                    map.extend(part);
                }
            } else if !is_zero(&value) {
                map.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Values that the Go types leave out of their JSON.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn read(type_: &Type, wire: &Wire<'_>, name: &'static str, depth: usize) -> Result<Value, DecodeError> {
    let wrong = || DecodeError::Field(name);
    match (type_, wire) {
        #[expect(
            clippy::cast_possible_wrap,
            reason = "protobuf's integers are two's complement in a varint"
        )]
        (Type::Integer, Wire::Number(number)) => Ok(json!(*number as i64)),
        (Type::Boolean, Wire::Number(number)) => Ok(json!(*number != 0)),
        (Type::Text, Wire::Bytes(bytes)) => text(bytes).map(Value::from).ok_or_else(wrong),
        (Type::Bytes, Wire::Bytes(bytes)) => Ok(json!(STANDARD.encode(bytes))),
        (Type::Quantity, Wire::Bytes(bytes)) => Ok(first_text(bytes)?.map_or(Value::Null, Value::from)),
        (Type::Raw, Wire::Bytes(bytes)) => {
            let raw = fields(bytes)?.into_iter().find_map(|field| match field {
                (1, Wire::Bytes(raw)) => Some(raw),
                _ => None,
            });
            match raw {
                Some(raw) => serde_json::from_slice(raw).map_err(|_| wrong()),
                None => Ok(Value::Null),
            }
        }
        (Type::Strings, Wire::Bytes(bytes)) => {
            let items = fields(bytes)?.into_iter().filter_map(|field| match field {
                (1, Wire::Bytes(item)) => text(item),
                _ => None,
            });
            Ok(items.collect())
        }
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Type::Time { micro }, Wire::Bytes(bytes)) => time(bytes, *micro).ok_or_else(wrong),
        (Type::Message(message), Wire::Bytes(bytes)) => read_message(message, bytes, depth + 1).map(Value::from),
        (Type::Pointer(of), wire) => read(of, wire, name, depth),
        _ => Err(wrong()),
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The string in field 1 of a message.
fn first_text(bytes: &[u8]) -> Result<Option<String>, DecodeError> {
    Ok(fields(bytes)?.into_iter().find_map(|field| match field {
        (1, Wire::Bytes(bytes)) => text(bytes),
        _ => None,
    }))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in fields(bytes)? {
        match field {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            #[expect(
                clippy::cast_possible_wrap,
                reason = "protobuf's integers are two's complement in a varint"
            )]
            (2, Wire::Number(value)) => number = value as i64,
            (3, Wire::Bytes(bytes)) => string = String::from_utf8_lossy(bytes).into_owned(),
            _ => {}
        }
    }
    Ok(if is_text { json!(string) } else { json!(number) })
}

/// A moment; null for an empty message, which is Go's zero time.
fn time(bytes: &[u8], micro: bool) -> Option<Value> {
    if bytes.is_empty() {
        return Some(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for field in fields(bytes).ok()? {
        match field {
            #[expect(
                clippy::cast_possible_wrap,
                reason = "protobuf's integers are two's complement in a varint"
            )]
            (1, Wire::Number(value)) => seconds = value as i64,
            (2, Wire::Number(value)) => nanos = i32::try_from(value).ok()?,
            _ => {}
        }
    }
    let at = jiff::Timestamp::new(seconds, nanos).ok()?;
    Some(if micro {
        json!(at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
    } else {
        json!(object::timestamp(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn bytes(number: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).expect("short");
        [&[number << 3 | 2, length][..], contents].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [
            MAGIC.to_vec(),
            bytes(1, &meta),
            bytes(2, raw),
            bytes(3, b""),
            bytes(4, b""),
        ]
        .concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let metadata = [bytes(1, b"a"), bytes(3, b""), bytes(8, b"")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let expect = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"},
        });
        assert_eq!(decode(&body("v1", "ConfigMap", &raw)), Ok(expect));
    }

    #[test]
    fn zero_replicas_are_kept_and_parts_are_joined() {
        let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
        let pod_spec = bytes(1, &volume);
        let template = bytes(2, &pod_spec);
        let spec = [vec![1 << 3, 0], bytes(3, &template)].concat();
        let expect = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "spec": {"replicas": 0, "template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}},
        });
        assert_eq!(decode(&body("apps/v1", "Deployment", &bytes(2, &spec))), Ok(expect));
    }

    #[test]
    fn broken_bodies_are_refused() {
        for (bad, error) in [
            (b"{}".to_vec(), DecodeError::Magic),
            ([MAGIC, &[0x0a, 9]].concat(), DecodeError::Truncated),
            (body("v1", "Widget", b""), DecodeError::Kind("Widget of v1".to_owned())),
            (body("v1", "ConfigMap", &[1 << 3, 1]), DecodeError::Field("metadata")),
            (body("v1", "ConfigMap", &[1 << 3 | 7]), DecodeError::WireType(7)),
        ] {
            assert_eq!(decode(&bad), Err(error));
        }
    }
}
