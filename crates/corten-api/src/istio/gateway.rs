//! Gateway: listeners at the edge of the mesh.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message};

/// The specification of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct GatewaySpec {
    /// The servers.
    pub servers: Vec<Server>,
    /// The selector.
    pub selector: BTreeMap<String, String>,
}

/// The server.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Server {
    /// The port.
    #[api(required)]
    pub port: Option<ServerPort>,
    /// The bind.
    pub bind: String,
    /// The hosts.
    #[api(required)]
    pub hosts: Vec<String>,
    /// The tls.
    pub tls: Option<ServerTLSSettings>,
    /// The default endpoint.
    pub default_endpoint: String,
    /// The name.
    pub name: String,
}

/// The server port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServerPort {
    /// The number.
    #[api(required)]
    pub number: Port,
    /// The protocol.
    #[api(required)]
    pub protocol: String,
    /// The name.
    #[api(required)]
    pub name: String,
    /// The target port.
    pub target_port: Port,
}

/// The TLS certificate.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct TLSCertificate {
    /// The server certificate.
    pub server_certificate: String,
    /// The private key.
    pub private_key: String,
    /// The ca certificates.
    pub ca_certificates: String,
}

/// The server TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    rule(
        "(has(self.tlsCertificates) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
        "only one of credentialNames or tlsCertificates can be set"
    ),
    rule(
        "(has(self.credentialName) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
        "only one of credentialName or credentialNames can be set"
    ),
    rule(
        "(has(self.credentialNames) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
        "only one of credentialName or tlsCertificates can be set"
    )
)]
pub struct ServerTLSSettings {
    /// The https redirect.
    pub https_redirect: bool,
    /// The mode.
    pub mode: ServerTLSSettingsTLSmode,
    /// The server certificate.
    pub server_certificate: String,
    /// The private key.
    pub private_key: String,
    /// The ca certificates.
    pub ca_certificates: String,
    /// The ca crl.
    pub ca_crl: String,
    /// The credential name.
    pub credential_name: String,
    /// The credential names.
    #[api(max_items = 2, min_items = 1)]
    pub credential_names: Vec<String>,
    /// The ca cert credential name.
    pub ca_cert_credential_name: String,
    /// The tls certificates.
    #[api(max_items = 2, min_items = 1)]
    pub tls_certificates: Vec<TLSCertificate>,
    /// The subject alt names.
    pub subject_alt_names: Vec<String>,
    /// The verify certificate spki.
    pub verify_certificate_spki: Vec<String>,
    /// The verify certificate hash.
    pub verify_certificate_hash: Vec<String>,
    /// The min protocol version.
    pub min_protocol_version: ServerTLSSettingsTLSProtocol,
    /// The max protocol version.
    pub max_protocol_version: ServerTLSSettingsTLSProtocol,
    /// The cipher suites.
    pub cipher_suites: Vec<String>,
    /// The insecure skip verify.
    #[api(nullable)]
    pub insecure_skip_verify: Option<bool>,
    /// The ecdh curves.
    pub ecdh_curves: Vec<String>,
}

/// The server TLS settings TL smode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServerTLSSettingsTLSmode {
    /// The value `PASSTHROUGH`.
    #[default]
    Passthrough,
    /// The value `SIMPLE`.
    Simple,
    /// The value `MUTUAL`.
    Mutual,
    /// The value `AUTO_PASSTHROUGH`.
    AutoPassthrough,
    /// The value `ISTIO_MUTUAL`.
    IstioMutual,
    /// The value `OPTIONAL_MUTUAL`.
    OptionalMutual,
}

/// The server TLS settings TLS protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServerTLSSettingsTLSProtocol {
    /// The value `TLS_AUTO`.
    #[default]
    TlsAuto,
    /// The value `TLSV1_0`.
    #[api(name = "TLSV1_0")]
    Tlsv10,
    /// The value `TLSV1_1`.
    #[api(name = "TLSV1_1")]
    Tlsv11,
    /// The value `TLSV1_2`.
    #[api(name = "TLSV1_2")]
    Tlsv12,
    /// The value `TLSV1_3`.
    #[api(name = "TLSV1_3")]
    Tlsv13,
}
