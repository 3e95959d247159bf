//! Deployments, replica sets, stateful sets and daemon sets: selector, template, strategy, and what stays as it was created.

use corten_schema::{ErrorKind, FieldError};
use serde_json::{Value, json};

use super::{Faults, metadata, not_negative, one_of, pods, required_format, selectors, structure, text};
use crate::object;

const STATEFUL_FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// What is wrong with an object that makes pods from a template.
pub(crate) fn workload(new: &Value, old: Option<&Value>) -> Faults {
    let mut faults = Faults::new();
    let spec = &new["spec"];
    let kind = text(new, "kind");
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&mut faults, &std::format!("spec.{field}"), &spec[field]);
    }
    if kind == "StatefulSet" {
        stateful(&mut faults, spec);
    }
    selector(&mut faults, kind, spec);
    template(&mut faults, kind, spec);
    if kind == "DaemonSet" {
        daemon_strategy(&mut faults, &spec["updateStrategy"]);
        not_negative(&mut faults, "spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
    }
    if kind == "Deployment" {
        strategy(&mut faults, &spec["strategy"]);
        not_negative(&mut faults, "spec.revisionHistoryLimit", &spec["revisionHistoryLimit"]);
        progress(&mut faults, spec);
    }
    if let Some(old) = old {
        changes(&mut faults, kind, spec, &old["spec"]);
    }
    faults
}

fn selector(faults: &mut Faults, kind: &str, spec: &Value) {
    let selector = &spec["selector"];
    if selector.is_null() {
        faults.push(FieldError::required("spec.selector", ""));
    } else {
        let before = faults.len();
        selectors::selector(faults, "spec.selector", selector);
        let well_formed = faults.len() == before;
        let empty = ["matchLabels", "matchExpressions"].iter().all(|key| {
            selector[*key].as_object().is_none_or(serde_json::Map::is_empty)
                && object::items(&selector[*key]).is_empty()
        });
        if empty {
            let set = match kind {
                "StatefulSet" => "statefulset",
                "DaemonSet" => "daemonset",
                _ => "deployment",
            };
            let why = std::format!("empty selector is invalid for {set}");
            faults.push(FieldError::invalid("spec.selector", json!({}), why));
            return;
        }
        if !well_formed {
            let why = if kind == "StatefulSet" {
                ""
            } else {
                "invalid label selector"
            };
            let shown = super::ordered(selector, &["matchLabels", "matchExpressions"]);
            faults.push(structure(ErrorKind::Invalid, "spec.selector", &shown, why));
            return;
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if !selectors::selects(selector, labels) {
        let why = "`selector` does not match template `labels`";
        faults.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels.clone(),
            why,
        ));
    }
}

fn template(faults: &mut Faults, kind: &str, spec: &Value) {
    let template = &spec["template"];
    metadata::labels(faults, "spec.template.labels", &template["metadata"]["labels"]);
    metadata::annotations(
        faults,
        "spec.template.annotations",
        &template["metadata"]["annotations"],
    );
    let claims = object::items(&spec["volumeClaimTemplates"]);
    let spec = &with_claims(&template["spec"], claims);
    pods::specification(faults, "spec.template.spec", spec);
    if !object::items(&spec["ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        faults.push(FieldError::forbidden("spec.template.spec.ephemeralContainers", why));
    }
    let known = |policy: &str| matches!(policy, "Always" | "OnFailure" | "Never");
    if known(text(spec, "restartPolicy")) {
        one_of(
            faults,
            "spec.template.spec.restartPolicy",
            &spec["restartPolicy"],
            &["Always"],
        );
    }
    if !spec["activeDeadlineSeconds"].is_null() {
        let set = match kind {
            "StatefulSet" | "DaemonSet" => kind,
            _ => "ReplicaSet",
        };
        let why = std::format!("activeDeadlineSeconds in {set} is not Supported");
        faults.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

/// A pod's specification with the volumes that the claims of a stateful set will make in it.
fn with_claims(spec: &Value, claims: &[Value]) -> Value {
    let mut whole = spec.clone();
    let mut volumes = object::items(&spec["volumes"]).to_vec();
    for claim in claims.iter().map(object::name) {
        volumes.retain(|volume| text(volume, "name") != claim);
        volumes.push(json!({ "name": claim, "emptyDir": {} }));
    }
    if !claims.is_empty() {
        object::as_map(&mut whole).insert("volumes".to_owned(), Value::Array(volumes));
    }
    whole
}

fn strategy(faults: &mut Faults, strategy: &Value) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "Recreate" if !rolling.is_null() => faults.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "Recreate" | "" => {}
        "RollingUpdate" => rolling_update(faults, "spec.strategy.rollingUpdate", rolling),
        other => {
            let shown = std::format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}");
            let why = "supported values: \"Recreate\", \"RollingUpdate\"";
            faults.push(structure(ErrorKind::NotSupported, "spec.strategy", &shown, why));
        }
    }
}

/// A daemon set's: like a deployment's, except that not both bounds may be above zero.
fn daemon_strategy(faults: &mut Faults, strategy: &Value) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "OnDelete" | "" => {}
        "RollingUpdate" => {
            let path = "spec.updateStrategy.rollingUpdate";
            rolling_update(faults, path, rolling);
            let given = |key: &str| {
                !matches!(rolling[key].as_str(), Some("0%")) && rolling[key] != 0 && !rolling[key].is_null()
            };
            if given("maxSurge") && given("maxUnavailable") {
                let why = "may not be set when maxUnavailable is non-zero";
                let value = rolling["maxSurge"].clone();
                faults.push(FieldError::invalid(std::format!("{path}.maxSurge"), value, why));
            }
        }
        other => {
            let why = "supported values: \"RollingUpdate\", \"OnDelete\"";
            faults.push(structure(
                ErrorKind::NotSupported,
                "spec.updateStrategy.type",
                &std::format!("{other:?}"),
                why,
            ));
        }
    }
}

fn rolling_update(faults: &mut Faults, parent: &str, rolling: &Value) {
    let path = |key: &str| std::format!("{parent}.{key}");
    let mut zero = 0;
    for key in ["maxUnavailable", "maxSurge"] {
        let value = &rolling[key];
        match value.as_str() {
            Some(percent) => match percent.strip_suffix('%').and_then(|p| p.parse::<u32>().ok()) {
                None => faults.push(FieldError::invalid(path(key), percent, PERCENT)),
                Some(0) => zero += 1,
                Some(over) if over > 100 && key == "maxUnavailable" => {
                    faults.push(FieldError::invalid(path(key), percent, "must not be greater than 100%"));
                }
                Some(_) => {}
            },
            None => {
                not_negative(faults, &path(key), value);
                zero += i32::from(value.as_i64() == Some(0));
            }
        }
    }
    if zero == 2 {
        let why = "may not be 0 when `maxSurge` is 0";
        let value = rolling["maxUnavailable"].clone();
        faults.push(FieldError::invalid(path("maxUnavailable"), value, why));
    }
}

fn progress(faults: &mut Faults, spec: &Value) {
    let path = "spec.progressDeadlineSeconds";
    not_negative(faults, path, &spec["progressDeadlineSeconds"]);
    let ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if let Some(seconds) = spec["progressDeadlineSeconds"].as_i64().filter(|s| *s <= ready) {
        faults.push(FieldError::invalid(
            path,
            seconds,
            "must be greater than minReadySeconds",
        ));
    }
}

fn stateful(faults: &mut Faults, spec: &Value) {
    let policy = text(spec, "podManagementPolicy");
    if !matches!(policy, "" | "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        faults.push(FieldError::invalid("spec.podManagementPolicy", policy, why));
    }
    let update = &spec["updateStrategy"];
    let rolling = &update["rollingUpdate"];
    match text(update, "type") {
        "RollingUpdate" | "" => not_negative(
            faults,
            "spec.updateStrategy.rollingUpdate.partition",
            &rolling["partition"],
        ),
        "OnDelete" => {
            if !rolling.is_null() {
                let (partition, most) = (&rolling["partition"], &rolling["maxUnavailable"]);
                let shown = std::format!("{{\"Partition\":{partition},\"MaxUnavailable\":{most}}}");
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                let path = "spec.updateStrategy.rollingUpdate";
                faults.push(structure(ErrorKind::Invalid, path, &shown, why));
            }
        }
        other => {
            let shown = std::format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}");
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            faults.push(structure(ErrorKind::Invalid, "spec.updateStrategy", &shown, why));
        }
    }
    for key in ["whenDeleted", "whenScaled"] {
        let path = std::format!("spec.persistentVolumeClaimRetentionPolicy.{key}");
        let policy = &spec["persistentVolumeClaimRetentionPolicy"][key];
        one_of(faults, &path, policy, &["Retain", "Delete"]);
    }
    not_negative(faults, "spec.ordinals.start", &spec["ordinals"]["start"]);
    if !text(spec, "serviceName").is_empty() {
        required_format(
            faults,
            "spec.serviceName",
            text(spec, "serviceName"),
            super::names::label,
        );
    }
}

fn changes(faults: &mut Faults, kind: &str, new: &Value, old: &Value) {
    if kind != "StatefulSet" {
        super::immutable(faults, "spec.selector", &new["selector"], &old["selector"]);
        return;
    }
    let fixed = ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"];
    if fixed.iter().any(|key| new[*key] != old[*key]) {
        faults.push(FieldError::forbidden("spec", STATEFUL_FIXED));
    }
}
