//! Request bodies: their size, their format, and keys that stand in them twice.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::status::Status;

/// The largest body, as the real API server has it.
const BODY_BYTES_MAX: usize = 3 << 20;

/// Of a body that is too large, so much is still read, so that the client gets to hear of it.
const READ_BYTES_MAX: usize = 64 << 20;

/// Reads a whole body.
pub(crate) async fn read(request: Request<Incoming>) -> Result<Bytes, Status> {
    let too_large = || {
        Status::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
        )
    };
    let announced = request
        .headers()
        .get(hyper::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    let announced = announced.unwrap_or(0);
    if announced > READ_BYTES_MAX {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut bytes = BytesMut::with_capacity(announced.min(BODY_BYTES_MAX));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("cannot read the request body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            seen += data.len();
            if seen > READ_BYTES_MAX {
                break;
            }
            // Too much is read and dropped: many clients do not look at an answer before they have sent everything.
            if seen <= BODY_BYTES_MAX {
                bytes.extend_from_slice(&data);
            }
        }
    }
    if seen > BODY_BYTES_MAX {
        return Err(too_large());
    }
    Ok(bytes.freeze())
}

/// A decoded body, and the paths of keys that stood in it twice.
pub(crate) struct Decoded {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Decodes a body by its content type.
pub(crate) fn decode(content_type: &str, bytes: &[u8]) -> Result<Decoded, Status> {
    let media = content_type.split(';').next().unwrap_or("").trim();
    match media {
        "" | "application/json" => from_json(bytes),
        "application/yaml" | "application/x-yaml" => from_yaml(bytes),
        "application/vnd.kubernetes.protobuf" => {
            let value = super::protobuf::decode(bytes).map_err(|error| match error {
                super::protobuf::DecodeError::Kind(_) => unsupported(&format!("{media}: {error}")),
                error => Status::bad_request(format!("the request body is not readable protobuf: {error}")),
            })?;
            Ok(Decoded {
                value,
                duplicates: Vec::new(),
            })
        }
        other => Err(unsupported(other)),
    }
}

fn unsupported(media: &str) -> Status {
    Status::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (not {media})"
        ),
    )
}

/// Decodes JSON.
pub(crate) fn from_json(bytes: &[u8]) -> Result<Decoded, Status> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node {
        path: String::new(),
        duplicates: &mut duplicates,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value))
    .map_err(|error| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type JSON): couldn't parse the request body: {error}"
        ))
    })?;
    Ok(Decoded { value, duplicates })
}

/// Decodes YAML (which JSON is, too).
pub(crate) fn from_yaml(bytes: &[u8]) -> Result<Decoded, Status> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Status::bad_request(format!("the request body is not UTF-8: {error}")))?;
    let (node, diagnostics) = corten_api::decode::document("", text);
    let (mut duplicates, mut problems) = (Vec::new(), Vec::new());
    for diagnostic in diagnostics {
        if diagnostic.code == corten_api::diagnostic::Code::DUPLICATE_KEY {
            duplicates.push(diagnostic.path.clone());
        } else {
            problems.push(diagnostic.message);
        }
    }
    match (node, problems.as_slice()) {
        (Some(node), []) => Ok(Decoded {
            value: node.to_value(),
            duplicates,
        }),
        (None, []) => Err(Status::bad_request("the request body is empty")),
        (_, problems) => Err(Status::bad_request(format!(
            "error decoding YAML: {}",
            problems.join("; ")
        ))),
    }
}

/// Builds a value and notes keys that occur twice, which `serde_json` would drop in silence.
struct Node<'d> {
    path: String,
    duplicates: &'d mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Node {
            path: format!("{}[{}]", self.path, items.len()),
            duplicates: &mut *self.duplicates,
        })? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = match self.path.as_str() {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            if map.contains_key(&key) {
                self.duplicates.push(path.clone());
            }
            let value = access.next_value_seed(Node {
                path,
                duplicates: &mut *self.duplicates,
            })?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_occur_twice_are_noted() {
        let decoded = from_json(br#"{"a":{"b":1,"b":2},"c":[{"d":1,"d":null}]}"#).expect("well formed");
        assert_eq!(decoded.value, json!({"a": {"b": 2}, "c": [{"d": null}]}));
        assert_eq!(decoded.duplicates, ["a.b", "c[0].d"]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["", "{", "{} x", "\u{1}"] {
            assert_eq!(from_json(bad.as_bytes()).map(|_| ()).expect_err(bad).code, 400);
        }
        assert_eq!(decode("application/cbor", b"").map(|_| ()).expect_err("no").code, 415);
    }
}
