//! CEL rules of a schema (`x-kubernetes-validations`), compiled once per schema.

/// The compiled rules of one place in a schema.
#[derive(Debug, Default)]
pub struct CompiledRules {}
