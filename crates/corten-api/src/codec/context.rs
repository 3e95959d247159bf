//! Where decoding is, and what it found wrong.

use crate::{
    decode::Node,
    diagnostic::{Code, Position, Severity},
};

/// A problem with a field; the object is added by whoever decodes objects.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldProblem {
    /// The class of the problem.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The field.
    pub path: String,
    /// Where it stands.
    pub at: Position,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The context of a decoding: the path to the current field and the problems so far.
#[derive(Debug, Default)]
pub struct Cx {
    path: String,
    problems: Vec<FieldProblem>,
    nulls_dropped: bool,
}

impl Cx {
    /// Runs `inner` for a list whose `null` items are left out instead of reported.
    pub fn dropping_nulls<T>(&mut self, inner: impl FnOnce(&mut Cx) -> T) -> T {
        self.nulls_dropped = true;
        inner(self)
    }

    /// Whether the list that begins now may hold `null`.
    pub(super) fn takes_nulls(&mut self) -> bool {
        std::mem::take(&mut self.nulls_dropped)
    }

    /// A context that begins at a path, such as `spec`.
    pub fn at(path: &str) -> Cx {
        Cx {
            path: path.to_owned(),
            ..Cx::default()
        }
    }

    /// The problems found.
    pub fn into_problems(self) -> Vec<FieldProblem> {
        self.problems
    }

    /// Reports a problem with the current field.
    pub fn report(&mut self, code: Code, at: Position, message: impl Into<String>) {
        let path = self.path.clone();
        self.problems.push(FieldProblem {
            code,
            severity: Severity::Error,
            path,
            at,
            message: message.into(),
        });
    }

    /// Reports something about the current field that does not keep the object from being used.
    pub fn warn(&mut self, code: Code, at: Position, message: impl Into<String>) {
        let path = self.path.clone();
        self.problems.push(FieldProblem {
            code,
            severity: Severity::Warning,
            path,
            at,
            message: message.into(),
        });
    }

    /// Reports a value of another type than the one expected, and yields nothing.
    pub fn wrong_type<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.report(
            Code::WRONG_TYPE,
            node.at,
            format!("{expected} expected, this is {}", node.described()),
        );
        None
    }

    /// Reports a value that its field does not allow, and yields nothing.
    pub fn out_of_range<T>(&mut self, node: &Node, message: impl Into<String>) -> Option<T> {
        self.report(Code::OUT_OF_RANGE, node.at, message);
        None
    }

    /// Runs `inner` one field deeper.
    pub fn field<T>(&mut self, name: &str, inner: impl FnOnce(&mut Cx) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    /// Runs `inner` in an item of a list or map.
    pub fn item<T>(&mut self, index: impl std::fmt::Display, inner: impl FnOnce(&mut Cx) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let result = inner(self);
        self.path.truncate(length);
        result
    }
}
