//! Custom resource definitions: from the stored definition to served resources.

mod definition;
mod serve;

pub(crate) use definition::{CustomVersion, Definition, problems};
pub(crate) use serve::{CLEANUP, conditions, resources};
