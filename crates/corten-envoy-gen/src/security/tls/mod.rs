//! TLS as Envoy is told of it: who shows which certificate, and whose is believed.
//!
//! Functions of plain arguments: which port of which workload has which mode, and which rule is for which cluster, is
//! decided by whoever calls.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use corten_api::istio::mesh_config::{MeshConfig, TLSConfig, TLSConfigTLSProtocol};
use corten_envoy::{
    any,
    envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::{
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};
use corten_model::Workload;

pub use self::{
    inbound::{Inbound, inbound, tunnel_inbound},
    outbound::{Outbound, Upstream, outbound, tunnel_outbound, tunnelled},
};
use super::secret;

/// Files that a proxy's metadata names instead of the mesh's certificates (`TLS_SERVER_*`, `TLS_CLIENT_*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate with its chain; empty for none.
    pub certificate: String,
    /// Its key; empty for none.
    pub key: String,
    /// The authorities to trust; empty for none.
    pub authorities: String,
    /// Whether an agent of its own serves files.
    pub own_agent: bool,
}

/// The trust domains whose identities are accepted: the mesh's own, its aliases, and those of further authorities.
pub fn trust_domains(mesh: &MeshConfig) -> Vec<String> {
    let own = if mesh.trust_domain.is_empty() {
        "cluster.local"
    } else {
        &mesh.trust_domain
    };
    let further = mesh.ca_certificates.iter().flat_map(|data| &data.trust_domains);
    let mut all: Vec<String> = Vec::new();
    for name in std::iter::once(own).chain(mesh.trust_domain_aliases.iter().chain(further).map(String::as_str)) {
        if !all.iter().any(|listed| listed == name) {
            all.push(name.to_owned());
        }
    }
    all
}

/// A transport socket that serves TLS.
pub fn server_socket(context: &DownstreamTlsContext) -> TransportSocket {
    socket("envoy.transport_sockets.tls", any(context))
}

/// A transport socket that starts TLS.
pub fn client_socket(context: &UpstreamTlsContext) -> TransportSocket {
    socket("envoy.transport_sockets.tls", any(context))
}

/// A transport socket without TLS.
pub fn plain_socket() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", any(&RawBuffer::default()))
}

fn socket(name: &str, config: corten_envoy::google::protobuf::Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

/// A certificate with exactly this name: an identity, a host or an address.
pub fn named(name: &str) -> SubjectAltNameMatcher {
    let address = name.parse::<IpAddr>();
    let kind = match &address {
        Ok(_) => SanType::IpAddress,
        Err(_) if name.contains("://") => SanType::Uri,
        Err(_) if name.contains('@') => SanType::Email,
        Err(_) => SanType::Dns,
    };
    // Addresses are compared as text, in the form that everybody writes them in.
    let text = address.map_or_else(|_| name.to_owned(), |address| address.to_string());
    matcher(kind, MatchPattern::Exact(text))
}

/// The names that a workload may have in its certificate, separated by commas: one for each trust domain of the mesh. `None`: it has none.
pub(crate) fn names_of(mesh: &MeshConfig, workload: &Workload) -> Option<String> {
    let account = &workload.service_account;
    let name = |domain: &String| format!("spiffe://{domain}/ns/{}/sa/{account}", workload.namespace);
    let names: Vec<String> = trust_domains(mesh).iter().map(name).collect();
    (!account.is_empty()).then(|| names.join(","))
}

/// A certificate with any identity of a trust domain.
pub fn of_trust_domain(trust_domain: &str) -> SubjectAltNameMatcher {
    identity_prefix(&format!("spiffe://{trust_domain}/"))
}

/// A certificate with an identity that begins so.
pub fn identity_prefix(prefix: &str) -> SubjectAltNameMatcher {
    matcher(SanType::Uri, MatchPattern::Prefix(prefix.to_owned()))
}

fn matcher(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ignore_case: false,
        }),
        ..SubjectAltNameMatcher::default()
    }
}

/// Believes who has a certificate of these authorities, and one of these names if there are any.
fn validation(names: Vec<SubjectAltNameMatcher>, authorities: SdsSecretConfig) -> ValidationContextType {
    combined(
        CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..CertificateValidationContext::default()
        },
        authorities,
    )
}

/// Believes who fits the context and has a certificate of these authorities.
pub(crate) fn combined(context: CertificateValidationContext, authorities: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(context),
        validation_context_sds_secret_config: Some(authorities),
        ..CombinedCertificateValidationContext::default()
    })
}

fn parameters(oldest: TLSConfigTLSProtocol, ciphers: Vec<String>, curves: Vec<String>) -> TlsParameters {
    let oldest = match oldest {
        TLSConfigTLSProtocol::Tlsv13 => TlsProtocol::TlSv13,
        TLSConfigTLSProtocol::Tlsv12 | TLSConfigTLSProtocol::TlsAuto => TlsProtocol::TlSv12,
    };
    TlsParameters {
        tls_minimum_protocol_version: oldest.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        cipher_suites: ciphers,
        ecdh_curves: curves,
        ..TlsParameters::default()
    }
}

/// Both ends of a tunnel: TLS 1.3, HTTP/2, the mesh's certificates.
fn tunnel(names: Vec<SubjectAltNameMatcher>) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(parameters(TLSConfigTLSProtocol::Tlsv13, Vec::new(), Vec::new())),
        tls_certificate_sds_secret_configs: vec![secret::of_agent(secret::DEFAULT)],
        validation_context_type: Some(validation(names, secret::of_agent(secret::ROOT))),
        alpn_protocols: protocols(&["h2"]),
        ..CommonTlsContext::default()
    }
}

fn protocols(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a setting lists, or what is usual.
fn listed(setting: Option<&TLSConfig>, of: impl Fn(&TLSConfig) -> &Vec<String>, usual: &[&str]) -> Vec<String> {
    setting
        .map(of)
        .filter(|listed| !listed.is_empty())
        .map_or_else(|| protocols(usual), Clone::clone)
}
