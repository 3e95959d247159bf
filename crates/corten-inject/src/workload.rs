//! Injection of files: what makes pods gets the proxy into its template.

use serde_json::{Value, json};

use crate::decide::Decision;
use crate::injector::{InjectError, Injector, Subject};

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its pods have a proxy.
    Injected(Value),
    /// It makes no pods, or none that are to have one: as it was; why, if it makes pods.
    Unchanged(Option<Decision>),
}

/// The place of the pod in an object that makes pods.
fn template(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "",
        "CronJob" => "/spec/jobTemplate/spec/template",
        "Deployment"
        | "DaemonSet"
        | "ReplicaSet"
        | "StatefulSet"
        | "Job"
        | "ReplicationController"
        | "DeploymentConfig" => "/spec/template",
        _ => return None,
    })
}

/// Injects one object; lists are injected item by item. `prepare` says what is known of its pods beyond the object itself.
///
/// # Errors
///
/// A pod cannot be injected.
pub fn objects(
    injector: &Injector,
    object: &Value,
    prepare: &dyn Fn(&mut Subject<'_>),
) -> Result<Outcome, InjectError> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind == "List" {
        let mut list = object.clone();
        for item in list["items"].as_array_mut().into_iter().flatten() {
            if let Outcome::Injected(injected) = objects(injector, item, prepare)? {
                *item = injected;
            }
        }
        return Ok(Outcome::Injected(list));
    }
    let Some(place) = template(kind) else {
        return Ok(Outcome::Unchanged(None));
    };
    let Some(template) = object.pointer(place) else {
        return Ok(Outcome::Unchanged(None));
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = &object["metadata"];
    let namespace = Some(text(&template["metadata"]["namespace"])).filter(|name| !name.is_empty());
    let namespace = namespace.unwrap_or_else(|| text(&own["namespace"]));
    // A job is made by its template, whose labels are those that a CronJob's pods have.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    match injector.decide(&pod, &namespace) {
        Decision::Inject => {}
        why => return Ok(Outcome::Unchanged(Some(why))),
    }
    let mut subject = Subject {
        namespace: &namespace,
        owner_name: text(&own["name"]),
        owner_namespace: text(&own["namespace"]),
        owner_kind: kind.to_owned(),
        owner_api_version: text(&object["apiVersion"]),
        proxy_config: injector.mesh_proxy_config(),
        ..Subject::default()
    };
    if kind == "Pod" {
        owner(&pod, &mut subject);
    }
    prepare(&mut subject);
    let made = injector.inject(&pod, &subject)?;
    let mut injected = object.clone();
    if let Some(template) = injected.pointer_mut(place) {
        template["metadata"] = made["metadata"].clone();
        template["spec"] = made["spec"].clone();
    }
    Ok(Outcome::Injected(injected))
}

/// What made a pod, from its owner and its name: a ReplicaSet of a Deployment is named after it, and so is a Job of a CronJob.
pub(crate) fn owner(pod: &Value, subject: &mut Subject<'_>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &pod["metadata"];
    subject.owner_namespace = subject.namespace.to_owned();
    subject.owner_kind = "Pod".to_owned();
    subject.owner_api_version = "v1".to_owned();
    subject.owner_name = text(&metadata["name"]);
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
        return;
    };
    let generated = text(&metadata["generateName"]);
    if generated.is_empty() && subject.owner_name.is_empty() {
        return;
    }
    subject.owner_name = text(&owner["name"]);
    subject.owner_kind = text(&owner["kind"]);
    subject.owner_api_version = text(&owner["apiVersion"]);
    let hash = pod["metadata"]["labels"]["pod-template-hash"]
        .as_str()
        .unwrap_or_default();
    match subject.owner_kind.as_str() {
        "ReplicaSet" if !hash.is_empty() && subject.owner_name.ends_with(hash) => {
            let name = subject
                .owner_name
                .trim_end_matches(hash)
                .trim_end_matches('-')
                .to_owned();
            subject.owner_name = name;
            subject.owner_kind = "Deployment".to_owned();
        }
        "ReplicationController" => {
            if let Some(name) = metadata["labels"]["deploymentconfig"].as_str() {
                subject.owner_name = name.to_owned();
                subject.owner_kind = "DeploymentConfig".to_owned();
                subject.owner_api_version = "apps.openshift.io/v1".to_owned();
            }
        }
        "Job" => {
            // The number at its end is the time for which it was made.
            let name = subject.owner_name.rsplit_once('-');
            if let Some((name, _)) =
                name.filter(|(_, time)| time.len() >= 8 && time.bytes().all(|b| b.is_ascii_digit()))
            {
                subject.owner_name = name.to_owned();
                subject.owner_kind = "CronJob".to_owned();
            }
        }
        _ => {}
    }
}

impl Subject<'_> {
    /// Fills in what made the pod, from its owner and its name.
    pub fn owned_as(&mut self, pod: &Value) {
        owner(pod, self);
    }
}
