//! What policies have in common: what they are attached to, and whether that worked.

use corten_derive::Message;

use super::shared::{Condition, ParentReference};

/// The local policy target reference with section name.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct LocalPolicyTargetReferenceWithSectionName {
    /// The API group.
    #[api(
        required,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: String,
    /// The kind.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: String,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The listener or port of the referent.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub section_name: Option<String>,
}

/// The policy status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct PolicyStatus {
    /// The state for each gateway it has an effect on.
    #[api(required, max_items = 16, list_type = "atomic")]
    pub ancestors: Vec<PolicyAncestorStatus>,
}

/// The policy ancestor status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct PolicyAncestorStatus {
    /// The ancestor ref.
    #[api(required)]
    pub ancestor_ref: ParentReference,
    /// The aspects of the state.
    #[api(required, max_items = 8, min_items = 1, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The controller.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#
    )]
    pub controller_name: String,
}

/// The local policy target reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct LocalPolicyTargetReference {
    /// The API group.
    #[api(
        required,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: String,
    /// The kind.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: String,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
}
