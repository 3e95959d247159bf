//! Parts of a hundred.

use std::fmt;

/// A percentage from 0 to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Percentage(f64);

impl Percentage {
    /// `None` outside of 0 to 100.
    pub fn new(value: f64) -> Option<Percentage> {
        (0.0..=100.0).contains(&value).then_some(Percentage(value))
    }

    /// From 0 to 100.
    pub fn value(self) -> f64 {
        self.0
    }

    /// From 0 to 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
