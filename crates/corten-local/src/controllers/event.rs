//! Events: what the loops tell users, as Event objects with repeated ones counted instead of repeated.
//!
//! Recording never waits: notices go into a bounded queue, and when that is full the newest are dropped, for events are news and not state.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::action::Notice;
use super::object::{self, Key};

/// So many notices may wait to be written.
const WAITING_MAX: usize = 4096;
/// So many written events are remembered for counting.
const REMEMBERED_MAX: usize = 1024;
/// A repeated notice within this time raises the count of the first.
const REPEAT_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// The object reference by which an event names what it is about.
pub(crate) fn reference(about: &Value) -> Value {
    let mut reference = json!({
        "kind": object::kind(about),
        "apiVersion": object::text(about, "/apiVersion"),
        "name": object::name(about),
        "uid": object::uid(about),
        "resourceVersion": object::text(about, "/metadata/resourceVersion"),
    });
    if !object::namespace(about).is_empty() {
        reference["namespace"] = json!(object::namespace(about));
    }
    reference
}

/// The Event object of a notice that was not given before.
pub(crate) fn first(notice: &Notice, now: Timestamp) -> Value {
    let regarding = &notice.regarding;
    let namespace = match object::text(regarding, "/namespace") {
        "" => "default",
        namespace => namespace,
    };
    let mut event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", object::text(regarding, "/name"), now.as_nanosecond()),
            "namespace": namespace,
        },
        "involvedObject": regarding,
        "reason": notice.reason,
        "message": notice.message,
        "type": if notice.warning { "Warning" } else { "Normal" },
        "reportingComponent": notice.component,
        "reportingInstance": "",
    });
    match notice.action {
        // The newer form has one time and an action, and no count.
        Some(action) => {
            event["action"] = json!(action);
            event["eventTime"] = json!(object::micros(now));
            event["reportingInstance"] = json!(format!("{}-corten", notice.component));
            event["source"] = json!({});
        }
        None => {
            event["firstTimestamp"] = json!(object::seconds(now));
            event["lastTimestamp"] = json!(object::seconds(now));
            event["count"] = json!(1);
            event["source"] = json!({"component": notice.component});
        }
    }
    event
}

/// What tells two notices apart.
type Identity = (String, bool, &'static str, String, &'static str);

fn identity(notice: &Notice) -> Identity {
    (
        object::text(&notice.regarding, "/uid").to_owned(),
        notice.warning,
        notice.reason,
        notice.message.clone(),
        notice.component,
    )
}

struct Written {
    key: Key,
    first: Timestamp,
    last: Timestamp,
    count: u64,
    is_series: bool,
}

#[derive(Default)]
struct Memory {
    written: HashMap<Identity, Written>,
    order: VecDeque<Identity>,
}

/// Takes notices from the loops and remembers what was written.
pub(crate) struct Recorder {
    sender: mpsc::Sender<Notice>,
    receiver: AsyncMutex<mpsc::Receiver<Notice>>,
    memory: Mutex<Memory>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: AsyncMutex::new(receiver),
            memory: Mutex::default(),
        }
    }

    /// Puts a notice into the queue, or drops it when the queue is full.
    pub(crate) fn record(&self, notice: Notice) {
        if let Err(error) = self.sender.try_send(notice) {
            tracing::debug!(%error, "an event was dropped");
        }
    }

    /// The next notice to write. Cancel safe.
    pub(crate) async fn next(&self) -> Notice {
        match self.receiver.lock().await.recv().await {
            Some(notice) => notice,
            // The sender lives as long as this value; so there is always more to come.
            None => std::future::pending().await,
        }
    }

    /// For a notice that was written not long ago: its event and the patch that counts it again.
    pub(crate) fn repeat(&self, notice: &Notice, now: Timestamp) -> Option<(Key, Value)> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let written = memory.written.get_mut(&identity(notice))?;
        if now.duration_since(written.last) > REPEAT_WITHIN {
            return None;
        }
        written.last = now;
        written.count += 1;
        let patch = if written.is_series {
            json!({"series": {"count": written.count, "lastObservedTime": object::micros(now)}})
        } else {
            json!({
                "count": written.count,
                "firstTimestamp": object::seconds(written.first),
                "lastTimestamp": object::seconds(now),
                "message": notice.message,
            })
        };
        Some((written.key.clone(), patch))
    }

    /// Remembers the event of a notice.
    pub(crate) fn remember(&self, notice: &Notice, key: Key) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = identity(notice);
        let now = Timestamp::now();
        let written = Written {
            key,
            first: now,
            last: now,
            count: 1,
            is_series: notice.action.is_some(),
        };
        if memory.written.insert(identity.clone(), written).is_none() {
            memory.order.push_back(identity);
        }
        while memory.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = memory.order.pop_front() {
                memory.written.remove(&oldest);
            }
        }
    }

    /// Forgets a notice whose event is gone.
    pub(crate) fn forget(&self, notice: &Notice) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = identity(notice);
        memory.written.remove(&identity);
        memory.order.retain(|known| *known != identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repeated_notice_is_counted() {
        let about = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}});
        let notice = Notice::normal("test-controller", &about, "Tested", "all is well".to_owned());
        let recorder = Recorder::new();
        let now = Timestamp::now();
        assert!(recorder.repeat(&notice, now).is_none());
        let event = first(&notice, now);
        assert_eq!(event["count"], 1);
        assert_eq!(event["source"]["component"], "test-controller");
        assert_eq!(event["metadata"]["namespace"], "n");
        recorder.remember(&notice, Key::of(&event));
        let (key, patch) = recorder.repeat(&notice, Timestamp::now()).expect("it was written");
        assert_eq!(key, Key::of(&event));
        assert_eq!(patch["count"], 2);
        recorder.forget(&notice);
        assert!(recorder.repeat(&notice, now).is_none());
    }
}
