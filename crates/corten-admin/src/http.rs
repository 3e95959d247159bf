//! A small HTTP server for operators: one function answers, requests are short, connections few.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_rt::{Drain, TaskGroup};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Longest body of a request.
const BODY_MAX: usize = 1 << 20;
/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// What follows the question mark, still encoded; empty if there is nothing.
    pub query: String,
    /// The header `accept`.
    pub accept: String,
    /// The header `accept-encoding`.
    pub accept_encoding: String,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The values of a query parameter, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }
}

/// Percent-decoding; what is not well-formed stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = hex.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (byte, decoded) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// A page.
    pub fn html(body: impl Into<Bytes>) -> Response {
        Response {
            status: StatusCode::OK,
            content_type: "text/html; charset=utf-8",
            body: body.into(),
        }
    }

    /// A value as JSON, written to be read.
    pub fn json(value: &impl serde::Serialize) -> Response {
        match serde_json::to_vec_pretty(value) {
            Ok(body) => Response {
                status: StatusCode::OK,
                content_type: "application/json",
                body: body.into(),
            },
            Err(error) => Response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Nothing is there.
    pub fn not_found() -> Response {
        Response::text(StatusCode::NOT_FOUND, "not found\n")
    }

    /// It is there, but not for this method.
    pub fn wrong_method() -> Response {
        Response::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Who answers.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Request) -> Answer + Send + Sync>);

impl Handler {
    /// A function of a request.
    pub fn new<F: Future<Output = Response> + Send + 'static>(
        answer: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Handler {
        Handler(Arc::new(move |request| Box::pin(answer(request))))
    }
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, handler: Handler, mut drain: Drain) {
    let tasks = TaskGroup::new("admin connections");
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = drain.wait() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        tasks.spawn("connection", async move {
            let service = service_fn(move |request| answer(handler.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection ended early");
            }
            drop(permit);
        });
    }
    tasks.shutdown(Duration::from_secs(1)).await;
}

async fn answer(
    handler: Handler,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let accept = head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let encodings = head.headers.get(header::ACCEPT_ENCODING);
    let encodings = encodings
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let response = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => {
            let request = Request {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                accept: accept.unwrap_or_default().to_owned(),
                accept_encoding: encodings.clone(),
                body: body.to_bytes(),
            };
            (handler.0)(request).await
        }
        Err(error) => Response::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let compressed = compressed(&encodings, &response.body);
    let encoding = compressed.as_ref().map(|(name, _)| *name);
    let body = compressed.map_or(response.body, |(_, body)| body);
    let mut answer = http::Response::new(Full::new(body));
    if let Some(encoding) = encoding {
        let encoding = HeaderValue::from_static(encoding);
        answer.headers_mut().insert(header::CONTENT_ENCODING, encoding);
    }
    *answer.status_mut() = response.status;
    let kind = HeaderValue::from_static(response.content_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(answer)
}

/// Bodies of this size are compressed for those who can read it: smaller ones do not get smaller, larger ones are dumps that somebody on
/// this machine looks at.
const COMPRESSED: std::ops::RangeInclusive<usize> = 1024..=(16 << 20);

/// A body as one of the encodings that the client takes, if it takes one and gains by it.
fn compressed(accepted: &str, body: &Bytes) -> Option<(&'static str, Bytes)> {
    use std::io::Read as _;

    use flate2::Compression;
    use flate2::read::{GzEncoder, ZlibEncoder};
    if !COMPRESSED.contains(&body.len()) {
        return None;
    }
    let takes = |name: &str| {
        accepted.split(',').any(|one| {
            let (encoding, quality) = one.split_once(';').unwrap_or((one, ""));
            let refused = quality
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.trim().parse() == Ok(0.0));
            encoding.trim().eq_ignore_ascii_case(name) && !refused
        })
    };
    let mut out = Vec::new();
    let (name, written) = if takes("gzip") {
        (
            "gzip",
            GzEncoder::new(&body[..], Compression::fast()).read_to_end(&mut out),
        )
    } else if takes("deflate") {
        (
            "deflate",
            ZlibEncoder::new(&body[..], Compression::fast()).read_to_end(&mut out),
        )
    } else {
        return None;
    };
    // Memory to memory: it does not fail, and if it did the body would go as it is.
    written.ok().map(|_| (name, out.into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_and_parameters_are_decoded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskGroup::new("test");
        let handler = Handler::new(|request: Request| async move {
            let level = request.parameter("level").unwrap_or_default();
            Response::text(StatusCode::OK, format!("{} {} {level}", request.method, request.path))
        });
        tasks.serve("server", |drain| serve(listener, handler, drain));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = b"POST /logging?x&level=a%3Ddebug%2Cb HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nPOST /logging a=debug,b"), "{answer}");
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    }

    #[test]
    fn bodies_are_compressed_for_those_who_take_it() {
        use std::io::Read as _;
        let body = Bytes::from("a metric 1\n".repeat(1000));
        for (accepted, encoding) in [
            ("gzip", Some("gzip")),
            ("br, GZIP;q=0.5", Some("gzip")),
            ("deflate", Some("deflate")),
            ("gzip;q=0", None),
            ("identity", None),
            ("", None),
        ] {
            let found = compressed(accepted, &body);
            assert_eq!(found.as_ref().map(|(name, _)| *name), encoding, "{accepted}");
            let Some((name, small)) = found else { continue };
            assert!(small.len() < body.len() / 10);
            let mut back = Vec::new();
            match name {
                "gzip" => flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut back).unwrap(),
                _ => flate2::read::ZlibDecoder::new(&small[..])
                    .read_to_end(&mut back)
                    .unwrap(),
            };
            assert_eq!(back, body);
        }
        assert_eq!(compressed("gzip", &Bytes::from_static(b"ready\n")), None);
    }

    #[test]
    fn malformed_escapes_stay() {
        assert_eq!(decode("a%zz%4"), "a%zz%4");
        assert_eq!(decode("a+%2f"), "a /");
    }
}
