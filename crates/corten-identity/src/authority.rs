//! Trust in the control plane's own servers, which have ordinary names instead of identities.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls_pki_types::CertificateDer;

use crate::files::Watched;
use crate::pem::{self, PemError};
use crate::tls::{KeyExchange, TlsOptions};

/// Where the roots are that the control plane's certificate must lead to (`CA_ROOT_CA`, `XDS_ROOT_CA`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, read again when it changes.
    File(PathBuf),
    /// The roots of the operating system.
    System,
    /// The PEM text itself.
    Pem(String),
}

impl RootSource {
    /// From a setting: an existing path, the word `SYSTEM`, or the PEM text.
    pub fn from_setting(setting: &str) -> RootSource {
        match setting {
            "SYSTEM" => RootSource::System,
            text if text.contains("-----BEGIN ") => RootSource::Pem(text.to_owned()),
            path => RootSource::File(path.into()),
        }
    }
}

/// There is no TLS configuration for the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ServerAuthorityError {
    /// The file cannot be read.
    #[error(
        "cannot read the root certificate {path}: {source}; is the ConfigMap istio-ca-root-cert there and mounted?"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not certificates.
    #[error("the root certificates of {place} cannot be used: {source}")]
    Pem {
        /// Where they are from.
        place: String,
        /// Why.
        source: PemError,
    },
    /// No usable one among them.
    #[error("the root certificates of {place} cannot be used: {reason}")]
    Unusable {
        /// Where they are from.
        place: String,
        /// Why.
        reason: String,
    },
    /// The operating system has none where they usually are.
    #[error("no root certificates found in {0}; install ca-certificates or name a file")]
    NoSystemRoots(String),
}

/// Where operating systems keep their roots.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The TLS configuration for connections to the control plane, which follows its roots.
#[derive(Debug)]
pub struct ServerAuthority {
    source: RootSource,
    key_exchange: KeyExchange,
    file: Option<Watched>,
    made: Mutex<Option<Arc<ClientConfig>>>,
}

impl ServerAuthority {
    /// Nothing is read yet.
    pub fn new(source: RootSource) -> ServerAuthority {
        let file = match &source {
            RootSource::File(path) => Some(Watched::new(path)),
            RootSource::System | RootSource::Pem(_) => None,
        };
        ServerAuthority {
            source,
            key_exchange: KeyExchange::default(),
            file,
            made: Mutex::new(None),
        }
    }

    /// With other key exchanges than the usual ones (`COMPLIANCE_POLICY`).
    pub fn with_key_exchange(self, key_exchange: KeyExchange) -> ServerAuthority {
        ServerAuthority { key_exchange, ..self }
    }

    /// The configuration for the next connection. A file that changed is read again; while it cannot be used, the last
    /// good one serves and the reason is logged.
    pub fn config(&self) -> Result<Arc<ClientConfig>, ServerAuthorityError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match (&self.file, &*made) {
            (Some(file), _) => match file.changed() {
                Ok(Some(text)) => configuration(&text, &file.path().display().to_string(), self.key_exchange),
                Ok(None) => match &*made {
                    Some(made) => return Ok(made.clone()),
                    // Unusable the last time, and no other since: say so again.
                    None => self.read_again(file),
                },
                Err(source) => Err(ServerAuthorityError::Read {
                    path: file.path().to_owned(),
                    source,
                }),
            },
            (None, Some(made)) => return Ok(made.clone()),
            (None, None) => match &self.source {
                RootSource::Pem(text) => configuration(text.as_bytes(), "the setting", self.key_exchange),
                RootSource::System | RootSource::File(_) => {
                    let (path, text) = system_roots()?;
                    configuration(&text, path, self.key_exchange)
                }
            },
        };
        match (fresh, &*made) {
            (Ok(fresh), _) => {
                *made = Some(fresh.clone());
                Ok(fresh)
            }
            (Err(error), Some(made)) => {
                tracing::warn!(%error, "going on with the roots read before");
                Ok(made.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn read_again(&self, file: &Watched) -> Result<Arc<ClientConfig>, ServerAuthorityError> {
        let text = std::fs::read(file.path()).map_err(|source| ServerAuthorityError::Read {
            path: file.path().to_owned(),
            source,
        })?;
        configuration(&text, &file.path().display().to_string(), self.key_exchange)
    }
}

/// The operating system's roots: the file they are in, and what it says (PEM).
pub fn system_roots() -> Result<(&'static str, Vec<u8>), ServerAuthorityError> {
    let mut read = SYSTEM_ROOTS
        .iter()
        .filter_map(|path| Some((*path, std::fs::read(path).ok()?)));
    read.next()
        .ok_or_else(|| ServerAuthorityError::NoSystemRoots(SYSTEM_ROOTS.join(", ")))
}

fn configuration(
    text: &[u8],
    place: &str,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, ServerAuthorityError> {
    let roots: Vec<CertificateDer<'static>> = pem::certificates(text).map_err(|source| ServerAuthorityError::Pem {
        place: place.to_owned(),
        source,
    })?;
    let unusable = |reason: String| ServerAuthorityError::Unusable {
        place: place.to_owned(),
        reason,
    };
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let options = TlsOptions {
        // The control plane may be another's and speak TLS 1.2, in which there is no hybrid key exchange.
        tls12: key_exchange != KeyExchange::HybridOnly,
        key_exchange,
    };
    let provider = options.provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(options.versions())
        .map_err(|error| unusable(error.to_string()))?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
