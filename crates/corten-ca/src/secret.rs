//! The self-made root as it is kept in a Secret, in Istio's form; what Istio does not know stands in entries of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_identity::pem;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::material::{Material, MaterialError, time};
use crate::revocation::{ParseSerialError, Revoked};
use crate::root;
use crate::rotation::{Overlap, Retiring, Rotation};

/// The Secret's name.
pub const SECRET_NAME: &str = "istio-ca-secret";
/// The Secret's type.
pub const SECRET_TYPE: &str = "istio.io/ca-root";

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
/// Entries that Istio writes for other kinds of keys, and expects to be there.
const EMPTY: [&str; 3] = ["cert-chain.pem", "key.pem", "root-cert.pem"];
/// Roots to come and to go.
const ROTATION: &str = "rotation.json";
/// Serial numbers of revoked certificates, one a line; written by the operator.
const REVOKED: &str = "revoked-serials";
/// Written by the operator to have the root changed. Its value: how long old and new overlap (`20m`); empty: as always.
const ROTATE: &str = "rotate-root";

pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

/// What the Secret says.
#[derive(Debug, Clone)]
pub(crate) struct SelfMade {
    pub(crate) rotation: Rotation,
    pub(crate) revoked: Vec<Revoked>,
    pub(crate) rotate: Option<Rotate>,
    /// How long old and new overlap where a wish says nothing else.
    pub(crate) overlap: Overlap,
}

/// The operator's wish for another root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotate {
    overlap: Option<Duration>,
}

/// The Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The keys do not fit together.
    #[error("the Secret {SECRET_NAME} cannot be used: {0}")]
    Material(#[from] MaterialError),
    /// What is written about the change of roots cannot be read.
    #[error("the entry {ROTATION} of the Secret {SECRET_NAME} cannot be used: {0}")]
    Rotation(String),
    /// The wish for another root is none.
    #[error("the entry {ROTATE} of the Secret {SECRET_NAME}: {0}; write a duration such as 20m, or nothing")]
    Rotate(corten_core::ParseDurationError),
    /// A serial number is none.
    #[error("the entry {REVOKED} of the Secret {SECRET_NAME}: {0}")]
    Revoked(#[from] ParseSerialError),
}

impl SelfMade {
    /// A new root.
    pub(crate) fn generate(
        trust_domain: &str,
        lifetime: Duration,
        overlap: Overlap,
        now: SystemTime,
    ) -> Result<SelfMade, MaterialError> {
        let root = root::generate(trust_domain, lifetime, now)?;
        Ok(SelfMade {
            rotation: Rotation::new(Arc::new(root), overlap),
            revoked: Vec::new(),
            rotate: None,
            overlap,
        })
    }

    /// Reads the entries; `None`: there are no keys among them.
    pub(crate) fn decode(
        entries: &Entries,
        overlap: Overlap,
        now: SystemTime,
    ) -> Result<Option<SelfMade>, SecretError> {
        let entry = |name: &str| entries.get(name).map(Vec::as_slice).unwrap_or_default();
        if entry(CERTIFICATE).is_empty() {
            return Ok(None);
        }
        let active = root::load(entry(CERTIFICATE), entry(KEY), now)?;
        let mut rotation = Rotation::new(Arc::new(active), overlap);
        if !entry(ROTATION).is_empty() {
            let json =
                serde_json::from_slice(entry(ROTATION)).map_err(|error| SecretError::Rotation(error.to_string()))?;
            decode_rotation(&mut rotation, &json, now)?;
        }
        let text = String::from_utf8_lossy(entry(REVOKED));
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Some(SelfMade {
            rotation,
            revoked: lines.map(str::parse).collect::<Result<_, _>>()?,
            rotate: entries.get(ROTATE).map(|value| rotate(value)).transpose()?,
            overlap,
        }))
    }

    /// Writes the entries over those that were read; what others keep there stays.
    pub(crate) fn encode(&self, entries: &mut Entries) {
        let active = self.rotation.signer();
        entries.insert(CERTIFICATE.to_owned(), root::certificate_pem(active).into_bytes());
        entries.insert(KEY.to_owned(), active.key_pem().as_bytes().to_vec());
        for name in EMPTY {
            entries.entry(name.to_owned()).or_default();
        }
        entries.insert(
            ROTATION.to_owned(),
            encode_rotation(&self.rotation).to_string().into_bytes(),
        );
        if self.rotate.is_none() {
            entries.remove(ROTATE);
        }
    }

    /// Does what is due: begins a change of roots when it is asked for or the root is old, and takes it further.
    /// Returns whether anything changed.
    pub(crate) fn step(
        &mut self,
        trust_domain: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<bool, MaterialError> {
        let mut changed = self.rotation.tick(now);
        let asked = self.rotate.take();
        if self.rotation.is_settled() {
            self.rotation.set_overlap(self.overlap);
        }
        if (asked.is_some() || root::is_due(self.rotation.signer(), now)) && self.rotation.next().is_none() {
            if let Some(overlap) = asked.and_then(|asked| asked.overlap) {
                self.rotation.set_overlap(Overlap::of_lifetime(overlap));
            }
            let root = root::generate(trust_domain, lifetime, now)?;
            self.rotation.offer(Arc::new(root), now);
            changed = true;
        }
        changed |= asked.is_some();
        Ok(changed)
    }
}

fn rotate(value: &[u8]) -> Result<Rotate, SecretError> {
    let text = String::from_utf8_lossy(value);
    let overlap = match text.trim() {
        "" => None,
        text => Some(corten_core::Duration::parse_argument(text).map_err(SecretError::Rotate)?),
    };
    Ok(Rotate { overlap })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn encode_rotation(rotation: &Rotation) -> Value {
    let root = |root: &CertificateDer<'_>| pem::encode_certificate(root);
    let trusted = rotation
        .trusted
        .iter()
        .map(|(der, since)| json!({"root": root(der), "since": seconds(*since)}));
    let retiring = rotation.retiring.iter().map(|retiring| {
        json!({
            "root": root(&retiring.root),
            "key": retiring.material.as_ref().map(|material| material.key_pem()),
            "until": seconds(retiring.until),
        })
    });
    let overlap = rotation.overlap();
    json!({
        // In milliseconds; what began with one overlap goes on with it.
        "announce": overlap.announce.as_millis() as u64,
        "retire": overlap.retire.as_millis() as u64,
        "trusted": trusted.collect::<Vec<_>>(),
        "next": rotation.next.as_ref().map(|next| json!({"root": root(next.certificate()), "key": next.key_pem()})),
        "retiring": retiring.collect::<Vec<_>>(),
    })
}

fn decode_rotation(rotation: &mut Rotation, json: &Value, now: SystemTime) -> Result<(), SecretError> {
    let failed = |what: &str| SecretError::Rotation(what.to_owned());
    let items = |name: &str| json[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let when = |value: &Value| value.as_i64().map(time).ok_or_else(|| failed("a time is missing"));
    let root = |value: &Value| {
        let text = text(&value["root"]).ok_or_else(|| failed("a root is missing"))?;
        let found = pem::certificates(text.as_bytes()).map_err(|error| failed(&error.to_string()))?;
        found.into_iter().next().ok_or_else(|| failed("a root is missing"))
    };
    let material = |value: &Value| -> Result<Option<Arc<Material>>, SecretError> {
        let Some(key) = text(&value["key"]) else {
            return Ok(None);
        };
        let root = text(&value["root"]).unwrap_or_default();
        Ok(Some(Arc::new(root::load(root.as_bytes(), key.as_bytes(), now)?)))
    };
    for trusted in items("trusted") {
        let (der, since) = (root(trusted)?, when(&trusted["since"])?);
        rotation.trusted.retain(|(known, _)| *known != der);
        rotation.trusted.push((der, since));
    }
    rotation.next = material(&json["next"])?;
    let span = |name: &str| json[name].as_u64().map(Duration::from_millis);
    let overlap = span("announce").zip(span("retire"));
    for retiring in items("retiring") {
        rotation.retiring.push(Retiring {
            root: root(retiring)?,
            until: when(&retiring["until"])?,
            // An expired root signs nothing, and is no reason to refuse all others.
            material: material(retiring).unwrap_or_default(),
        });
    }
    if let Some((announce, retire)) = overlap
        && !rotation.is_settled()
    {
        rotation.set_overlap(Overlap { announce, retire });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
