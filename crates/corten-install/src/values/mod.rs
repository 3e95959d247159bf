//! Values: trees that are laid over one another, and paths into them.

pub mod known;
pub mod path;
#[cfg(test)]
mod tests;

pub use corten_template::merge;
use serde_json::Value;

/// The value at a path of plain names; null where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |at, name| &at[*name])
}
