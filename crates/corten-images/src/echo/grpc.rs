//! gRPC: the echo service of Istio's own test application, and the standard health service.
//!
//! Two unary methods over HTTP/2 need a five byte prefix and two trailers, not a framework.

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

/// Status codes of gRPC.
const OK: u32 = 0;
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
        "/grpc.health.v1.Health/Check" => Ok(frame(&Health { status: 1 })),
        _ => return respond(Bytes::new(), UNIMPLEMENTED, &format!("there is no method {path}")),
    };
    match outcome {
        Ok(message) => respond(message, OK, ""),
        Err(error) => respond(Bytes::new(), INVALID_ARGUMENT, &error),
    }
}

fn respond(message: Bytes, status: u32, why: &str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(why) = HeaderValue::from_str(why)
        && !why.is_empty()
    {
        trailers.insert("grpc-message", why);
    }
    let body = Full::new(message)
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed();
    let mut response = Response::new(body);
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
