//! The self-made root: a P-256 key, which signs some twenty times faster than an RSA key of Istio's size and gives
//! handshakes half as many bytes; ten years, in the name of the trust domain.

use std::time::{Duration, SystemTime};

use corten_identity::pem;
use rcgen::KeyPair;

use crate::issue;
use crate::material::{Material, MaterialError};

/// How long a self-made root is valid.
pub(crate) const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Makes a new root.
///
/// Each has a name of its own: of two roots with one name and different keys, a verifier would have to try both, and a
/// revocation list of one would be taken for one of the other.
pub(crate) fn generate(trust_domain: &str, lifetime: Duration, now: SystemTime) -> Result<Material, MaterialError> {
    let key = KeyPair::generate().map_err(MaterialError::Sign)?;
    let number: u32 = rand::random();
    let from = now.checked_sub(issue::BACKDATE).unwrap_or(now);
    let name = format!("Root CA {number:08x}");
    let root = issue::root(trust_domain, &name, from, now + lifetime, &key).map_err(MaterialError::Sign)?;
    Material::new(vec![root.clone()], &key.serialize_pem(), vec![root], now)
}

/// A self-made root read back.
pub(crate) fn load(certificate: &[u8], key: &[u8], now: SystemTime) -> Result<Material, MaterialError> {
    Material::parse(certificate, key, b"", certificate, now)
}

/// Whether a root is in the last fifth of its life, when a new one takes its place.
pub(crate) fn is_due(material: &Material, now: SystemTime) -> bool {
    let life = material
        .not_after()
        .duration_since(material.not_before())
        .unwrap_or_default();
    now >= material.not_before() + life.mul_f64(0.8)
}

/// The certificate of a root as PEM.
pub(crate) fn certificate_pem(material: &Material) -> String {
    pem::encode_certificate(material.certificate())
}
