//! An authority of a test, and handshakes in memory.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_core::Identity;
use corten_identity::{Bundle, Certificate, HandshakeFailure, RevocationList, TlsOptions, Trust, pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Signs what a test asks for, sound or not.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) root: CertificateDer<'static>,
}

pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) serial: u64,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

pub(crate) fn wanted<'a>(names: &'a [&'a str]) -> Wanted<'a> {
    let now = SystemTime::now();
    Wanted {
        names,
        not_before: now - DAY,
        not_after: now + DAY,
        serial: 7,
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    }
}

macro_rules! date {
    ($time:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + $time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970")
    };
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).expect("a root").der().clone();
        Authority {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    pub(crate) fn leaf(&self, wanted: &Wanted<'_>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date!(wanted.not_before);
        params.not_after = date!(wanted.not_after);
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.extended_key_usages = wanted.usages.clone();
        params.subject_alt_names = wanted
            .names
            .iter()
            .map(|name| match name.strip_prefix("dns:") {
                Some(name) => SanType::DnsName(name.try_into().expect("ASCII")),
                None => SanType::URI((*name).try_into().expect("ASCII")),
            })
            .collect();
        let leaf = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        (leaf, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    pub(crate) fn certificate(&self, wanted: &Wanted<'_>) -> Certificate {
        let (leaf, key) = self.leaf(wanted);
        Certificate::new(vec![leaf], key, vec![self.root.clone()]).expect("a certificate")
    }

    pub(crate) fn trust(&self, revocation: RevocationList) -> Arc<Trust> {
        Arc::new(Trust::new(std::slice::from_ref(&self.root), revocation).expect("trust"))
    }

    pub(crate) fn bundle(&self, name: &str) -> Bundle {
        self.bundle_of(&wanted(&[name]))
    }

    pub(crate) fn bundle_of(&self, wanted: &Wanted<'_>) -> Bundle {
        let certificate = self.certificate(wanted);
        Bundle::new(
            certificate,
            self.trust(RevocationList::default()),
            TlsOptions::default(),
        )
        .expect("a bundle")
    }

    pub(crate) fn revocation_pem(&self, serials: &[u64]) -> String {
        self.revocation_list(serials.iter().map(|serial| SerialNumber::from(*serial)))
    }

    pub(crate) fn revocation_pem_of(&self, serial: &[u8]) -> String {
        self.revocation_list(std::iter::once(SerialNumber::from_slice(serial)))
    }

    fn revocation_list(&self, serials: impl Iterator<Item = SerialNumber>) -> String {
        let revoked = serials.map(|serial| RevokedCertParams {
            serial_number: serial,
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            // Long past: a late list still counts.
            next_update: rcgen::date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// Signs a request as an authority of the mesh does.
    pub(crate) fn answer(&self, csr: &str, name: &str, not_before: SystemTime, not_after: SystemTime) -> Vec<String> {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr).expect("a request");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date!(not_before);
        params.not_after = date!(not_after);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(name.try_into().expect("ASCII"))];
        let leaf = params.signed_by(&request.public_key, &self.issuer).expect("signed");
        vec![leaf.pem(), pem::encode_certificate(&self.root)]
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    name.parse().expect("an identity")
}

/// What client and server say of a handshake.
pub(crate) struct Outcome {
    pub(crate) client: Result<(), HandshakeFailure>,
    pub(crate) server: Result<(), HandshakeFailure>,
    /// The key exchange, the server's name as sent, and the tickets received.
    pub(crate) facts: Option<(String, Option<String>, u32)>,
}

/// A handshake in memory, to its end on both sides.
pub(crate) fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Outcome {
    let nobody = ServerName::try_from("0.0.0.0").expect("an address");
    let mut client = ClientConnection::new(client, nobody).expect("a client");
    let mut server = ServerConnection::new(server).expect("a server");
    let mut outcome = Outcome {
        client: Ok(()),
        server: Ok(()),
        facts: None,
    };
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && outcome.server.is_ok() {
            server.read_tls(&mut rest).expect("memory");
            outcome.server = server
                .process_new_packets()
                .map(drop)
                .map_err(|error| HandshakeFailure::from(&error));
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && outcome.client.is_ok() {
            client.read_tls(&mut rest).expect("memory");
            outcome.client = client
                .process_new_packets()
                .map(drop)
                .map_err(|error| HandshakeFailure::from(&error));
        }
    }
    let failed = outcome.client.is_err() || outcome.server.is_err();
    assert!(
        failed || (!client.is_handshaking() && !server.is_handshaking()),
        "the handshake hangs"
    );
    if !failed {
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
        let group = client
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()));
        let name = server.server_name().map(str::to_owned);
        outcome.facts = Some((group.unwrap_or_default(), name, client.tls13_tickets_received()));
    }
    outcome
}
