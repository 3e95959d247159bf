//! Who a stateful set's pod is: its name and ordinal, host name, labels and volumes.

use corten_apiserver::resources::PODS;
use serde_json::{Value, json};

use crate::controllers::action::{Action, place};
use crate::controllers::revision::{self, REVISION_LABEL, Revisions};
use crate::controllers::{object, pod};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal at the end of a pod's name.
pub(super) fn ordinal(pod: &Value) -> Option<i64> {
    let (_, ordinal) = object::name(pod).rsplit_once('-')?;
    if ordinal.is_empty() || !ordinal.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    ordinal.parse().ok()
}

/// Whether a pod's name is one that the set gives.
pub(super) fn is_member(set: &Value, pod: &Value) -> bool {
    ordinal(pod).is_some()
        && object::name(pod)
            .rsplit_once('-')
            .is_some_and(|(parent, _)| parent == object::name(set))
}

/// The pod to make for an ordinal, which is `index` steps above the first one: of the present revision below the partition.
pub(super) fn next(set: &Value, revisions: &Revisions<'_>, ordinal: i64, index: i64) -> Value {
    let is_rolling = object::text(set, "/spec/updateStrategy/type") != "OnDelete";
    let keeps_current = match set.pointer("/spec/updateStrategy/rollingUpdate") {
        Some(rolling) => index < object::number(rolling, "/partition").unwrap_or(0),
        None => is_rolling && index < object::number(set, "/status/currentReplicas").unwrap_or(0),
    };
    let revision = if keeps_current {
        revisions.current()
    } else {
        revisions.update()
    };
    pod(&revision::with_template(set, revision), ordinal, object::name(revision))
}

/// The pod of an ordinal, from a set whose template is that of `revision`.
fn pod(set: &Value, ordinal: i64, revision: &str) -> Value {
    let mut pod = pod::from_template(set);
    let name = format!("{}-{ordinal}", object::name(set));
    for (label, value) in [
        (NAME_LABEL, name.as_str()),
        (INDEX_LABEL, &ordinal.to_string()),
        (REVISION_LABEL, revision),
    ] {
        object::put(&mut pod, &["metadata", "labels", label], json!(value));
    }
    object::put(&mut pod, &["metadata", "name"], json!(name));
    object::put(&mut pod, &["spec", "hostname"], json!(name));
    let service = object::text(set, "/spec/serviceName");
    if !service.is_empty() {
        object::put(&mut pod, &["spec", "subdomain"], json!(service));
    }
    add_volumes(set, &mut pod);
    pod
}

/// Gives the pod an emptyDir in place of each claim, so that what mounts it can start.
fn add_volumes(set: &Value, pod: &mut Value) {
    let claims: Vec<&str> = object::items(set, "/spec/volumeClaimTemplates")
        .iter()
        .map(object::name)
        .collect();
    if claims.is_empty() {
        return;
    }
    let mut volumes: Vec<Value> = object::items(pod, "/spec/volumes")
        .iter()
        .filter(|volume| !claims.contains(&object::text(volume, "/name")))
        .cloned()
        .collect();
    volumes.extend(claims.iter().map(|claim| json!({"name": claim, "emptyDir": {}})));
    object::put(pod, &["spec", "volumes"], json!(volumes));
}

/// Gives a pod its labels back when somebody took them.
pub(super) fn repair(pod: &Value) -> Option<Action> {
    if object::label(pod, NAME_LABEL) == Some(object::name(pod)) {
        return None;
    }
    let index = ordinal(pod)?.to_string();
    Some(Action::Patch {
        place: place(&PODS, pod),
        subresource: None,
        patch: json!({"metadata": {"uid": object::uid(pod), "labels": {
            NAME_LABEL: object::name(pod),
            INDEX_LABEL: index,
        }}}),
        announce: None,
    })
}
