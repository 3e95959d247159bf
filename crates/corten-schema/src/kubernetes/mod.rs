//! The schemas of the built-in kinds.

use crate::schema::Schema;

/// The schema of a built-in kind; the group of core kinds is empty.
pub fn schema(_group: &str, _version: &str, _kind: &str) -> Option<&'static Schema> {
    None
}

/// The schema of `metadata`, which all kinds share.
pub fn object_meta() -> Option<&'static Schema> {
    None
}
