//! Workload identities in use: certificates, the TLS configurations made of them, verification of peers by SPIFFE
//! name, renewal before expiry, revocation, and the client of the certificate authority.
//!
//! What decides (verification, renewal) is pure and takes the time as an argument; [`Identities`] is the driver. Nothing
//! here knows workloads, policies or sockets.

mod authority;
mod ca_client;
mod certificate;
mod control_plane;
mod files;
mod identities;
pub mod pem;
mod refusal;
pub mod renewal;
mod request;
mod revocation;
mod san;
mod tls;
mod trust;
mod verifier;
mod view;

pub use authority::{RootSource, ServerAuthority, ServerAuthorityError, system_roots};
pub use ca_client::{CaClient, CaSettings, Sign, SignError, Token};
pub use certificate::{Certificate, CertificateError};
pub use control_plane::ControlPlaneServer;
pub use files::Watched;
pub use identities::{Identities, IdentitiesConfig, State};
pub use refusal::{HandshakeFailure, Refusal};
pub use renewal::Priority;
pub use request::{RequestError, SigningRequest};
pub use revocation::{RevocationList, RevocationListError};
pub use san::{peer_identities, peer_identity, uri_names};
pub use tls::{Bundle, KeyExchange, TlsOptions};
pub use trust::{Trust, TrustError, Usage};
pub use view::{CertificateView, ChainEntry};
