//! When certificates are asked for: at once when wanted, again at the middle of their life, later after failures, and
//! never more than a few at a time.
//!
//! A pure machine: the driver asks [`Renewals::next`] what to start, reports how it went, and sleeps until
//! [`Renewals::wake_at`]. Time and randomness are arguments.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use corten_core::Identity;

/// How urgent a certificate is; the greater goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A renewal; the present one still serves.
    Background,
    /// Will be needed soon.
    Warmup,
    /// A connection waits.
    RealTime,
}

/// The constants of the machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests under way at most.
    pub in_flight_max: usize,
    /// Pause after the first failure.
    pub retry_min: Duration,
    /// Longest pause between attempts.
    pub retry_max: Duration,
    /// Longest pause while the authority cannot be reached at all: an attempt costs nothing then, and pods that start
    /// wait for its return.
    pub retry_unavailable_max: Duration,
    /// Part of the life of a certificate by which its renewal is moved at random, so that those signed together are not renewed together.
    pub jitter: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            in_flight_max: 8,
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(150),
            retry_unavailable_max: Duration::from_secs(10),
            jitter: 0.05,
        }
    }
}

/// The shortest time between two successful requests for one identity, whatever the certificate says: without it, a
/// clock that is hours off would make a storm of requests.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(10);

/// Why no certificate came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The authority was not reached.
    Unavailable,
    /// It was, and gave none.
    Refused,
}

/// All identities that are wanted.
#[derive(Debug)]
pub struct Renewals {
    limits: Limits,
    entries: HashMap<Identity, Entry>,
    in_flight: usize,
    /// Rises with every wish; orders those of one priority.
    wishes: u64,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    priority: Priority,
    wish: u64,
    failures: u32,
    /// Asked for once more after the request under way.
    again: bool,
    /// Forgotten while its request was under way; the answer is not wanted any more.
    forgotten: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Due(SystemTime),
    InFlight,
}

impl Renewals {
    /// Nothing is wanted yet.
    pub fn new(limits: Limits) -> Renewals {
        Renewals {
            limits,
            entries: HashMap::new(),
            in_flight: 0,
            wishes: 0,
        }
    }

    /// An identity is wanted: at once if it is new. One that is known becomes at most more urgent; one that waits after a
    /// failure goes on waiting. Returns whether it is new.
    pub fn want(&mut self, identity: &Identity, priority: Priority, now: SystemTime) -> bool {
        self.wishes += 1;
        match self.entries.get_mut(identity) {
            Some(entry) => {
                entry.priority = entry.priority.max(priority);
                std::mem::take(&mut entry.forgotten)
            }
            None => {
                let entry = Entry {
                    phase: Phase::Due(now),
                    priority,
                    wish: self.wishes,
                    failures: 0,
                    again: false,
                    forgotten: false,
                };
                self.entries.insert(identity.clone(), entry);
                true
            }
        }
    }

    /// An identity is not wanted any more.
    pub fn forget(&mut self, identity: &Identity) {
        match self.entries.get_mut(identity) {
            // It keeps its place among those under way until its answer is there.
            Some(entry) if entry.phase == Phase::InFlight => entry.forgotten = true,
            _ => {
                self.entries.remove(identity);
            }
        }
    }

    /// Whether an identity is wanted.
    pub fn is_wanted(&self, identity: &Identity) -> bool {
        self.entries.get(identity).is_some_and(|entry| !entry.forgotten)
    }

    /// The identity to ask for now, if one is due and not too many requests are under way. It is under way from then on.
    pub fn next(&mut self, now: SystemTime) -> Option<Identity> {
        if self.in_flight >= self.limits.in_flight_max {
            return None;
        }
        let due = |entry: &Entry| matches!(entry.phase, Phase::Due(at) if at <= now);
        let identity = self
            .entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .max_by_key(|(_, entry)| (entry.priority, std::cmp::Reverse(entry.wish)))
            .map(|(identity, _)| identity.clone())?;
        if let Some(entry) = self.entries.get_mut(&identity) {
            entry.phase = Phase::InFlight;
            self.in_flight += 1;
        }
        Some(identity)
    }

    /// When something will be due; `None`: nothing is wanted, or all of it is under way.
    pub fn wake_at(&self) -> Option<SystemTime> {
        if self.in_flight >= self.limits.in_flight_max {
            return None;
        }
        let due = |entry: &Entry| match entry.phase {
            Phase::Due(at) => Some(at),
            Phase::InFlight => None,
        };
        self.entries.values().filter_map(due).min()
    }

    /// A certificate came. Returns whether it is still wanted. `random` is from 0 to 1.
    pub fn signed(
        &mut self,
        identity: &Identity,
        not_before: SystemTime,
        not_after: SystemTime,
        now: SystemTime,
        random: f64,
    ) -> bool {
        let jitter = self.limits.jitter;
        let Some(entry) = self.land(identity) else {
            return false;
        };
        let at = if std::mem::take(&mut entry.again) {
            now
        } else {
            renewal_time(not_before, not_after, random, jitter)
        };
        let at = at.max(now + RENEWAL_PAUSE_MIN);
        entry.phase = Phase::Due(at);
        entry.priority = Priority::Background;
        entry.failures = 0;
        true
    }

    /// No certificate came; it will be tried again. Returns whether it is still wanted. `random` is from 0 to 1.
    pub fn failed(&mut self, identity: &Identity, failure: Failure, now: SystemTime, random: f64) -> bool {
        let min = self.limits.retry_min;
        let max = match failure {
            Failure::Unavailable => self.limits.retry_unavailable_max,
            Failure::Refused => self.limits.retry_max,
        };
        let Some(entry) = self.land(identity) else {
            return false;
        };
        let doubled = min.saturating_mul(1 << entry.failures.min(16)).min(max);
        entry.phase = Phase::Due(now + doubled.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0)));
        entry.failures += 1;
        true
    }

    /// The authority has other roots: every certificate is asked for anew, so that all know the new ones soon.
    pub fn renew_all(&mut self, now: SystemTime) {
        for entry in self.entries.values_mut() {
            match entry.phase {
                Phase::Due(at) => entry.phase = Phase::Due(at.min(now)),
                // What is under way may have been signed before.
                Phase::InFlight => entry.again = true,
            }
        }
    }

    /// Takes an identity out of those under way; drops it when it was forgotten meanwhile.
    fn land(&mut self, identity: &Identity) -> Option<&mut Entry> {
        let entry = self.entries.get(identity)?;
        if entry.phase == Phase::InFlight {
            self.in_flight -= 1;
        }
        if entry.forgotten {
            self.entries.remove(identity);
            return None;
        }
        self.entries.get_mut(identity)
    }
}

/// The middle of a certificate's life, moved by up to `jitter` of that life to either side.
fn renewal_time(not_before: SystemTime, not_after: SystemTime, random: f64, jitter: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let part = 0.5 + jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
    not_before + life.mul_f64(part.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
