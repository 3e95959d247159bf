//! Gateway: listeners at the edge of the mesh.

use std::collections::BTreeMap;

use corten_core::Port;
use corten_derive::{Enumeration, Message};

/// Listeners at the edge of the mesh, for the workloads that a selector names.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct GatewaySpec {
    /// The listeners.
    pub servers: Vec<Server>,
    /// The labels of the gateway workloads.
    pub selector: BTreeMap<String, String>,
}

/// One listener: a port, the hosts it serves, and TLS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct Server {
    /// The port.
    #[api(required)]
    pub port: Option<ServerPort>,
    /// The address or unix socket to listen on.
    pub bind: String,
    /// The hosts served, each with a namespace before a slash to limit who may route for it.
    #[api(required)]
    pub hosts: Vec<String>,
    /// TLS settings.
    pub tls: Option<ServerTLSSettings>,
    /// Where connections go that no route takes.
    pub default_endpoint: String,
    /// The name.
    pub name: String,
}

/// A port of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Message)]
pub struct ServerPort {
    /// The number.
    #[api(required)]
    pub number: Port,
    /// What is spoken.
    #[api(required)]
    pub protocol: String,
    /// The name.
    #[api(required)]
    pub name: String,
    /// The port of the workload.
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

/// TLS of a listener.
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
    /// Whether plain HTTP is answered with a redirect to HTTPS.
    pub https_redirect: bool,
    /// Whether TLS ends here, and whether clients show certificates.
    pub mode: ServerTLSSettingsTLSmode,
    /// The file with the certificate.
    pub server_certificate: String,
    /// The file with its key.
    pub private_key: String,
    /// The file with the authorities that clients' certificates come from.
    pub ca_certificates: String,
    /// The file with the list of revoked certificates.
    pub ca_crl: String,
    /// The secret that holds certificate, key and authorities.
    pub credential_name: String,
    /// Up to two secrets, for certificates of different key types.
    #[api(max_items = 2, min_items = 1)]
    pub credential_names: Vec<String>,
    /// The secret with the authorities, apart from the certificate.
    pub ca_cert_credential_name: String,
    /// Up to two certificates in files, of different key types.
    #[api(max_items = 2, min_items = 1)]
    pub tls_certificates: Vec<TLSCertificate>,
    /// Names of which a client's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// Hashes of public keys of which a client's certificate must have one.
    pub verify_certificate_spki: Vec<String>,
    /// Hashes of which a client's certificate must have one.
    pub verify_certificate_hash: Vec<String>,
    /// The oldest version of TLS.
    pub min_protocol_version: ServerTLSSettingsTLSProtocol,
    /// The newest version of TLS.
    pub max_protocol_version: ServerTLSSettingsTLSProtocol,
    /// The cipher suites allowed.
    pub cipher_suites: Vec<String>,
    /// The insecure skip verify.
    #[api(nullable)]
    pub insecure_skip_verify: Option<bool>,
    /// The curves allowed for key exchange.
    pub ecdh_curves: Vec<String>,
}

/// The server TLS settings TL smode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
pub enum ServerTLSSettingsTLSmode {
    /// Connections are routed by server name, unopened.
    #[default]
    Passthrough,
    /// TLS ends here.
    Simple,
    /// TLS ends here, and clients must show a certificate.
    Mutual,
    /// Connections are routed by the service that the server name spells, unopened.
    AutoPassthrough,
    /// Mutual TLS with the mesh's own certificates.
    IstioMutual,
    /// TLS ends here, and clients may show a certificate.
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
