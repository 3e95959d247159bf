//! Handshakes in memory: who is accepted, and every way of being refused, with the reason that the log will show.

mod support;

use std::sync::Arc;
use std::time::SystemTime;

use corten_identity::{
    Bundle, HandshakeFailure, KeyExchange, Refusal, RevocationList, TlsOptions, Usage, peer_identities, peer_identity,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConfig;
use support::{Authority, DAY, handshake, identity, wanted};

const CLIENT: &str = "spiffe://cluster.local/ns/orders/sa/api";
const SERVER: &str = "spiffe://cluster.local/ns/payments/sa/api";
const STRANGER: &str = "spiffe://elsewhere/ns/orders/sa/api";

fn refused(result: Result<(), HandshakeFailure>) -> Refusal {
    match result {
        Err(HandshakeFailure::Refused(refusal)) => refusal,
        other => panic!("not refused by this side: {other:?}"),
    }
}

#[track_caller]
fn refused_by_peer(result: Result<(), HandshakeFailure>, words: &str) {
    match result {
        Err(HandshakeFailure::RefusedByPeer(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("not refused by the peer: {other:?}"),
    }
}

#[test]
fn peers_of_the_expected_identity_and_the_same_trust_domain_are_accepted() {
    let authority = Authority::new("mesh");
    let (client, server) = (authority.bundle(CLIENT), authority.bundle(SERVER));
    let others = [identity("spiffe://cluster.local/ns/x/sa/y"), identity(SERVER)];
    let outcome = handshake(client.client_config(&others), server.server_config());
    assert_eq!((outcome.client, outcome.server), (Ok(()), Ok(())));
    // Prepared once: the second connection gets the same configuration.
    assert!(Arc::ptr_eq(
        &client.client_config(&others),
        &client.client_config(&others)
    ));
    assert!(Arc::ptr_eq(&server.server_config(), &server.server_config()));
}

#[test]
fn any_of_several_names_may_be_the_right_one_and_the_first_identity_is_the_peers() {
    let authority = Authority::new("mesh");
    let client = authority.bundle(CLIENT);
    let names = [
        "spiffe://cluster.local/not/an/identity",
        "spiffe://other/ns/a/sa/b",
        "dns:payments",
        SERVER,
    ];
    let server = authority.bundle_of(&wanted(&names));
    let leaf = &server.certificate().chain[0];
    assert_eq!(peer_identity(leaf), Some(identity("spiffe://other/ns/a/sa/b")));
    assert_eq!(
        peer_identities(leaf),
        [identity("spiffe://other/ns/a/sa/b"), identity(SERVER)]
    );
    // A client of either trust domain: the server's own is that of its first identity.
    let outcome = handshake(client.client_config(&[identity(SERVER)]), server.server_config());
    // The client was content with the second of them.
    refused_by_peer(outcome.client, "does not accept our certificate");
    assert_eq!(refused(outcome.server).code(), "wrong_trust_domain");
}

#[test]
fn a_server_of_another_identity_is_refused_with_both_names() {
    let authority = Authority::new("mesh");
    let (client, server) = (authority.bundle(CLIENT), authority.bundle(SERVER));
    for expected in [
        "spiffe://cluster.local/ns/payments/sa/other",
        "spiffe://cluster.local/ns/other/sa/api",
        "spiffe://other/ns/payments/sa/api",
    ] {
        let outcome = handshake(client.client_config(&[identity(expected)]), server.server_config());
        let refusal = refused(outcome.client);
        assert_eq!(refusal.code(), "wrong_identity");
        assert_eq!(
            refusal.to_string(),
            format!("the peer is {SERVER}, expected was {expected}")
        );
        refused_by_peer(outcome.server, "does not accept our certificate");
    }
    let outcome = handshake(client.client_config(&[]), server.server_config());
    assert_eq!(refused(outcome.client).code(), "wrong_identity");
}

#[test]
fn a_client_of_another_trust_domain_is_refused_even_under_the_same_root() {
    let authority = Authority::new("mesh");
    let (client, server) = (authority.bundle(STRANGER), authority.bundle(SERVER));
    let outcome = handshake(client.client_config(&[identity(SERVER)]), server.server_config());
    let refusal = refused(outcome.server);
    assert_eq!(refusal.code(), "wrong_trust_domain");
    assert_eq!(
        refusal.to_string(),
        format!("the peer is {STRANGER}, not of trust domain cluster.local")
    );
    refused_by_peer(outcome.client, "does not accept our certificate");
}

#[test]
fn a_client_without_an_identity_is_refused() {
    let authority = Authority::new("mesh");
    let server = authority.bundle(SERVER);
    let (leaf, key) = authority.leaf(&wanted(&["dns:client.example"]));
    let client = client_with(&server, Some((leaf, key)));
    let refusal = refused(handshake(client, server.server_config()).server);
    assert_eq!(
        refusal.to_string(),
        "the peer is nobody (no name), not of trust domain cluster.local"
    );
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new("mesh");
    let server = authority.bundle(SERVER);
    let outcome = handshake(client_with(&server, None), server.server_config());
    assert_eq!(refused(outcome.server), Refusal::NoCertificate);
    refused_by_peer(outcome.client, "it requires a certificate");
}

/// A client that trusts what a bundle trusts, and shows what it is given.
fn client_with(
    bundle: &Bundle,
    shown: Option<(
        rustls_pki_types::CertificateDer<'static>,
        rustls_pki_types::PrivateKeyDer<'static>,
    )>,
) -> Arc<ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(bundle.certificate().roots.clone());
    let builder = ClientConfig::builder_with_provider(TlsOptions::default().provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions");
    let verifier = bundle.client_config(&[identity(SERVER)]);
    let builder = builder.with_root_certificates(store);
    let mut config = match shown {
        Some((leaf, key)) => builder.with_client_auth_cert(vec![leaf], key).expect("a client"),
        None => builder.with_no_client_auth(),
    };
    // The server's name is no host name, so the verifier of the mesh is borrowed.
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Borrowed(verifier)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Accepts any server: these tests are about what the server says.
#[derive(Debug)]
struct Borrowed(Arc<ClientConfig>);

impl rustls::client::danger::ServerCertVerifier for Borrowed {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0
            .crypto_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[test]
fn an_authority_nobody_knows_is_refused_by_either_side() {
    let (ours, theirs) = (Authority::new("mesh"), Authority::new("other"));
    let outcome = handshake(
        ours.bundle(CLIENT).client_config(&[identity(SERVER)]),
        theirs.bundle(SERVER).server_config(),
    );
    assert_eq!(refused(outcome.client), Refusal::UnknownAuthority);
    refused_by_peer(outcome.server, "does not know the authority");
    // With the name of the right one, but another key.
    let (ours, forged) = (Authority::new("mesh"), Authority::new("mesh"));
    let (leaf, key) = forged.leaf(&wanted(&[CLIENT]));
    let server = ours.bundle(SERVER);
    let outcome = handshake(client_with(&server, Some((leaf, key))), server.server_config());
    assert_eq!(refused(outcome.server), Refusal::UnknownAuthority);
    refused_by_peer(outcome.client, "does not know the authority");
}

#[test]
fn expired_and_not_yet_valid_certificates_are_refused_and_say_since_when() {
    let authority = Authority::new("mesh");
    let now = SystemTime::now();
    let mut expired = wanted(&[CLIENT]);
    expired.not_after = now - DAY / 2;
    let server = authority.bundle(SERVER);
    let outcome = handshake(
        authority.bundle_of(&expired).client_config(&[identity(SERVER)]),
        server.server_config(),
    );
    let refusal = refused(outcome.server);
    assert_eq!(refusal.code(), "certificate_expired");
    assert!(
        refusal.to_string().starts_with("the peer's certificate expired 20"),
        "{refusal}"
    );
    refused_by_peer(outcome.client, "our certificate is expired by its clock");

    let mut future = wanted(&[SERVER]);
    future.not_before = now + DAY / 2;
    let server = authority.bundle_of(&future);
    let outcome = handshake(
        authority.bundle(CLIENT).client_config(&[identity(SERVER)]),
        server.server_config(),
    );
    let refusal = refused(outcome.client);
    assert_eq!(refusal.code(), "certificate_not_yet_valid");
    assert!(refusal.to_string().contains("is not valid before 20"), "{refusal}");
    assert!(outcome.server.is_err());
}

#[test]
fn a_certificate_for_another_use_is_refused() {
    let authority = Authority::new("mesh");
    let mut only_server = wanted(&[CLIENT]);
    only_server.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = authority.bundle(SERVER);
    let client = authority.bundle_of(&only_server);
    let outcome = handshake(client.client_config(&[identity(SERVER)]), server.server_config());
    assert_eq!(refused(outcome.server).code(), "certificate_unusable");
    refused_by_peer(outcome.client, "");
}

#[test]
fn revoked_certificates_are_refused_and_found_among_those_accepted_before() {
    let authority = Authority::new("mesh");
    let mut revoked = wanted(&[CLIENT]);
    revoked.serial = 4711;
    let client = authority.bundle_of(&revoked);
    let server = authority.bundle(SERVER);
    assert!(
        handshake(client.client_config(&[identity(SERVER)]), server.server_config())
            .server
            .is_ok()
    );

    let list = RevocationList::parse(authority.revocation_pem(&[1, 4711]).as_bytes()).expect("a list");
    let trust = authority.trust(list);
    let server = Bundle::new(
        authority.certificate(&wanted(&[SERVER])),
        trust.clone(),
        TlsOptions::default(),
    );
    let server = server.expect("a bundle");
    let outcome = handshake(client.client_config(&[identity(SERVER)]), server.server_config());
    assert_eq!(refused(outcome.server), Refusal::Revoked);
    refused_by_peer(outcome.client, "our certificate is revoked");
    let chain = &client.certificate().chain;
    assert_eq!(
        trust.verify(chain, Usage::Client, SystemTime::now()),
        Err(Refusal::Revoked)
    );

    // Others of the same authority go on, and so do those of an authority without a list.
    let other = authority.bundle(CLIENT);
    assert_eq!(
        trust.verify(&other.certificate().chain, Usage::Client, SystemTime::now()),
        Ok(())
    );
}

#[test]
fn a_chain_that_was_verified_is_not_believed_after_its_end_nor_for_another_use() {
    let authority = Authority::new("mesh");
    let trust = authority.trust(RevocationList::default());
    let mut short = wanted(&[CLIENT]);
    short.usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let chain = authority.certificate(&short).chain;
    let now = SystemTime::now();
    for _ in 0..2 {
        assert_eq!(trust.verify(&chain, Usage::Client, now), Ok(()));
    }
    assert!(matches!(
        trust.verify(&chain, Usage::Client, now + DAY * 2),
        Err(Refusal::Expired(_))
    ));
    assert!(matches!(
        trust.verify(&chain, Usage::Client, now - DAY * 2),
        Err(Refusal::NotYetValid(_))
    ));
    assert!(matches!(
        trust.verify(&chain, Usage::Server, now),
        Err(Refusal::Unusable(_))
    ));
    assert_eq!(trust.verify(&[], Usage::Client, now), Err(Refusal::NoCertificate));
    // Other bytes with the same beginning are another chain.
    let mut longer = chain.clone();
    longer.push(authority.root.clone());
    assert_eq!(trust.verify(&longer, Usage::Client, now), Ok(()));
}

#[test]
fn tls_is_1_3_with_aes_alone_unless_older_peers_are_let_in() {
    let authority = Authority::new("mesh");
    let certificate = || authority.certificate(&wanted(&[SERVER]));
    let old = TlsOptions {
        tls12: true,
        key_exchange: KeyExchange::Classical,
    };
    let trust = || authority.trust(RevocationList::default());
    let modern = Bundle::new(certificate(), trust(), TlsOptions::default()).expect("a bundle");
    let lenient = Bundle::new(certificate(), trust(), old).expect("a bundle");
    let names = |bundle: &Bundle| -> Vec<String> {
        let config = bundle.client_config(&[identity(SERVER)]);
        let provider = config.crypto_provider();
        provider
            .cipher_suites
            .iter()
            .map(|suite| format!("{:?}", suite.suite()))
            .collect()
    };
    assert_eq!(names(&modern), ["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256"]);
    assert_eq!(names(&lenient).len(), 6);
    assert!(!names(&lenient).iter().any(|name| name.contains("CHACHA")));

    let only_12 = |bundle: &Bundle| {
        let mut config = ClientConfig::builder_with_provider(old.provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Borrowed(bundle.client_config(&[]))))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    };
    let outcome = handshake(only_12(&modern), modern.server_config());
    assert!(
        matches!(outcome.server, Err(HandshakeFailure::Protocol(_))),
        "{:?}",
        outcome.server
    );
    refused_by_peer(outcome.client, "ersion");
    // Let in as far as the certificate, which is required there too.
    let outcome = handshake(only_12(&lenient), lenient.server_config());
    assert_eq!(refused(outcome.server), Refusal::NoCertificate);
}

#[test]
fn key_exchange_is_hybrid_where_both_can_and_no_name_or_ticket_is_sent() {
    let authority = Authority::new("mesh");
    let server = authority.bundle(SERVER);
    for (key_exchange, expected) in [
        (KeyExchange::HybridPreferred, "X25519MLKEM768"),
        (KeyExchange::HybridOnly, "X25519MLKEM768"),
        (KeyExchange::Classical, "X25519"),
    ] {
        let options = TlsOptions {
            tls12: false,
            key_exchange,
        };
        let trust = authority.trust(RevocationList::default());
        let client = Bundle::new(authority.certificate(&wanted(&[CLIENT])), trust, options).expect("a bundle");
        let outcome = handshake(client.client_config(&[identity(SERVER)]), server.server_config());
        assert_eq!(outcome.facts, Some((expected.to_owned(), None, 0)));
    }
}
