//! What the mesh's security resources mean in Envoy's configuration: certificates, identities, and who may do what.

pub mod attach;
pub mod authn;
pub mod authz;
pub mod enforcement;
pub mod jwks;
pub mod peer;
pub mod secret;
pub mod tls;
