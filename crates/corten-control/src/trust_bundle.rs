//! The certificates that workloads are to trust, as agents that ask are told them (PCDS): those of our authority, old and new ones
//! while they change, and those that the mesh's configuration adds.
//!
//! Certificates come to workloads with their roots all the same. This tells of roots that are added before the next certificate is due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use corten_api::istio::mesh_config::{CertificateDataCertificateData, MeshConfig};
use corten_ca::Published;
use corten_identity::{RevocationList, Trust, pem};
use corten_proto::trust::ProxyConfig;
use corten_proto::{Message, PROXY_CONFIG_TYPE};
use corten_rt::Drain;
use corten_xds::server::Resource;
use tokio::sync::watch;
use xxhash_rust::xxh64::xxh64;

use crate::views::Views;

/// The name of the one resource.
pub(crate) const NAME: &str = "trust";

/// What is sent; none: there is nothing to be trusted, which is not known yet rather than so. Each certificate is there once, and in
/// an order that does not depend on where it is from.
pub(crate) fn bundle(published: &[String], mesh: &MeshConfig) -> Option<Resource> {
    let all = trusted(published, mesh);
    if all.is_empty() {
        return None;
    }
    let message = ProxyConfig {
        ca_certificates_pem: all.into_iter().collect(),
    };
    let body = message.encode_to_vec();
    let version = format!("{:016x}", xxh64(&body, 0));
    Some(Resource::new(PROXY_CONFIG_TYPE, NAME, &version, &body))
}

/// The certificates that are trusted, as PEM: those that the authority has published, and those that the mesh's configuration adds.
pub fn trusted(published: &[String], mesh: &MeshConfig) -> BTreeSet<String> {
    let further = mesh
        .ca_certificates
        .iter()
        .filter_map(|one| match &one.certificate_data {
            Some(CertificateDataCertificateData::Pem(text)) => certificates(text).ok(),
            _ => None,
        })
        .flatten();
    published.iter().cloned().chain(further).collect()
}

/// What of the mesh's configuration takes no effect here.
pub(crate) fn problems(mesh: &MeshConfig) -> Vec<String> {
    let wrong = |(at, one): (usize, &corten_api::istio::mesh_config::CertificateData)| match &one.certificate_data {
        Some(CertificateDataCertificateData::Pem(text)) => {
            let reason = certificates(text).err()?;
            Some(format!("caCertificates[{at}].pem: takes no effect: {reason}"))
        }
        // Said of what no proxy is sent.
        Some(CertificateDataCertificateData::SpiffeBundleUrl(_)) | None => None,
    };
    mesh.ca_certificates.iter().enumerate().filter_map(wrong).collect()
}

/// The certificates of a text one by one, if all of them can be read.
fn certificates(text: &str) -> Result<Vec<String>, String> {
    let found = pem::certificates(text.as_bytes()).map_err(|error| error.to_string())?;
    for certificate in &found {
        Trust::new(std::slice::from_ref(certificate), RevocationList::default()).map_err(|error| error.to_string())?;
    }
    Ok(found
        .iter()
        .map(|certificate| pem::encode_certificate(certificate))
        .collect())
}

/// The roots that an authority has published, one by one.
pub(crate) fn roots(published: &Published) -> Vec<String> {
    published
        .roots
        .iter()
        .map(|root| pem::encode_certificate(root))
        .collect()
}

/// Tells proxies whenever the authority's roots change.
pub(crate) async fn follow(mut published: watch::Receiver<Arc<Published>>, views: Arc<Views>, mut drain: Drain) {
    let follow = async {
        loop {
            let now = roots(&published.borrow_and_update());
            views.trust(now, Instant::now());
            if published.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        // There is no authority any more: the process is ending.
        () = follow => {}
        () = drain.wait() => return,
    }
    drain.wait().await;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sent(resource: &Resource) -> Vec<String> {
        let body = resource.body();
        ProxyConfig::decode(&body[..]).expect("it is one").ca_certificates_pem
    }

    /// A root.
    pub(crate) fn root(name: &str) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut wanted = rcgen::CertificateParams::default();
        wanted.distinguished_name.push(rcgen::DnType::CommonName, name);
        let made = wanted.self_signed(&key).expect("a certificate");
        pem::encode_certificate(made.der())
    }

    fn mesh(text: &serde_json::Value) -> MeshConfig {
        crate::statuses::mesh_config(&text.to_string()).0
    }

    #[test]
    fn each_certificate_is_sent_once_in_an_order_of_its_own() {
        let (a, b, c) = (root("a"), root("b"), root("c"));
        let further =
            mesh(&serde_json::json!({ "caCertificates": [{ "pem": format!("{a}{c}") }, { "pem": "nothing" }] }));
        let all = bundle(&[b.clone(), a.clone()], &further).expect("there are some");
        let mut wanted = vec![a.clone(), b.clone(), c];
        wanted.sort();
        assert_eq!(sent(&all), wanted);
        let again = bundle(&[a.clone(), b.clone()], &further).expect("there are some");
        assert!(again.same(&all), "the order in which they come does not count");
        let fewer = bundle(&[a], &MeshConfig::default()).expect("there is one");
        assert!(!fewer.same(&all));
        assert!(
            bundle(&[], &MeshConfig::default()).is_none(),
            "nobody is told to trust nobody"
        );
    }

    #[test]
    fn what_cannot_be_trusted_is_said() {
        let a = root("a");
        let text = serde_json::json!({ "caCertificates": [
            { "pem": a }, { "pem": "nothing" }, { "pem": pem::encode("CERTIFICATE", b"nothing") }, { "spiffeBundleUrl": "https://a.example/bundle" },
        ]});
        let said = problems(&mesh(&text));
        assert_eq!(
            said,
            [
                "caCertificates[1].pem: takes no effect: the PEM text holds no certificate",
                "caCertificates[2].pem: takes no effect: none of the 1 given roots is a usable certificate",
            ]
        );
    }
}
