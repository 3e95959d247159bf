//! Validation of values against a schema.

use crate::error::FieldError;
use crate::schema::Schema;
use serde_json::Value;

/// All that is wrong with `new`; `old` is the object before an update.
pub fn validate(_schema: &Schema, _new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    Vec::new()
}

/// All that is wrong with a value that stands at `path`.
pub(crate) fn validate_value(_schema: &Schema, _value: &Value, _path: &str) -> Vec<FieldError> {
    Vec::new()
}
