//! The server: accepts connections, makes them TLS where asked, and gives each request to the router together with its peer.
//!
//! Every connection has an end: a maximum age after which it is asked to leave (so that clients spread over new servers), and drain.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use crate::executor::Executor;
use crate::{Peer, Router};

/// The TLS configuration for the next connection; asked for each, so that certificates and roots reload.
pub type TlsAcceptor = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// Limits and timers of a server. The defaults are istiod's, with the connection age of its Helm chart.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections served at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Streams of one connection at once.
    pub streams_max: u32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// A ping is sent after this time.
    pub keepalive_interval: Duration,
    /// The connection ends when a ping is not answered for this long.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is told to go away, give or take a tenth; none: never.
    pub age_max: Option<Duration>,
    /// How long it may still live after that, or after drain began.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            streams_max: 100_000,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            age_max: Some(Duration::from_secs(30 * 60)),
            grace: Duration::from_secs(10),
        }
    }
}

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// Over the network.
    Tcp(TcpListener),
    /// Within the machine, by whoever may open the socket's file. Callers have no address, and TLS is not spoken.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

/// A connection that came in.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Cancel safe.
    async fn accept(&self) -> std::io::Result<Accepted> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                Accepted::Tcp(stream, remote)
            }
            Listener::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

/// Serves until drain, then lets the connections end within their grace, and returns.
///
/// Without `tls`, connections speak HTTP/2 in the clear from the first byte.
pub async fn serve(
    listener: impl Into<Listener>,
    tls: Option<TlsAcceptor>,
    router: Router,
    settings: Settings,
    mut drain: Drain,
) {
    let listener = listener.into();
    let connections = TaskGroup::new("grpc connections");
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    let settings = Arc::new(settings);
    loop {
        // Cancel safe: neither a permit nor an accepted connection is lost, both stay where they were.
        let permit = tokio::select! {
            biased;
            () = drain.wait() => break,
            permit = permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            biased;
            () = drain.wait() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be closed rather than spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (tls, router, settings) = (tls.clone(), router.clone(), settings.clone());
        connections.serve("connection", move |drain| async move {
            match accepted {
                Accepted::Tcp(stream, remote) => connection(stream, remote, tls, router, &settings, drain).await,
                Accepted::Unix(stream) => {
                    let peer = Peer {
                        remote: (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                        certificates: Arc::default(),
                        tls: false,
                    };
                    exchange(stream, peer, router, &settings, drain).await;
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown(settings.grace).await;
}

/// One connection from its first byte to its end.
async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    settings: &Settings,
    drain: Drain,
) {
    // Discovery answers are written whole: waiting for more to send would only delay the last packet.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer {
            remote,
            certificates: Arc::default(),
            tls: false,
        };
        return exchange(stream, peer, router, settings, drain).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls()).accept(stream);
    match timeout(settings.handshake_timeout, handshake).await {
        Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
        Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
            let peer = Peer {
                remote,
                certificates,
                tls: true,
            };
            exchange(stream, peer, router, settings, drain).await;
        }
    }
}

/// Requests and responses of one connection until it ends, is too old, or drain's grace is over.
async fn exchange<S>(stream: S, peer: Peer, router: Router, settings: &Settings, mut drain: Drain)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let remote = peer.remote;
    let streams = TaskGroup::new("grpc streams");
    let service = hyper::service::service_fn(move |mut request: crate::HttpRequest| {
        let router = router.clone();
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, std::convert::Infallible>(router.answer(request).await) }
    });
    let connection = http2::Builder::new(Executor(streams.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .max_header_list_size(64 * 1024)
        // One frame, so that a client that stops reading holds little; what waits beyond it is shared with others.
        .max_send_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let never = Duration::from_secs(365 * 24 * 3600);
    let leave_at = Instant::now() + settings.age_max.map_or(never, |age| spread(age, remote));
    tokio::select! {
        ended = connection.as_mut() => return report(remote, ended),
        () = sleep_until(leave_at) => {}
        () = drain.wait() => {}
    }
    connection.as_mut().graceful_shutdown();
    match timeout(settings.grace, connection).await {
        Ok(ended) => report(remote, ended),
        Err(_) => tracing::debug!(%remote, "connection cut at the end of its grace"),
    }
}

/// The age give or take a tenth, by the client's port: connections made together shall not end together.
fn spread(age: Duration, remote: SocketAddr) -> Duration {
    let position = f64::from(remote.port().wrapping_mul(40503)) / f64::from(u16::MAX);
    age.mul_f64(0.9 + 0.2 * position)
}

fn report(remote: SocketAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection ended");
    }
}
