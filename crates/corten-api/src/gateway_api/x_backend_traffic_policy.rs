//! XBackendTrafficPolicy (experimental): how backends are protected from retries.

use corten_core::Duration;
use corten_derive::Message;

use super::policy::LocalPolicyTargetReference;
use super::shared::{RequestRate, SessionPersistence};

/// The backend traffic policy spec.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BackendTrafficPolicySpec {
    /// The retry constraint.
    pub retry_constraint: Option<RetryConstraint>,
    /// Keeps the requests of a session at one endpoint.
    pub session_persistence: Option<SessionPersistence>,
    /// The objects it is attached to.
    #[api(
        required,
        max_items = 16,
        min_items = 1,
        list_map_keys("group", "kind", "name"),
        list_type = "map"
    )]
    pub target_refs: Vec<LocalPolicyTargetReference>,
}

/// The retry constraint.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct RetryConstraint {
    /// The budget.
    #[api(default = r#"{"interval": "10s", "percent": 20}"#)]
    pub budget: Option<BudgetDetails>,
    /// The min retry rate.
    #[api(default = r#"{"count": 10, "interval": "1s"}"#)]
    pub min_retry_rate: Option<RequestRate>,
}

/// The budget details.
#[derive(Debug, Clone, Default, PartialEq, Message)]
#[api(kubernetes)]
pub struct BudgetDetails {
    /// The interval.
    #[api(
        default = r#""10s""#,
        pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        rule(
            "!(duration(self) < duration('1s') || duration(self) > duration('1h'))",
            "interval cannot be greater than one hour or less than one second"
        )
    )]
    pub interval: Option<Duration>,
    /// Deprecated in favour of `percentage`.
    #[api(default = "20", maximum = 100, minimum = 0, schema = r#"{"format": null}"#)]
    pub percent: Option<i64>,
}
