//! What validation finds.

use crate::{
    codec::FieldProblem,
    decode::Node,
    diagnostic::{Code, Severity},
};

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    /// With its place in the tree it is about.
    pub fn located(self, root: &Node) -> FieldProblem {
        let at = root.locate(&self.path);
        FieldProblem {
            code: Code::INVALID,
            severity: self.severity,
            path: self.path,
            at,
            message: self.message,
        }
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Notes an error.
    pub fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding {
            severity: Severity::Error,
            path: path.into(),
            message: message.into(),
        });
    }

    /// Notes a warning.
    pub fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            path: path.into(),
            message: message.into(),
        });
    }

    /// Notes the error of a check, if it found one.
    pub fn check<E: std::fmt::Display>(&mut self, path: impl Into<String>, result: Result<(), E>) {
        if let Err(error) = result {
            self.error(path, error.to_string());
        }
    }

    /// Takes over what another report found, with or without its warnings.
    pub fn absorb(&mut self, other: Report, warnings: bool) {
        self.findings.extend(
            other
                .findings
                .into_iter()
                .filter(|f| warnings || f.severity == Severity::Error),
        );
    }

    /// The number of errors.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.severity == Severity::Error).count()
    }

    /// Everything found.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Whether something was found that refuses the object.
    pub fn is_refused(&self) -> bool {
        self.errors() > 0
    }

    /// Whether there is a warning.
    pub fn has_warning(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Warning)
    }
}
