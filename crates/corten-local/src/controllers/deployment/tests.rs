//! Rollout steps as tables: a deployment and its replica sets in, sizes, events and conditions out.

use expect_test::{Expect, expect};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn deployment(replicas: i64, surge: &str, unavailable: &str) -> Value {
    let bound = |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "n", "name": "web", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"image": "new"}},
        },
        "status": {"observedGeneration": 1, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": "2026-01-01T00:09:00Z",
                "lastTransitionTime": "2026-01-01T00:09:00Z"},
        ]},
    })
}

/// A replica set: name (which is also its image and revision order), wanted size, pods there, available ones; for a deployment of `of` + `surge`.
fn set(name: &str, revision: i64, sizes: (i64, i64, i64), of: i64, max: i64) -> Value {
    let (size, there, available) = sizes;
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "namespace": "n", "name": name, "uid": name, "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:0{revision}Z"),
            "labels": {"app": "web", "pod-template-hash": name},
            "annotations": {
                "deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": of.to_string(),
                "deployment.kubernetes.io/max-replicas": max.to_string(),
            },
            "ownerReferences": [{"uid": "d", "kind": "Deployment", "name": "web", "controller": true}],
        },
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": name}},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": name}}, "spec": {"image": name}},
        },
        "status": {"observedGeneration": 1, "replicas": there, "readyReplicas": available, "availableReplicas": available},
    })
}

/// Actions in one line each.
fn render(actions: &[Action]) -> String {
    let line = |action: &Action| match action {
        Action::Create { object, .. } => format!("create {} of {}", object["kind"], object["spec"]["replicas"]),
        Action::Update { object, .. } => {
            format!(
                "update {} to {}",
                object["metadata"]["name"], object["spec"]["replicas"]
            )
        }
        Action::UpdateStatus { object, .. } => {
            let conditions: Vec<String> = object::items(object, "/status/conditions")
                .iter()
                .map(|c| {
                    format!(
                        "{}={} {}",
                        object::text(c, "/type"),
                        object::text(c, "/status"),
                        object::text(c, "/reason")
                    )
                })
                .collect();
            format!("status {}", conditions.join(", "))
        }
        Action::Delete { place, .. } => format!("delete {}", place.key),
        Action::Notify(notice) => format!("event {}: {}", notice.reason, notice.message),
        Action::Again(wait) => format!("again in {} s", wait.as_secs()),
        Action::Patch { place, patch, .. } => format!("patch {} {patch}", place.key),
        other => format!("{other:?}"),
    };
    actions.iter().map(|action| line(action) + "\n").collect()
}

#[track_caller]
fn check(deployment: &Value, sets: &[Value], wanted: Expect) {
    let sets: Vec<&Value> = sets.iter().collect();
    wanted.assert_eq(&render(&reconcile(deployment, &sets, &[], now())));
}

#[test]
fn a_new_deployment_gets_its_replica_set() {
    let actions = reconcile(&deployment(3, "25%", "25%"), &[], &[], now());
    let Some(Action::Create { object, .. }) = actions.first() else {
        panic!("{actions:?}");
    };
    let hash = object::label(object, "pod-template-hash").expect("a hash");
    assert_eq!(object::name(object), format!("web-{hash}"));
    assert_eq!(object["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    assert_eq!(
        object["spec"]["template"]["metadata"]["labels"]["pod-template-hash"],
        hash
    );
    assert_eq!(
        object::annotation(object, "deployment.kubernetes.io/max-replicas"),
        Some("4")
    );
}

#[test]
fn the_new_grows_into_the_surge_and_the_old_shrinks_as_the_new_becomes_available() {
    check(
        &deployment(4, "25%", "25%"),
        &[set("old", 1, (4, 4, 4), 4, 5), set("new", 2, (0, 0, 0), 4, 5)],
        expect![[r#"
            update "new" to 1
            event ScalingReplicaSet: Scaled up replica set new from 0 to 1
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
    check(
        &deployment(4, "25%", "25%"),
        &[set("old", 1, (4, 4, 4), 4, 5), set("new", 2, (1, 1, 0), 4, 5)],
        expect![[r#"
            update "old" to 3
            event ScalingReplicaSet: Scaled down replica set old from 4 to 3
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
    check(
        &deployment(4, "25%", "25%"),
        &[set("old", 1, (3, 3, 3), 4, 5), set("new", 2, (2, 2, 2), 4, 5)],
        expect![[r#"
            update "old" to 1
            event ScalingReplicaSet: Scaled down replica set old from 3 to 1
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
}

#[test]
fn a_bad_template_stops_the_rollout_and_unhealthy_old_pods_go_first() {
    check(
        &deployment(4, "0", "1"),
        &[set("old", 1, (3, 3, 3), 4, 4), set("new", 2, (1, 1, 0), 4, 4)],
        expect![[r#"
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
    check(
        &deployment(4, "1", "1"),
        &[set("old", 1, (4, 4, 2), 4, 5), set("new", 2, (1, 1, 1), 4, 5)],
        expect![[r#"
            update "old" to 2
            event ScalingReplicaSet: Scaled down replica set old from 4 to 2
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
}

#[test]
fn scaling_amid_a_rollout_is_spread_in_proportion() {
    check(
        &deployment(20, "5", "2"),
        &[set("old", 1, (8, 8, 8), 10, 13), set("new", 2, (5, 5, 5), 10, 13)],
        expect![[r#"
            update "old" to 15
            event ScalingReplicaSet: Scaled up replica set old from 8 to 15
            update "new" to 10
            event ScalingReplicaSet: Scaled up replica set new from 5 to 10
            status Progressing=True ReplicaSetUpdated, Available=False MinimumReplicasUnavailable
        "#]],
    );
}

#[test]
fn no_progress_within_the_deadline_is_said() {
    let mut stuck = deployment(2, "0", "1");
    stuck["status"] = json!({
        "observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "unavailableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
            "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    check(
        &stuck,
        &[set("old", 1, (1, 1, 1), 2, 2), set("new", 2, (1, 1, 0), 2, 2)],
        expect![[r#"
            status Available=True MinimumReplicasAvailable, Progressing=False ProgressDeadlineExceeded
        "#]],
    );
}

#[test]
fn old_revisions_beyond_the_limit_go_when_the_rollout_is_complete() {
    let mut done = deployment(1, "1", "0");
    done["status"] = json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "conditions": [
            {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        ],
    });
    done["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "4"});
    check(
        &done,
        &[
            set("old1", 1, (0, 0, 0), 1, 2),
            set("old2", 2, (0, 0, 0), 1, 2),
            set("old3", 3, (0, 0, 0), 1, 2),
            set("new", 4, (1, 1, 1), 1, 2),
        ],
        expect![[r#"
            delete n/old1
            delete n/old2
        "#]],
    );
}

#[test]
fn recreate_ends_the_old_before_it_starts_the_new() {
    let mut recreate = deployment(2, "0", "0");
    recreate["spec"]["strategy"] = json!({"type": "Recreate"});
    check(
        &recreate,
        &[set("old", 1, (2, 2, 2), 2, 2)],
        expect![[r#"
            update "old" to 0
            event ScalingReplicaSet: Scaled down replica set old from 2 to 0
            again in 601 s
            status Available=True MinimumReplicasAvailable, Progressing=True ReplicaSetUpdated
        "#]],
    );
    let sets = [set("old", 1, (0, 0, 0), 2, 2)];
    let sets: Vec<&Value> = sets.iter().collect();
    let pod =
        json!({"metadata": {"ownerReferences": [{"uid": "old", "controller": true}]}, "status": {"phase": "Running"}});
    let waiting = reconcile(&recreate, &sets, &[&pod], now());
    assert!(
        !waiting.iter().any(|action| matches!(action, Action::Create { .. })),
        "{waiting:?}"
    );
    let free = reconcile(&recreate, &sets, &[], now());
    assert!(matches!(free.first(), Some(Action::Create { .. })), "{free:?}");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut paused = deployment(3, "1", "0");
    paused["spec"]["paused"] = json!(true);
    check(
        &paused,
        &[set("old", 1, (2, 2, 2), 2, 3)],
        expect![[r#"
            update "old" to 3
            event ScalingReplicaSet: Scaled up replica set old from 2 to 3
            status Progressing=Unknown DeploymentPaused, Available=False MinimumReplicasUnavailable
        "#]],
    );
}

#[test]
fn a_taken_name_salts_the_next_hash() {
    let deployment = deployment(1, "1", "0");
    let actions = reconcile(&deployment, &[], &[], now());
    let failure = Failure {
        action: actions[0].clone(),
        status: corten_apiserver::Status::already_exists("apps", "replicasets", "web-x"),
    };
    let Some(Action::UpdateStatus { object, .. }) = failed(&deployment, &[], &failure, now()).pop() else {
        panic!("the collision is counted");
    };
    assert_eq!(object["status"]["collisionCount"], 1);
    let salted = reconcile(&object, &[], &[], now());
    let name = |action: &Action| match action {
        Action::Create { object, .. } => object::name(object).to_owned(),
        other => panic!("{other:?}"),
    };
    assert_ne!(name(&salted[0]), name(&actions[0]));
}
