//! Responses: objects, lists, failures, warnings.

use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::Body;
use crate::object::Object;
use crate::status::Status;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON response.
pub(crate) fn json(code: u16, value: &Value) -> Response<Body> {
    let mut bytes = Vec::with_capacity(512);
    // Serializing a value that was parsed or built from values cannot fail.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes.push(b'\n');
    with_type(code, JSON, bytes)
}

/// A response of any type.
pub(crate) fn with_type(code: u16, kind: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Plain text.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    with_type(code, HeaderValue::from_static("text/plain; charset=utf-8"), text.into())
}

/// A failure.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let mut response = json(status.code, &status.to_value());
    if let Some(seconds) = status.details.as_ref().and_then(|d| d.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A list of objects, written without copying them.
pub(crate) fn list(kind: &str, api_version: &str, metadata: &Value, objects: &[Object]) -> Response<Body> {
    let mut bytes = Vec::with_capacity(128 + objects.len() * 512);
    bytes.extend_from_slice(b"{\"kind\":");
    append(&mut bytes, &Value::from(kind));
    bytes.extend_from_slice(b",\"apiVersion\":");
    append(&mut bytes, &Value::from(api_version));
    bytes.extend_from_slice(b",\"metadata\":");
    append(&mut bytes, metadata);
    bytes.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        append(&mut bytes, object);
    }
    bytes.extend_from_slice(b"]}\n");
    with_type(200, JSON, bytes)
}

fn append(bytes: &mut Vec<u8>, value: &Value) {
    let _ = serde_json::to_writer(bytes, value);
}

/// Adds warnings as clients print them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
