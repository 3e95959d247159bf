//! A workload certificate: chain, key, and the roots its authority trusts.

use std::time::{Duration, SystemTime};

use corten_core::Identity;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pem::PemError;
use crate::san;

/// A certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    /// The leaf, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// The roots by which peers are verified.
    pub roots: Vec<CertificateDer<'static>>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// The serial number, decimal.
    pub serial: String,
    /// Who the certificate says its holder is: the first workload identity among its names.
    pub identity: Identity,
}

/// The parts do not make a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Too few parts.
    #[error("the authority's answer has no certificate, or no roots")]
    Incomplete,
    /// Damaged PEM.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// Damaged DER.
    #[error("the certificate cannot be read: {0}")]
    Der(String),
    /// None of its names is a workload identity.
    #[error("the certificate has no workload identity, only the names {0:?}")]
    NoIdentity(Vec<String>),
    /// Another than the one asked for.
    #[error("the authority signed {given} when {asked} was asked for")]
    OtherIdentity {
        /// Who was asked for.
        asked: String,
        /// Who was signed.
        given: String,
    },
    /// For somebody else's key.
    #[error("the authority signed another key than the one it was sent")]
    OtherKey,
    /// The key cannot be used, or belongs to another certificate.
    #[error("the key does not go with the certificate: {0}")]
    Key(rustls::Error),
    /// No usable root.
    #[error("{0}")]
    Trust(#[from] crate::trust::TrustError),
    /// rustls refuses the settings.
    #[error("cannot prepare TLS: {0}")]
    Tls(rustls::Error),
}

impl Certificate {
    /// From its parts; reads identity, validity and serial number from the leaf.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Certificate, CertificateError> {
        let leaf = chain
            .first()
            .filter(|_| !roots.is_empty())
            .ok_or(CertificateError::Incomplete)?;
        let facts = Facts::of(leaf)?;
        let identity = san::peer_identity(leaf).ok_or_else(|| CertificateError::NoIdentity(san::uri_names(leaf)))?;
        Ok(Certificate {
            key,
            roots,
            not_before: facts.not_before,
            not_after: facts.not_after,
            serial: facts.serial,
            identity,
            chain,
        })
    }

    /// The same once more, as input for what takes a certificate by value.
    pub(crate) fn reload<T>(&self, load: impl FnOnce(Certificate) -> T) -> T {
        load(Certificate {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            serial: self.serial.clone(),
            identity: self.identity.clone(),
        })
    }
}

/// The bits of a certificate's public key.
pub(crate) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, CertificateError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| CertificateError::Der(error.to_string()))?;
    Ok(parsed.public_key().subject_public_key.data.to_vec())
}

/// What is shown of any certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) serial: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Facts {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Facts, CertificateError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| CertificateError::Der(error.to_string()))?;
        let time = |seconds: i64| {
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            SystemTime::UNIX_EPOCH
                .checked_add(since)
                .unwrap_or(SystemTime::UNIX_EPOCH)
        };
        Ok(Facts {
            serial: parsed.tbs_certificate.serial.to_string(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
        })
    }
}
