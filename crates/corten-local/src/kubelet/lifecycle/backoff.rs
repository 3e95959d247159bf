//! The pause between attempts: 10 s, doubled each time up to 5 min, forgotten after 10 min without a failure.

use jiff::{SignedDuration, Timestamp};

use super::later;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_secs(300);
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

/// One thing's pauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff(Option<Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// Whether the pause that began with the failure at `since` is still on, until when, and how long it is.
    pub(super) fn since(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.0.filter(|entry| !entry.is_forgotten(since))?;
        let until = later(since, entry.delay);
        (until > now).then_some((until, entry.delay))
    }

    /// Whether the pause that began with the last [`next`](Self::next) is still on, and until when.
    pub(super) fn waits(&self, now: Timestamp) -> Option<Timestamp> {
        let entry = self.0?;
        let until = later(entry.updated, entry.delay);
        (until > now).then_some(until)
    }

    /// When [`next`](Self::next) was last called.
    pub(super) fn updated(&self) -> Option<Timestamp> {
        self.0.map(|entry| entry.updated)
    }

    /// Notes an attempt after the failure at `since`: the next pause is longer.
    pub(super) fn next(&mut self, since: Timestamp, now: Timestamp) {
        let delay = match self.0.filter(|entry| !entry.is_forgotten(since)) {
            Some(entry) => (entry.delay * 2).min(LONGEST),
            None => FIRST,
        };
        self.0 = Some(Entry { delay, updated: now });
    }
}

impl Entry {
    fn is_forgotten(&self, since: Timestamp) -> bool {
        since.duration_since(self.updated) > FORGOTTEN
    }
}
