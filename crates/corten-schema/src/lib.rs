//! What a Kubernetes API server knows about the shape of objects: structural schemas, validation, pruning, defaulting,
//! CEL rules, the four kinds of patch with field ownership, the shapes of the built-in kinds, and JSON paths into objects.
//!
//! Pure: values in, values and errors out. It does not know requests, storage, users or time; "now" is an argument.

pub mod apply;
pub mod cel;
pub mod defaults;
mod error;
mod go;
pub mod jsonpath;
pub mod kubernetes;
pub mod patch;
pub mod prune;
mod schema;
pub mod structural;
pub mod validate;

pub use error::{ErrorKind, FieldError, strict_decoding_error};
pub use schema::{
    AdditionalProperties, Bounds, ListType, MapType, Named, Pattern, Rule, Schema, SchemaRef, Type, Validations,
};
