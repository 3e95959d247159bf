//! Keys that an operator mounts: Istio's `cacerts`, or the form in which cert-manager writes them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::material::{Material, MaterialError};

/// The mounted keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluggedError {
    /// Some files are there, and some are not.
    #[error("the signing keys in {dir} are incomplete: {missing} is missing")]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// The file.
        missing: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// They do not fit together.
    #[error("the signing keys in {dir} cannot be used: {source}")]
    Material {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: MaterialError,
    },
}

/// Names of the files: signing certificate, its key, roots, chain (which may be absent).
const FORMS: [[&str; 4]; 2] = [
    ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"],
    ["tls.crt", "tls.key", "ca.crt", ""],
];
const REVOCATION: &str = "ca-crl.pem";

/// The files as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    dir: PathBuf,
    certificate: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
    chain: Vec<u8>,
    /// The operator's revocation lists.
    pub(crate) revocation: Option<Vec<u8>>,
}

/// Reads the files; `None`: none of them is there, so that no keys are plugged in.
pub(crate) fn read(dir: &Path) -> Result<Option<Files>, PluggedError> {
    for [certificate, key, roots, chain] in FORMS {
        let (found_certificate, found_key) = (file(dir, certificate)?, file(dir, key)?);
        if found_certificate.is_none() && found_key.is_none() {
            continue;
        }
        let needed = |found: Option<Vec<u8>>, name: &str| {
            found.ok_or_else(|| PluggedError::Incomplete {
                dir: dir.to_owned(),
                missing: name.to_owned(),
            })
        };
        return Ok(Some(Files {
            dir: dir.to_owned(),
            certificate: needed(found_certificate, certificate)?,
            key: needed(found_key, key)?,
            roots: needed(file(dir, roots)?, roots)?,
            chain: if chain.is_empty() {
                Vec::new()
            } else {
                file(dir, chain)?.unwrap_or_default()
            },
            revocation: file(dir, REVOCATION)?,
        }));
    }
    Ok(None)
}

fn file(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, PluggedError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PluggedError::Read { path, source }),
    }
}

impl Files {
    pub(crate) fn material(&self, now: SystemTime) -> Result<Material, PluggedError> {
        // In cert-manager's form, the intermediates follow the signing certificate in its file.
        Material::parse(&self.certificate, &self.key, &self.chain, &self.roots, now).map_err(|source| {
            PluggedError::Material {
                dir: self.dir.clone(),
                source,
            }
        })
    }
}
