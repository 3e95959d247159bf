//! Verification of peers by their SPIFFE names, as rustls calls it.

use std::sync::Arc;

use corten_core::Identity;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error};

use crate::refusal::Refusal;
use crate::san;
use crate::trust::{Trust, Usage};

/// The methods that the traits of verifiers of servers and of clients have in common: signatures are checked by the algorithms of `self.trust`.
macro_rules! signatures_by_trust {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, cert, dss, self.trust.algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, cert, dss, self.trust.algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.trust.algorithms().supported_schemes()
        }
    };
}
pub(crate) use signatures_by_trust;

/// Accepts a server of one of the expected identities.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) trust: Arc<Trust>,
    pub(crate) expected: Vec<Identity>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // No name is sent or looked at: who the server is stands in its identity.
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust.verify_parts(end_entity, intermediates, Usage::Server, now)?;
        if san::peer_identities(end_entity)
            .iter()
            .any(|identity| self.expected.contains(identity))
        {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::from(Refusal::WrongIdentity {
            expected: self.expected.clone(),
            presented: san::uri_names(end_entity),
        }))
    }

    signatures_by_trust!();
}

/// Accepts any client of our trust domain, and nobody without a certificate.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) trust: Arc<Trust>,
    pub(crate) trust_domain: String,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients have one certificate only and nothing to choose.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify_parts(end_entity, intermediates, Usage::Client, now)?;
        let identities = san::peer_identities(end_entity);
        if identities
            .iter()
            .any(|identity| identity.trust_domain == self.trust_domain)
        {
            return Ok(ClientCertVerified::assertion());
        }
        Err(Error::from(Refusal::WrongTrustDomain {
            expected: self.trust_domain.clone(),
            presented: san::uri_names(end_entity),
        }))
    }

    signatures_by_trust!();
}
