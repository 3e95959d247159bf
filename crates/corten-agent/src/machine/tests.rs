//! The machine, step by step, and against random histories.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// A history in words: each line is something that happens; the answer is what the machine has done about it.
struct Story {
    machine: Machine,
    now: Instant,
    text: String,
}

fn labels(text: &str) -> Map {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn pod(uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: format!("{uid}-name"),
        addresses: vec![[10, 0, 0, 1].into()],
        ..Pod::default()
    }
}

const ON: &str = "istio.io/dataplane-mode=ambient";

impl Story {
    fn new() -> Story {
        let mut machine = Machine::new(Eligibility::default(), Timing::default());
        machine.namespace("shop", Map::new());
        machine.start();
        Story {
            machine,
            now: Instant::now(),
            text: String::new(),
        }
    }

    fn told(&mut self, what: &str, change: impl FnOnce(&mut Machine)) -> &mut Story {
        change(&mut self.machine);
        let tasks = self.machine.tasks(self.now);
        let jobs: Vec<String> = tasks
            .iter()
            .map(|task| format!("{:?} {}", task.job, task.pod.uid))
            .collect();
        writeln!(self.text, "{what}: {}", jobs.join(", ")).unwrap();
        self
    }

    fn label(&mut self, labels_text: &str) -> &mut Story {
        self.told(&format!("label {labels_text}"), |m| {
            m.namespace("shop", labels(labels_text))
        })
    }

    fn done(&mut self, uid: &str, outcome: Outcome) -> &mut Story {
        let now = self.now;
        self.told(&format!("{outcome:?}"), |m| {
            m.done(uid, &outcome, now);
        })
    }

    fn later(&mut self, seconds: u64) -> &mut Story {
        self.now += Duration::from_secs(seconds);
        self.told(&format!("{seconds}s later"), |_| {})
    }

    #[track_caller]
    fn check(&mut self, expect: &Expect) {
        expect.assert_eq(&self.text);
    }
}

#[test]
fn a_running_pod_joins_and_leaves_with_its_namespace() {
    let mut story = Story::new();
    story.told("pod", |m| m.pod(pod("a")));
    story.told("proxy", |m| m.proxies(1)).label(ON).label(ON);
    story.done("a", Outcome::Done).done("a", Outcome::Done);
    story.label("").done("a", Outcome::Done).done("a", Outcome::Done);
    story
        .later(5)
        .later(5)
        .done("a", Outcome::Busy)
        .later(1)
        .done("a", Outcome::Busy);
    story.later(1).done("a", Outcome::Done).later(60);
    story.check(&expect![[r#"
        pod: 
        proxy: 
        label istio.io/dataplane-mode=ambient: Join a
        label istio.io/dataplane-mode=ambient: 
        Done: Annotate(Enabled) a
        Done: 
        label : Leave a
        Done: Annotate(None) a
        Done: 
        5s later: 
        5s later: Drain { force: false } a
        Busy: 
        1s later: Drain { force: false } a
        Busy: 
        1s later: Drain { force: false } a
        Done: 
        60s later: 
    "#]]);
}

#[test]
fn who_comes_back_while_leaving_is_simply_enrolled_again() {
    let mut story = Story::new();
    story.told("proxy", |m| m.proxies(1)).told("pod", |m| m.pod(pod("a")));
    story.label(ON).done("a", Outcome::Done).done("a", Outcome::Done);
    story
        .label("")
        .label(ON)
        .done("a", Outcome::Done)
        .done("a", Outcome::Done);
    story.check(&expect![[r#"
        proxy: 
        pod: 
        label istio.io/dataplane-mode=ambient: Join a
        Done: Annotate(Enabled) a
        Done: 
        label : Leave a
        label istio.io/dataplane-mode=ambient: 
        Done: Join a
        Done: 
    "#]]);
}

#[test]
fn without_a_proxy_a_pod_waits_and_says_so() {
    let mut story = Story::new();
    story.told("pod", |m| m.pod(pod("a")));
    story.label(ON).done("a", Outcome::Done).told("proxy", |m| m.proxies(1));
    story
        .done("a", Outcome::Failed("no".into()))
        .later(1)
        .done("a", Outcome::Failed("no".into()));
    // A new proxy is a reason to try at once.
    story.told("another", |m| m.proxies(2)).done("a", Outcome::Done);
    story.check(&expect![[r#"
        pod: 
        label istio.io/dataplane-mode=ambient: Annotate(Pending) a
        Done: 
        proxy: Join a
        Failed("no"): 
        1s later: Join a
        Failed("no"): 
        another: Join a
        Done: Annotate(Enabled) a
    "#]]);
}

#[test]
fn a_new_pod_is_the_plugins() {
    let mut story = Story::new();
    story.label(ON).told("pod", |m| {
        m.pod(Pod {
            addresses: Vec::new(),
            ..pod("a")
        });
    });
    let ask = |story: &mut Story, uid: &str, can_wait| story.machine.plugin("shop", "a-name", uid, can_wait);
    assert_eq!(ask(&mut story, "b", true), Verdict::Later, "that is another pod");
    assert_eq!(ask(&mut story, "", true), Verdict::Later, "there is no proxy");
    story.told("proxy", |m| m.proxies(1));
    assert!(matches!(ask(&mut story, "a", true), Verdict::Ours(_)));
    assert_eq!(ask(&mut story, "a", true), Verdict::Later, "one at a time");
    story.told("its address", |m| m.pod(pod("a"))).done("a", Outcome::Done);
    story.check(&expect![[r#"
        label istio.io/dataplane-mode=ambient: 
        pod: 
        proxy: 
        its address: 
        Done: Annotate(Enabled) a
    "#]]);
    story.machine.namespace("shop", Map::new());
    story.machine.pod(pod("c"));
    assert_eq!(story.machine.plugin("shop", "c-name", "c", true), Verdict::NotOurs);
    assert_eq!(story.machine.plugin("other", "c-name", "", true), Verdict::Later);
}

#[test]
fn what_was_there_before_the_agent_is_taken_up() {
    let mut machine = Machine::new(Eligibility::default(), Timing::default());
    machine.namespace("shop", labels(ON));
    let enabled = |uid: &str| Pod {
        annotations: labels("ambient.istio.io/redirection=enabled"),
        ..pod(uid)
    };
    let out = |uid: &str| Pod {
        labels: labels("istio.io/dataplane-mode=none"),
        ..pod(uid)
    };
    machine.pod(enabled("a"));
    machine.pod(out("left"));
    machine.pod(out("never"));
    machine.pod(enabled("restarted"));
    let mut story = Story {
        machine,
        now: Instant::now(),
        text: String::new(),
    };
    story
        .told("start", |_| {})
        .done("a", Outcome::Found)
        .done("left", Outcome::Found);
    story
        .done("never", Outcome::Done)
        .done("restarted", Outcome::Done)
        .told("proxy", |m| m.proxies(1));
    story.check(&expect![[r#"
        start: Inspect { wanted: true } a, Inspect { wanted: false } left, Inspect { wanted: false } never, Inspect { wanted: true } restarted
        Found: 
        Found: Leave left
        Done: 
        Done: 
        proxy: Join restarted
    "#]]);
}

#[test]
fn a_pod_that_ends_is_forgotten() {
    let mut story = Story::new();
    story.told("proxy", |m| m.proxies(1)).label(ON);
    story.told("pods", |m| ["a", "b", "c"].iter().for_each(|uid| m.pod(pod(uid))));
    for uid in ["a", "b", "c"] {
        story.done(uid, Outcome::Done).done(uid, Outcome::Done);
    }
    story.told("ended", |m| {
        m.pod(Pod {
            is_terminal: true,
            ..pod("a")
        });
    });
    story
        .done("a", Outcome::Done)
        .told("deleted", |m| m.pod_removed("shop", "b-name"))
        .done("b", Outcome::Done);
    // A successor of the same name, before the first one's end was told.
    story.told("succeeded", |m| {
        m.pod(Pod {
            name: "c-name".into(),
            ..pod("d")
        });
    });
    story
        .done("c", Outcome::Failed("busy".into()))
        .later(1)
        .done("c", Outcome::Done);
    assert_eq!(story.machine.pods.len(), 2);
    story.check(&expect![[r#"
        proxy: 
        label istio.io/dataplane-mode=ambient: 
        pods: Join a, Join b, Join c
        Done: Annotate(Enabled) a
        Done: 
        Done: Annotate(Enabled) b
        Done: 
        Done: Annotate(Enabled) c
        Done: 
        ended: Forget a
        Done: 
        deleted: Forget b
        Done: 
        succeeded: Forget c, Join d
        Failed("busy"): 
        1s later: Forget c
        Done: 
    "#]]);
}

#[test]
fn what_a_pod_wishes_may_change() {
    let mut story = Story::new();
    story
        .told("proxy", |m| m.proxies(1))
        .label(ON)
        .told("pod", |m| m.pod(pod("a")));
    story.done("a", Outcome::Done).done("a", Outcome::Done);
    story.told("bypass", |m| {
        m.pod(Pod {
            annotations: labels("ambient.istio.io/redirection=enabled,ambient.istio.io/bypass-inbound-capture=true"),
            ..pod("a")
        });
    });
    story.done("a", Outcome::Done);
    story.check(&expect![[r#"
        proxy: 
        label istio.io/dataplane-mode=ambient: 
        pod: Join a
        Done: Annotate(Enabled) a
        Done: 
        bypass: Join a
        Done: 
    "#]]);
}

#[test]
fn a_limit_on_leaving() {
    let mut story = Story::new();
    story.machine.timing.drain_max = Some(Duration::from_secs(20));
    story
        .told("proxy", |m| m.proxies(1))
        .label(ON)
        .told("pod", |m| m.pod(pod("a")));
    story.done("a", Outcome::Done).done("a", Outcome::Done).label("");
    story
        .done("a", Outcome::Done)
        .done("a", Outcome::Done)
        .later(10)
        .done("a", Outcome::Busy)
        .later(10);
    assert!(
        story.text.ends_with("10s later: Drain { force: true } a\n"),
        "{}",
        story.text
    );
}

/// What happens in a random history.
#[derive(Clone, Debug)]
enum Step {
    Pod(u8, bool, bool),
    Remove(u8),
    Label(bool),
    Proxies(usize),
    Plugin(u8),
    Finish(u8, bool),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, any::<bool>(), any::<bool>()).prop_map(|(n, own, terminal)| Step::Pod(n, own, terminal)),
        (0..4_u8).prop_map(Step::Remove),
        any::<bool>().prop_map(Step::Label),
        (0..3_usize).prop_map(Step::Proxies),
        (0..4_u8).prop_map(Step::Plugin),
        (0..4_u8, any::<bool>()).prop_map(|(n, well)| Step::Finish(n, well)),
        (0..30_u64).prop_map(Step::Later),
    ]
}

proptest! {
    /// Whatever happened, and however often steps failed: at most one job for a pod at a time, and once everything goes well each pod
    /// is what it should be.
    #[test]
    fn in_the_end_every_pod_is_what_it_should_be(steps in proptest::collection::vec(step(), 0..60)) {
        let mut machine = Machine::new(Eligibility::default(), Timing::default());
        machine.start();
        machine.namespace("shop", Map::new());
        let mut now = Instant::now();
        let mut busy = BTreeMap::<String, Job>::new();
        let uid = |n: u8| format!("u{n}");
        let finish = |machine: &mut Machine, busy: &mut BTreeMap<String, Job>, uid: &str, outcome: &Outcome, now| {
            if busy.remove(uid).is_some() {
                machine.done(uid, outcome, now);
            }
        };
        for step in steps {
            match step {
                Step::Pod(n, own, terminal) => machine.pod(Pod {
                    labels: if own { labels(ON) } else { Map::new() },
                    is_terminal: terminal,
                    ..pod(&uid(n))
                }),
                Step::Remove(n) => machine.pod_removed("shop", &format!("{}-name", uid(n))),
                Step::Label(on) => machine.namespace("shop", if on { labels(ON) } else { Map::new() }),
                Step::Proxies(count) => machine.proxies(count),
                Step::Plugin(n) => if let Verdict::Ours(pod) = machine.plugin("shop", &format!("{}-name", uid(n)), "", true) {
                    prop_assert!(busy.insert(pod.uid.clone(), Job::Join).is_none());
                },
                Step::Finish(n, true) => finish(&mut machine, &mut busy, &uid(n), &Outcome::Done, now),
                Step::Finish(n, false) => finish(&mut machine, &mut busy, &uid(n), &Outcome::Failed("x".into()), now),
                Step::Later(seconds) => now += Duration::from_secs(seconds),
            }
            for task in machine.tasks(now) {
                prop_assert!(busy.insert(task.pod.uid.clone(), task.job).is_none(), "two jobs for one pod");
            }
        }
        machine.proxies(0);
        machine.proxies(1);
        for _ in 0..50 {
            for uid in busy.keys().cloned().collect::<Vec<_>>() {
                finish(&mut machine, &mut busy, &uid, &Outcome::Done, now);
            }
            now += Duration::from_secs(30);
            for task in machine.tasks(now) {
                prop_assert!(busy.insert(task.pod.uid.clone(), task.job).is_none());
            }
        }
        prop_assert!(busy.is_empty(), "it comes to rest: {busy:?}");
        prop_assert_eq!(machine.wake_at().filter(|at| *at > now), None);
        for entry in machine.pods.values() {
            let wanted = !entry.pod.is_terminal && machine.wanted(&entry.pod);
            prop_assert_eq!(entry.stage, if wanted { Stage::Enrolled } else { Stage::Outside });
            if !entry.pod.is_terminal {
                let written = if wanted { Redirection::Enabled } else { Redirection::None };
                prop_assert_eq!(entry.pod.redirection(), written);
            }
            prop_assert!(!entry.is_deleted);
        }
    }
}
