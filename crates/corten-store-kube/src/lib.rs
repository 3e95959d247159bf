//! The Kubernetes API as the mesh uses it: objects as they change, status conditions, token reviews, leader election,
//! and the few Secrets and ConfigMaps of the control plane.
//!
//! What an object means is not known here: they are JSON values, without the parts nobody reads.

mod addresses;
mod apply;
mod client;
mod config_maps;
mod definitions;
mod events;
mod known;
mod leader;
mod object;
mod prune;
mod referenced;
mod refused;
mod rights;
mod secrets;
mod source;
mod status;
mod tokens;

pub mod kinds;

pub use addresses::write_addresses;
pub use apply::apply_object;
pub use client::{ClientError, Kubeconfig, client, log_levels};
pub use config_maps::{Distribution, Entries, distribute};
pub use definitions::ServedKinds;
pub use kinds::Kind;
pub use leader::{Election, Leadership};
pub use prune::Part;
pub use referenced::{Referred, follow_references};
pub use refused::{Refusal, Refusals};
pub use rights::{may, may_list_secrets};
pub use secrets::{SecretData, SecretStore, SecretStoreError};
pub use source::{Change, Event, Selection, Source, Started};
pub use status::{Condition, Merged, StatusOf, StatusWriter, Written, merge, write_status};
pub use tokens::{TokenIdentity, TokenReviewError, TokenReviewer};
