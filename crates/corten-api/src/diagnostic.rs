//! Diagnostics: what is wrong with an object, where, and what would be right, as values.
//!
//! Decoding and validation return them beside whatever stayed usable; printing, refusing and status reporting are the
//! caller's business, and nothing here knows how a diagnostic is shown beyond its one-line form.

use std::{fmt, sync::Arc};

/// How bad a diagnostic is: whether the object may be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The object is accepted, but probably does not do what its author expects.
    Warning,
    /// The object is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// A stable name of a class of problems: Istio's analysis code where one exists, otherwise one of ours (`CRT....`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl Code {
    /// The text is neither YAML nor JSON.
    pub const SYNTAX: Code = Code("CRT0001");
    /// A mapping has the same key twice.
    pub const DUPLICATE_KEY: Code = Code("CRT0002");
    /// The text is too large, too deep, or expands to too much.
    pub const LIMIT: Code = Code("CRT0003");
    /// A document is not a Kubernetes object (no `apiVersion` or `kind`).
    pub const NOT_AN_OBJECT: Code = Code("CRT0004");
    /// A field the type does not have.
    pub const UNKNOWN_FIELD: Code = Code("CRT0005");
    /// A value of another type than the field's.
    pub const WRONG_TYPE: Code = Code("CRT0006");
    /// A value outside what the field allows.
    pub const OUT_OF_RANGE: Code = Code("CRT0007");
    /// A field that must be given is not.
    pub const REQUIRED: Code = Code("CRT0008");
    /// Fields of which only one may be given are given together.
    pub const CONFLICT: Code = Code("CRT0009");
    /// A kind, or a version of a kind, that is not known.
    pub const UNKNOWN_KIND: Code = Code("CRT0010");
    /// The object decodes, but breaks a rule of its kind (Istio: schema validation error).
    pub const INVALID: Code = Code("IST0106");
    /// Something deprecated is used (Istio: deprecated).
    pub const DEPRECATED: Code = Code("IST0002");
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Which object a diagnostic is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `group/version`, or `version` of the core group.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace as written; empty when the object does not name one.
    pub namespace: String,
    /// The name; empty when the object has none (`generateName`, templates).
    pub name: String,
}

impl ObjectRef {
    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version within the group.
    pub fn version(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or(self.api_version.as_str(), |(_, version)| version)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => f.write_str(&self.kind),
            ("", name) => write!(f, "{} {name}", self.kind),
            (namespace, name) => write!(f, "{} {namespace}/{name}", self.kind),
        }
    }
}

/// A place in a text: lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character within the line.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file's name as the user gave it.
    pub file: Arc<str>,
    /// Where in it.
    pub position: Position,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position)
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The class of the problem.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The object it is about, when the text got as far as being one.
    pub object: Option<ObjectRef>,
    /// The field: `spec.http[0].route`; empty for the whole object or document.
    pub path: String,
    /// Where it stands, for objects that come from a text.
    pub location: Option<Location>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Diagnostic {
    /// An error about no object in particular; the fields are filled in by whoever knows more.
    pub fn error(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            object: None,
            path: String::new(),
            location: None,
            message: message.into(),
        }
    }

    /// Whether the object must be refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// `file:3:7: error CRT0005: VirtualService default/a: spec.hots: unknown field`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{} {}: ", self.severity, self.code)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
