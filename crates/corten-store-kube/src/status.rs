//! Status conditions, written by server-side apply, by the leader alone, and only when they say something else than
//! what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corten_core::NamespacedName;
use corten_rt::Drain;
use futures_util::StreamExt;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::events::Events;
use crate::kinds::Kind;

/// Writes under way at most.
const IN_FLIGHT_MAX: usize = 8;
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Between two writes about an object that are Events, too: whoever rejects a resource over and over says it with every push.
const EVENTS_APART: Duration = Duration::from_secs(5);

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The type.
    pub type_: String,
    /// Whether it holds; `None`: unknown.
    pub status: Option<bool>,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation of the object it was found in.
    pub observed_generation: Option<i64>,
}

/// Whose status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusOf {
    /// The name under which fields are owned.
    pub manager: &'static str,
    /// The types of conditions it writes, and removes when they are not wanted any more.
    pub types: &'static [&'static str],
    /// Whether a condition that comes not to hold is an Event, too.
    pub events: bool,
}

/// What there is to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Merged {
    /// All is as it should be.
    Unchanged,
    /// These conditions, which are all of the manager's.
    Write(Vec<Value>),
}

/// The conditions of a manager as they are to be applied over those that are there. A condition that says the same keeps
/// its time; one whose status is the same keeps its time of transition.
///
/// `whole_list`: the list has one owner (as in Istio's definitions), so that the conditions of others are applied as well.
pub fn merge(live: &[Value], of: &StatusOf, wanted: &[Condition], whole_list: bool, now: Timestamp) -> Merged {
    let find = |type_: &str| live.iter().find(|condition| condition["type"] == type_);
    let ours = |condition: &&Value| of.types.iter().any(|type_| condition["type"] == *type_);
    let mut write = Vec::new();
    if whole_list {
        write.extend(live.iter().filter(|condition| !ours(condition)).cloned());
    }
    let stale = live.iter().filter(ours).count() != wanted.len();
    let mut changed = stale;
    for condition in wanted {
        let before = find(&condition.type_);
        let made = encode(condition, before, now);
        changed |= before != Some(&made);
        write.push(made);
    }
    if changed {
        Merged::Write(write)
    } else {
        Merged::Unchanged
    }
}

fn encode(condition: &Condition, before: Option<&Value>, now: Timestamp) -> Value {
    let status = match condition.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let since = before.filter(|before| before["status"] == status);
    let since = since.and_then(|before| before["lastTransitionTime"].as_str());
    let mut encoded = json!({
        "type": condition.type_,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": since.map_or_else(|| format!("{now:.0}"), str::to_owned),
    });
    if let Some(generation) = condition.observed_generation {
        // Istio's definitions take a number or a text, and another writer's form is not a difference.
        let before = before.map(|before| &before["observedGeneration"]);
        let text = generation.to_string();
        encoded["observedGeneration"] = match before {
            Some(Value::String(before)) if *before == text => Value::from(text),
            _ => Value::from(generation),
        };
    }
    encoded
}

type Key = (Kind, NamespacedName, StatusOf);

/// The status conditions that objects should have.
#[derive(Debug, Default)]
pub struct StatusWriter {
    state: Mutex<State>,
    work: Notify,
    events: Events,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeMap<KeyOrd, Arc<Vec<Condition>>>,
    dirty: BTreeSet<KeyOrd>,
    /// When those were written that are not to be written again too soon.
    written: BTreeMap<KeyOrd, Instant>,
}

/// What is left to be written.
#[derive(Debug, Default)]
struct Left {
    /// Some of it failed.
    failed: bool,
    /// When the first of what was written a moment ago may be written again.
    next: Option<Instant>,
}

/// Kinds have no order of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyOrd(Key);

impl KeyOrd {
    fn parts(&self) -> (&str, &str, &NamespacedName, &StatusOf) {
        (self.0.0.group, self.0.0.plural, &self.0.1, &self.0.2)
    }
}

impl PartialOrd for KeyOrd {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyOrd {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl StatusWriter {
    /// Nothing is wanted.
    pub fn new() -> Arc<StatusWriter> {
        Arc::default()
    }

    /// An object should have these conditions (none: the manager's are removed). Said again, nothing happens.
    pub fn set(&self, kind: Kind, object: NamespacedName, of: StatusOf, conditions: Vec<Condition>) {
        let key = KeyOrd((kind, object, of));
        let mut state = self.lock();
        if state.wanted.get(&key).is_some_and(|before| **before == conditions) {
            return;
        }
        state.wanted.insert(key.clone(), Arc::new(conditions));
        state.dirty.insert(key);
        self.work.notify_one();
    }

    /// An object is gone; nothing is to be written about it.
    pub fn forget(&self, kind: Kind, object: &NamespacedName) {
        let mut state = self.lock();
        let is = |key: &KeyOrd| key.0.0 == kind && key.0.1 == *object;
        state.wanted.retain(|key, _| !is(key));
        state.dirty.retain(|key| !is(key));
        state.written.retain(|key, _| !is(key));
    }

    /// Writes while we lead, until told to stop. Who becomes leader looks at everything once.
    pub async fn run(self: Arc<Self>, client: Client, mut leadership: watch::Receiver<bool>, mut drain: Drain) {
        let mut led = false;
        loop {
            let leads = *leadership.borrow_and_update();
            if leads && !led {
                let mut state = self.lock();
                state.dirty = state.wanted.keys().cloned().collect();
            }
            led = leads;
            let writes = async {
                if !leads {
                    std::future::pending::<()>().await;
                }
                loop {
                    let left = self.write_dirty(&client).await;
                    let next = left.next.map_or_else(tokio::time::Instant::now, Into::into);
                    tokio::select! {
                        () = self.work.notified() => {}
                        () = tokio::time::sleep(RETRY), if left.failed => {}
                        () = tokio::time::sleep_until(next), if left.next.is_some() => {}
                    }
                }
            };
            tokio::select! {
                () = drain.wait() => return,
                // A write that this interrupts is still dirty, for when we lead again.
                changed = leadership.changed() => if changed.is_err() { return },
                () = writes => {}
            }
        }
    }

    /// Writes what is to be written, but for what was written a moment ago. Returns what is still to be written.
    async fn write_dirty(&self, client: &Client) -> Left {
        let mut left = Left::default();
        let mut due: Vec<KeyOrd> = Vec::new();
        {
            let mut state = self.lock();
            state.written.retain(|_, at| at.elapsed() < EVENTS_APART);
            for key in &state.dirty {
                match state.written.get(key).map(|at| *at + EVENTS_APART) {
                    Some(next) => left.next = Some(left.next.map_or(next, |first| first.min(next))),
                    None => due.push(key.clone()),
                }
            }
        }
        let writes = due.into_iter().map(|key| self.write_one(client, key));
        let results = futures_util::stream::iter(writes).buffer_unordered(IN_FLIGHT_MAX);
        left.failed = results.fold(false, |failed, ok| async move { failed | !ok }).await;
        left
    }

    async fn write_one(&self, client: &Client, key: KeyOrd) -> bool {
        let Some(wanted) = self.lock().wanted.get(&key).cloned() else {
            return true;
        };
        let (kind, object, of) = &key.0;
        match apply(client, &self.events, kind, object, of, &wanted).await {
            Ok(written) => {
                let mut state = self.lock();
                if written && of.events {
                    state.written.insert(key.clone(), Instant::now());
                }
                // Unless something else is wanted meanwhile.
                if state.wanted.get(&key).is_some_and(|now| Arc::ptr_eq(now, &wanted)) {
                    state.dirty.remove(&key);
                }
                // Nothing wanted and nothing there: nothing to remember.
                if wanted.is_empty() && !state.dirty.contains(&key) {
                    state.wanted.remove(&key);
                }
                true
            }
            Err(error) => {
                tracing::warn!(kind = kind.kind, %object, manager = of.manager, %error, "cannot write status conditions");
                false
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether there was something to write.
async fn apply(
    client: &Client,
    events: &Events,
    kind: &Kind,
    object: &NamespacedName,
    of: &StatusOf,
    wanted: &[Condition],
) -> Result<bool, kube::Error> {
    let path = path(kind, object);
    let get = http::Request::get(&path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let live: Value = match client.request(get).await {
        Ok(live) => live,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        Err(error) => return Err(error),
    };
    let conditions = live["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let write = match merge(conditions, of, wanted, kind.custom, Timestamp::now()) {
        Merged::Unchanged => return Ok(false),
        Merged::Write(write) => write,
    };
    let body = json!({
        "apiVersion": api_version(kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {"name": object.name, "namespace": object.namespace},
        "status": {"conditions": write},
    });
    let patch = http::Request::patch(format!("{path}/status?fieldManager={}&force=true", of.manager))
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    match client.request::<Value>(patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        result => result?,
    };
    if of.events {
        let before = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_);
        let news = wanted
            .iter()
            .filter(|condition| condition.status == Some(false))
            .filter(|condition| {
                before(&condition.type_)
                    .is_none_or(|before| before["message"] != condition.message || before["status"] != "False")
            });
        for condition in news {
            // An Event is a courtesy: the status says it for as long as it is so.
            let involved = json!({
                "apiVersion": api_version(kind.group, kind.version), "kind": kind.kind,
                "namespace": live["metadata"]["namespace"], "name": live["metadata"]["name"],
                "uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"],
            });
            let told = events.warn(client, &involved, &condition.reason, &condition.message);
            if let Err(error) = told.await {
                tracing::debug!(kind = kind.kind, %object, %error, "cannot write an event");
            }
        }
    }
    Ok(true)
}

/// What became of a status that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Yes,
    /// The object is another than the one that was looked at: what its status should be must be found anew.
    Outdated,
    /// There is no such object.
    Gone,
}

/// Writes a status over the one that an object has at a version of it; `null` in it removes a field. `version` is that of the API.
pub async fn write_status(
    client: &Client,
    kind: &Kind,
    version: &str,
    object: &NamespacedName,
    resource_version: &str,
    status: &Value,
) -> Result<Written, kube::Error> {
    let mut body = json!({"status": status});
    if !resource_version.is_empty() {
        body["metadata"] = json!({"resourceVersion": resource_version});
    }
    let path = path_in(kind, version, object);
    let patch = http::Request::patch(format!("{path}/status?fieldManager=istio-status"))
        .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    match client.request::<Value>(patch).await {
        Ok(_) => Ok(Written::Yes),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Outdated),
        Err(error) => Err(error),
    }
}

fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

pub(crate) fn path(kind: &Kind, object: &NamespacedName) -> String {
    path_in(kind, kind.version, object)
}

fn path_in(kind: &Kind, version: &str, object: &NamespacedName) -> String {
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    let namespace = match object.namespace.as_str() {
        "" => String::new(),
        namespace => format!("namespaces/{namespace}/"),
    };
    format!(
        "/{root}/{}/{namespace}{}/{}",
        api_version(kind.group, version),
        kind.plural,
        object.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: StatusOf = StatusOf {
        manager: "m",
        types: &["Ours", "OursToo"],
        events: false,
    };

    fn condition(status: bool, message: &str) -> Condition {
        Condition {
            type_: "Ours".to_owned(),
            status: Some(status),
            reason: "Why".to_owned(),
            message: message.to_owned(),
            observed_generation: Some(3),
        }
    }

    fn live(type_: &str, status: &str, message: &str, generation: Value) -> Value {
        json!({"type": type_, "status": status, "reason": "Why", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation})
    }

    #[track_caller]
    fn check(there: &[Value], wanted: &[Condition], whole_list: bool, expected: Option<&[(&str, &str, &str)]>) {
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().expect("a time");
        let found = merge(there, &OF, wanted, whole_list, now);
        let expected = match expected {
            None => return assert_eq!(found, Merged::Unchanged),
            Some(expected) => expected,
        };
        let Merged::Write(write) = found else {
            panic!("nothing is to be written")
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found: Vec<_> = write
            .iter()
            .map(|c| (text(&c["type"]), text(&c["status"]), text(&c["lastTransitionTime"])))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(t, s, at)| ((*t).to_owned(), (*s).to_owned(), (*at).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_differences_are_written_and_times_are_those_of_transitions() {
        let (before, now) = ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z");
        let there = [live("Ours", "True", "a", json!(3))];
        check(&there, &[condition(true, "a")], false, None);
        check(
            &[live("Ours", "True", "a", json!("3"))],
            &[condition(true, "a")],
            false,
            None,
        );
        check(
            &there,
            &[condition(true, "b")],
            false,
            Some(&[("Ours", "True", before)]),
        );
        check(&there, &[condition(false, "a")], false, Some(&[("Ours", "False", now)]));
        check(
            &[live("Ours", "True", "a", json!(2))],
            &[condition(true, "a")],
            false,
            Some(&[("Ours", "True", before)]),
        );
        check(&[], &[condition(true, "a")], false, Some(&[("Ours", "True", now)]));
    }

    #[test]
    fn conditions_not_wanted_any_more_are_removed_and_those_of_others_stay() {
        let others = live("Theirs", "True", "x", json!(1));
        let there = [others.clone(), live("Ours", "True", "a", json!(3))];
        check(&there, &[], false, Some(&[]));
        check(&there, &[], true, Some(&[("Theirs", "True", "2026-01-01T00:00:00Z")]));
        check(std::slice::from_ref(&others), &[], true, None);
        check(&[], &[], false, None);
    }
}
