//! Certificates as Envoy takes them: the workload's own under `default`, the mesh's roots under `ROOTCA`, files by their names.

use std::sync::Arc;
use std::time::Instant;

use corten_envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use corten_envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use corten_identity::{Certificate, pem};
use corten_proto::discovery::Node;
use corten_xds::server::{Event, Keys, Observer, Resource, Response, Shared, Store, TypeConfig, WatchView};
use rustls_pki_types::PrivateKeyDer;

use crate::files::Wanted;

/// The type.
pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// The workload's certificate and key.
const DEFAULT: &str = "default";
/// The mesh's roots.
const ROOTS: &str = "ROOTCA";

/// A store for secrets, without any yet: who asks waits.
pub(crate) fn store() -> Store {
    Store::new([TypeConfig {
        type_url: SECRET,
        state_wildcard: false,
        keys: |_: &Resource| Keys::default(),
        view: None,
        follows: None,
    }])
}

/// Serves a certificate from now on.
pub(crate) fn publish(shared: &Shared, certificate: &Certificate) {
    let own = secret(
        DEFAULT,
        Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(
                certificate
                    .chain
                    .iter()
                    .map(pem::encode_certificate)
                    .collect::<String>(),
            ),
            private_key: inline(pem::encode(label(&certificate.key), certificate.key.secret_der())),
            ..TlsCertificate::default()
        }),
    );
    let roots = secret(
        ROOTS,
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(
                certificate
                    .roots
                    .iter()
                    .map(pem::encode_certificate)
                    .collect::<String>(),
            ),
            ..CertificateValidationContext::default()
        }),
    );
    shared.publish(Instant::now(), |store| {
        store.set_version_info(certificate.serial.as_str());
        for made in [own, roots] {
            put(store, &made);
        }
    });
}

/// Serves something else under a name from now on.
pub(crate) fn publish_one(shared: &Shared, name: &str, r#type: Type) {
    shared.publish(Instant::now(), |store| put(store, &secret(name, r#type)));
}

fn put(store: &mut Store, made: &Secret) {
    let body = corten_envoy::encode(made);
    let version = format!("{:016x}", xxhash_rust::xxh64::xxh64(&body, 0));
    store.set(SECRET, Resource::new(SECRET, made.name.as_str(), &version, &body));
}

/// What PEM calls a key of this form.
fn label(key: &PrivateKeyDer<'_>) -> &'static str {
    match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}

fn secret(name: &str, r#type: Type) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(r#type),
    }
}

/// PEM as Envoy takes it.
pub(crate) fn inline(pem: impl Into<Vec<u8>>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineBytes(pem.into())),
        ..DataSource::default()
    })
}

/// Looks on at Envoy's streams, and remembers which files are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watcher(pub(crate) Arc<Wanted>);

impl Observer for Watcher {
    fn accept(&mut self, _: &Node) -> Result<Option<Arc<Shared>>, corten_grpc::Status> {
        Ok(None)
    }

    fn requested(&mut self, _: &str, event: &Event, view: Option<&WatchView>) {
        if let (Event::Subscribed, Some(view)) = (event, view) {
            self.0.want(view.names.iter().map(|name| &**name));
        }
        if let Event::Rejected { reason, .. } = event {
            tracing::error!(reason, "Envoy rejected its certificates");
        }
    }

    fn sent(&mut self, response: &Response, _: usize, _: Option<Instant>) {
        tracing::debug!(nonce = response.nonce(), "certificates sent");
    }

    fn closed(&mut self, reason: &str) {
        tracing::debug!(reason, "Envoy's stream for certificates ended");
    }
}
