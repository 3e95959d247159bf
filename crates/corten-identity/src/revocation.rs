//! Revocation lists, from PEM or DER.

use std::sync::Arc;

use rustls_pki_types::CertificateRevocationListDer;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::pem::{self, PemError};

/// Lists of revoked certificates, ready to be looked things up in. Cheap to clone.
///
/// Whether a list is past its next update is not looked at: a list that is late still tells whom not to trust.
#[derive(Debug, Clone, Default)]
pub struct RevocationList(Arc<[CertRevocationList<'static>]>);

/// The bytes are not revocation lists.
#[derive(Debug, thiserror::Error)]
pub enum RevocationListError {
    /// Damaged PEM.
    #[error("cannot read revocation lists: {0}")]
    Pem(#[from] PemError),
    /// Damaged DER, or a form that is not supported.
    #[error("cannot read revocation list number {number}: {reason}")]
    List {
        /// Which of the lists, from 1.
        number: usize,
        /// Why.
        reason: webpki::Error,
    },
}

impl RevocationList {
    /// Reads one DER list, or any number of PEM ones.
    pub fn parse(bytes: &[u8]) -> Result<RevocationList, RevocationListError> {
        // A DER list is a SEQUENCE; no PEM text begins with that byte.
        let lists = match bytes.first() {
            Some(0x30) => vec![CertificateRevocationListDer::from(bytes)],
            _ => pem::revocation_lists(bytes)?,
        };
        let parse = |(index, der): (usize, &CertificateRevocationListDer<'_>)| {
            let list = OwnedCertRevocationList::from_der(der);
            list.map(CertRevocationList::from)
                .map_err(|reason| RevocationListError::List {
                    number: index + 1,
                    reason,
                })
        };
        let lists: Vec<_> = lists.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(RevocationList(lists.into()))
    }

    /// Whether there is no list at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn lists(&self) -> impl Iterator<Item = &CertRevocationList<'static>> {
        self.0.iter()
    }
}
