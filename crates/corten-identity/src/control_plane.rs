//! TLS of the control plane as a server: a certificate with host names, and clients that may show who they are.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DistinguishedName, Error, ServerConfig};

use crate::certificate::CertificateError;
use crate::refusal::Refusal;
use crate::san;
use crate::tls::TlsOptions;
use crate::trust::{Trust, Usage};
use crate::verifier::signatures_by_trust;

/// What a server of the control plane is made of.
#[derive(Debug)]
pub struct ControlPlaneServer {
    /// The leaf, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// By what clients are verified.
    pub trust: Arc<Trust>,
    /// The trust domains clients may be of.
    pub trust_domains: Vec<String>,
}

impl ControlPlaneServer {
    /// TLS 1.2 and 1.3. A client needs no certificate (most have a token); one that is shown must be good.
    pub fn config(self) -> Result<Arc<ServerConfig>, CertificateError> {
        let options = TlsOptions {
            tls12: true,
            ..TlsOptions::default()
        };
        let provider = options.provider();
        let key = CertifiedKey::from_der(self.chain, self.key, &provider).map_err(CertificateError::Key)?;
        let verifier = OptionalClient {
            trust: self.trust,
            trust_domains: self.trust_domains,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions())
            .map_err(CertificateError::Tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// The same certificate for webhooks: API servers speak HTTP/1.1 there, and show certificates that are none of the mesh's, if any.
    pub fn webhook_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let options = TlsOptions {
            tls12: true,
            ..TlsOptions::default()
        };
        let provider = options.provider();
        let key = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider)
            .map_err(CertificateError::Key)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions())
            .map_err(CertificateError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Accepts clients without a certificate, and those with exactly one identity, of a known trust domain.
#[derive(Debug)]
struct OptionalClient {
    trust: Arc<Trust>,
    trust_domains: Vec<String>,
}

impl ClientCertVerifier for OptionalClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify_parts(end_entity, intermediates, Usage::Client, now)?;
        match san::peer_identities(end_entity).as_slice() {
            [one] if self.trust_domains.contains(&one.trust_domain) => Ok(ClientCertVerified::assertion()),
            _ => Err(Error::from(Refusal::WrongTrustDomain {
                expected: self.trust_domains.join(" or "),
                presented: san::uri_names(end_entity),
            })),
        }
    }

    signatures_by_trust!();
}
