//! The client's side: one HTTP/2 connection to one target, dialled when a call needs it and there is none.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use corten_rt::TaskGroup;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::body::Body;

use crate::executor::Executor;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between failed dials. Callers have their own patience (discovery up to 15 s); this only keeps several of them from hammering.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Room for one initial discovery response before the server must wait for us; the default of 64 KiB costs a round trip per 64 KiB.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// Why there is no TLS configuration (a root certificate that cannot be read, say).
pub type TlsSourceError = Box<dyn std::error::Error + Send + Sync>;
/// The TLS configuration for the next dial; asked at each, so that roots reload. `h2` is added to its protocols where there are none.
pub type TlsConnector = Arc<dyn Fn() -> Result<Arc<rustls::ClientConfig>, TlsSourceError> + Send + Sync>;

/// Where a channel goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address to resolve and connect to; also the `:authority` of requests.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Name that the server's certificate must have; empty: the host.
    pub server_name: String,
    /// Connect here instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// Called with each socket before it connects.
    pub prepare: Option<Prepare>,
}

/// Makes a socket ready for connecting: an option that rules of the network look at, say.
pub type Prepare = fn(BorrowedFd<'_>) -> std::io::Result<()>;

impl Target {
    /// A host and port whose certificate has the host's name.
    pub fn new(host: impl Into<String>, port: u16) -> Target {
        Target {
            host: host.into(),
            port,
            server_name: String::new(),
            address: None,
            prepare: None,
        }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn certificate_name(&self) -> &str {
        if self.server_name.is_empty() {
            self.host.trim_start_matches('[').trim_end_matches(']')
        } else {
            &self.server_name
        }
    }
}

/// A call could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ChannelError {
    /// There is no connection, and it could not be made.
    #[error("could not connect to {target}: {reason}")]
    Dial {
        /// The target.
        target: String,
        /// What went wrong.
        reason: String,
    },
    /// The connection broke during the call.
    #[error("the connection to {target} broke: {reason}")]
    Broken {
        /// The target.
        target: String,
        /// What went wrong.
        reason: String,
    },
}

impl From<ChannelError> for tonic::Status {
    fn from(error: ChannelError) -> Self {
        tonic::Status::unavailable(error.to_string())
    }
}

/// A client's channel; clones share the connection, which ends when the last clone is dropped.
///
/// It is the service that `tonic::client::Grpc` takes. Calls wait for a dial in progress and share its outcome.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    authority: String,
    tls: Option<TlsConnector>,
    connection: Mutex<Connection>,
    dials: AtomicU64,
    tasks: TaskGroup,
}

#[derive(Default)]
struct Connection {
    sender: Option<SendRequest<Body>>,
    failure: Option<ChannelError>,
    failures: u32,
    next_dial: Option<Instant>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Channel").field(&self.inner.authority).finish()
    }
}

impl Channel {
    /// A channel over TLS. Nothing is dialled before the first call.
    pub fn new(target: Target, tls: TlsConnector) -> Channel {
        Self::with(target, Some(tls))
    }

    /// A channel in the clear.
    pub fn plaintext(target: Target) -> Channel {
        Self::with(target, None)
    }

    fn with(target: Target, tls: Option<TlsConnector>) -> Channel {
        let inner = Inner {
            authority: target.authority(),
            tasks: TaskGroup::new(format!("channel to {}", target.authority())),
            target,
            tls,
            connection: Mutex::default(),
            dials: AtomicU64::new(0),
        };
        Channel { inner: Arc::new(inner) }
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Forgets the connection: calls in progress go on, the next call dials anew, with the TLS configuration of that moment.
    pub async fn reconnect(&self) {
        self.inner.connection.lock().await.sender = None;
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    /// `Unavailable`: what `tonic` finds inside of it is what its caller sees.
    type Error = tonic::Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, tonic::Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { Ok(inner.call(request).await?) })
    }
}

impl Inner {
    async fn call(&self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, ChannelError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let uri = http::Uri::builder()
            .scheme(scheme)
            .authority(self.authority.as_str())
            .path_and_query(path);
        *request.uri_mut() = uri.build().map_err(|error| self.dial_error(error))?;
        let mut retried = false;
        loop {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                // The connection was closed before the request left: nobody has seen it, so it may go out on a new one.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !retried => {
                        retried = true;
                        request = unsent;
                    }
                    _ => {
                        let (target, reason) = (self.authority.clone(), chain(&error.into_error()));
                        return Err(ChannelError::Broken { target, reason });
                    }
                },
            }
        }
    }

    /// The connection's sender; dials when there is none.
    async fn sender(&self) -> Result<SendRequest<Body>, ChannelError> {
        let dials_before = self.dials.load(Ordering::Acquire);
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.sender.as_mut().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        connection.sender = None;
        if let Some(failure) = &connection.failure
            && self.dials.load(Ordering::Acquire) > dials_before
        {
            // A dial failed while this call waited for it: that is its answer too.
            return Err(failure.clone());
        }
        if let Some(next) = connection.next_dial {
            sleep_until(next).await;
        }
        let dialled = match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(dialled) => dialled,
            Err(_) => Err(self.dial_error(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        self.dials.fetch_add(1, Ordering::AcqRel);
        match dialled {
            Ok(sender) => {
                *connection = Connection {
                    sender: Some(sender.clone()),
                    ..Connection::default()
                };
                Ok(sender)
            }
            Err(error) => {
                let pause = BACKOFF_MIN
                    .saturating_mul(1 << connection.failures.min(10))
                    .min(BACKOFF_MAX);
                connection.failures += 1;
                connection.next_dial = Some(Instant::now() + pause);
                connection.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn dial(&self) -> Result<SendRequest<Body>, ChannelError> {
        let stream = self.connect().await.map_err(|error| self.dial_error(error))?;
        stream.set_nodelay(true).map_err(|error| self.dial_error(error))?;
        let Some(tls) = &self.tls else {
            return self.handshake(stream).await;
        };
        let mut config = tls().map_err(|error| self.dial_error(error))?;
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
        }
        let name = ServerName::try_from(self.target.certificate_name().to_owned());
        let name = name.map_err(|error| self.dial_error(error))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        self.handshake(stream.map_err(|error| self.dial_error(error))?).await
    }

    /// The first of the target's addresses that takes a connection.
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = match self.target.address {
            Some(address) => vec![address],
            None => tokio::net::lookup_host((self.target.host.trim_matches(['[', ']']), self.target.port))
                .await?
                .collect(),
        };
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            };
            let connected = async {
                let socket = socket?;
                if let Some(prepare) = self.target.prepare {
                    prepare(socket.as_fd())?;
                }
                socket.connect(address).await
            };
            match connected.await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Body>, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(Executor(self.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.dial_error(chain(&error)))?;
        let target = self.authority.clone();
        self.tasks.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(target, error = chain(&error), "connection ended");
            }
        });
        Ok(sender)
    }

    fn dial_error(&self, reason: impl ToString) -> ChannelError {
        ChannelError::Dial {
            target: self.authority.clone(),
            reason: reason.to_string(),
        }
    }
}

/// An error and its causes: `hyper`'s own words say too little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
