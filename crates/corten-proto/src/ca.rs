//! `istio.v1.auth`: the service that signs workload certificates.

/// Full path of the unary method that signs a request.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Key in [`IstioCertificateRequest::metadata`] under which a node proxy names the identity it asks for.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";
/// Audience of the tokens that authenticate callers of the control plane.
pub const TOKEN_AUDIENCE: &str = "istio-ca";

/// Asks for a certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// A PKCS#10 signing request, PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds of validity wanted; 0 or less: the authority's default.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Further wishes, for example the impersonated identity.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<prost_types::Struct>,
}

/// The signed certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM: the leaf, each intermediate, and last the roots (one element that may hold several blocks).
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}
