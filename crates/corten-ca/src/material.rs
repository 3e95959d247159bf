//! What certificates are signed with: a signing certificate and key, the way from it to a root, and the roots to trust.

use std::time::{Duration, SystemTime};

use corten_identity::pem::{self, PemError};
use corten_identity::{Refusal, Trust, Usage};
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::issue::{self, Leaf, Name};

/// A signing key with all that belongs to it. Its parts have been found to fit together by signing with them.
pub struct Material {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key_pem: String,
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    anchor: CertificateDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// The parts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A part is not PEM.
    #[error("{part}: {source}")]
    Pem {
        /// Which.
        part: &'static str,
        /// Why.
        source: PemError,
    },
    /// A certificate cannot be read.
    #[error("the signing certificate cannot be read: {0}")]
    Certificate(String),
    /// The key cannot be used.
    #[error("the signing key cannot be used: {0}")]
    Key(String),
    /// The key belongs to another certificate.
    #[error("the signing key does not belong to the signing certificate")]
    OtherKey,
    /// What it signs is not accepted by any of the roots.
    #[error(
        "what is signed with this certificate is not trusted by any of the {roots} roots: {reason}; do the certificate chain and the roots belong together?"
    )]
    Chain {
        /// How many.
        roots: usize,
        /// Why.
        reason: Refusal,
    },
    /// It signs nothing.
    #[error("cannot sign with this key: {0}")]
    Sign(rcgen::Error),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("roots", &self.roots.len())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// From PEM texts: the signing certificate, its key, the certificates between it and the root (may be empty, may
    /// repeat the signing certificate and the root), and the roots.
    pub fn parse(
        certificate: &[u8],
        key: &[u8],
        chain: &[u8],
        roots: &[u8],
        now: SystemTime,
    ) -> Result<Material, MaterialError> {
        let certificates = |text, part| pem::certificates(text).map_err(|source| MaterialError::Pem { part, source });
        let mut path = certificates(certificate, "the signing certificate")?;
        if !chain.trim_ascii().is_empty() {
            path.extend(certificates(chain, "the certificate chain")?);
        }
        let roots = certificates(roots, "the root certificates")?;
        let key = std::str::from_utf8(key).map_err(|error| MaterialError::Key(error.to_string()))?;
        Material::new(path, key, roots, now)
    }

    pub(crate) fn new(
        mut path: Vec<CertificateDer<'static>>,
        key_pem: &str,
        mut roots: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Material, MaterialError> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| MaterialError::Key(error.to_string()))?;
        dedup(&mut roots);
        dedup(&mut path);
        let certificate = path
            .first()
            .cloned()
            .ok_or_else(|| MaterialError::Certificate("there is none".to_owned()))?;
        // Peers have the roots; they are not sent.
        path.retain(|part| !roots.contains(part));
        let (not_before, not_after) = check_certificate(&certificate, &key)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| MaterialError::Certificate(error.to_string()))?;
        let mut material = Material {
            issuer,
            anchor: certificate.clone(),
            certificate,
            key_pem: key_pem.to_owned(),
            intermediates: path,
            roots,
            not_before,
            not_after,
        };
        material.anchor = material.probe(now)?;
        Ok(material)
    }

    /// Signs a leaf and finds the root that accepts it.
    fn probe(&self, now: SystemTime) -> Result<CertificateDer<'static>, MaterialError> {
        let key = KeyPair::generate().map_err(MaterialError::Sign)?;
        let leaf = Leaf {
            names: vec![Name::Dns("probe.invalid".to_owned())],
            common_name: None,
            not_before: now.checked_sub(issue::BACKDATE).unwrap_or(now),
            not_after: now + Duration::from_secs(60),
        };
        let leaf = leaf.sign(&key, &self.issuer).map_err(MaterialError::Sign)?;
        let chain: Vec<_> = std::iter::once(leaf)
            .chain(self.intermediates.iter().cloned())
            .collect();
        let mut reason = Refusal::UnknownAuthority;
        for root in &self.roots {
            let Ok(trust) = Trust::new(std::slice::from_ref(root), Default::default()) else {
                continue;
            };
            match trust.verify(&chain, Usage::Server, now) {
                Ok(()) => return Ok(root.clone()),
                // That a root is not the right one says less than what is wrong under the right one.
                Err(Refusal::UnknownAuthority) => {}
                Err(other) => reason = other,
            }
        }
        Err(MaterialError::Chain {
            roots: self.roots.len(),
            reason,
        })
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, PEM.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What is sent after a leaf: from the signing certificate up to, and without, the root.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// The roots to trust.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The one of them that what is signed leads to.
    pub fn anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// From when the signing certificate is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the signing certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether both sign with the same certificate and trust the same roots.
    pub fn same_as(&self, other: &Material) -> bool {
        self.certificate == other.certificate && self.roots == other.roots && self.intermediates == other.intermediates
    }
}

/// The validity of a certificate whose key this is.
fn check_certificate(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<(SystemTime, SystemTime), MaterialError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| MaterialError::Certificate(error.to_string()))?;
    if parsed.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(MaterialError::OtherKey);
    }
    let validity = parsed.validity();
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn dedup(certificates: &mut Vec<CertificateDer<'static>>) {
    let mut kept: Vec<CertificateDer<'static>> = Vec::with_capacity(certificates.len());
    for certificate in certificates.drain(..) {
        if !kept.contains(&certificate) {
            kept.push(certificate);
        }
    }
    *certificates = kept;
}
