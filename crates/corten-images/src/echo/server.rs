//! Connections: what they speak is seen from their first bytes.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use corten_rt::TaskGroup;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use super::answer::Answer;
use super::identity::Identity;
use super::options::{Codes, Options};
use super::tally::Tallies;
use super::{forward, grpc, websocket};

/// The body of an answer.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// The response header that names the pod.
pub(crate) const POD: &str = "x-corten-pod";

/// The response header that says how many requests of its tally there have been, this one counted.
const TALLY: &str = "x-corten-tally";

/// The most of a request's body that is repeated.
const BODY_MAX: usize = 1 << 20;

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    identity: Identity,
    /// What requests get that do not ask for something else.
    codes: Codes,
    /// Requests are printed.
    prints: bool,
    tallies: Tallies,
}

impl Server {
    /// A server of this pod.
    pub(crate) fn new(identity: Identity, codes: Codes, prints: bool) -> Self {
        let tallies = Tallies::default();
        Self(Arc::new(Shared {
            identity,
            codes,
            prints,
            tallies,
        }))
    }
}

/// A body without bytes.
pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

/// A listening socket on both address families, or on IPv4 where there is no IPv6.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let socket = socket.or_else(|_| std::net::TcpListener::bind(("0.0.0.0", port)))?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Accepts until the group drains.
pub(crate) fn serve(tasks: &TaskGroup, listener: TcpListener, raw: bool, server: Server) {
    let group = tasks.clone();
    tasks.serve("accept", |mut drain| async move {
        loop {
            let accepted = tokio::select! {
                () = drain.wait() => return,
                accepted = listener.accept() => accepted,
            };
            // A connection that failed before it was accepted, or too many open files: the next one may do better.
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            let server = server.clone();
            let (inner, ending) = (group.clone(), group.drain());
            group.spawn("connection", async move {
                if raw || !speaks_http(&stream).await {
                    echo_bytes(stream).await;
                } else {
                    speak_http(inner, stream, peer, server, ending).await;
                }
            });
        }
    });
}

/// Whether the first bytes begin like HTTP/1.1 or the preface of HTTP/2.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0; 8];
    loop {
        let Ok(count) = stream.peek(&mut first).await else {
            return false;
        };
        match judge(&first[..count]) {
            Some(http) => return http,
            None if count == 0 => return false,
            // Too little to tell: what comes next decides.
            None => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
}

/// Whether bytes begin an HTTP request; none when there are too few to tell.
fn judge(first: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
        b"PRI * ",
    ];
    let mut possible = false;
    for method in METHODS {
        let length = method.len().min(first.len());
        if first[..length] == method[..length] {
            if length == method.len() || length == 8 {
                return Some(true);
            }
            possible = true;
        }
    }
    if possible { None } else { Some(false) }
}

async fn echo_bytes(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    // Either side ends the conversation when it likes.
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

async fn speak_http(
    tasks: TaskGroup,
    stream: TcpStream,
    peer: SocketAddr,
    server: Server,
    mut ending: corten_rt::Drain,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (tasks, server) = (tasks.clone(), server.clone());
        async move { handle(&tasks, request, peer, &server).await }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the peer's business.
        _ = connection.as_mut() => return,
        () = ending.wait() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The answer, or none: then the connection ends.
async fn handle(
    tasks: &TaskGroup,
    request: Request<Incoming>,
    peer: SocketAddr,
    server: &Server,
) -> io::Result<Response<Body>> {
    let Shared {
        identity,
        codes,
        prints,
        tallies,
    } = &*server.0;
    let mut options = match Options::parse(request.uri().query().unwrap_or(""), codes) {
        Ok(options) => options,
        Err(error) => return Ok(plain(StatusCode::BAD_REQUEST, format!("{error}\n"), false, identity)),
    };
    let number = options.tally.as_ref().and_then(|name| tallies.count(name));
    if let Some(number) = number {
        options = options.of_number(number);
    }
    if !options.delay.is_zero() {
        tokio::time::sleep(options.delay).await;
    }
    if options.hang_up {
        return Err(io::Error::other("the caller wants no answer"));
    }
    let mut response = answer(tasks, request, peer, identity, options, *prints).await;
    if let Some(number) = number {
        response.headers_mut().insert(TALLY, HeaderValue::from(number));
    }
    Ok(response)
}

async fn answer(
    tasks: &TaskGroup,
    request: Request<Incoming>,
    peer: SocketAddr,
    identity: &Identity,
    options: Options,
    prints: bool,
) -> Response<Body> {
    if websocket::wanted(&request) {
        let (response, serve) = websocket::accept(request);
        tasks.spawn("websocket", serve);
        return response;
    }
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n"), false, identity),
    };
    if prints {
        print!("{}", Answer::new(identity, &parts, &body, peer).json());
    }
    let media = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .unwrap_or("")
    };
    if media(header::CONTENT_TYPE).starts_with("application/grpc") {
        if let Some(status) = options.grpc {
            return grpc::status(status);
        }
        let saw = Answer::new(identity, &parts, &[], peer).text();
        return grpc::answer(parts.uri.path(), &body, saw);
    }
    if let Some((url, count)) = &options.forward {
        return match forward::call(url, *count).await {
            Ok(reports) => {
                let text = serde_json::to_string(&reports).expect("strings serialize");
                plain(StatusCode::OK, format!("{text}\n"), true, identity)
            }
            Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n"), false, identity),
        };
    }
    let json = options
        .json
        .unwrap_or_else(|| media(header::ACCEPT).contains("application/json"));
    let status = options.status();
    let text = match (options.body, options.size) {
        (Some(body), _) => body,
        (None, Some(size)) => "x".repeat(size),
        (None, None) => {
            let answer = Answer::new(identity, &parts, &body, peer);
            if json { answer.json() } else { answer.text() }
        }
    };
    let mut response = plain(status, text, json, identity);
    for (name, value) in options.headers {
        response.headers_mut().append(name, value);
    }
    response
}

fn plain(status: StatusCode, text: String, json: bool, identity: &Identity) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    let media = if json {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    if let Ok(pod) = HeaderValue::from_str(&identity.pod) {
        response.headers_mut().insert(POD, pod);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        assert_eq!(judge(b"GET / HT"), Some(true));
        assert_eq!(judge(b"PRI * HT"), Some(true));
        assert_eq!(judge(b"OPTIONS "), Some(true));
        assert_eq!(judge(b"P"), None);
        assert_eq!(judge(b""), None);
        assert_eq!(judge(b"PING\r\n"), Some(false));
        assert_eq!(judge(b"\x16\x03\x01"), Some(false));
    }
}
