//! TLS configurations of the mesh, made once per certificate: TLS 1.3, AES-GCM, ALPN `h2`, no server name, no resumption.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::Identity;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::certificate::{Certificate, CertificateError};
use crate::trust::Trust;
use crate::verifier::{ClientVerifier, ServerVerifier};

/// Client configurations kept per certificate; a workload that talks to more peers has them made anew, which takes microseconds.
const CLIENT_CONFIGS_MAX: usize = 256;

/// What may be chosen about TLS between workloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Speak TLS 1.2 too, with ECDHE and AES-GCM (`TLS12_ENABLED`).
    pub tls12: bool,
    /// Which key exchanges (`COMPLIANCE_POLICY`).
    pub key_exchange: KeyExchange,
}

/// Which key exchanges are offered and accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519 with ML-KEM-768 first, so that traffic recorded today stays secret from the computers of tomorrow; the
    /// classical ones for peers without it.
    #[default]
    HybridPreferred,
    /// The hybrid one or no connection.
    HybridOnly,
    /// The classical ones alone.
    Classical,
    /// The curves of NIST alone, for those whose rules name them.
    Nist,
}

impl TlsOptions {
    /// The cryptography of a choice.
    pub fn provider(self) -> Arc<CryptoProvider> {
        let mut cipher_suites: Vec<SupportedCipherSuite> = vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ];
        if self.tls12 {
            cipher_suites.extend([
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ]);
        }
        let classical: [&'static dyn SupportedKxGroup; 3] =
            [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        let kx_groups: Vec<&'static dyn SupportedKxGroup> = match self.key_exchange {
            KeyExchange::HybridPreferred => std::iter::once(kx_group::X25519MLKEM768).chain(classical).collect(),
            KeyExchange::HybridOnly => vec![kx_group::X25519MLKEM768],
            KeyExchange::Classical => classical.to_vec(),
            KeyExchange::Nist => vec![kx_group::SECP256R1, kx_group::SECP384R1],
        };
        Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups,
            ..default_provider()
        })
    }

    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        if self.tls12 { &BOTH } else { &BOTH[..1] }
    }
}

/// A certificate in use, with the configurations that present it and verify peers by its roots.
#[derive(Debug)]
pub struct Bundle {
    certificate: Certificate,
    trust: Arc<Trust>,
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    presented: Arc<SingleCertAndKey>,
    server: Arc<ServerConfig>,
    clients: Mutex<HashMap<Vec<Identity>, Arc<ClientConfig>>>,
}

impl Bundle {
    /// Loads a certificate. `trust` is made of its roots; it is an argument so that certificates with the same roots share it.
    pub fn new(certificate: Certificate, trust: Arc<Trust>, options: TlsOptions) -> Result<Bundle, CertificateError> {
        let provider = options.provider();
        let key = CertifiedKey::from_der(certificate.chain.clone(), certificate.key.clone_key(), &provider)
            .map_err(CertificateError::Key)?;
        let presented = Arc::new(SingleCertAndKey::from(key));
        let verifier = ClientVerifier {
            trust: trust.clone(),
            trust_domain: certificate.identity.trust_domain.clone(),
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(options.versions())
            .map_err(CertificateError::Tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(presented.clone());
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would outlive a change of roots or a revocation.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Bundle {
            certificate,
            trust,
            options,
            provider,
            presented,
            server: Arc::new(server),
            clients: Mutex::default(),
        })
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whose roots and revocation lists verify peers.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// The configuration to accept connections: the client must present a certificate of our trust domain.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The configuration to connect to a server that has any of the expected identities (exactly).
    ///
    /// The name given to rustls does not matter; it is neither sent nor looked at.
    pub fn client_config(&self, expected: &[Identity]) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(expected) {
            return known.clone();
        }
        let made = Arc::new(self.make_client_config(expected));
        if clients.len() >= CLIENT_CONFIGS_MAX {
            clients.clear();
        }
        clients.insert(expected.to_vec(), made.clone());
        made
    }

    fn make_client_config(&self, expected: &[Identity]) -> ClientConfig {
        let verifier = ServerVerifier {
            trust: self.trust.clone(),
            expected: expected.to_vec(),
        };
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(self.options.versions())
            .expect("the server configuration was made with the same versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.presented.clone());
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        client
    }
}
