//! A measured figure and its baseline.

use std::fmt;

use serde::Serialize;

/// One line of a benchmark's result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) figure: String,
    /// Our value.
    pub(crate) value: f64,
    /// The unit of both values.
    pub(crate) unit: &'static str,
    /// The same, measured in the same run on what we compare with; absent when that is not on this machine.
    pub(crate) baseline: Option<f64>,
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{} [{}]", self.figure, self.unit);
        write!(formatter, "{name:44} {:>12.3}", self.value)?;
        match self.baseline {
            Some(baseline) => write!(formatter, " {baseline:>12.3} {:>8.3}", self.value / baseline),
            None => write!(formatter, " {:>12} {:>8}", "-", "-"),
        }
    }
}
