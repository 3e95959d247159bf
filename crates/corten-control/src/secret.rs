//! Secrets of Kubernetes as proxies are sent them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use corten_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use corten_xds::server::Resource;
use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

/// The type of secrets.
pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// What is put after the name of a Secret to name the authorities in it.
pub(crate) const AUTHORITIES: &str = "-cacert";

/// What is in a Secret or a ConfigMap.
type Entries = BTreeMap<String, Vec<u8>>;

/// A Secret or a ConfigMap as a resource: its certificate with the key, or its authorities. What is wrong with it is told without any of its content.
pub(crate) fn resource(name: &str, object: &Value, is_secret: bool, authorities: bool) -> Result<Resource, String> {
    let entries = entries(object, is_secret);
    let of = if authorities {
        secret::Type::ValidationContext(validation(&entries)?)
    } else {
        secret::Type::TlsCertificate(certificate(&entries)?)
    };
    let body = corten_envoy::encode(&Secret {
        name: name.to_owned(),
        r#type: Some(of),
    });
    // A digest of the key does not tell the key, and nobody sees versions who does not see the secret.
    let version = format!("{:016x}", xxh64(&body, 0));
    Ok(Resource::new(SECRET, name, &version, &body))
}

/// The entries of an object. Those of ConfigMaps are texts, those of Secrets are encoded.
fn entries(object: &Value, is_secret: bool) -> Entries {
    let read = |(name, value): (&String, &Value)| {
        let text = value.as_str()?;
        let bytes = if is_secret {
            STANDARD.decode(text).ok()?
        } else {
            text.as_bytes().to_vec()
        };
        Some((name.clone(), bytes))
    };
    let data = object["data"].as_object().into_iter().flatten();
    data.filter_map(read).collect()
}

fn certificate(entries: &Entries) -> Result<TlsCertificate, String> {
    let filled = |name: &str| entries.get(name).filter(|value| !value.is_empty());
    for (certificate, key, staple) in [("cert", "key", None), ("tls.crt", "tls.key", Some("tls.ocsp-staple"))] {
        if let (Some(certificate), Some(key)) = (filled(certificate), filled(key)) {
            return Ok(TlsCertificate {
                certificate_chain: Some(inline(certificate)),
                private_key: Some(inline(key)),
                ocsp_staple: staple.and_then(filled).map(|staple| inline(staple)),
                ..TlsCertificate::default()
            });
        }
    }
    Err(format!(
        "it has neither cert and key nor tls.crt and tls.key, or they are empty; it has {}",
        names(entries)
    ))
}

fn validation(entries: &Entries) -> Result<CertificateValidationContext, String> {
    let filled = |name: &str| entries.get(name).filter(|value| !value.is_empty());
    for (authorities, crl) in [("cacert", "crl"), ("ca.crt", "ca.crl")] {
        if let Some(authorities) = filled(authorities) {
            return Ok(CertificateValidationContext {
                trusted_ca: Some(inline(authorities)),
                crl: filled(crl).map(|list| inline(list)),
                ..CertificateValidationContext::default()
            });
        }
    }
    Err(format!(
        "it has neither cacert nor ca.crt, or they are empty; it has {}",
        names(entries)
    ))
}

fn names(entries: &Entries) -> String {
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.to_vec())),
        ..DataSource::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Value {
        let data: serde_json::Map<String, Value> = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(STANDARD.encode(value))))
            .collect();
        json!({"kind": "Secret", "data": data})
    }

    #[test]
    fn both_ways_to_name_entries_are_known() {
        let of = |found: &[(&str, &str)]| certificate(&entries(&secret(found), true));
        let made = of(&[("tls.crt", "a"), ("tls.key", "b"), ("tls.ocsp-staple", "c")]).expect("a certificate");
        assert_eq!(made.certificate_chain, Some(inline(b"a")));
        assert_eq!(made.private_key, Some(inline(b"b")));
        assert_eq!(made.ocsp_staple, Some(inline(b"c")));
        let made = of(&[("cert", "a"), ("key", "b"), ("tls.ocsp-staple", "c")]).expect("a certificate");
        assert_eq!(made.ocsp_staple, None);
        let why = of(&[("tls.crt", "a"), ("tls.key", "")]).expect_err("an empty key");
        assert!(why.ends_with("it has tls.crt, tls.key"), "{why}");

        let of = |found: &[(&str, &str)]| validation(&entries(&secret(found), true));
        let made = of(&[("cacert", "a"), ("crl", "l")]).expect("authorities");
        assert_eq!((made.trusted_ca, made.crl), (Some(inline(b"a")), Some(inline(b"l"))));
        let made = of(&[("ca.crt", "a"), ("ca.crl", "l")]).expect("authorities");
        assert_eq!((made.trusted_ca, made.crl), (Some(inline(b"a")), Some(inline(b"l"))));
        assert!(of(&[("tls.crt", "a")]).is_err());
        let map = json!({"kind": "ConfigMap", "data": {"ca.crt": "text"}});
        let made = validation(&entries(&map, false)).expect("authorities");
        assert_eq!(made.trusted_ca, Some(inline(b"text")));
    }
}
