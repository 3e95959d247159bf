//! TLS that a proxy serves on behalf of its workload.

use corten_api::istio::mesh_config::TLSConfig;
use corten_envoy::{
    boolean,
    envoy::extensions::transport_sockets::tls::v3::{CommonTlsContext, DownstreamTlsContext},
};

use super::{Files, listed, of_trust_domain, parameters, protocols, tunnel, validation};
use crate::security::secret;

/// The mutual TLS of the mesh, as a workload serves it.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    /// The trust domains whose identities are accepted; empty: any that the authorities vouch for.
    pub trust_domains: &'a [String],
    /// `meshMTLS` of the mesh's configuration.
    pub settings: Option<&'a TLSConfig>,
    /// The workload's own certificates, if it brings some.
    pub files: Option<&'a Files>,
}

/// As Istio's servers offer them, without those that lack forward secrecy but for old clients.
const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// Serves the mesh's mutual TLS: the workload's certificate, and a client certificate of the mesh demanded.
pub fn inbound(wanted: &Inbound<'_>) -> DownstreamTlsContext {
    // Filter chains are chosen by the protocols that the client names, this is only what is answered: the names that say "of
    // the mesh" are left out so that the protocol inside is agreed on, and `istio-peer-exchange` because a client that agrees
    // on it sends who it is before the first byte, which nothing here would read.
    let alpn = ["h2", "http/1.1"];
    let file = |of: fn(&Files) -> &str| wanted.files.map(of).filter(|path| !path.is_empty());
    let own_agent = wanted.files.is_some_and(|files| files.own_agent);
    let certificate = match (file(|files| &files.certificate), file(|files| &files.key)) {
        (Some(certificate), Some(key)) => secret::of_files(&secret::files(certificate, key), own_agent),
        _ => secret::of_agent(secret::DEFAULT),
    };
    let authorities = match file(|files| &files.authorities) {
        Some(path) => secret::of_files(&secret::authorities_file(path), own_agent),
        None => secret::of_agent(secret::ROOT),
    };
    let names = wanted.trust_domains.iter().map(|name| of_trust_domain(name)).collect();
    let oldest = wanted.settings.map(|settings| settings.min_protocol_version);
    DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters(
                oldest.unwrap_or_default(),
                listed(wanted.settings, |settings| &settings.cipher_suites, &CIPHERS),
                listed(wanted.settings, |settings| &settings.ecdh_curves, &[]),
            )),
            tls_certificate_sds_secret_configs: vec![certificate],
            validation_context_type: Some(validation(names, authorities)),
            alpn_protocols: protocols(&alpn),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: boolean(true),
        ..DownstreamTlsContext::default()
    }
}

/// Serves tunnels of the mesh.
pub fn tunnel_inbound(trust_domains: &[String]) -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(tunnel(trust_domains.iter().map(|name| of_trust_domain(name)).collect())),
        require_client_certificate: boolean(true),
        ..DownstreamTlsContext::default()
    }
}
