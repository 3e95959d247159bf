//! Connections: listening sockets, TLS, HTTP/1.1 and HTTP/2, and their orderly end.

use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::body::Never;
use super::route;
use crate::api::Api;
use crate::auth::certificate_user;
use crate::pki::Pki;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What is served where.
#[derive(Debug)]
pub struct ServerConfig {
    /// Bound sockets; more can be served by calling [`serve`] again.
    pub listeners: Vec<std::net::TcpListener>,
    /// Keys and certificates.
    pub pki: Pki,
    /// What is served.
    pub api: Arc<Api>,
}

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be used.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// The keys cannot be used.
    #[error("cannot use the API's certificate: {0}")]
    Tls(String),
}

/// Serves the API on all listeners, as tasks of the group, until the group drains.
///
/// Must be called within a tokio runtime.
pub fn serve(config: ServerConfig, tasks: &TaskGroup) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(&config.pki).map_err(ServeError::Tls)?));
    config.api.use_pki(&config.pki);
    let api = config.api.clone();
    tasks.spawn(
        "deletions of an earlier life",
        async move { api.finish_deletions().await },
    );
    for listener in config.listeners {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let serving = Serving {
            api: config.api.clone(),
            acceptor: acceptor.clone(),
            tasks: tasks.clone(),
        };
        tasks.serve("api listener", |drain| serving.accept(listener, drain));
    }
    Ok(())
}

fn tls(pki: &Pki) -> Result<rustls::ServerConfig, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(pki.ca.as_bytes()).map_err(|e| text(&e))?;
    roots.add(ca).map_err(|e| text(&e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| text(&e))?;
    let certificate = CertificateDer::from_pem_slice(pki.serving.as_bytes()).map_err(|e| text(&e))?;
    let key = PrivateKeyDer::from_pem_slice(pki.serving_key.as_bytes()).map_err(|e| text(&e))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| text(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .map_err(|e| text(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Clone)]
struct Serving {
    api: Arc<Api>,
    acceptor: TlsAcceptor,
    tasks: TaskGroup,
}

impl Serving {
    async fn accept(self, listener: TcpListener, mut drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.wait() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = self.clone();
                    let drain = drain.clone();
                    self.tasks.spawn("api connection", async move {
                        serving.connection(stream, peer, drain).await
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely; others may be given back soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: std::net::SocketAddr, mut drain: Drain) {
        // Small writes such as watch events must not wait for more.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE_MAX, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS handshake");
                return;
            }
            Err(_) => return,
        };
        let user = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| certificate_user(certificate))
            .map(Arc::new);
        let front = Arc::new(route::Front {
            api: self.api,
            certificate_user: user,
            tasks: self.tasks,
            drain: drain.clone(),
        });
        let service = service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Never>(route::handle(&front, request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(250)
            .keep_alive_interval(Some(Duration::from_secs(30)));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = drain.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
