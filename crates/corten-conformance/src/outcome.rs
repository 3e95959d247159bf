//! What became of a case.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The judgement on a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The product did what the case expects.
    Passed,
    /// It did not; how.
    Failed(String),
    /// It was not tried, because the product does not support this feature.
    Skipped(String),
}

/// A case of an area and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The folder's name.
    pub(crate) area: String,
    /// The case's name, unique in its area.
    pub(crate) case: String,
    /// The judgement.
    pub(crate) outcome: Outcome,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.area, self.case)
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (outcome, reason) = match &self.outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(reason) => ("failed", reason.as_str()),
            Outcome::Skipped(reason) => ("skipped", reason.as_str()),
        };
        let mut object = serializer.serialize_struct("Case", 4)?;
        object.serialize_field("area", &self.area)?;
        object.serialize_field("case", &self.case)?;
        object.serialize_field("outcome", outcome)?;
        object.serialize_field("reason", reason)?;
        object.end()
    }
}
