//! The mesh's trust, told to agents that ask for it: of Istio's `ProxyConfig` (`istio.mesh.v1alpha1`) the one field that is ever sent.

/// What an agent is told of the mesh.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProxyConfig {
    /// The certificates of the authorities that workloads are to trust, PEM, one in each.
    #[prost(string, repeated, tag = "34")]
    pub ca_certificates_pem: Vec<String>,
}
