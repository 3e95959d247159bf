//! The three patches that need no field ownership: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes'
//! strategic merge patch. They take an object and a patch and return the patched object; nothing is validated here.

mod json;
mod merge;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;

/// Patched objects nested deeper than this are refused; JSON that was parsed from text is never deeper.
pub(crate) const DEPTH_MAX: usize = 128;

/// Why a patch could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not one (HTTP 400).
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object (HTTP 422).
    #[error("{0}")]
    Failed(String),
    /// The patch has too many operations, or its result would be too large or too deep (HTTP 413).
    #[error("{0}")]
    TooLarge(String),
}
