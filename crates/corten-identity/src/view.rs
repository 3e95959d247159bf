//! Certificates as the admin endpoint shows them.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, Facts};
use crate::pem;

/// An identity and its certificate; texts as Istio's tools read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    /// The SPIFFE name.
    pub identity: String,
    /// `Available`, `Initializing`, or `Unavailable: ` and why.
    pub state: String,
    /// Leaf and intermediates.
    pub cert_chain: Vec<ChainEntry>,
    /// Roots.
    pub root_certs: Vec<ChainEntry>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    /// Base64 of the PEM text.
    pub pem: String,
    /// Decimal.
    pub serial_number: String,
    /// RFC 3339.
    pub valid_from: String,
    /// RFC 3339.
    pub expiration_time: String,
}

impl CertificateView {
    pub(crate) fn new(identity: String, state: String, certificate: Option<&Certificate>) -> CertificateView {
        let entries = |certificates: &[CertificateDer<'_>]| certificates.iter().filter_map(ChainEntry::of).collect();
        CertificateView {
            identity,
            state,
            cert_chain: certificate.map(|c| entries(&c.chain)).unwrap_or_default(),
            root_certs: certificate.map(|c| entries(&c.roots)).unwrap_or_default(),
        }
    }
}

impl ChainEntry {
    /// `None` for bytes that are no certificate.
    fn of(certificate: &CertificateDer<'_>) -> Option<ChainEntry> {
        use base64::Engine as _;
        let facts = Facts::of(certificate).ok()?;
        Some(ChainEntry {
            pem: base64::engine::general_purpose::STANDARD.encode(pem::encode_certificate(certificate)),
            serial_number: facts.serial,
            valid_from: text(facts.not_before),
            expiration_time: text(facts.not_after),
        })
    }
}

fn text(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.0}"))
}
