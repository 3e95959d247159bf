//! Errors about fields, worded and ordered as the Kubernetes API server words them.

use crate::go;
use serde_json::Value;
use std::fmt;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A referenced value does not exist.
    NotFound,
    /// A field is missing that must be there.
    Required,
    /// Two values are equal that must differ.
    Duplicate,
    /// The value is malformed or out of bounds.
    Invalid,
    /// The value is none of the allowed ones.
    NotSupported,
    /// The field may not be set.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// There are more items than allowed.
    TooMany,
    /// Something failed that is not the user's fault.
    Internal,
    /// The value has a type that the schema does not allow.
    TypeInvalid,
}

impl ErrorKind {
    /// The `reason` of a cause in a Kubernetes `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong | ErrorKind::Internal
        )
    }
}

/// One problem of one field. `Display` prints what the API server prints: `spec.replicas: Invalid value: -1: must be ...`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The field, as `spec.containers[0].name`; empty for the object itself.
    pub path: String,
    /// The offending value, where the message shows it.
    pub value: Option<Value>,
    /// Why, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// A field is missing.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind: ErrorKind::Required,
            path: path.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A value is malformed.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind: ErrorKind::Invalid,
            path: path.into(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    /// A value has the wrong type.
    pub fn type_invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind: ErrorKind::TypeInvalid,
            path: path.into(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    /// A field may not be set.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind: ErrorKind::Forbidden,
            path: path.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A value occurs twice.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError {
            kind: ErrorKind::Duplicate,
            path: path.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// A referenced value does not exist.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError {
            kind: ErrorKind::NotFound,
            path: path.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// A value is none of `supported`.
    pub fn not_supported<S: AsRef<str>>(
        path: impl Into<String>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = S>,
    ) -> FieldError {
        let supported: Vec<String> = supported.into_iter().map(|value| go::quote(value.as_ref())).collect();
        let detail = match supported.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", supported.join(", ")),
        };
        FieldError {
            kind: ErrorKind::NotSupported,
            path: path.into(),
            value: Some(value.into()),
            detail,
        }
    }

    /// A value is longer than `max` bytes.
    pub fn too_long(path: impl Into<String>, max: i64) -> FieldError {
        let detail = format!("may not be more than {max} {}", if max == 1 { "byte" } else { "bytes" });
        FieldError {
            kind: ErrorKind::TooLong,
            path: path.into(),
            value: None,
            detail,
        }
    }

    /// There are `actual` items and may be `max`.
    pub fn too_many(path: impl Into<String>, actual: usize, max: i64) -> FieldError {
        let detail = format!("must have at most {max} {}", if max == 1 { "item" } else { "items" });
        FieldError {
            kind: ErrorKind::TooMany,
            path: path.into(),
            value: Some(actual.into()),
            detail,
        }
    }

    /// Something failed that is not the user's fault.
    pub fn internal(path: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind: ErrorKind::Internal,
            path: path.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// The `reason` of a cause in a Kubernetes `Status`.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// The message without the field, as in the `message` of a cause in a Kubernetes `Status`.
    pub fn body(&self) -> String {
        let mut text = self.kind.title().to_owned();
        if self.kind.shows_value()
            && let Some(value) = &self.value
        {
            text.push_str(": ");
            match value {
                Value::String(value) => text.push_str(&go::quote(value)),
                Value::Number(value) => text.push_str(&go::number(value)),
                value => text.push_str(&go::json(value)),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The API server prints the path of the object itself as <nil>.
        let path = if self.path.is_empty() { "<nil>" } else { &self.path };
        write!(f, "{path}: {}", self.body())
    }
}

impl std::error::Error for FieldError {}

/// The message of a write that was refused by `fieldValidation=Strict`: what [`crate::prune::unknown_fields`] found,
/// and keys that occur twice (dotted paths).
pub fn strict_decoding_error<S: AsRef<str>, T: AsRef<str>>(unknown: &[S], duplicate: &[T]) -> Option<String> {
    let messages: Vec<String> = (duplicate
        .iter()
        .map(|path| format!("duplicate field {}", go::quote(path.as_ref()))))
    .chain(
        unknown
            .iter()
            .map(|path| format!("unknown field {}", go::quote(path.as_ref()))),
    )
    .collect();
    (!messages.is_empty()).then(|| format!("strict decoding error: {}", messages.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_print_as_the_api_server_prints_them() {
        let path = "spec.replicas";
        for (error, text) in [
            (
                FieldError::invalid(path, -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (FieldError::required(path, ""), "spec.replicas: Required value"),
            (
                FieldError::not_supported(path, "x", ["a", "b"]),
                r#"spec.replicas: Unsupported value: "x": supported values: "a", "b""#,
            ),
            (
                FieldError::duplicate(path, json!({"a": "<"})),
                r#"spec.replicas: Duplicate value: {"a":"\u003c"}"#,
            ),
            (
                FieldError::too_long(path, 63),
                "spec.replicas: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(path, 3, 1),
                "spec.replicas: Too many: 3: must have at most 1 item",
            ),
            (FieldError::forbidden("", "no"), "<nil>: Forbidden: no"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn strict_decoding_lists_all_fields() {
        assert_eq!(
            strict_decoding_error(&["spec.foo"], &["metadata.labels.a"]).as_deref(),
            Some(r#"strict decoding error: duplicate field "metadata.labels.a", unknown field "spec.foo""#)
        );
        assert_eq!(strict_decoding_error::<&str, &str>(&[], &[]), None);
    }
}
