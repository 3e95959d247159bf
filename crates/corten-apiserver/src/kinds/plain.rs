//! Kinds with little of their own.

use corten_schema::FieldError;
use serde_json::Value;

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::registry::Resource;
use crate::status::Status;
use crate::validation;

/// A kind without anything of its own.
#[derive(Debug)]
pub(super) struct Plain;

impl Strategy for Plain {}

/// A kind that has only rules of its own.
#[derive(Debug)]
pub(super) struct Judged(pub(super) fn(&Value, Option<&Value>) -> Vec<FieldError>);

impl Strategy for Judged {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        (self.0)(new, old)
    }
}

/// Events.
#[derive(Debug)]
pub(super) struct Events;

impl Strategy for Events {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::event(new, old)
    }

    fn selectable(&self, field: &str) -> bool {
        field.starts_with("involvedObject.") || matches!(field, "reason" | "reportingComponent" | "source" | "type")
    }
}

/// Nodes.
#[derive(Debug)]
pub(super) struct Nodes;

impl Strategy for Nodes {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::node(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, new: &mut Value) -> Result<(), Status> {
        crate::object::child(new, "spec");
        crate::object::child(new, "status");
        Ok(())
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        &["labels", "annotations"]
    }

    fn selectable(&self, field: &str) -> bool {
        field == "spec.unschedulable"
    }
}
