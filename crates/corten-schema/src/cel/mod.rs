//! CEL rules of a schema (`x-kubernetes-validations`): compiled once per schema, run per value.
//!
//! The `cel` crate parses and interprets; this module brings the values into the form that Kubernetes promises to rules
//! (escaped names, times as times), adds the functions Kubernetes adds, and words the results. The interpreter knows no
//! types before it runs, so a rule that makes no sense is noticed when it runs, and answered with a warning.

mod convert;
mod evaluate;
mod functions;
mod program;
#[cfg(test)]
mod tests;

use crate::error::FieldError;
use crate::schema::{AdditionalProperties, Schema, SchemaRef};
use serde_json::Value;

pub use program::CompiledRules;

/// What running the rules found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Rules that do not hold.
    pub errors: Vec<FieldError>,
    /// Rules that could not be run, each named.
    pub warnings: Vec<String>,
}

/// Runs all rules of `schema` on `new`; `old` is the value before an update.
pub fn evaluate(schema: &Schema, new: &Value, old: Option<&Value>) -> Report {
    let mut report = Report::default();
    evaluate::walk(schema, new, old, &mut String::new(), true, &mut report);
    report.warnings.dedup();
    report
}

/// Whether a rule's `fieldPath` names a field of the schema that the rule stands in.
pub(crate) fn is_field_path(schema: &Schema, field: &str) -> bool {
    evaluate::is_field_path(schema, field)
}

/// Names the rules of a schema that cannot be compiled here, with the reason; they will not be enforced.
pub fn warnings(schema: &Schema) -> Vec<String> {
    let mut warnings = Vec::new();
    visit(schema, &mut |schema| {
        let rules = program::compiled(schema);
        warnings.extend(rules.problems(&schema.validations));
    });
    warnings
}

/// Whether a schema has rules, here or deeper. The answer is kept in the schema.
pub fn has_rules(schema: &Schema) -> bool {
    *schema
        .validations
        .inside
        .get_or_init(|| !schema.validations.is_empty() || children(schema).any(has_rules))
}

/// The schemas in a schema, except built-in definitions: those have no rules, and may be recursive.
fn children(schema: &Schema) -> impl Iterator<Item = &Schema> {
    let additional = match &schema.additional_properties {
        Some(AdditionalProperties::Schema(additional)) => Some(additional),
        _ => None,
    };
    schema
        .properties
        .values()
        .chain(&schema.items)
        .chain(additional)
        .filter_map(|inner| match inner {
            SchemaRef::Here(schema) => Some(&**schema),
            SchemaRef::Named(_) => None,
        })
}

fn visit<'s>(schema: &'s Schema, see: &mut impl FnMut(&'s Schema)) {
    if !has_rules(schema) {
        return;
    }
    see(schema);
    for child in children(schema) {
        visit(child, see);
    }
}
