//! Who asks for a certificate.

use std::future::Future;
use std::pin::Pin;

use corten_core::Identity;
use corten_grpc::Peer;
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

/// A caller that proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its identities, as its certificate or its token gives them.
    pub identities: Vec<Identity>,
    /// The pod its token is bound to, when it came with such a token.
    pub pod: Option<PodBinding>,
}

/// The pod a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodBinding {
    /// The pod's name; its namespace is that of the identity.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
}

impl Caller {
    /// By a client certificate that TLS has verified; `None`: there is none, or it has no identity.
    pub fn from_certificates(chain: &[CertificateDer<'_>]) -> Option<Caller> {
        let identities = corten_identity::peer_identities(chain.first()?);
        (!identities.is_empty()).then_some(Caller { identities, pod: None })
    }
}

/// The caller did not prove who it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthenticationError(pub String);

/// Finds out who calls, from the headers of the call and the connection it came over.
pub trait Authenticate: Send + Sync + 'static {
    /// Called once per request.
    fn authenticate<'a>(
        &'a self,
        headers: &'a MetadataMap,
        peer: Option<&'a Peer>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, AuthenticationError>> + Send + 'a>>;
}
