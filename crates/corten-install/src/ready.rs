//! Whether what was installed is ready, and what a pod that is not is waiting for: judged from objects alone.

use std::collections::BTreeSet;

use serde_json::Value;

/// How far a workload is with what was last written of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Its controller has not seen it yet.
    Unnoticed,
    /// Its controller has not looked at the nodes yet, so that there is nothing to wait for, which is not the same as being there.
    Unmade,
    /// So many of so many pods (of a DaemonSet: nodes that have one) are new.
    Updating(i64, i64),
    /// All are, and so many old ones still run.
    Ending(i64),
    /// So many of so many new ones are available.
    Starting(i64, i64),
    /// It is as it was written.
    Done,
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn is_unnoticed(object: &Value) -> bool {
    count(&object["status"]["observedGeneration"]) < count(&object["metadata"]["generation"])
}

/// How far a Deployment or DaemonSet is, by its own counts.
pub fn rollout(object: &Value) -> Rollout {
    let status = &object["status"];
    if is_unnoticed(object) {
        return Rollout::Unnoticed;
    }
    if object["kind"] == "DaemonSet" {
        if status["desiredNumberScheduled"].is_null() {
            return Rollout::Unmade;
        }
        let wanted = count(&status["desiredNumberScheduled"]);
        let (updated, available) = (&status["updatedNumberScheduled"], &status["numberAvailable"]);
        return counted(count(updated), count(available), wanted);
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (updated, all) = (count(&status["updatedReplicas"]), count(&status["replicas"]));
    if updated < wanted {
        return Rollout::Updating(updated, wanted);
    }
    if all > updated {
        return Rollout::Ending(all - updated);
    }
    counted(updated, count(&status["availableReplicas"]), updated)
}

fn counted(updated: i64, available: i64, wanted: i64) -> Rollout {
    if updated < wanted {
        Rollout::Updating(updated, wanted)
    } else if available < wanted {
        Rollout::Starting(available, wanted)
    } else {
        Rollout::Done
    }
}

/// How far a DaemonSet is, by the pods on its nodes that stay: `newest` is the hash of what was last written of it.
///
/// Its own counts are of each node's oldest pod, which may be one that is replaced and serves what it still has, for an hour.
pub fn nodes(object: &Value, pods: &[Value], newest: Option<&str>) -> Rollout {
    let by_counts = rollout(object);
    let (Some(newest), false) = (newest, matches!(by_counts, Rollout::Unnoticed | Rollout::Unmade)) else {
        return by_counts;
    };
    let is_new = |pod: &&Value| {
        pod["metadata"]["deletionTimestamp"].is_null()
            && pod["metadata"]["labels"]["controller-revision-hash"] == newest
    };
    let on = |pods: &mut dyn Iterator<Item = &Value>| {
        let nodes: BTreeSet<&str> = pods.filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        i64::try_from(nodes.len()).unwrap_or(i64::MAX)
    };
    let updated = on(&mut pods.iter().filter(is_new));
    let available = on(&mut pods.iter().filter(is_new).filter(|it| pod(it, &[]).is_none()));
    counted(updated, available, count(&object["status"]["desiredNumberScheduled"]))
}

/// What a workload waits for; `None`: nothing.
pub fn waits(object: &Value, rollout: Rollout) -> Option<String> {
    let of_nodes = object["kind"] == "DaemonSet";
    Some(match rollout {
        Rollout::Done => return None,
        Rollout::Unnoticed => "the cluster has not taken notice of it yet".to_owned(),
        Rollout::Unmade => "no pods were made yet".to_owned(),
        Rollout::Updating(updated, wanted) if of_nodes => format!("{updated} of {wanted} nodes have the new pod"),
        Rollout::Updating(updated, wanted) => format!("{updated} of {wanted} replicas are new"),
        Rollout::Ending(old) => format!("{old} old replicas still run"),
        Rollout::Starting(ready, wanted) if of_nodes => format!("{ready} of {wanted} nodes are ready"),
        Rollout::Starting(ready, wanted) => format!("{ready} of {wanted} replicas are available"),
    })
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
            let deployment = deployment(status);
            let said = waits(&deployment, rollout(&deployment));
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        let set = |status: Value| json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": status});
        let said = |status: Value| rollout(&set(status));
        assert_eq!(said(json!({"observedGeneration": 1})), Rollout::Unmade);
        let counts = |updated: u32, available: u32| json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available});
        assert_eq!(said(counts(1, 2)), Rollout::Updating(1, 2));
        assert_eq!(said(counts(2, 1)), Rollout::Starting(1, 2));
        assert_eq!(said(counts(2, 2)), Rollout::Done);
    }

    #[test]
    fn nodes_are_judged_by_the_pods_that_stay() {
        let set = json!({"kind": "DaemonSet", "metadata": {}, "status": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 0, "numberAvailable": 0}});
        let pod = |node: &str, hash: &str, ready: &str, ends: bool| {
            let mut pod = json!({"metadata": {"labels": {"controller-revision-hash": hash}}, "spec": {"nodeName": node},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if ends {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            pod
        };
        let draining = [pod("a", "old", "True", true), pod("b", "old", "True", true)];
        for (staying, expected) in [
            (vec![], Rollout::Updating(0, 2)),
            (
                vec![pod("a", "new", "True", false), pod("b", "old", "True", false)],
                Rollout::Updating(1, 2),
            ),
            (
                vec![pod("a", "new", "True", false), pod("b", "new", "False", false)],
                Rollout::Starting(1, 2),
            ),
            (
                vec![pod("a", "new", "True", false), pod("b", "new", "True", false)],
                Rollout::Done,
            ),
        ] {
            let pods = [&draining[..], &staying].concat();
            assert_eq!(nodes(&set, &pods, Some("new")), expected, "{staying:?}");
        }
        assert_eq!(
            nodes(&set, &[], None),
            Rollout::Updating(0, 2),
            "a cluster without revisions"
        );
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
