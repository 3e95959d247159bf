//! What would grow without end is swept: events after an hour or beyond a number, and pods that finished long ago.

use std::time::Duration;

use corten_apiserver::ResourceId;
use corten_apiserver::resources::{EVENTS, PODS};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::action::{Action, Controller, place};
use super::cache::{Change, Objects};
use super::object::{self, Key};
use super::pod;

/// Events live so long after they were last raised.
const EVENT_AGE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// So many events are kept; the oldest go first.
const EVENTS_MAX: usize = 5000;
/// So many finished pods are kept; the oldest go first.
const FINISHED_PODS_MAX: usize = 1000;

/// The loop over events.
pub(crate) struct Events;

impl Controller for Events {
    fn name(&self) -> &'static str {
        "event-ttl"
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        if change.is(&EVENTS) && change.new.is_some() {
            vec![Key::new("", "")]
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, _key: &Key, objects: &Objects, now: Timestamp) -> Vec<Action> {
        sweep_events(objects.all(&EVENTS).map(|event| &**event).collect(), now)
    }

    fn workers(&self) -> usize {
        1
    }

    fn settle(&self) -> Duration {
        // Sweeping looks at all events; once a while is often enough.
        Duration::from_secs(30)
    }
}

/// When an event was last raised.
fn last_raised(event: &Value) -> Option<Timestamp> {
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]
        .iter()
        .filter_map(|pointer| object::time(event, pointer))
        .max()
        .or_else(|| object::creation(event))
}

fn sweep_events(mut events: Vec<&Value>, now: Timestamp) -> Vec<Action> {
    events.sort_by_key(|event| last_raised(event));
    let surplus = events.len().saturating_sub(EVENTS_MAX);
    let mut deletions = Vec::new();
    let mut next: Option<Duration> = None;
    for (rank, event) in events.into_iter().enumerate() {
        let left = last_raised(event).and_then(|last| object::remaining(last, EVENT_AGE_MAX, now));
        match left {
            Some(left) if rank >= surplus => next = Some(next.map_or(left, |next| next.min(left))),
            _ => deletions.push(delete(&EVENTS, event)),
        }
    }
    let mut actions = vec![Action::All(deletions)];
    // Swept by the minute, not one by one.
    actions.extend(next.map(|left| Action::Again(left + Duration::from_secs(60))));
    actions
}

/// The loop over finished pods.
pub(crate) struct FinishedPods;

impl Controller for FinishedPods {
    fn name(&self) -> &'static str {
        "finished-pods"
    }

    fn keys(&self, change: &Change, _objects: &Objects) -> Vec<Key> {
        if change.is(&PODS) && change.new.as_ref().is_some_and(|pod| pod::is_finished(pod)) {
            vec![Key::new("", "")]
        } else {
            Vec::new()
        }
    }

    fn reconcile(&self, _key: &Key, objects: &Objects, _now: Timestamp) -> Vec<Action> {
        let mut finished: Vec<&Value> = objects
            .all(&PODS)
            .filter(|pod| pod::is_finished(pod) && !object::is_deleting(pod))
            .map(|pod| &**pod)
            .collect();
        let surplus = finished.len().saturating_sub(FINISHED_PODS_MAX);
        finished.sort_by_key(|pod| object::creation(pod));
        vec![Action::All(
            finished
                .into_iter()
                .take(surplus)
                .map(|pod| delete(&PODS, pod))
                .collect(),
        )]
    }

    fn workers(&self) -> usize {
        1
    }

    fn settle(&self) -> Duration {
        Duration::from_secs(5)
    }
}

fn delete(resource: &ResourceId, object: &Value) -> Action {
    Action::Delete {
        place: place(resource, object),
        uid: object::uid(object).to_owned(),
        propagation: None,
        grace_seconds: None,
        announce: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_events_go_and_the_next_look_is_when_the_next_one_is_old() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().expect("a time");
        let event = |name: &str, last: &str| json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "lastTimestamp": last});
        let old = event("old", "2026-01-01T00:59:59Z");
        let young = event("young", "2026-01-01T01:10:00Z");
        let actions = sweep_events(vec![&young, &old], now);
        assert_eq!(
            actions,
            [
                Action::All(vec![delete(&EVENTS, &old)]),
                Action::Again(Duration::from_secs(11 * 60)),
            ]
        );
    }
}
