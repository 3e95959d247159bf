//! Pods: the first status, quality of service, graceful deletion.

use corten_schema::FieldError;
use serde_json::{Value, json};

use super::Strategy;
use crate::api::Api;
use crate::context::Context;
use crate::object;
use crate::registry::Resource;
use crate::status::Status;
use crate::validation;
use crate::verbs::Part;

/// Pods.
#[derive(Debug)]
pub(super) struct Pods;

impl Strategy for Pods {
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validation::pod(new, old)
    }

    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, new: &mut Value) -> Result<(), Status> {
        admit(new);
        new["status"] = json!({ "phase": "Pending", "qosClass": qos(new) });
        Ok(())
    }

    fn prepare_update(
        &self,
        _: &Api,
        _: &Context,
        _: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if part == Part::Status {
            let class = old["status"]["qosClass"].clone();
            if !class.is_null() {
                object::child(new, "status").insert("qosClass".to_owned(), class);
            }
        }
        if part == Part::Main {
            // The plugins see updates too: what they gave cannot be taken away.
            admit(new);
        }
        let was_waiting = object::text(old, &["spec", "nodeName"]).is_empty();
        if part == Part::Main && was_waiting && !object::text(new, &["spec", "nodeName"]).is_empty() {
            scheduled(new);
            if let Some(generation) = old["metadata"].get("generation") {
                // Binding is no change of what is wanted.
                object::set_meta(new, "generation", generation.clone());
            }
        }
        say_unset_times(new);
        Ok(())
    }

    fn grace(&self, pod: &Value, asked: Option<i64>) -> i64 {
        let own = object::at(pod, &["spec", "terminationGracePeriodSeconds"])
            .as_i64()
            .unwrap_or(30);
        let grace = asked.unwrap_or(own).max(0);
        let ended = matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
        // Without a node there is no kubelet that would end it.
        if ended || object::text(pod, &["spec", "nodeName"]).is_empty() {
            0
        } else {
            grace
        }
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        &["labels", "annotations", "finalizers"]
    }

    fn selectable(&self, field: &str) -> bool {
        matches!(
            field,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "spec.hostNetwork"
                | "status.phase"
                | "status.podIP"
                | "status.podIPs"
                | "status.nominatedNodeName"
        )
    }
}

/// What the real server's default admission plugins give a pod: a priority, and some patience with nodes that are away.
fn admit(pod: &mut Value) {
    let spec = object::child(pod, "spec");
    object::default_to(spec, "priority", 0);
    object::default_to(spec, "preemptionPolicy", "PreemptLowerPriority");
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let (its_key, effect) = (
                object::text(toleration, &["key"]),
                object::text(toleration, &["effect"]),
            );
            (its_key == key || its_key.is_empty()) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }));
        }
    }
}

/// Times of conditions that are not set are written as null, as clients of the real server see them.
fn say_unset_times(pod: &mut Value) {
    let conditions = object::child(pod, "status")
        .get_mut("conditions")
        .and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        object::as_map(condition).entry("lastProbeTime").or_insert(Value::Null);
    }
}

/// Says that the pod has a node, in the same write that gives it one, as binding does.
fn scheduled(pod: &mut Value) {
    let mut conditions: Vec<Value> = object::items(&pod["status"]["conditions"])
        .iter()
        .filter(|condition| condition["type"] != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": object::now(),
    }));
    object::child(pod, "status").insert("conditions".to_owned(), Value::Array(conditions));
}

/// The quality-of-service class, from the containers' requests and limits of CPU and memory.
fn qos(pod: &Value) -> &'static str {
    let (mut any, mut all_guaranteed, mut containers) = (false, true, 0);
    for list in ["containers", "initContainers"] {
        for container in object::items(&pod["spec"][list]) {
            containers += 1;
            for name in ["cpu", "memory"] {
                let limit = &container["resources"]["limits"][name];
                let request = match &container["resources"]["requests"][name] {
                    Value::Null => limit,
                    request => request,
                };
                any |= !limit.is_null() || !request.is_null();
                all_guaranteed &= !limit.is_null() && limit == request;
            }
        }
    }
    match (any, all_guaranteed && containers > 0) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
