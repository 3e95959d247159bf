//! The certificates that the suite makes before its tests, and who vouches for whom.

use std::collections::BTreeMap;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

const INFRA: &str = "gateway-conformance-infra";
const WEB: &str = "gateway-conformance-web-backend";
const APP: &str = "gateway-conformance-app-backend";

/// Certificates: by their text, who signed them and the names they have.
#[derive(Default)]
pub(super) struct Certificates {
    issued: BTreeMap<String, (String, Vec<String>)>,
    /// Secrets and ConfigMaps that hold them.
    pub(super) objects: Vec<Value>,
}

impl Certificates {
    /// All that the suite has.
    pub(super) fn make() -> Result<Certificates> {
        let mut made = Certificates::default();
        made.own(WEB, "certificate", &["*"])?;
        made.own(
            INFRA,
            "tls-validity-checks-certificate",
            &["*", "*.org", "*.wildcard.org"],
        )?;
        made.own(INFRA, "tls-passthrough-checks-certificate", &["abc.example.com"])?;
        made.copy(INFRA, APP, "tls-passthrough-checks-certificate");
        made.own(INFRA, "tls-terminate-checks-certificate", &["tls.example.com"])?;
        made.authority(
            INFRA,
            "tls-validity-checks-ca-certificate",
            &[("tls-validity-checks-client-certificate", &[])],
        )?;
        made.authority(
            INFRA,
            "tls-validity-checks-per-port-ca-certificate",
            &[("tls-validity-checks-per-port-client-certificate", &[])],
        )?;
        made.authority(
            INFRA,
            "tls-checks-ca-certificate",
            &[
                (
                    "tls-checks-certificate",
                    &[
                        "abc.example.com",
                        "spiffe://abc.example.com/test-identity",
                        "other.example.com",
                    ],
                ),
                ("tls-checks-client-certificate", &[]),
            ],
        )?;
        made.authority(INFRA, "mismatch-ca-certificate", &[])?;
        made.authority(WEB, "web-backend-cm", &[])?;
        Ok(made)
    }

    fn put(&mut self, namespace: &str, name: &str, certificate: &str, key: &KeyPair) {
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "namespace": namespace },
            "stringData": { "tls.crt": certificate, "tls.key": key.serialize_pem() },
        }));
    }

    fn copy(&mut self, from: &str, to: &str, name: &str) {
        let is_it = |object: &&Value| object["metadata"] == json!({ "name": name, "namespace": from });
        if let Some(mut object) = self.objects.iter().find(is_it).cloned() {
            object["metadata"]["namespace"] = json!(to);
            self.objects.push(object);
        }
    }

    /// A certificate that vouches for itself.
    fn own(&mut self, namespace: &str, name: &str, names: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let text = params(name, names)?.self_signed(&key)?.pem();
        self.put(namespace, name, &text, &key);
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.issued.insert(text.clone(), (text, names));
        Ok(())
    }

    /// An authority, and certificates that it signed.
    fn authority(&mut self, namespace: &str, name: &str, signed: &[(&str, &[&str])]) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut authority = params(name, &[])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let text = authority.self_signed(&key)?.pem();
        let issuer = Issuer::new(authority, &key);
        for (name, names) in signed {
            let key = KeyPair::generate()?;
            let certificate = params(name, names)?.signed_by(&key, &issuer)?.pem();
            self.put(namespace, name, &certificate, &key);
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            self.issued.insert(certificate, (text.clone(), names));
        }
        let metadata = json!({ "name": name, "namespace": namespace });
        self.objects
            .push(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "ca.crt": text } }));
        self.objects.push(
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "ca.crt": text } }),
        );
        Ok(())
    }

    /// Whether one of the trusted certificates vouches for a certificate.
    pub(super) fn vouches(&self, trusted: &str, certificate: &str) -> bool {
        let issuer = self.issued.get(certificate).map(|(issuer, _)| issuer.trim());
        let trusted = trusted.trim();
        !certificate.trim().is_empty()
            && !trusted.is_empty()
            && (trusted == certificate.trim() || issuer.is_some_and(|issuer| trusted.contains(issuer)))
    }

    /// Whether a certificate has the name of a server, or a name as it is written.
    pub(super) fn has_name(&self, certificate: &str, wanted: &str) -> bool {
        let names = self.issued.get(certificate).map(|(_, names)| names.as_slice());
        names
            .unwrap_or_default()
            .iter()
            .any(|name| match name.strip_prefix('*') {
                Some("") => true,
                Some(end) => wanted
                    .strip_suffix(end)
                    .is_some_and(|first| !first.is_empty() && !first.contains('.')),
                None => name == wanted,
            })
    }
}

fn params(name: &str, names: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    for name in names {
        let name = (*name).try_into()?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    Ok(params)
}
