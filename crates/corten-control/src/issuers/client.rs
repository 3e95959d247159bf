//! One GET of what says that it is keys: bounded in time by whoever calls, here in size, in redirects and in where it may lead.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use corten_envoy_gen::security::jwks::is_reachable;
use corten_identity::{RootSource, ServerAuthority, system_roots};
use http::{Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// The head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long roots are used before their files are read again.
const ROOTS_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// It is no address of a web server.
    #[error("{0:?} is not an address of http or https")]
    Address(String),
    /// The name has no address, or none that may be asked.
    #[error("{0}")]
    Resolve(String),
    /// No connection to any of its addresses.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// There are no roots to verify certificates with.
    #[error("certificates cannot be verified: {0}")]
    Roots(String),
    /// The handshake failed.
    #[error("TLS with {0:?} failed: {1}")]
    Tls(String, std::io::Error),
    /// It does not speak HTTP, or stopped doing so.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is too large, or breaks off.
    #[error("the answer cannot be read (at most {bytes_max} bytes are): {reason}")]
    Body {
        /// The most that is read.
        bytes_max: usize,
        /// Why.
        reason: String,
    },
    /// It answers that there is nothing.
    #[error("the answer has the status {0}")]
    Status(StatusCode),
    /// It leads somewhere else once too often, or where it may not.
    #[error("a redirect {0}")]
    Redirect(String),
}

/// What asks.
#[derive(Debug)]
pub(crate) struct Client {
    extra_roots: PathBuf,
    blocked: Vec<IpNet>,
    tls: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

/// A place on the web.
#[derive(Debug)]
struct Place {
    secure: bool,
    host: String,
    port: u16,
    uri: Uri,
}

/// What came of one request.
enum Answer {
    Body(Bytes),
    MovedTo(String),
}

impl Client {
    /// Trusts the operating system's roots and those in a file, if it is there; asks no address in `blocked`.
    pub(crate) fn new(extra_roots: PathBuf, blocked: Vec<IpNet>) -> Client {
        Client {
            extra_roots,
            blocked,
            tls: Mutex::default(),
        }
    }

    /// What an address answers to a GET.
    pub(crate) async fn get(&self, url: &str, bytes_max: usize) -> Result<Bytes, GetError> {
        let mut place = Place::parse(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let to = match self.ask(&place, bytes_max).await? {
                Answer::Body(body) => return Ok(body),
                Answer::MovedTo(to) => to,
            };
            let next = place.relative(&to)?;
            if place.secure && !next.secure {
                // Whoever is between us and there could put keys of their own in place of the issuer's.
                return Err(GetError::Redirect(format!("leads from https to {to:?}")));
            }
            place = next;
        }
        Err(GetError::Redirect(format!("follows on {REDIRECTS_MAX} others")))
    }

    async fn ask(&self, place: &Place, bytes_max: usize) -> Result<Answer, GetError> {
        let stream = self.connect(place).await?;
        if !place.secure {
            return exchange(stream, place, bytes_max).await;
        }
        let failed = |error| GetError::Tls(place.host.clone(), error);
        let name = ServerName::try_from(place.host.clone());
        let name = name.map_err(|error| failed(std::io::Error::other(error)))?;
        let connector = TlsConnector::from(self.tls()?);
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        exchange(stream, place, bytes_max).await
    }

    async fn connect(&self, place: &Place) -> Result<TcpStream, GetError> {
        let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
        let found = found.map_err(|error| GetError::Resolve(format!("{} has no address: {error}", place.host)))?;
        let addresses: Vec<SocketAddr> = found.collect();
        let mut error = GetError::Resolve(format!("{} has no address", place.host));
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let ip = address.ip().to_canonical();
            if !self.may_ask(ip) {
                error = GetError::Resolve(format!("{} is {ip}, which must not be asked for keys", place.host));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(source) => error = GetError::Connect(address, source),
            }
        }
        Err(error)
    }

    fn may_ask(&self, ip: IpAddr) -> bool {
        is_reachable(ip) && !self.blocked.iter().any(|network| network.contains(&ip))
    }

    /// Who may vouch for servers.
    fn tls(&self) -> Result<Arc<ClientConfig>, GetError> {
        let mut held = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, config)) = &*held
            && read.elapsed() < ROOTS_AGE_MAX
        {
            return Ok(Arc::clone(config));
        }
        let (system, extra) = (system_roots(), std::fs::read(&self.extra_roots));
        let pem = match (system, extra) {
            (Ok((_, system)), Ok(extra)) => [system, b"\n".to_vec(), extra].concat(),
            (Ok((_, system)), Err(_)) => system,
            (Err(_), Ok(extra)) => extra,
            (Err(error), Err(_)) => return Err(GetError::Roots(error.to_string())),
        };
        let pem = String::from_utf8_lossy(&pem).into_owned();
        let config = ServerAuthority::new(RootSource::Pem(pem)).config();
        let config = config.map_err(|error| GetError::Roots(error.to_string()))?;
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        *held = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }
}

/// Sends a request, and reads as much of the answer as counts.
async fn exchange<S>(stream: S, place: &Place, bytes_max: usize) -> Result<Answer, GetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let path = place.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = place.uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("corten-control/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| GetError::Address(place.uri.to_string()))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| GetError::Redirect("does not say where to".to_owned()))?;
            return Ok(Answer::MovedTo(to.to_owned()));
        }
        if !status.is_success() {
            return Err(GetError::Status(status));
        }
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| GetError::Body {
            bytes_max,
            reason: error.to_string(),
        })?;
        Ok(Answer::Body(body.to_bytes()))
    };
    // The connection's own end is told to the request, which may still have something to read then.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    let (answer, drive) = (pin!(answer), pin!(drive));
    tokio::select! {
        answer = answer => answer,
        never = drive => match never {},
    }
}

impl Place {
    fn parse(url: &str) -> Result<Place, GetError> {
        let wrong = || GetError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Place {
            secure,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            uri,
        })
    }

    /// Where a redirect leads from here.
    fn relative(&self, to: &str) -> Result<Place, GetError> {
        if to.starts_with('/') && !to.starts_with("//") {
            let scheme = self.uri.scheme_str().unwrap_or_default();
            let authority = self.uri.authority().map_or("", |authority| authority.as_str());
            return Place::parse(&format!("{scheme}://{authority}{to}"));
        }
        Place::parse(to)
            .map_err(|_| GetError::Redirect(format!("leads to {to:?}, which is no address of http or https")))
    }
}
