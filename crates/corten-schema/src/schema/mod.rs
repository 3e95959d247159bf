//! The structural schema of a kind: OpenAPI v3 with Kubernetes' extensions as Rust values, parsed and printed.

mod model;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use model::{
    AdditionalProperties, Bounds, ListType, MapType, Named, Pattern, Rule, Schema, SchemaRef, Type, Validations,
};
