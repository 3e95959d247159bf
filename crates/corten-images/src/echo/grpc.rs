//! gRPC: the echo service of Istio's own test application, the standard health service, and a judge for Envoy's external authorization,
//! who lets pass what has the header `x-ext-authz: allow`.
//!
//! Three unary methods over HTTP/2 need a five byte prefix and two trailers, not a framework.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full};
use prost::Message;

use super::server::Body;

/// `proto.EchoRequest` and `proto.EchoResponse`: the message is field 1 of both.
#[derive(Clone, PartialEq, Message)]
struct Echo {
    #[prost(string, tag = "1")]
    message: String,
}

/// `grpc.health.v1.HealthCheckResponse`; status 1 is SERVING.
#[derive(Clone, PartialEq, Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `envoy.service.auth.v3.CheckRequest`, as far as it is looked at: the headers of the request that is judged.
#[derive(Clone, PartialEq, Message)]
struct Check {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, optional, tag = "4")]
    request: Option<Judged>,
}

#[derive(Clone, PartialEq, Message)]
struct Judged {
    #[prost(message, optional, tag = "2")]
    http: Option<JudgedHttp>,
}

#[derive(Clone, PartialEq, Message)]
struct JudgedHttp {
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
}

/// `envoy.service.auth.v3.CheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct Verdict {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<Denied>,
    #[prost(message, optional, tag = "3")]
    allowed: Option<Allowed>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(uint32, tag = "1")]
    code: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Denied {
    /// `HttpStatus`, whose field 1 is the code.
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct Allowed {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// What the judge says of a request with these headers.
fn verdict(headers: &HashMap<String, String>) -> Verdict {
    let said = |text: &str| {
        vec![HeaderOption {
            header: Some(Header {
                key: "x-ext-authz-check-result".to_owned(),
                value: text.to_owned(),
            }),
        }]
    };
    let status = |code| Some(Status { code });
    if headers.get("x-ext-authz").is_some_and(|said| said == "allow") {
        return Verdict {
            status: status(OK),
            allowed: Some(Allowed {
                headers: said("allowed"),
            }),
            denied: None,
        };
    }
    Verdict {
        status: status(PERMISSION_DENIED),
        denied: Some(Denied {
            status: status(403),
            headers: said("denied"),
            body: "denied: the header x-ext-authz is not 'allow'\n".to_owned(),
        }),
        allowed: None,
    }
}

/// Status codes of gRPC.
const OK: u32 = 0;
const PERMISSION_DENIED: u32 = 7;
const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;

/// Answers a call. `saw` is the text that the echo method answers with.
pub(crate) fn answer(path: &str, body: &[u8], saw: String) -> Response<Body> {
    let outcome = match path {
        "/proto.EchoTestService/Echo" => unframe(body)
            .and_then(|message| Echo::decode(message).map_err(|error| error.to_string()))
            .map(|request| {
                frame(&Echo {
                    message: format!("{saw}message: {}\n", request.message),
                })
            }),
        "/envoy.service.auth.v3.Authorization/Check" => unframe(body)
            .and_then(|message| Check::decode(message).map_err(|error| error.to_string()))
            .map(|check| {
                let headers = check
                    .attributes
                    .and_then(|of| of.request)
                    .and_then(|of| of.http)
                    .unwrap_or_default()
                    .headers;
                frame(&verdict(&headers))
            }),
        "/grpc.health.v1.Health/Check" => Ok(frame(&Health { status: 1 })),
        _ => return respond(Bytes::new(), UNIMPLEMENTED, &format!("there is no method {path}")),
    };
    match outcome {
        Ok(message) => respond(message, OK, ""),
        Err(error) => respond(Bytes::new(), INVALID_ARGUMENT, &error),
    }
}

/// Answers with a status and no message.
pub(crate) fn status(status: u32) -> Response<Body> {
    respond(Bytes::new(), status, "")
}

/// A message with the status in trailers; without a message, the status is in the head of the answer, as servers of gRPC have it.
fn respond(message: Bytes, status: u32, why: &str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(why) = HeaderValue::from_str(why)
        && !why.is_empty()
    {
        trailers.insert("grpc-message", why);
    }
    let mut response = if message.is_empty() {
        let mut response = Response::new(super::server::empty());
        response.headers_mut().extend(trailers);
        response
    } else {
        let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
        Response::new(body.boxed())
    };
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A message with its prefix: no compression, length.
fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// The one message of a unary call.
fn unframe(body: &[u8]) -> Result<&[u8], String> {
    match body {
        [0, a, b, c, d, message @ ..] if message.len() == u32::from_be_bytes([*a, *b, *c, *d]) as usize => Ok(message),
        [0, ..] => Err("the body is not one whole message".to_owned()),
        _ => Err("the message is compressed, or there is none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_goes_by_a_header() {
        let headers = |value: &str| HashMap::from([("x-ext-authz".to_owned(), value.to_owned())]);
        assert!(verdict(&headers("allow")).allowed.is_some());
        let denied = verdict(&headers("deny"));
        assert_eq!(denied.status, Some(Status { code: 7 }));
        assert_eq!(
            denied.denied.and_then(|denied| denied.status),
            Some(Status { code: 403 })
        );
    }

    #[test]
    fn frames() {
        let framed = frame(&Echo {
            message: "hi".to_owned(),
        });
        assert_eq!(&framed[..], b"\0\0\0\0\x04\x0a\x02hi");
        assert_eq!(unframe(&framed), Ok(&framed[5..]));
        assert!(unframe(b"").is_err());
        assert!(unframe(b"\0\0\0\0\x05a").is_err());
        assert!(unframe(b"\x01\0\0\0\0").is_err());
    }
}
