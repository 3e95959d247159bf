//! The verbs: what happens to an object between the request and the store, the same for every kind.
//!
//! Kinds add to it through their [`Strategy`](crate::kinds::Strategy). Nothing here knows HTTP.

mod create;
mod delete;
mod meta;
mod patch;
mod read;
mod scale;
mod update;

pub(crate) use create::create;
pub use delete::{DeleteOptions, Preconditions, Propagation};
pub(crate) use delete::{Deleted, delete, delete_collection};
pub(crate) use patch::patch;
pub(crate) use read::{get, in_version, list};
pub(crate) use scale::{ScalePaths, patched_plain, scale_of, set_scale};
pub(crate) use update::{Part, change, update};

use corten_schema::FieldError;

use crate::registry::Resource;
use crate::status::{Cause, Status};
use crate::store::WriteError;

/// An object that breaks its schema or a rule.
pub(crate) fn invalid(resource: &Resource, name: &str, problems: &[FieldError]) -> Status {
    let causes = problems
        .iter()
        .map(|problem| Cause {
            reason: problem.reason().to_owned(),
            message: problem.body(),
            field: if problem.path.is_empty() {
                "<nil>".to_owned()
            } else {
                problem.path.clone()
            },
        })
        .collect();
    Status::invalid(resource.group(), &resource.kind, name, causes)
}

/// What a failed write means to the caller.
pub(crate) fn refused(resource: &Resource, name: &str, error: WriteError) -> Status {
    let (group, plural) = (resource.group(), resource.plural());
    match error {
        WriteError::Exists => Status::already_exists(group, plural, name),
        WriteError::Absent => Status::not_found(group, plural, name),
        WriteError::Stale => Status::stale(group, plural, name),
        WriteError::Disk(_) => Status::internal(error),
        WriteError::Closed => Status::new(503, "ServiceUnavailable", "the API is shutting down"),
    }
}
