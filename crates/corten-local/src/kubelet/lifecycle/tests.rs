use std::fmt::Write as _;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

/// A pod on a virtual clock. Its processes start at once and end as the test says; what was done is written down with the second it was done at.
struct Sim {
    life: Lifecycle,
    start: Timestamp,
    now: Timestamp,
    wake: Option<Timestamp>,
    trace: String,
    /// Containers that end by themselves: name, seconds after their start, exit code.
    programs: Vec<(&'static str, i64, i32)>,
    /// Containers that do not react to SIGTERM.
    deaf: Vec<&'static str>,
    ends: Vec<(Timestamp, usize, i32)>,
    hooks_end: bool,
    ids: u32,
}

fn container(name: &str) -> Value {
    json!({ "name": name, "image": "img" })
}

fn plan(spec: Value) -> Plan {
    let pod = json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec });
    Plan::of(&serde_json::from_value::<Pod>(pod).expect("a pod"))
}

impl Sim {
    fn new(spec: Value) -> Self {
        let start = Timestamp::from_second(1_000_000).expect("in range");
        Self::of(Lifecycle::new(plan(spec), start), start)
    }

    fn of(life: Lifecycle, start: Timestamp) -> Self {
        Self {
            life,
            start,
            now: start,
            wake: None,
            trace: String::new(),
            programs: Vec::new(),
            deaf: Vec::new(),
            ends: Vec::new(),
            hooks_end: true,
            ids: 0,
        }
    }

    fn programs(mut self, programs: &[(&'static str, i64, i32)]) -> Self {
        self.programs = programs.to_vec();
        self
    }

    fn at(&self, second: i64) -> Timestamp {
        self.start + SignedDuration::from_secs(second)
    }

    fn index(&self, name: &str) -> usize {
        self.life
            .containers
            .iter()
            .position(|of| of.plan.name == name)
            .expect("a container of that name")
    }

    fn input(&mut self, input: Input) {
        self.life.input(input, self.now);
        self.settle();
    }

    fn name(&self, i: usize) -> &str {
        &self.life.containers[i].plan.name
    }

    fn note(&mut self, what: &str) {
        let second = self.now.duration_since(self.start).as_secs();
        writeln!(self.trace, "{second}s {what}").expect("memory");
    }

    /// Does what the lifecycle says until it says nothing more.
    fn settle(&mut self) {
        loop {
            let (actions, wake) = self.life.step(self.now);
            self.wake = wake;
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Prepare => {
                self.note("prepare");
                let ips = vec!["10.0.0.1".parse().expect("an address")];
                self.life.input(Input::Prepared { ips }, now);
            }
            Action::Start(i) => {
                let name = self.name(i).to_owned();
                self.note(&format!("start {name}"));
                self.ids += 1;
                let id = self.ids.to_string();
                if let Some((_, after, code)) = self.programs.iter().find(|(of, ..)| *of == name) {
                    self.ends.push((now + SignedDuration::from_secs(*after), i, *code));
                }
                self.life.input(Input::Running { container: i, id }, now);
            }
            Action::PostStart(i) => {
                self.note(&format!("postStart {}", self.name(i)));
                if self.hooks_end {
                    self.life.input(
                        Input::PostStart {
                            container: i,
                            failure: None,
                        },
                        now,
                    );
                }
            }
            Action::PreStop(i) => {
                self.note(&format!("preStop {}", self.name(i)));
                if self.hooks_end {
                    self.life.input(Input::PreStopDone { container: i }, now);
                }
            }
            Action::Signal(i, signal) => {
                let name = self.name(i).to_owned();
                self.note(&format!("{signal:?} {name}"));
                if signal == Signal::Kill || !self.deaf.contains(&name.as_str()) {
                    self.ends.retain(|(_, of, _)| *of != i);
                    let code = if signal == Signal::Kill { 137 } else { 143 };
                    let message = String::new();
                    self.life.input(
                        Input::Exited {
                            container: i,
                            code,
                            message,
                        },
                        now,
                    );
                }
            }
            Action::TearDown => {
                self.note("tear down");
                self.life.input(Input::TornDown, now);
            }
            Action::Remove => self.note("remove"),
            Action::Report(report) => self.note(&format!("{}: {}", report.reason, report.message)),
        }
    }

    /// Lets the time pass until `second`.
    fn until(&mut self, second: i64) -> &mut Self {
        let end = self.at(second);
        self.settle();
        loop {
            let next_end = self.ends.iter().map(|(at, ..)| *at).min();
            let next = [next_end, self.wake]
                .into_iter()
                .flatten()
                .min()
                .filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = next.max(self.now);
            let due: Vec<_> = self.ends.extract_if(.., |(at, ..)| *at <= next).collect();
            for (_, i, code) in due {
                let name = self.name(i).to_owned();
                self.note(&format!("{name} exits {code}"));
                let message = String::new();
                self.life.input(
                    Input::Exited {
                        container: i,
                        code,
                        message,
                    },
                    self.now,
                );
            }
            self.settle();
        }
        self.now = end;
        self
    }

    fn expect(&mut self, expect: &Expect) -> &mut Self {
        expect.assert_eq(&std::mem::take(&mut self.trace));
        self
    }
}

#[test]
fn init_containers_run_one_after_the_other_then_the_main_ones() {
    let spec = json!({
        "initContainers": [container("a"), container("b")],
        "containers": [container("x"), container("y")],
    });
    Sim::new(spec)
        .programs(&[("a", 2, 0), ("b", 3, 0)])
        .until(10)
        .expect(&expect![[r#"
        0s prepare
        0s start a
        2s a exits 0
        2s start b
        5s b exits 0
        5s start x
        5s start y
    "#]]);
}

#[test]
fn a_crashing_container_backs_off_longer_each_time() {
    let mut sim = Sim::new(json!({ "containers": [container("x")] })).programs(&[("x", 1, 1)]);
    sim.until(100).expect(&expect![[r#"
        0s prepare
        0s start x
        1s x exits 1
        1s start x
        2s x exits 1
        2s BackOff: Back-off restarting failed container x in pod p_n(u)
        12s start x
        13s x exits 1
        13s BackOff: Back-off restarting failed container x in pod p_n(u)
        33s start x
        34s x exits 1
        34s BackOff: Back-off restarting failed container x in pod p_n(u)
        74s start x
        75s x exits 1
        75s BackOff: Back-off restarting failed container x in pod p_n(u)
    "#]]);
    assert_eq!(sim.life.containers[0].restarts, 4);
    let State::Waiting { reason, message } = &sim.life.containers[0].state else {
        panic!("not waiting");
    };
    assert_eq!(reason, "CrashLoopBackOff");
    assert_eq!(message, "back-off 1m20s restarting failed container=x pod=p_n(u)");
    // It never waits longer than five minutes, and a long run makes all forgotten.
    sim.until(3000).trace.clear();
    sim.programs = vec![("x", 700, 1)];
    sim.until(6000);
    let starts: Vec<&str> = sim.trace.lines().filter(|line| line.ends_with("start x")).collect();
    let at = |line: &str| {
        line.split('s')
            .next()
            .and_then(|second| second.parse::<i64>().ok())
            .expect("a second")
    };
    assert!(
        starts.len() > 2 && at(starts[2]) - at(starts[1]) == 700,
        "restarted at once: {starts:?}"
    );
}

#[test]
fn restart_policies() {
    let run = |policy: &str, code: i32| {
        let spec = json!({ "restartPolicy": policy, "containers": [container("x"), container("y")] });
        let mut sim = Sim::new(spec).programs(&[("x", 1, code), ("y", 3, 0)]);
        sim.until(5).trace.lines().skip(3).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(run("Never", 1), "1s x exits 1, 3s y exits 0, 3s tear down");
    assert_eq!(run("OnFailure", 0), "1s x exits 0, 3s y exits 0, 3s tear down");
    assert!(run("OnFailure", 1).starts_with("1s x exits 1, 1s start x, 2s x exits 1, 2s BackOff"));
    assert!(run("Always", 0).starts_with("1s x exits 0, 1s start x, 2s x exits 0, 2s BackOff"));
}

#[test]
fn a_failing_init_container_fails_a_pod_that_is_never_restarted() {
    let spec = json!({ "restartPolicy": "Never", "initContainers": [container("a")], "containers": [container("x")] });
    let mut sim = Sim::new(spec).programs(&[("a", 1, 3)]);
    sim.until(60).expect(&expect![[r#"
        0s prepare
        0s start a
        1s a exits 3
        1s tear down
    "#]]);
    assert!(sim.life.failure.is_some());
}

#[test]
fn sidecars_start_in_order_are_waited_for_and_end_last() {
    let mut probed = container("b");
    probed["restartPolicy"] = "Always".into();
    probed["startupProbe"] = json!({});
    let mut first = container("a");
    first["restartPolicy"] = "Always".into();
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [first, probed, container("init")],
        "containers": [container("x")],
    });
    let mut sim = Sim::new(spec).programs(&[("init", 1, 0), ("x", 5, 0)]);
    sim.until(3).expect(&expect![[r#"
        0s prepare
        0s start a
        0s start b
    "#]]);
    let b = sim.index("b");
    sim.input(Input::StartupPassed { container: b });
    sim.until(60).expect(&expect![[r#"
        3s start init
        4s init exits 0
        4s start x
        9s x exits 0
        9s Killing: Stopping container b
        9s Terminate b
        9s Killing: Stopping container a
        9s Terminate a
        9s tear down
    "#]]);
}

#[test]
fn a_sidecar_that_ends_is_restarted_under_any_policy() {
    let mut sidecar = container("a");
    sidecar["restartPolicy"] = "Always".into();
    let spec = json!({ "restartPolicy": "Never", "initContainers": [sidecar], "containers": [container("x")] });
    let mut sim = Sim::new(spec).programs(&[("a", 2, 0)]);
    sim.until(3).expect(&expect![[r#"
        0s prepare
        0s start a
        0s start x
        2s a exits 0
        2s start a
    "#]]);
}

#[test]
fn deletion_runs_the_hook_then_asks_then_kills() {
    let mut x = container("x");
    x["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": 1 } } });
    let mut sim = Sim::new(json!({ "containers": [x, container("y")] }));
    sim.deaf = vec!["x"];
    sim.until(1).trace.clear();
    sim.input(Input::Delete { grace: 10 });
    sim.until(60).expect(&expect![[r#"
        1s Killing: Stopping container x
        1s preStop x
        1s Killing: Stopping container y
        1s Terminate y
        1s Terminate x
        11s Kill x
        11s tear down
        11s remove
    "#]]);
    assert!(sim.life.is_removed());
}

#[test]
fn a_hook_that_hangs_is_cut_short_and_a_second_deletion_hastens() {
    let mut x = container("x");
    x["lifecycle"] = json!({ "preStop": { "exec": { "command": ["sleep", "inf"] } } });
    let mut sim = Sim::new(json!({ "containers": [x] }));
    sim.hooks_end = false;
    sim.deaf = vec!["x"];
    sim.until(1).trace.clear();
    sim.input(Input::Delete { grace: 1000 });
    sim.until(5);
    sim.input(Input::Delete { grace: 5 });
    sim.until(60).expect(&expect![[r#"
        1s Killing: Stopping container x
        1s preStop x
        10s Terminate x
        12s Kill x
        12s tear down
        12s remove
    "#]]);
}

#[test]
fn a_pod_may_be_active_only_for_so_long() {
    let spec = json!({ "activeDeadlineSeconds": 20, "containers": [container("x")] });
    let mut sim = Sim::new(spec);
    sim.until(60).expect(&expect![[r#"
        0s prepare
        0s start x
        20s DeadlineExceeded: Pod was active on the node longer than the specified deadline
        20s Killing: Stopping container x
        20s Terminate x
        20s tear down
    "#]]);
    sim.input(Input::Delete { grace: 30 });
    sim.expect(&expect![[r#"
        60s remove
    "#]]);
}

#[test]
fn an_unhealthy_container_is_killed_and_started_again() {
    let mut sim = Sim::new(json!({ "terminationGracePeriodSeconds": 4, "containers": [container("x")] }));
    sim.deaf = vec!["x"];
    sim.until(1).trace.clear();
    let unhealthy = |grace| Input::Unhealthy {
        container: 0,
        probe: "liveness",
        grace,
    };
    sim.input(unhealthy(None));
    sim.input(unhealthy(None));
    sim.until(10).expect(&expect![[r#"
        1s Killing: Container x failed liveness probe, will be restarted
        1s Terminate x
        5s Kill x
        5s start x
    "#]]);
    sim.input(unhealthy(Some(1)));
    sim.until(12).expect(&expect![[r#"
        10s Killing: Container x failed liveness probe, will be restarted
        10s Terminate x
        11s Kill x
        11s BackOff: Back-off restarting failed container x in pod p_n(u)
    "#]]);
}

#[test]
fn a_container_whose_image_is_not_to_be_had_backs_off() {
    let mut life = Lifecycle::new(plan(json!({ "containers": [container("x")] })), Timestamp::UNIX_EPOCH);
    let at = |second| Timestamp::from_second(second).expect("in range");
    life.step(at(0));
    life.input(Input::Prepared { ips: Vec::new() }, at(0));
    assert_eq!(life.step(at(0)).0, [Action::Start(0)]);
    let failure = StartFailure::Image { message: "no".into() };
    life.input(Input::StartFailed { container: 0, failure }, at(0));
    let (mut actions, wake) = life.step(at(0));
    assert!(matches!(&life.containers[0].state, State::Waiting { reason, .. } if reason == "ErrImagePull"));
    assert_eq!(wake, Some(at(5)));
    let (more, wake) = life.step(at(5));
    actions.extend(more);
    let told: Vec<String> = actions
        .into_iter()
        .map(|action| match action {
            Action::Report(report) => report.message,
            other => format!("{other:?}"),
        })
        .collect();
    let expect = [
        "Failed to pull image \"img\": no",
        "Error: ErrImagePull",
        "Back-off pulling image \"img\"",
        "Error: ImagePullBackOff",
    ];
    assert_eq!(told, expect);
    assert_eq!(wake, Some(at(10)));
    let State::Waiting { reason, message } = &life.containers[0].state else {
        panic!("not waiting");
    };
    assert_eq!(reason, "ImagePullBackOff");
    assert_eq!(message, "Back-off pulling image \"img\": ErrImagePull: no");
    assert_eq!(life.step(at(10)).0, [Action::Start(0)]);
}

#[test]
fn a_missing_key_is_tried_again_when_something_changes() {
    let mut life = Lifecycle::new(plan(json!({ "containers": [container("x")] })), Timestamp::UNIX_EPOCH);
    let at = |second| Timestamp::from_second(second).expect("in range");
    life.step(at(0));
    life.input(Input::Prepared { ips: Vec::new() }, at(0));
    life.step(at(0));
    let failure = StartFailure::Config {
        reason: "CreateContainerConfigError",
        message: "configmap \"c\" not found".into(),
    };
    life.input(Input::StartFailed { container: 0, failure }, at(0));
    let (actions, wake) = life.step(at(1));
    assert_eq!(actions.len(), 1, "only the report: {actions:?}");
    assert_eq!(wake, Some(at(10)));
    life.input(Input::SourceChanged, at(2));
    assert_eq!(life.step(at(2)).0, [Action::Start(0)]);
}

#[test]
fn an_exit_may_be_heard_of_before_the_start() {
    let mut life = Lifecycle::new(
        plan(json!({ "restartPolicy": "Never", "containers": [container("x")] })),
        Timestamp::UNIX_EPOCH,
    );
    let now = Timestamp::UNIX_EPOCH;
    life.step(now);
    life.input(Input::Prepared { ips: Vec::new() }, now);
    life.step(now);
    let exited = Input::Exited {
        container: 0,
        code: 7,
        message: "m".into(),
    };
    life.input(exited, now);
    life.input(
        Input::Running {
            container: 0,
            id: "1".into(),
        },
        now,
    );
    assert!(
        matches!(&life.containers[0].state, State::Terminated(ended) if ended.code == 7 && ended.container_id == "1")
    );
    assert_eq!(life.step(now).0, [Action::TearDown]);
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let mut x = container("x");
    x["lifecycle"] = json!({ "postStart": { "sleep": { "seconds": 1 } } });
    let mut sim = Sim::new(json!({ "containers": [x, container("y")] }));
    sim.hooks_end = false;
    sim.until(1);
    let failure = Some("no".to_owned());
    sim.input(Input::PostStart { container: 0, failure });
    sim.expect(&expect![[r#"
        0s prepare
        0s start x
        0s postStart x
        1s FailedPostStartHook: PostStartHook failed: no
        1s Killing: FailedPostStartHook
        1s start y
        1s Terminate x
        1s start x
        1s postStart x
    "#]]);
}

#[test]
fn after_a_restart_of_the_runtime_containers_run_again() {
    let status = |phase: &str, state: Value| {
        let of =
            json!({ "name": "x", "image": "img", "imageID": "", "ready": false, "restartCount": 2, "state": state });
        serde_json::from_value(json!({ "phase": phase, "containerStatuses": [of] })).expect("a status")
    };
    let running = || json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
    let done = |code: i32| json!({ "terminated": { "exitCode": code, "reason": "Completed" } });
    let now = Timestamp::from_second(2_000_000_000).expect("in range");
    let restored = |policy: &str, status| {
        let spec = json!({ "restartPolicy": policy, "containers": [container("x")] });
        let mut sim = Sim::of(Lifecycle::restore(plan(spec), &status, now), now);
        sim.settle();
        let of = &sim.life.containers[0];
        let last = of.last.as_ref().map(|last| last.code);
        let trace: Vec<&str> = sim
            .trace
            .lines()
            .map(|line| line.split_once(' ').expect("a line").1)
            .collect();
        format!("{} restarts={} last={last:?}", trace.join(", "), of.restarts)
    };
    let again = "SandboxChanged: Pod sandbox changed, it will be killed and re-created., prepare, start x restarts=3 last=Some(255)";
    assert_eq!(restored("Always", status("Running", running())), again);
    assert_eq!(restored("OnFailure", status("Running", running())), again);
    assert_eq!(restored("Never", status("Running", running())), " restarts=2 last=None");
    assert_eq!(
        restored("Always", status("Succeeded", done(0))),
        " restarts=2 last=None"
    );
    assert!(restored("OnFailure", status("Running", done(0))).ends_with("prepare, tear down restarts=2 last=None"));
    assert_eq!(
        restored("Always", PodStatusOf::default()),
        "prepare, start x restarts=0 last=None"
    );
}

type PodStatusOf = k8s_openapi::api::core::v1::PodStatus;

#[test]
fn a_lost_sandbox_is_made_again() {
    let spec = json!({ "initContainers": [container("a")], "containers": [container("x")] });
    let mut sim = Sim::new(spec).programs(&[("a", 0, 0)]);
    sim.until(5).trace.clear();
    sim.input(Input::SandboxLost);
    sim.until(6).expect(&expect![[r#"
        5s SandboxChanged: Pod sandbox changed, it will be killed and re-created.
        5s prepare
        5s start a
        5s a exits 0
        5s start x
    "#]]);
    assert_eq!(sim.life.containers[1].restarts, 1);
}

#[test]
fn what_could_not_be_made_is_tried_again_and_deletion_does_not_wait_for_it() {
    let mut life = Lifecycle::new(plan(json!({ "containers": [container("x")] })), Timestamp::UNIX_EPOCH);
    let at = |milli| Timestamp::from_millisecond(milli).expect("in range");
    assert_eq!(life.step(at(0)).0, [Action::Prepare]);
    life.input(Input::PrepareFailed, at(0));
    assert_eq!(life.step(at(0)), (Vec::new(), Some(at(500))));
    assert_eq!(life.step(at(500)).0, [Action::Prepare]);
    life.input(Input::PrepareFailed, at(500));
    assert_eq!(life.step(at(500)), (Vec::new(), Some(at(1500))));
    life.input(Input::Delete { grace: 30 }, at(600));
    assert_eq!(life.step(at(600)).0, [Action::Remove]);
}
