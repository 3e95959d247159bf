//! Whom we trust: roots and revocation lists, prepared once, and the verification of a chain by them.
//!
//! A chain that was verified is remembered, so that the second connection with the same peer costs no signature check
//! of its chain (that of the handshake itself is always made). Time is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::certificate::Facts;
use crate::refusal::{Refusal, unix};
use crate::revocation::RevocationList;

/// Chains remembered at most; about 1.2 KB each, so 0.3 MB.
const VERIFIED_MAX: usize = 256;

/// Roots and revocation lists, ready for use.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    revocation: RevocationList,
    algorithms: WebPkiSupportedAlgorithms,
    verified: Mutex<HashMap<Vec<u8>, Verified>>,
}

/// In which role the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// It accepted our connection.
    Server,
    /// It connected to us.
    Client,
}

/// There is nothing to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("none of the {0} given roots is a usable certificate")]
pub struct TrustError(usize);

/// A chain that was found good, and from when until when that holds.
#[derive(Debug)]
struct Verified {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Trust {
    /// Roots that cannot be read are passed over; one must be left.
    pub fn new(roots: &[CertificateDer<'_>], revocation: RevocationList) -> Result<Trust, TrustError> {
        let anchor = |root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned());
        let anchors: Vec<_> = roots.iter().filter_map(|root| anchor(root).ok()).collect();
        if anchors.is_empty() {
            return Err(TrustError(roots.len()));
        }
        Ok(Trust {
            anchors,
            revocation,
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
            verified: Mutex::default(),
        })
    }

    /// Whether a chain (leaf first) leads to one of the roots, is valid now, made for this use, and not revoked.
    pub fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage, now: SystemTime) -> Result<(), Refusal> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refusal::NoCertificate)?;
        self.verify_parts(leaf, intermediates, usage, unix(now))
    }

    pub(crate) fn verify_parts(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let key = key(leaf, intermediates, usage);
        if let Some(verified) = self.lock().get(&key)
            && (verified.not_before..=verified.not_after).contains(&now)
        {
            return Ok(());
        }
        self.verify_path(leaf, intermediates, usage, now)?;
        if let Some(verified) = validity(leaf, intermediates) {
            let mut known = self.lock();
            // Rather forget all than keep an order: this happens when hundreds of peers were replaced.
            if known.len() >= VERIFIED_MAX {
                known.clear();
            }
            known.insert(key, verified);
        }
        Ok(())
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let leaf = EndEntityCert::try_from(leaf).map_err(refusal)?;
        let lists: Vec<_> = self.revocation.lists().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let algorithms = self.algorithms.all;
        leaf.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, revocation, None)
            .map_err(refusal)?;
        Ok(())
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// What is under the lock is whole after every statement, so that a panic elsewhere does not matter.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a chain, each part with its length, and the use.
fn key(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], usage: Usage) -> Vec<u8> {
    let parts = std::iter::once(leaf).chain(intermediates);
    let mut key = Vec::with_capacity(1 + parts.clone().map(|part| part.len() + 8).sum::<usize>());
    key.push(u8::from(usage == Usage::Client));
    for part in parts {
        key.extend_from_slice(&part.len().to_le_bytes());
        key.extend_from_slice(part);
    }
    key
}

/// When all certificates of a chain are valid. One that plays no part in the path may shorten it, which costs time and nothing else.
fn validity(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<Verified> {
    let mut whole: Option<Verified> = None;
    for certificate in std::iter::once(leaf).chain(intermediates) {
        let facts = Facts::of(certificate).ok()?;
        let (from, until) = (unix(facts.not_before), unix(facts.not_after));
        whole = Some(match whole {
            None => Verified {
                not_before: from,
                not_after: until,
            },
            Some(so_far) => Verified {
                not_before: so_far.not_before.max(from),
                not_after: so_far.not_after.min(until),
            },
        });
    }
    whole
}

fn refusal(error: webpki::Error) -> Refusal {
    let time = |unix: UnixTime| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix.as_secs()));
    match error {
        webpki::Error::CertExpired { not_after, .. } => Refusal::Expired(time(not_after)),
        webpki::Error::CertNotValidYet { not_before, .. } => Refusal::NotYetValid(time(not_before)),
        webpki::Error::CertRevoked => Refusal::Revoked,
        // A signature that does not fit is what a root of the same name but another key looks like.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Refusal::UnknownAuthority,
        error => Refusal::Unusable(error.to_string()),
    }
}
