//! Types of several kinds: references, conditions, session persistence.

use std::collections::BTreeMap;

use corten_core::{Duration, Port};
use corten_derive::{Enumeration, Message};

use crate::codec::Timestamp;

/// The local object reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct LocalObjectReference {
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

/// A gateway, listener or service that a route is attached to.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ParentReference {
    /// The API group.
    #[api(
        default = r#""gateway.networking.k8s.io""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Gateway""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The port.
    #[api(format = "int32", maximum = 65535, minimum = 1)]
    pub port: Option<Port>,
    /// The listener or port of the referent.
    #[api(
        max_length = 253,
        min_length = 1,
        pattern = r#"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub section_name: Option<String>,
}

/// One aspect of an object's state.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct Condition {
    /// When the state changed last.
    #[api(required)]
    pub last_transition_time: Timestamp,
    /// What there is to say, for people.
    #[api(required, max_length = 32768)]
    pub message: String,
    /// The generation of the object that this is about.
    #[api(minimum = 0)]
    pub observed_generation: Option<i64>,
    /// Why, in one word, for programs.
    #[api(
        required,
        max_length = 1024,
        min_length = 1,
        pattern = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    )]
    pub reason: String,
    /// The status.
    #[api(required)]
    pub status: ConditionStatus,
    /// The type.
    #[api(
        required,
        max_length = 316,
        pattern = r#"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"#
    )]
    pub type_: String,
}

/// Chooses objects by their labels.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes, map_type = "atomic")]
pub struct LabelSelector {
    /// The match expressions.
    #[api(list_type = "atomic")]
    pub match_expressions: Vec<LabelSelectorMatchExpression>,
    /// The match labels.
    pub match_labels: BTreeMap<String, String>,
}

/// The label selector match expression.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct LabelSelectorMatchExpression {
    /// The key.
    #[api(required)]
    pub key: String,
    /// The operator.
    #[api(required)]
    pub operator: String,
    /// The values.
    #[api(list_type = "atomic")]
    pub values: Vec<String>,
}

/// The secret object reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct SecretObjectReference {
    /// The API group.
    #[api(
        default = r#""""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Secret""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

/// The object reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ObjectReference {
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

/// A destination.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
        "Must have port for Service reference"
    )
)]
pub struct BackendObjectReference {
    /// The API group.
    #[api(
        default = r#""""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Service""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The port.
    #[api(format = "int32", maximum = 65535, minimum = 1)]
    pub port: Option<Port>,
}

/// A share.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "self.numerator <= self.denominator",
        "numerator must be less than or equal to denominator"
    )
)]
pub struct Fraction {
    /// The denominator.
    #[api(default = "100", minimum = 1)]
    pub denominator: Option<i32>,
    /// The numerator.
    #[api(required, minimum = 0)]
    pub numerator: i32,
}

/// The route parent status.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct RouteParentStatus {
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
    /// The parent.
    #[api(required)]
    pub parent_ref: ParentReference,
}

/// The parent gateway reference.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct ParentGatewayReference {
    /// The API group.
    #[api(
        default = r#""gateway.networking.k8s.io""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Gateway""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

/// A destination with its weight.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
        "Must have port for Service reference"
    )
)]
pub struct BackendRef {
    /// The API group.
    #[api(
        default = r#""""#,
        max_length = 253,
        pattern = r#"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"#
    )]
    pub group: Option<String>,
    /// The kind.
    #[api(
        default = r#""Service""#,
        max_length = 63,
        min_length = 1,
        pattern = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
    )]
    pub kind: Option<String>,
    /// The name.
    #[api(required, max_length = 253, min_length = 1)]
    pub name: String,
    /// The namespace.
    #[api(max_length = 63, min_length = 1, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// The port.
    #[api(format = "int32", maximum = 65535, minimum = 1)]
    pub port: Option<Port>,
    /// The share of the traffic.
    #[api(default = "1", maximum = 1000000, minimum = 0)]
    pub weight: Option<i32>,
}

/// Keeps the requests of a session at one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(
    kubernetes,
    rule(
        "!has(self.cookie) || !has(self.cookie.lifetimeType) || self.cookie.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
        "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"
    ),
    rule(
        "!has(self.cookie) || self.type == 'Cookie'",
        "cookie must be nil if type is not Cookie"
    ),
    rule(
        "self.type != 'Cookie' || has(self.cookie)",
        "cookie must be specified for Cookie type"
    ),
    rule(
        "!has(self.header) || self.type == 'Header'",
        "header must be nil if type is not Header"
    ),
    rule(
        "self.type != 'Header' || has(self.header)",
        "header must be specified for Header type"
    )
)]
pub struct SessionPersistence {
    /// The absolute timeout.
    #[api(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
    pub absolute_timeout: Option<Duration>,
    /// The cookie.
    pub cookie: Option<CookieConfig>,
    /// The header.
    pub header: Option<HeaderConfig>,
    /// The type.
    #[api(default = r#""Cookie""#)]
    pub type_: Option<SessionPersistenceType>,
}

/// The cookie config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct CookieConfig {
    /// The lifetime type.
    #[api(default = r#""Session""#)]
    pub lifetime_type: Option<CookieLifetimeType>,
    /// The name.
    #[api(max_length = 256, min_length = 1, pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#)]
    pub name: Option<String>,
    /// The path.
    #[api(default = r#""/""#, max_length = 1024)]
    pub path: Option<String>,
}

/// The header config.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct HeaderConfig {
    /// The name.
    #[api(
        required,
        max_length = 256,
        min_length = 1,
        pattern = r#"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"#
    )]
    pub name: String,
}

/// The request rate.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct RequestRate {
    /// The count.
    #[api(maximum = 1000000, minimum = 1, schema = r#"{"format": null}"#)]
    pub count: Option<i64>,
    /// The interval.
    #[api(
        pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        rule(
            "!(duration(self) == duration('0s') || duration(self) > duration('1h'))",
            "interval cannot be greater than one hour"
        )
    )]
    pub interval: Option<Duration>,
}

/// The condition status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum ConditionStatus {
    /// The value `True`.
    #[default]
    True,
    /// The value `False`.
    False,
    /// The value `Unknown`.
    Unknown,
}

/// The gateway default scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum GatewayDefaultScope {
    /// The value `All`.
    #[default]
    All,
    /// The value `None`.
    None,
}

/// The cookie lifetime type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum CookieLifetimeType {
    /// The value `Permanent`.
    #[default]
    Permanent,
    /// The value `Session`.
    Session,
}

/// The session persistence type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enumeration)]
#[api(kubernetes)]
pub enum SessionPersistenceType {
    /// The value `Cookie`.
    #[default]
    Cookie,
    /// The value `Header`.
    Header,
}
