//! Why a handshake came to nothing, in words for the access log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_core::Identity;
use rustls::{AlertDescription, CertificateError, OtherError};

/// Why we do not accept a peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer showed none.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// Past its end, by our clock.
    #[error("the peer's certificate expired{}; does it still renew, and are the clocks right?", at(*.0))]
    Expired(Option<SystemTime>),
    /// Before its begin, by our clock.
    #[error("the peer's certificate is not valid before{}; are the clocks right?", at(*.0))]
    NotYetValid(Option<SystemTime>),
    /// Not signed by one of our roots.
    #[error("the peer's certificate is signed by an unknown authority")]
    UnknownAuthority,
    /// On a revocation list.
    #[error("the peer's certificate is revoked")]
    Revoked,
    /// None of its names is one of those expected.
    #[error("the peer is {}, expected was {}", list(.presented), list(.expected))]
    WrongIdentity {
        /// Who would have been right.
        expected: Vec<Identity>,
        /// The URI names of the certificate.
        presented: Vec<String>,
    },
    /// None of its identities is of our trust domain.
    #[error("the peer is {}, not of trust domain {expected}", list(.presented))]
    WrongTrustDomain {
        /// Our trust domain.
        expected: String,
        /// The URI names of the certificate.
        presented: Vec<String>,
    },
    /// Not a certificate for this use, damaged, or with a bad signature.
    #[error("the peer's certificate is not usable: {0}")]
    Unusable(String),
}

impl Refusal {
    /// A short name for labels and log fields.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NoCertificate => "no_certificate",
            Refusal::Expired(_) => "certificate_expired",
            Refusal::NotYetValid(_) => "certificate_not_yet_valid",
            Refusal::UnknownAuthority => "unknown_authority",
            Refusal::Revoked => "certificate_revoked",
            Refusal::WrongIdentity { .. } => "wrong_identity",
            Refusal::WrongTrustDomain { .. } => "wrong_trust_domain",
            Refusal::Unusable(_) => "certificate_unusable",
        }
    }
}

/// What went wrong in a handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// We refused the peer.
    #[error("{0}")]
    Refused(Refusal),
    /// The peer refused us, or our certificate; the alert says why.
    #[error("the peer refused the handshake: {0}")]
    RefusedByPeer(String),
    /// No common protocol, or not TLS at all.
    #[error("not a handshake of the mesh: {0}")]
    Protocol(String),
}

impl HandshakeFailure {
    /// A short name for labels and log fields.
    pub fn code(&self) -> &'static str {
        match self {
            HandshakeFailure::Refused(refusal) => refusal.code(),
            HandshakeFailure::RefusedByPeer(_) => "refused_by_peer",
            HandshakeFailure::Protocol(_) => "tls_protocol",
        }
    }
}

impl From<&rustls::Error> for HandshakeFailure {
    fn from(error: &rustls::Error) -> HandshakeFailure {
        match error {
            rustls::Error::NoCertificatesPresented => HandshakeFailure::Refused(Refusal::NoCertificate),
            rustls::Error::InvalidCertificate(error) => HandshakeFailure::Refused(refusal(error)),
            rustls::Error::AlertReceived(alert) => HandshakeFailure::RefusedByPeer(explain(*alert)),
            error => HandshakeFailure::Protocol(error.to_string()),
        }
    }
}

/// How a refusal travels through rustls: what TLS has an alert for by its own name, the rest inside `Other`.
impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> rustls::Error {
        rustls::Error::InvalidCertificate(match refusal {
            Refusal::NoCertificate => return rustls::Error::NoCertificatesPresented,
            Refusal::Revoked => CertificateError::Revoked,
            Refusal::UnknownAuthority => CertificateError::UnknownIssuer,
            Refusal::Expired(Some(end)) => CertificateError::ExpiredContext {
                time: rustls::pki_types::UnixTime::now(),
                not_after: unix(end),
            },
            Refusal::Expired(None) => CertificateError::Expired,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

fn refusal(error: &CertificateError) -> Refusal {
    let time =
        |unix: &rustls::pki_types::UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix.as_secs()));
    match error {
        CertificateError::Expired => Refusal::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => Refusal::Expired(time(not_after)),
        CertificateError::NotValidYet => Refusal::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => Refusal::NotYetValid(time(not_before)),
        CertificateError::Revoked => Refusal::Revoked,
        CertificateError::UnknownIssuer => Refusal::UnknownAuthority,
        CertificateError::Other(other) => match other.0.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.clone(),
            None => Refusal::Unusable(other.to_string()),
        },
        error => Refusal::Unusable(error.to_string()),
    }
}

/// The alerts that a certificate can bring, in words.
fn explain(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::CertificateExpired => "our certificate is expired by its clock",
        AlertDescription::CertificateRevoked => "our certificate is revoked",
        AlertDescription::UnknownCA => "it does not know the authority that signed our certificate",
        AlertDescription::CertificateRequired => "it requires a certificate",
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate | AlertDescription::AccessDenied => {
            "it does not accept our certificate (its log says why)"
        }
        AlertDescription::NoApplicationProtocol => "it does not speak h2 on this port",
        AlertDescription::ProtocolVersion => "it does not speak our version of TLS",
        other => return format!("alert {other:?}"),
    };
    format!("{words} (alert {alert:?})")
}

pub(crate) fn unix(time: SystemTime) -> rustls::pki_types::UnixTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rustls::pki_types::UnixTime::since_unix_epoch(since)
}

fn at(time: Option<SystemTime>) -> String {
    match time.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
        Some(time) => format!(" {time:.0}"),
        None => String::new(),
    }
}

fn list<T: ToString>(names: &[T]) -> String {
    match names {
        [] => "nobody (no name)".to_owned(),
        names => names.iter().map(T::to_string).collect::<Vec<_>>().join(" or "),
    }
}
