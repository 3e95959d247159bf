//! The authority as callers see it: it signs with the keys of the moment, under the policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use corten_core::Identity;
use corten_identity::pem;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::csr::Csr;
use crate::issue::{self, Leaf, Name};
use crate::material::Material;

/// Subjects may have no longer common names (X.520).
const COMMON_NAME_MAX: usize = 64;

/// What certificates may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Validity of those who ask for none (`DEFAULT_WORKLOAD_CERT_TTL`).
    pub default_ttl: Duration,
    /// The longest validity (`MAX_WORKLOAD_CERT_TTL`).
    pub max_ttl: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Policy {
            default_ttl: day,
            max_ttl: day * 90,
        }
    }
}

/// No certificate is signed.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Longer than the policy allows.
    #[error("requested TTL {asked:?} is greater than the max allowed TTL {max:?}")]
    Ttl {
        /// What was asked for.
        asked: Duration,
        /// What is allowed.
        max: Duration,
    },
    /// Nobody to sign for.
    #[error("there is no identity to sign for")]
    NoIdentity,
    /// Our own certificate is over.
    #[error("the signing certificate has expired; replace it")]
    Expired,
    /// The library refuses.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

/// The keys of the moment and what everybody is to know of them.
#[derive(Debug, Clone)]
pub struct Published {
    /// Signs.
    pub signer: Arc<Material>,
    /// The intermediates, PEM.
    pub intermediates: Vec<String>,
    /// The roots that everybody is to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// The same as one PEM text: the entry `root-cert.pem` of the ConfigMap `istio-ca-root-cert`.
    pub roots_pem: String,
    /// Revocation lists, PEM: the entry `ca-crl.pem` of the ConfigMap `istio-ca-crl`.
    pub revocation_pem: Option<String>,
}

impl Published {
    pub(crate) fn new(
        signer: Arc<Material>,
        roots: Vec<CertificateDer<'static>>,
        revocation_pem: Option<String>,
    ) -> Published {
        Published {
            intermediates: signer
                .intermediates()
                .iter()
                .map(|part| pem::encode_certificate(part))
                .collect(),
            roots_pem: roots.iter().map(|root| pem::encode_certificate(root)).collect(),
            roots,
            signer,
            revocation_pem,
        }
    }
}

/// Signs.
#[derive(Debug)]
pub struct Authority {
    published: watch::Sender<Arc<Published>>,
    policy: Policy,
    /// The longest validity given so far, in seconds.
    longest: AtomicU64,
}

impl Authority {
    pub(crate) fn new(published: Published, policy: Policy) -> Authority {
        Authority {
            published: watch::channel(Arc::new(published)).0,
            policy,
            longest: AtomicU64::new(0),
        }
    }

    /// The longest validity of what was signed since the start, or of what is signed unless asked otherwise.
    pub(crate) fn longest_validity(&self) -> Duration {
        Duration::from_secs(self.longest.load(Ordering::Relaxed)).max(self.policy.default_ttl)
    }

    pub(crate) fn publish(&self, published: Published) {
        self.published.send_replace(Arc::new(published));
    }

    /// The keys of the moment.
    pub fn current(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// The keys of the moment, and of every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Signs for identities that the caller was found to have. `validity` is in seconds; 0 or less: the default.
    ///
    /// The answer: leaf, intermediates, and last all roots in one text.
    pub fn sign(
        &self,
        csr: &Csr,
        identities: &[Identity],
        validity: i64,
        now: SystemTime,
    ) -> Result<Vec<String>, LeafError> {
        let published = self.current();
        let names: Vec<Name> = identities
            .iter()
            .map(|identity| Name::Uri(identity.to_string()))
            .collect();
        let first = identities.first().ok_or(LeafError::NoIdentity)?.to_string();
        let ttl = match u64::try_from(validity) {
            Err(_) | Ok(0) => self.policy.default_ttl,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        if ttl > self.policy.max_ttl {
            return Err(LeafError::Ttl {
                asked: ttl,
                max: self.policy.max_ttl,
            });
        }
        let leaf = leaf(&published, names, ttl, now)?;
        let leaf = Leaf {
            common_name: Some(first).filter(|name| csr.common_name && name.len() <= COMMON_NAME_MAX),
            ..leaf
        };
        let signed = leaf.sign(&csr.public_key, published.signer.issuer())?;
        self.longest.fetch_max(ttl.as_secs(), Ordering::Relaxed);
        let mut answer = Vec::with_capacity(published.intermediates.len() + 2);
        answer.push(pem::encode_certificate(&signed));
        answer.extend(published.intermediates.iter().cloned());
        answer.push(published.roots_pem.clone());
        Ok(answer)
    }
}

/// A leaf for some names, no longer valid than its issuer.
pub(crate) fn leaf(published: &Published, names: Vec<Name>, ttl: Duration, now: SystemTime) -> Result<Leaf, LeafError> {
    let end = published.signer.not_after();
    if end <= now {
        return Err(LeafError::Expired);
    }
    Ok(Leaf {
        names,
        common_name: None,
        not_before: now.checked_sub(issue::BACKDATE).unwrap_or(now),
        not_after: end.min(now + ttl),
    })
}
