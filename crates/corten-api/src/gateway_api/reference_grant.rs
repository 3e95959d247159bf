//! ReferenceGrant: consent to be referred to from other namespaces.

use corten_derive::Message;

/// Who may refer to what in this namespace.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ReferenceGrantSpec {
    /// The kinds and namespaces that may refer.
    #[api(required, max_items = 16, min_items = 1, list_type = "atomic")]
    pub from: Vec<ReferenceGrantFrom>,
    /// The kinds and names that may be referred to.
    #[api(required, max_items = 16, min_items = 1, list_type = "atomic")]
    pub to: Vec<ReferenceGrantTo>,
}

/// Objects that may refer.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ReferenceGrantFrom {
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
    /// The namespace.
    #[api(
        required,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
    )]
    pub namespace: String,
}

/// Objects that may be referred to.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ReferenceGrantTo {
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
    #[api(max_length = 253, min_length = 1)]
    pub name: Option<String>,
}
