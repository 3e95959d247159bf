//! A small HTTP/1 server: for readiness, metrics and debugging in the clear, for webhooks over TLS.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_grpc::TlsAcceptor;
use corten_rt::{Drain, TaskGroup};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a TLS handshake, and for the body of a request: nobody who waits for a webhook waits longer.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bodies held at once; further requests wait. They may be large.
const BODIES_MAX: usize = 16;

/// How a port is served.
#[derive(Clone, Default)]
pub(crate) struct Port {
    /// The TLS configuration for the next connection; none: in the clear.
    pub(crate) tls: Option<TlsAcceptor>,
    /// The longest body that is read; 0: bodies are not looked at.
    pub(crate) body_bytes_max: usize,
}

/// A request, as far as handlers look at it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) remote: SocketAddr,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Empty where bodies are not looked at.
    pub(crate) body: Bytes,
}

impl Request {
    /// The value of a query parameter; one without a value is empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.uri, name)
    }
}

/// The value of a query parameter; one without a value is empty.
pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decoded(value))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let hex = bytes
            .get(position + 1..position + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[position], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                position += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        position += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    /// What it says.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Text.
    pub(crate) fn text(body: impl Into<String>) -> Answer {
        Answer::error(StatusCode::OK, body)
    }

    /// Text with another status.
    pub(crate) fn error(status: StatusCode, body: impl Into<String>) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::from(body.into()),
        }
    }

    /// JSON.
    pub(crate) fn json(value: &serde_json::Value, pretty: bool) -> Answer {
        let mut body = if pretty {
            format!("{value:#}")
        } else {
            value.to_string()
        };
        body.push('\n');
        Answer {
            content_type: "application/json",
            ..Answer::text(body)
        }
    }

    /// Something else.
    pub(crate) fn of(content_type: &'static str, body: impl Into<String>) -> Answer {
        Answer {
            content_type,
            ..Answer::text(body)
        }
    }
}

/// Serves until drain.
pub(crate) async fn serve<F, A>(listener: TcpListener, port: Port, handler: F, mut drain: Drain)
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let connections = TaskGroup::new("http connections");
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handler = Arc::new(handler);
    let bodies = Bodies {
        bytes_max: port.body_bytes_max,
        room: Arc::new(Semaphore::new(BODIES_MAX)),
    };
    loop {
        // Cancel safe: neither a permit nor a connection is lost.
        let permit = tokio::select! {
            () = drain.wait() => break,
            permit = permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, remote) = tokio::select! {
            () = drain.wait() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (handler, bodies, tls) = (handler.clone(), bodies.clone(), port.tls.clone());
        connections.serve("connection", move |drain| async move {
            match tls {
                None => exchange(stream, remote, &handler, &bodies, drain).await,
                Some(tls) => {
                    let handshake = tokio_rustls::TlsAcceptor::from(tls()).accept(stream);
                    match tokio::time::timeout(PEER_TIMEOUT, handshake).await {
                        Ok(Ok(stream)) => exchange(stream, remote, &handler, &bodies, drain).await,
                        Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
                    }
                }
            }
            drop(permit);
        });
    }
    connections.shutdown(Duration::from_secs(5)).await;
}

/// Requests and answers of one connection.
async fn exchange<S, F, A>(stream: S, remote: SocketAddr, handler: &Arc<F>, bodies: &Bodies, mut drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Fn(Request) -> A + Send + Sync,
    A: Future<Output = Answer> + Send,
{
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (handler, bodies) = (handler.clone(), bodies.clone());
        async move { Ok::<_, Infallible>(answer(&*handler, remote, &bodies, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection ended");
    }
}

/// Reads bodies, not too many at once.
#[derive(Clone)]
struct Bodies {
    bytes_max: usize,
    room: Arc<Semaphore>,
}

impl Bodies {
    /// A body, and the room it takes for as long as it is held; or what is answered instead.
    async fn read(&self, body: hyper::body::Incoming) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Answer> {
        if self.bytes_max == 0 {
            return Ok((Bytes::new(), None));
        }
        let permit = self.room.clone().acquire_owned().await.ok();
        let read = Limited::new(body, self.bytes_max).collect();
        match tokio::time::timeout(PEER_TIMEOUT, read).await {
            Ok(Ok(body)) => Ok((body.to_bytes(), permit)),
            Ok(Err(error)) => Err(Answer::error(
                StatusCode::BAD_REQUEST,
                format!(
                    "the body cannot be read: {error}; {} bytes are the most\n",
                    self.bytes_max
                ),
            )),
            Err(_) => Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not come\n")),
        }
    }
}

async fn answer<F, A>(
    handler: &F,
    remote: SocketAddr,
    bodies: &Bodies,
    request: http::Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>>
where
    F: Fn(Request) -> A,
    A: Future<Output = Answer>,
{
    let answer = if matches!(
        *request.method(),
        http::Method::GET | http::Method::HEAD | http::Method::POST
    ) {
        let (parts, body) = request.into_parts();
        match bodies.read(body).await {
            Ok((body, _room)) => {
                let request = Request {
                    remote,
                    uri: parts.uri,
                    headers: parts.headers,
                    body,
                };
                handler(request).await
            }
            Err(answer) => answer,
        }
    } else {
        Answer::error(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are answered here\n")
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let content_type = HeaderValue::from_static(answer.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let request = Request {
            remote: ([127, 0, 0, 1], 1).into(),
            uri: "/debug/config_dump?proxyID=a%2Eb+c%zz&pretty".parse().expect("a URI"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        assert_eq!(request.parameter("proxyID").as_deref(), Some("a.b c%zz"));
        assert_eq!(request.parameter("pretty").as_deref(), Some(""));
        assert_eq!(request.parameter("other"), None);
    }
}
