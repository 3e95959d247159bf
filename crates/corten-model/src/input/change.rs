//! What can happen to the objects of a mesh.

use std::sync::Arc;

use super::{Object, ObjectKey};
use crate::settings::Settings;

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// An object is there, or is different.
    Put(Object),
    /// An object is gone.
    Remove(ObjectKey),
    /// The mesh-wide settings are different.
    Settings(Arc<Settings>),
}
