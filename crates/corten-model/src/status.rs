//! What is written back to objects: conditions as values, without the time of their last change, which the writer knows.

use crate::text::Name;

/// The conditions of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The conditions that are to be there.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: &'static str,
    /// For conditions about one of several objects: which.
    pub ancestor: Option<Name>,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// The generation of the object it is about.
    pub generation: i64,
}

/// Whether a node proxy enforces a policy.
pub const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// Whether a waypoint enforces a policy.
pub const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// Whether a waypoint serves an object.
pub const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// Whether a service needs a waypoint and has none.
pub const WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
/// Who sees a service.
pub const VISIBILITY_APPLIED: &str = "istio.io/VisibilityApplied";

/// Reasons of conditions.
pub mod reason {
    /// The object is used as written.
    pub const ACCEPTED: &str = "Accepted";
    /// A part of it cannot be expressed.
    pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    /// It refers to something that it must not refer to.
    pub const INVALID: &str = "Invalid";
    /// It refers to something that is not there.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// It refers to something that no waypoint serves.
    pub const ANCESTOR_NOT_BOUND: &str = "AncestorNotBound";
    /// Some of what it refers to is not usable.
    pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    /// The waypoint serves it.
    pub const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
    /// The waypoint is not there, or has no address yet.
    pub const WAYPOINT_NOT_READY: &str = "WaypointIsNotReady";
    /// The waypoint does not take objects of this namespace.
    pub const ATTACHMENT_DENIED: &str = "AttachmentDenied";
    /// The waypoint is for other traffic.
    pub const UNSUPPORTED_TRAFFIC_TYPE: &str = "UnsupportedTrafficType";
    /// The canary's share is not a percentage.
    pub const CANARY_INVALID_WEIGHT: &str = "CanaryInvalidWeight";
    /// The canary is the waypoint itself.
    pub const CANARY_SAME_AS_PRIMARY: &str = "CanarySameAsPrimary";
    /// The waypoint is of another namespace, which may not see the service.
    pub const CROSS_NAMESPACE_FORBIDDEN: &str = "CrossNamespaceWaypointForbidden";
}
