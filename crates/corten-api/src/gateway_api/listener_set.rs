//! ListenerSet: listeners added to a gateway by others than its owner.

use corten_core::{Host, Port};
use corten_derive::Message;

use super::gateway::{AllowedRoutes, ListenerTLSConfig, RouteGroupKind};
use super::shared::{Condition, ParentGatewayReference};

/// Listeners added to a gateway.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerSetSpec {
    /// What the gateway listens for.
    #[api(
        required,
        max_items = 64,
        min_items = 1,
        list_map_keys("name"),
        list_type = "map",
        rule(
            "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
            "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"
        ),
        rule(
            "self.all(l, (l.protocol == 'HTTPS' && has(l.tls)) ? (l.tls.mode == '' || l.tls.mode == 'Terminate') : true)",
            "tls mode must be Terminate for protocol HTTPS"
        ),
        rule(
            "self.all(l, (l.protocol == 'TLS' ? has(l.tls) && has(l.tls.mode) && l.tls.mode != '' : true))",
            "tls mode must be set for protocol TLS"
        ),
        rule(
            "self.all(l, l.protocol in ['TCP', 'UDP']  ? (!has(l.hostname) || l.hostname == '') : true)",
            "hostname must not be specified for protocols ['TCP', 'UDP']"
        ),
        rule(
            "self.all(l1, self.exists_one(l2, l1.name == l2.name))",
            "Listener name must be unique within the Gateway"
        ),
        rule(
            "self.all(l1, !has(l1.port) || self.exists_one(l2, has(l2.port) && l1.port == l2.port && l1.protocol == l2.protocol && (has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
            "Combination of port, protocol and hostname must be unique for each listener"
        )
    )]
    pub listeners: Vec<ListenerEntry>,
    /// The parent.
    #[api(required)]
    pub parent_ref: ParentGatewayReference,
}

/// The listener entry.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerEntry {
    /// Which routes may be attached.
    #[api(default = r#"{"namespaces": {"from": "Same"}}"#)]
    pub allowed_routes: Option<AllowedRoutes>,
    /// The hostname.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub hostname: Option<Host>,
    /// The name.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: String,
    /// The port.
    #[api(required, format = "int32", maximum = 65535, minimum = 1)]
    pub port: Port,
    /// What is spoken.
    #[api(
        required,
        max_length = 255,
        min_length = 1,
        pattern = r#"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$"#
    )]
    pub protocol: String,
    /// TLS settings.
    pub tls: Option<ListenerTLSConfig>,
}

/// The listener set status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerSetStatus {
    /// The aspects of the state.
    #[api(
        default = r#"[{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}, {"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Programmed"}]"#,
        max_items = 8,
        list_map_keys("type"),
        list_type = "map"
    )]
    pub conditions: Vec<Condition>,
    /// What the gateway listens for.
    #[api(max_items = 64, list_map_keys("name"), list_type = "map")]
    pub listeners: Vec<ListenerEntryStatus>,
}

/// The listener entry status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ListenerEntryStatus {
    /// How many routes are attached.
    #[api(required)]
    pub attached_routes: i32,
    /// The aspects of the state.
    #[api(required, max_items = 8, list_map_keys("type"), list_type = "map")]
    pub conditions: Vec<Condition>,
    /// The name.
    #[api(
        required,
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub name: String,
    /// The kinds of routes that can be attached.
    #[api(max_items = 8, list_type = "atomic")]
    pub supported_kinds: Vec<RouteGroupKind>,
}
