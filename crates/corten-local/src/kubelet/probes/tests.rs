use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).expect("in range")
}

/// Feeds answers (`+` passes, `-` fails) each time the probe asks, and writes when it asked and what followed.
#[track_caller]
fn check(kind: Kind, spec: serde_json::Value, answers: &str, expect: &str) {
    let spec: v1::Probe = serde_json::from_value(spec).expect("a probe");
    let mut probe = Probe::new(kind, &spec, 1, at(0), at(0));
    let mut trace = Vec::new();
    for answer in answers.chars() {
        let now = probe.next_at().expect("no answer is awaited");
        probe.asked();
        let answer = if answer == '+' {
            Answer::Success
        } else {
            Answer::Failure("no".into())
        };
        let outcome = probe.answered(&answer, now);
        let verdict = outcome
            .verdict
            .map_or("", |passed| if passed { " up" } else { " down" });
        let told = if outcome.event.is_some() { " told" } else { "" };
        trace.push(format!("{}{told}{verdict}", now.as_millisecond()));
    }
    assert_eq!(trace.join(", "), expect);
}

#[test]
fn a_program_that_begins_to_listen_is_ready_within_moments() {
    check(Kind::Readiness, serde_json::json!({}), "---+", "0, 5, 15, 35 up");
}

#[test]
fn failures_count_once_it_has_been_ready() {
    check(
        Kind::Readiness,
        serde_json::json!({ "periodSeconds": 1, "failureThreshold": 2 }),
        "+--+",
        "0 up, 1000 told, 2000 told down, 3000 up",
    );
}

#[test]
fn an_initial_delay_is_kept_and_its_first_failure_counts() {
    check(
        Kind::Liveness,
        serde_json::json!({ "initialDelaySeconds": 5, "periodSeconds": 2 }),
        "---+",
        "5000 told, 7000 told, 9000 told down, 11000 up",
    );
}

#[test]
fn several_successes_may_be_asked_for() {
    check(
        Kind::Readiness,
        serde_json::json!({ "initialDelaySeconds": 1, "successThreshold": 2 }),
        "+-++",
        "1000, 11000 told, 21000, 31000 up",
    );
}

#[test]
fn ports_are_numbers_or_names() {
    let container: v1::Container =
        serde_json::from_value(serde_json::json!({ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }))
            .expect("a container");
    let of = |value: serde_json::Value| port(&serde_json::from_value(value).expect("a port"), &container);
    assert_eq!(of(serde_json::json!(80)), Ok(80));
    assert_eq!(of(serde_json::json!("web")), Ok(8080));
    assert_eq!(of(serde_json::json!("81")), Ok(81));
    assert_eq!(
        of(serde_json::json!("admin")),
        Err("couldn't find port: \"admin\"".into())
    );
    assert_eq!(of(serde_json::json!(70000)), Err("invalid port number: 70000".into()));
}
