//! Whether what was installed is ready, and what a pod that is not is waiting for: judged from objects alone.

use serde_json::Value;

/// Whether a workload runs as it was last written: `None`, or what it waits for.
pub fn workload(object: &Value) -> Option<String> {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let (spec, status) = (&object["spec"], &object["status"]);
    if number(&status["observedGeneration"]) < number(&object["metadata"]["generation"]) {
        return Some("the cluster has not taken notice of it yet".to_owned());
    }
    if object["kind"] == "DaemonSet" {
        let wanted = number(&status["desiredNumberScheduled"]);
        let (updated, ready) = (
            number(&status["updatedNumberScheduled"]),
            number(&status["numberReady"]),
        );
        // Before the controller has looked at the nodes there is nothing to wait for, which is not the same as being there.
        if status["desiredNumberScheduled"].is_null() {
            return Some("no pods were made yet".to_owned());
        }
        if updated < wanted {
            return Some(format!("{updated} of {wanted} nodes have the new pod"));
        }
        return (ready < wanted).then(|| format!("{ready} of {wanted} nodes are ready"));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (updated, ready) = (number(&status["updatedReplicas"]), number(&status["availableReplicas"]));
    if updated < wanted {
        return Some(format!("{updated} of {wanted} replicas are new"));
    }
    if number(&status["replicas"]) > updated {
        return Some(format!(
            "{} old replicas still run",
            number(&status["replicas"]) - updated
        ));
    }
    (ready < wanted).then(|| format!("{ready} of {wanted} replicas are available"))
}

/// Why a workload has no pods, if it says so or events do: a quota, or a policy that forbids them.
pub fn refused(workload: &Value, events: &[Value]) -> Option<String> {
    let conditions = workload["status"]["conditions"].as_array().into_iter().flatten();
    let failure = conditions
        .into_iter()
        .find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True");
    let said = failure.and_then(|failure| failure["message"].as_str());
    said.map(str::to_owned).or_else(|| warned(workload, events))
}

/// The last warning about an object.
fn warned(object: &Value, events: &[Value]) -> Option<String> {
    let about = |event: &&Value| {
        event["type"] == "Warning"
            && event["involvedObject"]["kind"] == object["kind"]
            && event["involvedObject"]["name"] == object["metadata"]["name"]
    };
    // Times are texts whose order is that of time.
    let when = |event: &&Value| {
        let time = event["lastTimestamp"].as_str().or_else(|| event["eventTime"].as_str());
        time.unwrap_or_default().to_owned()
    };
    let last = events.iter().filter(about).max_by_key(when)?;
    last["message"].as_str().map(|message| message.trim().to_owned())
}

/// What a pod that is not ready is waiting for; `None` when it is ready. Events say why its containers are not made.
pub fn pod(object: &Value, events: &[Value]) -> Option<String> {
    let status = &object["status"];
    let condition = |name: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().find(|condition| condition["type"] == name)
    };
    let is_ready = condition("Ready").is_some_and(|ready| ready["status"] == "True");
    if is_ready || status["phase"] == "Succeeded" {
        return None;
    }
    if let Some(scheduled) = condition("PodScheduled")
        && scheduled["status"] == "False"
    {
        let why = scheduled["message"].as_str().unwrap_or("no reason is given");
        return Some(format!("no node takes it: {why}"));
    }
    let containers = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|key| status[key].as_array().into_iter().flatten());
    for container in containers {
        let name = container["name"].as_str().unwrap_or_default();
        let image = container["image"].as_str().unwrap_or_default();
        let said = |state: &Value| {
            let message = state["message"]
                .as_str()
                .map(|text| format!(": {text}"))
                .unwrap_or_default();
            (state["reason"].as_str().unwrap_or_default().to_owned(), message)
        };
        let state = &container["state"];
        if state["waiting"].is_object() {
            let (reason, message) = said(&state["waiting"]);
            return Some(match reason.as_str() {
                "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => format!(
                    "container {name} has no image {image} ({reason}{message}); load it onto the nodes (`cargo xtask image` makes it), or name another with --set hub=... --set tag=..."
                ),
                "CrashLoopBackOff" => {
                    let (reason, message) = said(&container["lastState"]["terminated"]);
                    format!(
                        "container {name} ends again and again ({reason}{message}); its log says why: kubectl logs -n {} {} -c {name} --previous",
                        object["metadata"]["namespace"].as_str().unwrap_or_default(),
                        object["metadata"]["name"].as_str().unwrap_or_default()
                    )
                }
                "ContainerCreating" | "PodInitializing" | "" => match warned(object, events) {
                    Some(why) => format!("container {name} is being made: {why}"),
                    None => format!("container {name} is being made"),
                },
                reason => format!("container {name}: {reason}{message}"),
            });
        }
        if state["terminated"].is_object() {
            let code = state["terminated"]["exitCode"].as_i64().unwrap_or_default();
            return Some(format!("container {name} ended with code {code}"));
        }
        if container["ready"] != Value::Bool(true) {
            // That its probe fails is known; the program itself may have said why.
            let own: Vec<Value> = events
                .iter()
                .filter(|event| event["reason"] != "Unhealthy")
                .cloned()
                .collect();
            let why = warned(object, &own).map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!("container {name} runs and is not ready{why}"));
        }
    }
    let phase = status["phase"].as_str().unwrap_or("Pending");
    Some(format!("it is {phase}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_say_what_is_missing() {
        let deployment = |status: Value| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        for (status, expected) in [
            (json!({"observedGeneration": 1}), Some("has not taken notice")),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 1}),
                Some("1 of 2 replicas are new"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3}),
                Some("1 old"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1}),
                Some("1 of 2 replicas are available"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
                None,
            ),
        ] {
            let said = workload(&deployment(status));
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        let set =
            |status: Value| workload(&json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": status}));
        assert!(set(json!({"observedGeneration": 1})).is_some());
        assert!(set(json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1})).is_some());
        assert!(set(json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2})).is_none());
    }

    #[test]
    fn pods_say_what_they_wait_for() {
        let waiting = |reason: &str| {
            json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Pending", "containerStatuses": [
                {"name": "c", "image": "i:1", "ready": false, "state": {"waiting": {"reason": reason, "message": "m"}}, "lastState": {}}
            ]}})
        };
        for (reason, expected) in [
            ("ErrImageNeverPull", "no image i:1 (ErrImageNeverPull: m); load it"),
            ("CrashLoopBackOff", "kubectl logs -n n p -c c --previous"),
            ("CreateContainerConfigError", "CreateContainerConfigError: m"),
            ("ContainerCreating", "being made"),
        ] {
            assert!(pod(&waiting(reason), &[]).unwrap().contains(expected), "{reason}");
        }
        let unscheduled =
            json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]}});
        assert!(pod(&unscheduled, &[]).unwrap().contains("no node takes it: 0/2 nodes"));
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(pod(&ready, &[]), None);
        assert_eq!(
            pod(&json!({"status": {"phase": "Pending"}}), &[]).unwrap(),
            "it is Pending"
        );
    }

    #[test]
    fn events_say_why_pods_are_not_made() {
        let event = |kind: &str, name: &str, when: &str, message: &str| json!({"type": "Warning", "lastTimestamp": when, "message": message, "involvedObject": {"kind": kind, "name": name}});
        let events = [
            event(
                "Pod",
                "p",
                "2026-01-02T00:00:00Z",
                "MountVolume.SetUp failed: configmap \"c\" not found",
            ),
            event("Pod", "p", "2026-01-01T00:00:00Z", "earlier"),
            event("DaemonSet", "d", "2026-01-01T00:00:00Z", "exceeded quota"),
        ];
        let made = json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}
        ]}});
        assert!(
            pod(&made, &events)
                .unwrap()
                .ends_with("being made: MountVolume.SetUp failed: configmap \"c\" not found")
        );
        let runs = json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "ready": false, "state": {"running": {}}}]}});
        let mut unhealthy = event("Pod", "p", "2026-01-03T00:00:00Z", "Readiness probe failed");
        unhealthy["reason"] = json!("Unhealthy");
        let said = pod(&runs, &[events[1].clone(), unhealthy]).unwrap();
        assert_eq!(said, "container c runs and is not ready: earlier");
        let set = json!({"kind": "DaemonSet", "metadata": {"name": "d"}});
        assert_eq!(refused(&set, &events).unwrap(), "exceeded quota");
        let failed = json!({"kind": "Deployment", "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "forbidden"}]}});
        assert_eq!(refused(&failed, &[]).unwrap(), "forbidden");
    }
}
