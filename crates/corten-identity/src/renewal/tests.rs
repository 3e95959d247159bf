//! The machine under virtual time.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn id(name: &str) -> Identity {
    Identity::new("cluster.local", "n", name).expect("an identity")
}

fn machine() -> Renewals {
    Renewals::new(Limits::default())
}

fn seconds(at: Option<SystemTime>) -> Option<u64> {
    at.map(|at| at.duration_since(start()).expect("later").as_secs())
}

#[test]
fn a_certificate_is_asked_for_at_once_and_again_at_the_middle_of_its_life() {
    let mut machine = machine();
    assert_eq!(machine.wake_at(), None);
    assert!(machine.want(&id("a"), Priority::RealTime, start()));
    assert_eq!(machine.next(start()), Some(id("a")));
    assert_eq!(machine.next(start()), None, "it is under way");
    assert_eq!(machine.wake_at(), None);
    let until = start() + 24 * HOUR;
    assert!(machine.signed(&id("a"), start(), until, start(), 0.5));
    assert_eq!(seconds(machine.wake_at()), Some(12 * 3600));
    assert_eq!(machine.next(start() + 11 * HOUR), None);
    assert_eq!(machine.next(start() + 12 * HOUR), Some(id("a")));
}

#[test]
fn renewals_of_those_signed_together_are_spread() {
    for (random, expected) in [(0.0, 45), (0.25, 47), (0.5, 50), (1.0, 55)] {
        let mut machine = machine();
        machine.want(&id("a"), Priority::Warmup, start());
        machine.next(start());
        machine.signed(&id("a"), start(), start() + Duration::from_secs(100), start(), random);
        assert_eq!(seconds(machine.wake_at()), Some(expected));
    }
}

#[test]
fn failures_are_tried_again_with_growing_pauses_until_one_succeeds() {
    let mut machine = machine();
    machine.want(&id("a"), Priority::RealTime, start());
    let mut now = start();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(machine.next(now), Some(id("a")));
        assert!(machine.failed(&id("a"), Failure::Refused, now, 0.5));
        let at = machine.wake_at().expect("it is tried again");
        pauses.push(at.duration_since(now).expect("later").as_secs());
        now = at;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
    // The pauses differ by a fifth to either side.
    machine.next(now);
    machine.failed(&id("a"), Failure::Refused, now, 0.0);
    assert_eq!(machine.wake_at(), Some(now + Duration::from_secs(120)));
    now += Duration::from_secs(120);
    assert_eq!(machine.next(now), Some(id("a")));
    // While there is nobody to refuse it, the pauses stay short.
    machine.failed(&id("a"), Failure::Unavailable, now, 0.5);
    assert_eq!(machine.wake_at(), Some(now + Duration::from_secs(10)));
    now += Duration::from_secs(10);
    assert_eq!(machine.next(now), Some(id("a")));
    machine.signed(&id("a"), now, now + HOUR, now, 0.5);
    let at = machine.wake_at().expect("it is renewed");
    assert_eq!(machine.next(at), Some(id("a")));
    machine.failed(&id("a"), Failure::Refused, at, 0.5);
    assert_eq!(
        machine.wake_at(),
        Some(at + Duration::from_secs(1)),
        "success is the end of growing pauses"
    );
}

#[test]
fn only_so_many_are_under_way_and_the_urgent_go_first_in_their_order() {
    let mut machine = machine();
    for name in ["w1", "w2"] {
        machine.want(&id(name), Priority::Warmup, start());
    }
    for name in ["b1", "b2", "b3", "b4", "b5"] {
        machine.want(&id(name), Priority::Background, start());
    }
    for name in ["r1", "r2"] {
        machine.want(&id(name), Priority::RealTime, start());
    }
    // A connection now waits for one that was only to be prepared.
    assert!(!machine.want(&id("b4"), Priority::RealTime, start()));
    let mut order = Vec::new();
    while let Some(next) = machine.next(start()) {
        order.push(next.service_account);
    }
    assert_eq!(order, ["b4", "r1", "r2", "w1", "w2", "b1", "b2", "b3"]);
    assert_eq!(machine.wake_at(), None, "the ninth waits for one of the eight");
    assert!(machine.failed(&id("w2"), Failure::Refused, start(), 0.5));
    assert_eq!(machine.next(start()), Some(id("b5")));
}

#[test]
fn what_is_forgotten_under_way_is_not_wanted_when_it_comes() {
    let mut machine = machine();
    machine.want(&id("a"), Priority::RealTime, start());
    machine.next(start());
    machine.forget(&id("a"));
    assert!(!machine.is_wanted(&id("a")));
    assert!(!machine.signed(&id("a"), start(), start() + HOUR, start(), 0.5));
    assert_eq!(machine.wake_at(), None);
    // Forgotten and wanted again before it came.
    machine.want(&id("b"), Priority::RealTime, start());
    machine.next(start());
    machine.forget(&id("b"));
    assert!(machine.want(&id("b"), Priority::RealTime, start()));
    assert!(machine.signed(&id("b"), start(), start() + HOUR, start(), 0.5));
    machine.forget(&id("b"));
    assert_eq!(machine.wake_at(), None);
    assert_eq!(machine.in_flight, 0);
}

#[test]
fn a_clock_that_is_wrong_makes_no_storm() {
    let mut machine = machine();
    machine.want(&id("a"), Priority::RealTime, start());
    machine.next(start());
    // Expired on arrival, by our clock.
    machine.signed(&id("a"), start() - 10 * HOUR, start() - HOUR, start(), 0.5);
    assert_eq!(seconds(machine.wake_at()), Some(10));
    // Nonsense.
    machine.next(start() + HOUR);
    machine.signed(&id("a"), start() + HOUR, start(), start() + HOUR, 0.5);
    assert_eq!(seconds(machine.wake_at()), Some(3610));
}

#[test]
fn all_are_renewed_when_roots_change() {
    let mut machine = machine();
    for name in ["a", "b", "c"] {
        machine.want(&id(name), Priority::Warmup, start());
        machine.next(start());
    }
    for name in ["a", "b"] {
        machine.signed(&id(name), start(), start() + 24 * HOUR, start(), 0.5);
    }
    let now = start() + HOUR;
    machine.renew_all(now);
    assert_eq!(machine.next(now), Some(id("a")));
    assert_eq!(machine.next(now), Some(id("b")));
    assert_eq!(machine.next(now), None, "c is under way");
    // It may have been signed before the change, and is asked for once more.
    machine.signed(&id("c"), start(), start() + 24 * HOUR, now, 0.5);
    assert_eq!(machine.wake_at(), Some(now + RENEWAL_PAUSE_MIN));
}
