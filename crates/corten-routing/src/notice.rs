//! What is written and takes no effect, said of the object and the field.

use corten_api::diagnostic::{Code, Diagnostic, ObjectRef, Severity};

/// A field takes no effect.
pub const NO_EFFECT: Code = Code("CRT0211");
/// Two objects say what cannot both be; the one that this is about is left out.
pub const CONFLICT: Code = Code("CRT0212");

/// A proxy would refuse it, and all that it stands in; it is left out.
pub const UNUSABLE: Code = Code("CRT0213");

/// What it refers to is not there.
pub const MISSING: Code = Code("CRT0214");

/// An object that is spoken of.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The group and version.
    pub api_version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

impl<'a> About<'a> {
    /// An object of Istio's networking.
    pub fn networking(kind: &'a str, namespace: &'a str, name: &'a str) -> About<'a> {
        About {
            api_version: "networking.istio.io/v1",
            kind,
            namespace,
            name,
        }
    }

    /// A field of it takes no effect; the message says why, and what would.
    pub fn no_effect(&self, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        self.warning(NO_EFFECT, path, message)
    }

    /// It says what another object says otherwise; the message names that one.
    pub fn conflict(&self, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        self.warning(CONFLICT, path, message)
    }

    /// A field of it refers to something that is not there; the message says to what, and what comes of that.
    pub fn missing(&self, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        self.warning(MISSING, path, message)
    }

    /// A proxy would refuse it; the message says why, and what is left out.
    pub fn unusable(&self, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            ..self.warning(UNUSABLE, path, message)
        }
    }

    fn warning(&self, code: Code, path: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Warning,
            object: Some(ObjectRef {
                api_version: self.api_version.to_owned(),
                kind: self.kind.to_owned(),
                namespace: self.namespace.to_owned(),
                name: self.name.to_owned(),
            }),
            path: path.into(),
            location: None,
            message: message.into(),
        }
    }
}
