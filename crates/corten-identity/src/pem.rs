//! PEM texts: the certificates, keys and revocation lists in them.
//!
//! Blocks of other kinds are passed over, as OpenSSL does; a text without a block of the wanted kind is an error.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// The text is not PEM of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A block is damaged.
    #[error("the PEM text is damaged: {0}")]
    Damaged(String),
    /// No block of the kind.
    #[error("the PEM text holds no {0}")]
    Missing(&'static str),
}

/// All certificates of a text, in order.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    all(text, "certificate")
}

/// All revocation lists of a text, in order.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    all(text, "certificate revocation list")
}

/// The first private key of a text.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => PemError::Missing("private key"),
        error => PemError::Damaged(error.to_string()),
    })
}

/// A DER body as a PEM block.
pub fn encode(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so that every cut falls between characters.
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A certificate as a PEM block.
pub fn encode_certificate(certificate: &CertificateDer<'_>) -> String {
    encode("CERTIFICATE", certificate)
}

fn all<T: PemObject>(text: &[u8], what: &'static str) -> Result<Vec<T>, PemError> {
    let found: Vec<T> = T::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::Damaged(error.to_string()))?;
    if found.is_empty() {
        return Err(PemError::Missing(what));
    }
    Ok(found)
}
