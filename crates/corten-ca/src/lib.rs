//! The certificate authority: its keys and their rotation, who may have which identity, and the service that signs.
//!
//! What decides (who may have what, when keys change) is pure and takes the time as an argument. Who a caller is, and
//! where keys are kept, are traits that the control plane fills in.

mod authority;
mod caller;
mod csr;
mod forwarded;
mod impersonation;
mod issue;
mod keeper;
mod material;
mod metrics;
mod plugged;
mod revocation;
mod root;
pub mod rotation;
mod secret;
mod service;
mod serving;

pub use authority::{Authority, LeafError, Policy, Published};
pub use caller::{Authenticate, AuthenticationError, Caller, PodBinding};
pub use csr::{Csr, CsrError};
pub use forwarded::{HEADER as FORWARDED_CERTIFICATE, NotARange, TrustedGateways};
pub use impersonation::{ImpersonationError, PodIndex, PodPlace, Pods, may_impersonate};
pub use keeper::{Keeper, KeeperError, KeeperSettings, KeySource, SecretAccess, SecretAccessError, SecretEntries};
pub use material::{Material, MaterialError};
pub use metrics::{Metrics, MetricsValues};
pub use plugged::PluggedError;
pub use revocation::Revoked;
pub use rotation::{Overlap, Rotation};
pub use secret::{SECRET_NAME, SECRET_TYPE};
pub use service::{Service, ServiceSettings};
pub use serving::{ServingCertificate, ServingError, serving_names};
