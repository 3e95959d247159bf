//! Validation of values against a schema: types, limits, formats, lists of a kind, embedded objects and CEL rules, with
//! the messages of the API server.
//!
//! On an update, what did not change is not complained about, so that a rule that was tightened does not lock objects
//! in ("ratcheting").

mod embedded;
mod formats;
mod lists;
mod node;
#[cfg(test)]
mod tests;

use crate::cel;
use crate::error::{ErrorKind, FieldError};
use crate::schema::Schema;
use serde_json::Value;

pub(crate) use formats::matches as matches_format;
pub(crate) use formats::{date_time, duration, is_dns_label, is_dns_subdomain};
pub(crate) use lists::Previous;

/// What validation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Reasons to refuse the object.
    pub errors: Vec<FieldError>,
    /// Rules that could not be run here, each named, for the warnings of the response.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with `new`; `old` is the object before an update. Rules that cannot be run are in
/// [`check`]'s warnings only.
pub fn validate(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    check(schema, new, old).errors
}

/// Validates `new`, with warnings for rules that cannot be run; `old` is the object before an update.
pub fn check(schema: &Schema, new: &Value, old: Option<&Value>) -> Report {
    let mut errors = validate_at(schema, new, old);
    embedded::check(schema, new, &mut String::new(), &mut errors);
    let mut warnings = Vec::new();
    let blocking = |error: &FieldError| {
        use ErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    if errors.iter().any(blocking) {
        if cel::has_rules(schema) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid("", Value::Null, detail));
        }
    } else {
        let report = cel::evaluate(schema, new, old);
        errors.extend(report.errors);
        warnings.extend(report.warnings);
    }
    Report { errors, warnings }
}

/// Everything but rules and embedded objects, for a value by itself.
pub(crate) fn validate_value(schema: &Schema, value: &Value) -> Vec<FieldError> {
    validate_at(schema, value, None)
}

fn validate_at(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut outcome = node::Outcome::default();
    node::validate(schema, new, old, &mut String::new(), &mut outcome);
    let mut errors = outcome.errors;
    lists::check(schema, new, old, &mut String::new(), &mut errors);
    errors
}
