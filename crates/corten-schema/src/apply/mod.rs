//! Server-side apply and field ownership (`metadata.managedFields`).

use crate::patch;
use crate::schema::Schema;
use serde_json::Value;

/// One field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: String,
    /// The apiVersion the owner wrote it with, empty when that says nothing.
    pub api_version: String,
    /// The subresource the owner wrote it through, empty for the object itself.
    pub subresource: String,
    /// When the owner wrote it, set for owners that did not apply.
    pub time: Option<String>,
    /// The field, as `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    /// `conflict with "kubectl" using apps/v1`, as a cause's message in a Kubernetes `Status`.
    pub fn message(&self) -> String {
        let mut text = format!("conflict with {}", crate::go::quote(&self.manager));
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", crate::go::quote(&self.subresource)));
        }
        if !self.api_version.is_empty() {
            text.push_str(&format!(" using {}", self.api_version));
        }
        if let Some(time) = &self.time {
            text.push_str(&format!(" at {time}"));
        }
        text
    }
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyError {
    /// Others own fields with other values (HTTP 409), unless forced.
    Conflicts(Vec<Conflict>),
    /// The applied object or its managed fields are malformed (HTTP 400).
    Malformed(String),
}

/// The live object after `manager` applied `applied`, with the new `managedFields`.
///
/// `now` is the time in RFC 3339. With `force`, conflicting fields change owner.
pub fn apply(
    _schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    _manager: &str,
    _subresource: &str,
    _force: bool,
    _now: &str,
) -> Result<Value, ApplyError> {
    Ok(live.map_or_else(|| applied.clone(), |live| patch::merge(live, applied)))
}

/// Records in `new`'s `managedFields` what a create, update or patch by `manager` changed since `old`.
///
/// `operation` is `Update` (or `Apply`, for a write that continues one).
pub fn track(
    _schema: &Schema,
    _old: Option<&Value>,
    _new: &mut Value,
    _manager: &str,
    _operation: &str,
    _subresource: &str,
    _now: &str,
) {
}
