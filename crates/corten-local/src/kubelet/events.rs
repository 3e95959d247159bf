//! Events as a node's kubelet tells them: repeated ones are counted on one object, floods are cut.
//!
//! [`Correlator`] decides and is pure; [`run`] writes what it says. A full queue drops the newest event: they are news, not state.

use std::collections::HashMap;
use std::collections::VecDeque;

use corten_apiserver::{Client, Patch, resources};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::status::time;

/// The object an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Involved {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The part of it, such as `spec.containers{app}`.
    pub(crate) field: String,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct News {
    pub(crate) about: Involved,
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

const QUEUE: usize = 1024;
/// So many different events are remembered for counting.
const REMEMBERED: usize = 1024;
/// An object may have so many events at once, and one more for each [`REFILL`].
const BURST: i64 = 25;
const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// After this long without a repetition counting begins anew.
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

/// Where a node's news go.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<News>);

impl Recorder {
    /// A recorder and the queue that [`run`] empties.
    pub(crate) fn new() -> (Self, mpsc::Receiver<News>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Tells something, unless there is too much to tell already.
    pub(crate) fn tell(&self, news: News) {
        if let Err(error) = self.0.try_send(news) {
            tracing::debug!(%error, "an event was not told");
        }
    }
}

/// What to do about a piece of news.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Create an object of this name.
    Create(String),
    /// Set the count of the object of this name.
    Count(String, u32),
    /// Too much was said about the object lately.
    Drop,
}

#[derive(Debug)]
struct Known {
    name: String,
    count: u32,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: i64,
    filled: Timestamp,
}

/// Counts repetitions and limits rates.
#[derive(Debug, Default)]
pub(crate) struct Correlator {
    known: HashMap<News, Known>,
    order: VecDeque<News>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// Decides about `news` heard at `now`.
    pub(crate) fn decide(&mut self, news: &News, now: Timestamp) -> Decision {
        if !self.take_token(&news.about.uid, now) {
            return Decision::Drop;
        }
        if let Some(known) = self.known.get_mut(news)
            && now.duration_since(known.last) < FORGOTTEN
        {
            known.count += 1;
            known.last = now;
            return Decision::Count(known.name.clone(), known.count);
        }
        let name = format!("{}.{:x}", news.about.name, now.as_nanosecond());
        let known = Known {
            name: name.clone(),
            count: 1,
            last: now,
        };
        if self.known.insert(news.clone(), known).is_none() {
            self.order.push_back(news.clone());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        Decision::Create(name)
    }

    /// The object of an earlier decision is gone: the next such news makes a new one.
    fn forget(&mut self, news: &News) {
        self.known.remove(news);
        self.order.retain(|of| of != news);
    }

    fn take_token(&mut self, object: &str, now: Timestamp) -> bool {
        if self.buckets.len() > REMEMBERED && !self.buckets.contains_key(object) {
            let full = |bucket: &Bucket| now.duration_since(bucket.filled) > REFILL * 25;
            self.buckets.retain(|_, bucket| !full(bucket));
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert(Bucket {
            tokens: BURST,
            filled: now,
        });
        let refills = now.duration_since(bucket.filled).as_secs() / REFILL.as_secs();
        if refills > 0 {
            bucket.tokens = (bucket.tokens + refills).min(BURST);
            bucket.filled = now;
        }
        if bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        true
    }
}

/// Writes what is told until all recorders are gone.
pub(crate) async fn run(client: Client, node: String, mut news: mpsc::Receiver<News>) {
    let mut correlator = Correlator::default();
    while let Some(one) = news.recv().await {
        let now = Timestamp::now();
        match write(&client, &node, &mut correlator, &one, now).await {
            Ok(()) => {}
            // A namespace that is going away takes no more events; that is no one's fault.
            Err(status) if status.is_not_found() || status.code == 403 => {
                tracing::debug!(reason = one.reason, %status, "an event was not written");
            }
            Err(status) => {
                tracing::warn!(reason = one.reason, about = one.about.name, %status, "an event was not written")
            }
        }
    }
}

async fn write(
    client: &Client,
    node: &str,
    correlator: &mut Correlator,
    news: &News,
    now: Timestamp,
) -> Result<(), corten_apiserver::Status> {
    let name = match correlator.decide(news, now) {
        Decision::Drop => return Ok(()),
        Decision::Create(name) => name,
        Decision::Count(name, count) => {
            let patch = Patch::Merge(json!({ "count": count, "lastTimestamp": time(now) }));
            match client
                .patch(&resources::EVENTS, namespace(news), &name, None, patch)
                .await
            {
                Err(status) if status.is_not_found() => {
                    correlator.forget(news);
                    match correlator.decide(news, now) {
                        Decision::Create(name) => name,
                        _ => return Ok(()),
                    }
                }
                other => return other.map(drop),
            }
        }
    };
    client
        .create(&resources::EVENTS, object(news, &name, node, now))
        .await
        .map(drop)
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(news: &News) -> &str {
    if news.about.namespace.is_empty() {
        "default"
    } else {
        &news.about.namespace
    }
}

fn object(news: &News, name: &str, node: &str, now: Timestamp) -> Value {
    let about = &news.about;
    let mut involved = json!({ "kind": about.kind, "name": about.name, "uid": about.uid, "apiVersion": "v1" });
    if !about.namespace.is_empty() {
        involved["namespace"] = about.namespace.as_str().into();
    }
    if !about.field.is_empty() {
        involved["fieldPath"] = about.field.as_str().into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace(news) },
        "involvedObject": involved,
        "reason": news.reason,
        "message": news.message,
        "type": if news.warning { "Warning" } else { "Normal" },
        "source": { "component": "kubelet", "host": node },
        "reportingComponent": "kubelet",
        "reportingInstance": node,
        "count": 1,
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(message: &str) -> News {
        News {
            about: Involved {
                kind: "Pod",
                name: "p".into(),
                uid: "u".into(),
                ..Involved::default()
            },
            warning: false,
            reason: "BackOff".into(),
            message: message.into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn repetitions_are_counted_on_one_object() {
        let mut correlator = Correlator::default();
        let name = "p.3b9aca00".to_owned();
        assert_eq!(correlator.decide(&news("a"), at(1)), Decision::Create(name.clone()));
        assert_eq!(correlator.decide(&news("a"), at(2)), Decision::Count(name.clone(), 2));
        assert_eq!(
            correlator.decide(&news("b"), at(3)),
            Decision::Create("p.b2d05e00".into())
        );
        assert_eq!(correlator.decide(&news("a"), at(4)), Decision::Count(name, 3));
        assert!(
            matches!(correlator.decide(&news("a"), at(1000)), Decision::Create(_)),
            "after a long silence"
        );
    }

    #[test]
    fn a_flood_about_one_object_is_cut_and_trickles_later() {
        let mut correlator = Correlator::default();
        let told = (0..100)
            .filter(|_| correlator.decide(&news("a"), at(0)) != Decision::Drop)
            .count();
        assert_eq!(told, 25);
        assert_ne!(correlator.decide(&news("a"), at(301)), Decision::Drop);
        assert_eq!(correlator.decide(&news("a"), at(302)), Decision::Drop);
    }
}
