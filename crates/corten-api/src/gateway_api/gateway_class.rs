//! GatewayClass: which controller makes gateways.

use corten_derive::Message;

use super::shared::Condition;

/// The controller of the class, and its parameters.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayClassSpec {
    /// The controller.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"#,
        rule("self == oldSelf", "field is immutable")
    )]
    pub controller_name: String,
    /// The description.
    #[api(max_length = 64)]
    pub description: Option<String>,
    /// Further configuration, in an object of the controller's own kind.
    pub parameters_ref: Option<ParametersReference>,
}

/// The parameters reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ParametersReference {
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
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

/// The gateway class status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct GatewayClassStatus {
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
    /// The supported features.
    #[api(max_items = 64, list_map_keys("name"), list_type = "map")]
    pub supported_features: Vec<SupportedFeature>,
}

/// The supported feature.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct SupportedFeature {
    /// The name.
    #[api(required)]
    pub name: String,
}
