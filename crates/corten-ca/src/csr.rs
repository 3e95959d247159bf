//! Signing requests as callers send them: only the public key counts, and that the caller holds the private one.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// No request is larger; one with an RSA 4096 key and a long name has 2 KiB.
const PEM_BYTES_MAX: usize = 64 << 10;

/// What is taken from a signing request.
#[derive(Debug)]
pub struct Csr {
    /// The key to be certified.
    pub public_key: SubjectPublicKeyInfo,
    /// Whether its subject has a common name, which asks for one in the certificate too.
    pub common_name: bool,
}

/// The request cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too long.
    #[error("the signing request has {0} bytes, more than any real one")]
    Size(usize),
    /// Not PEM.
    #[error("the signing request is no PEM block 'CERTIFICATE REQUEST'")]
    Pem,
    /// Damaged.
    #[error("the signing request cannot be read: {0}")]
    Der(String),
    /// The caller does not show that the key is its own.
    #[error("the signature of the signing request is not by the key in it")]
    Signature,
    /// A key that is not signed.
    #[error("the key of the signing request is of a kind that is not supported: {0}")]
    Key(String),
}

impl Csr {
    /// Reads a PEM request and checks its signature.
    pub fn parse(pem: &str) -> Result<Csr, CsrError> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(CsrError::Size(pem.len()));
        }
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| CsrError::Pem)?;
        if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(CsrError::Pem);
        }
        Csr::from_der(&block.contents)
    }

    /// Reads a DER request and checks its signature.
    pub fn from_der(der: &[u8]) -> Result<Csr, CsrError> {
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|error| CsrError::Der(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CsrError::Der(format!("{} bytes after its end", rest.len())));
        }
        request.verify_signature().map_err(|_| CsrError::Signature)?;
        let info = &request.certification_request_info;
        let public_key =
            SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|error| CsrError::Key(error.to_string()))?;
        let common_name = info.subject.iter_common_name().next().is_some();
        Ok(Csr {
            public_key,
            common_name,
        })
    }
}
