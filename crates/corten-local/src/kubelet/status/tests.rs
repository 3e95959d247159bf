use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::kubelet::lifecycle::{Input, Plan, StartFailure};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("in range")
}

struct Case {
    pod: Pod,
    life: Lifecycle,
    previous: Value,
    written: Value,
}

impl Case {
    fn new(spec: Value) -> Self {
        let pod = json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u", "generation": 1 }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let mut life = Lifecycle::new(Plan::of(&pod), at(0));
        life.step(at(0));
        Self {
            pod,
            life,
            previous: json!({}),
            written: json!({}),
        }
    }

    fn input(&mut self, second: i64, input: Input) -> &mut Self {
        self.life.input(input, at(second));
        self.life.step(at(second));
        self
    }

    fn prepared(&mut self) -> &mut Self {
        let ips = vec![
            "10.244.1.2".parse().expect("an address"),
            "fd00::2".parse().expect("an address"),
        ];
        self.input(1, Input::Prepared { ips })
    }

    fn running(&mut self, second: i64, container: usize) -> &mut Self {
        let id = format!("corten://{container}");
        self.input(second, Input::Running { container, id })
    }

    fn render(&mut self, second: i64) -> Value {
        let host = ["192.168.77.11".parse().expect("an address")];
        let before = conditions_before(&self.previous, &self.written);
        let status = render(&self.pod, &self.life, &host, &before, at(second));
        self.written = status.clone();
        self.previous = status.clone();
        status
    }

    /// One line: phase, conditions that do not hold, container states.
    fn brief(&mut self, second: i64) -> String {
        let status = self.render(second);
        let unmet: Vec<String> = status["conditions"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|condition| condition["status"] != "True")
            .map(|condition| {
                format!(
                    "{}({})",
                    condition["type"].as_str().unwrap_or(""),
                    condition["reason"].as_str().unwrap_or("")
                )
            })
            .collect();
        let lists = ["initContainerStatuses", "containerStatuses"];
        let states: Vec<String> = lists
            .iter()
            .filter_map(|list| status[*list].as_array())
            .flatten()
            .map(|of| {
                let state = of["state"]
                    .as_object()
                    .and_then(|state| state.iter().next())
                    .expect("one state");
                let reason = state.1["reason"].as_str().unwrap_or("");
                let ready = if of["ready"] == true { "+" } else { "-" };
                format!("{}{ready}{}:{reason}", of["name"].as_str().unwrap_or(""), state.0)
            })
            .collect();
        format!(
            "{} !{} {}",
            status["phase"].as_str().unwrap_or(""),
            unmet.join(","),
            states.join(" ")
        )
    }
}

fn app() -> Value {
    json!({ "name": "app", "image": "known:1", "volumeMounts": [{ "name": "v", "mountPath": "/v", "readOnly": true }] })
}

#[track_caller]
fn check(value: &Value, expect: Expect) {
    expect.assert_eq(&format!("{value:#}\n"));
}

#[test]
fn a_running_pod_as_kubectl_shows_it() {
    let mut case = Case::new(json!({ "containers": [app()] }));
    case.render(0);
    let status = case.prepared().running(2, 0).render(3);
    check(
        &status,
        expect![[r#"
            {
              "conditions": [
                {
                  "lastProbeTime": null,
                  "lastTransitionTime": "2026-01-01T00:00:03Z",
                  "observedGeneration": 1,
                  "status": "True",
                  "type": "PodReadyToStartContainers"
                },
                {
                  "lastProbeTime": null,
                  "lastTransitionTime": "2026-01-01T00:00:00Z",
                  "observedGeneration": 1,
                  "status": "True",
                  "type": "Initialized"
                },
                {
                  "lastProbeTime": null,
                  "lastTransitionTime": "2026-01-01T00:00:03Z",
                  "observedGeneration": 1,
                  "status": "True",
                  "type": "Ready"
                },
                {
                  "lastProbeTime": null,
                  "lastTransitionTime": "2026-01-01T00:00:03Z",
                  "observedGeneration": 1,
                  "status": "True",
                  "type": "ContainersReady"
                },
                {
                  "lastProbeTime": null,
                  "lastTransitionTime": "2026-01-01T00:00:00Z",
                  "observedGeneration": 1,
                  "status": "True",
                  "type": "PodScheduled"
                }
              ],
              "containerStatuses": [
                {
                  "containerID": "corten://0",
                  "image": "known:1",
                  "imageID": "corten://known:1",
                  "lastState": {},
                  "name": "app",
                  "ready": true,
                  "resources": {},
                  "restartCount": 0,
                  "started": true,
                  "state": {
                    "running": {
                      "startedAt": "2026-01-01T00:00:02Z"
                    }
                  },
                  "volumeMounts": [
                    {
                      "mountPath": "/v",
                      "name": "v",
                      "readOnly": true,
                      "recursiveReadOnly": "Disabled"
                    }
                  ]
                }
              ],
              "hostIP": "192.168.77.11",
              "hostIPs": [
                {
                  "ip": "192.168.77.11"
                }
              ],
              "message": null,
              "observedGeneration": 1,
              "phase": "Running",
              "podIP": "10.244.1.2",
              "podIPs": [
                {
                  "ip": "10.244.1.2"
                },
                {
                  "ip": "fd00::2"
                }
              ],
              "qosClass": "BestEffort",
              "reason": null,
              "startTime": "2026-01-01T00:00:00Z"
            }
        "#]],
    );
}

#[test]
fn phases_and_conditions_on_the_way() {
    let mut case = Case::new(json!({ "initContainers": [{ "name": "init" }], "containers": [app()] }));
    let not_ready = "Ready(ContainersNotReady),ContainersReady(ContainersNotReady)";
    assert_eq!(
        case.brief(0),
        format!(
            "Pending !PodReadyToStartContainers(),Initialized(ContainersNotInitialized),{not_ready} init-waiting:PodInitializing app-waiting:PodInitializing"
        )
    );
    assert_eq!(
        case.prepared().running(1, 0).brief(1),
        format!("Pending !Initialized(ContainersNotInitialized),{not_ready} init-running: app-waiting:PodInitializing")
    );
    let exited = |container: usize, code: i32| Input::Exited {
        container,
        code,
        message: String::new(),
    };
    assert_eq!(
        case.input(2, exited(0, 0)).brief(2),
        format!("Pending !{not_ready} init+terminated:Completed app-waiting:PodInitializing")
    );
    assert_eq!(
        case.running(3, 1).brief(3),
        "Running ! init+terminated:Completed app+running:"
    );
    assert_eq!(
        case.input(4, exited(1, 1)).brief(4),
        format!("Running !{not_ready} init+terminated:Completed app-terminated:Error")
    );
    case.running(5, 1).input(6, exited(1, 1));
    assert_eq!(
        case.brief(6),
        format!("Running !{not_ready} init+terminated:Completed app-waiting:CrashLoopBackOff")
    );
}

#[test]
fn a_pod_that_ends() {
    let exited = |code: i32| Input::Exited {
        container: 0,
        code,
        message: String::new(),
    };
    let ended = |policy: &str, code: i32| {
        let mut case = Case::new(json!({ "restartPolicy": policy, "containers": [app()] }));
        case.prepared()
            .running(1, 0)
            .input(2, exited(code))
            .input(3, Input::TornDown)
            .brief(3)
    };
    let over = |reason: &str| format!("!PodReadyToStartContainers(),Ready({reason}),ContainersReady({reason})");
    assert_eq!(
        ended("Never", 0),
        format!("Succeeded {} app-terminated:Completed", over("PodCompleted"))
    );
    assert_eq!(
        ended("OnFailure", 0),
        format!("Succeeded {} app-terminated:Completed", over("PodCompleted"))
    );
    assert_eq!(
        ended("Never", 2),
        format!("Failed {} app-terminated:Error", over("PodFailed"))
    );
}

#[test]
fn a_deadline_is_told_with_its_reason() {
    let mut case = Case::new(json!({ "activeDeadlineSeconds": 5, "containers": [app()] }));
    case.prepared().running(1, 0);
    case.life.step(at(6));
    let status = case.render(6);
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
}

#[test]
fn readiness_gates_and_foreign_conditions() {
    let mut case = Case::new(json!({ "readinessGates": [{ "conditionType": "x.y/z" }], "containers": [app()] }));
    let status = case.prepared().running(1, 0).render(1);
    let ready = |status: &Value| {
        let found = status["conditions"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|of| of["type"] == "Ready")
            .cloned();
        found
            .map(|of| (of["status"].clone(), of["message"].clone()))
            .expect("there")
    };
    assert_eq!(
        ready(&status),
        (
            json!("False"),
            json!("corresponding condition of pod readiness gate \"x.y/z\" does not exist.")
        )
    );
    case.previous["conditions"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "type": "x.y/z", "status": "True" }));
    let status = case.render(2);
    assert_eq!(ready(&status), (json!("True"), Value::Null));
    assert_eq!(
        status["conditions"][0],
        json!({ "type": "x.y/z", "status": "True" }),
        "kept as it was"
    );
}

#[test]
fn a_container_that_cannot_start_says_why() {
    let mut case = Case::new(json!({ "containers": [app()] }));
    let failure = StartFailure::Config {
        reason: "CreateContainerConfigError",
        message: "secret \"s\" not found".into(),
    };
    let status = case
        .prepared()
        .input(1, Input::StartFailed { container: 0, failure })
        .render(1);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        status["containerStatuses"][0]["state"],
        json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "secret \"s\" not found" } })
    );
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "c", "resources": resources }] } });
        qos_class(&serde_json::from_value(pod).expect("a pod"))
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({ "requests": { "cpu": "1" } })), "Burstable");
    assert_eq!(
        class(json!({ "limits": { "cpu": "1", "memory": "1Gi" } })),
        "Guaranteed"
    );
    assert_eq!(
        class(json!({ "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "1" } })),
        "Burstable"
    );
}
