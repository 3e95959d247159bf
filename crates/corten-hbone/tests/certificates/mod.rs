//! Certificates for tests: an authority, and an identity on either side.
#![allow(dead_code, reason = "not every test needs both sides")]

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The configurations of both sides, which trust each other.
pub(crate) struct Pair {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

/// The name that the server's certificate has.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// Both sides show a certificate; `versions` are the versions of TLS.
pub(crate) fn pair(versions: &[&'static rustls::SupportedProtocolVersion]) -> Pair {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);
    let mut roots = RootCertStore::empty();
    roots.add(authority_certificate.der().clone()).expect("a root");
    let roots = Arc::new(roots);
    let leaf = |identity: &str| -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        params
            .subject_alt_names
            .push(SanType::URI(identity.try_into().expect("ascii")));
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        (vec![certificate.der().clone()], key)
    };
    let (chain, key) = leaf("spiffe://cluster.local/ns/orders/sa/orders-api");
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (chain, key) = leaf("spiffe://cluster.local/ns/payments/sa/payments");
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("a certificate");
    server.alpn_protocols = vec![b"h2".to_vec()];
    Pair {
        client: Arc::new(client),
        server: Arc::new(server),
    }
}
