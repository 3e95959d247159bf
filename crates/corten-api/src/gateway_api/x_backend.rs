//! XBackend (experimental): destinations outside of the cluster.

use corten_core::{Host, Port};
use corten_derive::{Enumeration, Message};

use super::backend_tls_policy::BackendTLSPolicyValidation;
use super::shared::{Condition, ParentReference, SecretObjectReference};

/// The backend spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.type == 'ExternalHostname' ? has(self.externalHostname) : !has(self.externalHostname)",
        "externalHostname must be set when type is ExternalHostname and must be unset otherwise"
    )
)]
pub struct BackendSpec {
    /// The external hostname.
    pub external_hostname: Option<ExternalHostnameBackend>,
    /// The port.
    #[api(required)]
    pub port: BackendPort,
    /// What is spoken.
    pub protocol: Option<BackendProtocol>,
    /// TLS settings.
    pub tls: Option<BackendTLS>,
    /// The type.
    #[api(required)]
    pub type_: BackendType,
}

/// The external hostname backend.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ExternalHostnameBackend {
    /// The hostname.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#,
        rule(
            "!self.endsWith('.cluster.local')",
            "hostname must not be an IP address or end with .cluster.local"
        )
    )]
    pub hostname: Host,
}

/// The backend port.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BackendPort {
    /// The name.
    #[api(
        max_length = 63,
        rule(
            "size(self) == 0 || format.dns1123Label().validate(self) == null",
            "Name must be a valid DNS label"
        )
    )]
    pub name: Option<String>,
    /// The port.
    #[api(required, format = "int32", maximum = 65535, minimum = 1)]
    pub port: Port,
}

/// The backend TLS.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.mode == 'ClientAndServer' ? has(self.clientCertificateRef) : !has(self.clientCertificateRef)",
        "clientCertificateRef must be set if and only if mode is ClientAndServer"
    )
)]
pub struct BackendTLS {
    /// The client certificate ref.
    pub client_certificate_ref: Option<SecretObjectReference>,
    /// The mode.
    #[api(required)]
    pub mode: BackendTLSMode,
    /// The validation.
    pub validation: Option<BackendTLSPolicyValidation>,
}

/// The backend status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BackendStatus {
    /// The state for each parent.
    #[api(max_items = 32, list_type = "atomic")]
    pub parents: Vec<BackendAncestorStatus>,
}

/// The backend ancestor status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BackendAncestorStatus {
    /// The aspects of the state.
    #[api(list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The controller.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub controller_name: String,
    /// The parent.
    #[api(required)]
    pub parent_ref: ParentReference,
}

/// The backend protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum BackendProtocol {
    /// The value `TCP`.
    #[default]
    #[api(name = "TCP")]
    Tcp,
    /// The value `HTTP`.
    #[api(name = "HTTP")]
    Http,
    /// The value `HTTP2`.
    #[api(name = "HTTP2")]
    VHTTP2,
    /// The value `HTTP11`.
    #[api(name = "HTTP11")]
    VHTTP11,
    /// The value `H2C`.
    #[api(name = "H2C")]
    VH2C,
    /// The value `MCP`.
    #[api(name = "MCP")]
    Mcp,
}

/// The backend TLS mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum BackendTLSMode {
    /// The value `None`.
    #[default]
    None,
    /// The value `ServerOnly`.
    ServerOnly,
    /// The value `ClientAndServer`.
    ClientAndServer,
}

/// The backend type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum BackendType {
    /// The value `ExternalHostname`.
    #[default]
    ExternalHostname,
}
