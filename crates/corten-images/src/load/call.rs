//! One call after the other over a connection that is made when needed.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Arguments;

/// What an echo server gets to send back.
const PING: &[u8] = b"corten-load: is anybody there?\n";

/// An answered call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status; 200 for bytes that came back.
    pub(crate) code: u16,
    /// The pod that says it answered.
    pub(crate) pod: Option<String>,
}

/// Makes calls; a clone has a connection of its own.
#[derive(Debug)]
pub(crate) struct Caller {
    target: Target,
    close: bool,
    connection: Option<Connection>,
    /// Whether the last connection was found ended when it was to be used again.
    lost: bool,
}

#[derive(Clone, Debug)]
struct Target {
    address: String,
    tcp: bool,
    http2: bool,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
    Tcp(TcpStream),
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            close: self.close,
            connection: None,
            lost: false,
        }
    }
}

/// Reads a header argument.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text
        .split_once(':')
        .with_context(|| format!("{text:?} is no NAME:VALUE"))?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

impl Caller {
    /// A caller as the arguments ask for it.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self> {
        let uri = arguments.url.clone();
        let host = uri
            .host()
            .with_context(|| format!("{uri} names no host; write http://HOST:PORT/ or tcp://HOST:PORT"))?;
        let (tcp, port) = match uri.scheme_str() {
            None | Some("http") => (false, uri.port_u16().unwrap_or(80)),
            Some("tcp") => (true, uri.port_u16().with_context(|| format!("{uri} names no port"))?),
            Some(other) => bail!("{other:?} is not supported; there are http and tcp"),
        };
        ensure!(!(tcp && arguments.http2), "--http2 is not for tcp://");
        let address = format!("{host}:{port}");
        let target = Target {
            address,
            tcp,
            http2: arguments.http2,
            uri,
            headers: arguments.headers.clone(),
        };
        Ok(Self {
            target,
            close: arguments.close,
            connection: None,
            lost: false,
        })
    }

    /// Whether a kept connection was found ended since this was last asked.
    pub(crate) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Gives the connection up, for example because nobody knows what it will still bring.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// One call.
    pub(crate) async fn call(&mut self) -> Result<Answer, String> {
        let kept = self.connection.take();
        self.lost |= kept.as_ref().is_some_and(|kept| !kept.is_usable());
        let mut connection = match kept.filter(Connection::is_usable) {
            Some(connection) => connection,
            None => self.target.connect().await?,
        };
        let answer = connection.call(&self.target, self.close).await?;
        if !self.close {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

impl Target {
    async fn connect(&self) -> Result<Connection, String> {
        let fail = |error: std::io::Error| format!("connecting to {}: {error}", self.address);
        // Names are looked up for each connection: behind a name, addresses come and go.
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.address).await.map_err(fail)?.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        if self.tcp {
            return Ok(Connection::Tcp(stream));
        }
        let io = TokioIo::new(stream);
        if self.http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|error| error.to_string())?;
            tokio::task::spawn_local(driver);
            return Ok(Connection::Http2(sender));
        }
        let (sender, driver) = http1::handshake(io).await.map_err(|error| error.to_string())?;
        tokio::task::spawn_local(driver);
        Ok(Connection::Http1(sender))
    }

    fn request(&self, close: bool) -> Result<Request<Empty<Bytes>>, String> {
        let (uri, version) = if self.http2 {
            (self.uri.clone(), Version::HTTP_2)
        } else {
            let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            (
                path.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?,
                Version::HTTP_11,
            )
        };
        let mut request = Request::get(uri)
            .version(version)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        if !self.http2 {
            let host = self
                .uri
                .authority()
                .map_or(self.address.as_str(), http::uri::Authority::as_str);
            headers.insert(header::HOST, host.parse().map_err(|_| format!("{host:?} is no host"))?);
            if close {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Ok(request)
    }
}

impl Connection {
    fn is_usable(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
            Self::Tcp(_) => true,
        }
    }

    async fn call(&mut self, target: &Target, close: bool) -> Result<Answer, String> {
        let response = match self {
            Self::Tcp(stream) => return ping(stream).await.map_err(|error| error.to_string()),
            Self::Http1(sender) => {
                sender.ready().await.map_err(|error| error.to_string())?;
                sender.send_request(target.request(close)?).await
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(|error| error.to_string())?;
                sender.send_request(target.request(close)?).await
            }
        };
        let response = response.map_err(|error| crate::echo::error_chain(&error))?;
        let code = response.status().as_u16();
        let pod = response
            .headers()
            .get("x-corten-pod")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // The answer is read to its end, for that is when the caller has it.
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| crate::echo::error_chain(&error))?;
        }
        Ok(Answer { code, pod })
    }
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<Answer> {
    stream.write_all(PING).await?;
    let mut back = [0; PING.len()];
    stream.read_exact(&mut back).await?;
    if back != PING {
        return Err(std::io::Error::other("other bytes came back than were sent"));
    }
    Ok(Answer { code: 200, pod: None })
}
