//! The SPIFFE names of a certificate.

use corten_core::Identity;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The URI names of a certificate; empty when it cannot be read.
pub fn uri_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    match EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed.valid_uri_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// The identities of a certificate, in order; URI names that are not workload identities are passed over.
pub fn peer_identities(certificate: &CertificateDer<'_>) -> Vec<Identity> {
    match EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed.valid_uri_names().filter_map(|name| name.parse().ok()).collect(),
        Err(_) => Vec::new(),
    }
}

/// The identity policies see: the first one of the certificate.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    peer_identities(certificate).into_iter().next()
}
