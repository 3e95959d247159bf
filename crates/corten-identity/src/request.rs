//! Signing requests: a fresh P-256 key, an empty subject, and the identity as the one, critical, URI name.

use corten_core::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::certificate::{self, Certificate, CertificateError};
use crate::pem;

/// A request under way, with the key it is for.
#[derive(Debug)]
pub struct SigningRequest {
    identity: Identity,
    key: KeyPair,
    pem: String,
}

/// The request cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a signing request for {identity}: {source}")]
pub struct RequestError {
    identity: Identity,
    source: rcgen::Error,
}

impl SigningRequest {
    /// A request for an identity, with a key of its own.
    pub fn new(identity: &Identity) -> Result<SigningRequest, RequestError> {
        let failed = |source| RequestError {
            identity: identity.clone(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().map_err(failed)?)];
        let pem = params
            .serialize_request(&key)
            .and_then(|csr| csr.pem())
            .map_err(failed)?;
        Ok(SigningRequest {
            identity: identity.clone(),
            key,
            pem,
        })
    }

    /// The request, to be sent to the authority.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate that the authority's answer (leaf, intermediates, roots; each PEM) and our key make.
    ///
    /// The leaf must be for our key, and its first name the identity asked for.
    pub fn finish(self, answer: &[String]) -> Result<Certificate, CertificateError> {
        let Some((roots, chain)) = answer.split_last() else {
            return Err(CertificateError::Incomplete);
        };
        let mut certificates = Vec::new();
        for part in chain {
            certificates.extend(pem::certificates(part.as_bytes())?);
        }
        let roots = pem::certificates(roots.as_bytes())?;
        if certificate::public_key(certificates.first().ok_or(CertificateError::Incomplete)?)?
            != self.key.public_key_raw()
        {
            return Err(CertificateError::OtherKey);
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let certificate = Certificate::new(certificates, key, roots)?;
        if certificate.identity != self.identity {
            return Err(CertificateError::OtherIdentity {
                asked: self.identity.to_string(),
                given: certificate.identity.to_string(),
            });
        }
        Ok(certificate)
    }
}
