//! Label selectors.

use corten_schema::FieldError;
use serde_json::Value;

use super::{Faults, each, format, metadata, names, text};

/// What is wrong with a label selector.
pub(super) fn selector(faults: &mut Faults, path: &str, selector: &Value) {
    metadata::labels(faults, &super::join(path, "matchLabels"), &selector["matchLabels"]);
    for (path, expression) in each(selector, path, "matchExpressions") {
        let values = expression["values"].as_array().map_or(0, Vec::len);
        match text(expression, "operator") {
            "In" | "NotIn" => {
                if values == 0 {
                    faults.push(FieldError::required(
                        std::format!("{path}.values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    ));
                }
            }
            "Exists" | "DoesNotExist" => {
                if values > 0 {
                    faults.push(FieldError::forbidden(
                        std::format!("{path}.values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    ));
                }
            }
            other => faults.push(FieldError::invalid(
                std::format!("{path}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        format(
            faults,
            &std::format!("{path}.key"),
            text(expression, "key"),
            names::qualified,
        );
        for (path, value) in each(expression, &path, "values") {
            format(faults, &path, value.as_str().unwrap_or(""), names::label_value);
        }
    }
}

/// Whether a well-formed selector selects labels; an empty one selects everything.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    crate::selector::LabelSelector::from_object(selector).is_some_and(|selector| selector.matches_labels(labels))
}
