//! XMesh (experimental): a mesh that implements the Gateway API.

use corten_derive::Message;

use super::gateway_class::{ParametersReference, SupportedFeature};
use super::shared::Condition;

/// The mesh spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct MeshSpec {
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

/// The mesh status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct MeshStatus {
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}, {"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Programmed"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
    /// The supported features.
    #[api(max_items = 64, list_map_keys("name"), list_type = "map")]
    pub supported_features: Vec<SupportedFeature>,
}
