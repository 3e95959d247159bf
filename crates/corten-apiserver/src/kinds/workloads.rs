//! Deployments, replica sets, stateful sets and daemon sets: the status starts empty.

use corten_schema::FieldError;
use serde_json::{Value, json};

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::registry::Resource;
use crate::status::Status;
use crate::validation;

/// Kinds that make pods from a template.
#[derive(Debug)]
pub(super) struct Workloads;

impl Strategy for Workloads {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::workload(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, resource: &Resource, new: &mut Value) -> Result<(), Status> {
        new["status"] = match resource.plural() {
            // These are written even when they are zero.
            "replicasets" => json!({ "replicas": 0 }),
            "statefulsets" => json!({ "replicas": 0, "availableReplicas": 0 }),
            "daemonsets" => json!({
                "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
            }),
            _ => json!({}),
        };
        Ok(())
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        // A deployment's revision is written together with its status.
        &["annotations"]
    }

    fn selectable(&self, field: &str) -> bool {
        field == "status.replicas"
    }
}
