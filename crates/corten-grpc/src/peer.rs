//! Who is at the other end of a server's connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The caller of a request, in the extensions of every request that [`serve`](crate::serve) hands to a handler.
///
/// The certificates have been verified by the TLS configuration in force when the connection was accepted.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address the connection came from.
    pub remote: SocketAddr,
    /// The client's certificate chain, leaf first; empty when it showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Whether the connection is encrypted.
    pub tls: bool,
}
