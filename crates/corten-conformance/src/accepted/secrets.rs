//! Secrets for whoever asks: a cluster is not ready before it has those of its TLS, and what is not ready is not answered for.

use anyhow::{Context, Result};
use corten_envoy::{
    any,
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret::Type},
    },
};
use corten_envoy_gen::security::secret::{AUTHORITIES, ROOT};
use corten_proto::discovery::{DiscoveryRequest, DiscoveryResponse};
use prost_types::Any;

pub(super) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A certificate that vouches for itself, with its key.
#[derive(Clone)]
pub(super) struct Secrets {
    certificate: String,
    key: String,
}

impl Secrets {
    /// Makes one.
    pub(super) fn new() -> Result<Secrets> {
        let made = rcgen::generate_simple_self_signed(["test.example".to_owned()]).context("making a certificate")?;
        Ok(Secrets {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        })
    }

    /// The answer to a request, whose nonce says which secrets were asked for: authorities by their names, certificates
    /// otherwise. `None`: it was answered before.
    pub(super) fn answer(&self, request: &DiscoveryRequest) -> Option<DiscoveryResponse> {
        let nonce = request.resource_names.join(",");
        if request.resource_names.is_empty() || request.response_nonce == nonce {
            return None;
        }
        let resources = request.resource_names.iter().map(|name| self.secret(name));
        Some(DiscoveryResponse {
            version_info: nonce.clone(),
            resources: resources.collect(),
            type_url: SECRET.to_owned(),
            nonce,
        })
    }

    fn secret(&self, name: &str) -> Any {
        let source = |text: &str| {
            Some(DataSource {
                specifier: Some(Specifier::InlineString(text.to_owned())),
                ..DataSource::default()
            })
        };
        let authorities = name == ROOT || name.starts_with("file-root:") || name.ends_with(AUTHORITIES);
        let made = any(&Secret {
            name: name.to_owned(),
            r#type: Some(if authorities || name.starts_with("configmap:") {
                Type::ValidationContext(CertificateValidationContext {
                    trusted_ca: source(&self.certificate),
                    ..CertificateValidationContext::default()
                })
            } else {
                Type::TlsCertificate(TlsCertificate {
                    certificate_chain: source(&self.certificate),
                    private_key: source(&self.key),
                    ..TlsCertificate::default()
                })
            }),
        });
        Any {
            type_url: made.type_url,
            value: made.value,
        }
    }
}
