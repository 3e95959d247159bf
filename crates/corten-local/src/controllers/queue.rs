//! A work queue: each key waits at most once, is worked on by one worker at a time, and comes back later after a failure.
//!
//! Its size is bounded by the number of objects there are, since a key that already waits is merged. Knows nothing of what keys mean.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::object::Key;

/// The wait after the first failure of a key; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(5);
/// The longest wait after failures. Short, because here everything is on one machine and somebody watches.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The queue of one control loop.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    waiting: HashSet<Key>,
    running: HashSet<Key>,
    again: HashSet<Key>,
    timers: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for work on a key, now.
    pub(crate) fn add(&self, key: Key) {
        let is_new = self.state().ready(key);
        if is_new {
            self.wake.notify_one();
        }
    }

    /// Asks for work on a key after a while; the earliest of several such wishes holds.
    pub(crate) fn add_after(&self, key: Key, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let due = Instant::now() + wait;
        let mut state = self.state();
        if let Some(earlier) = state.due.get(&key).copied() {
            if earlier <= due {
                return;
            }
            state.timers.remove(&(earlier, key.clone()));
        }
        state.due.insert(key.clone(), due);
        state.timers.insert((due, key));
        drop(state);
        self.wake.notify_one();
    }

    /// The next key to work on. Cancel safe.
    pub(crate) async fn next(&self) -> Key {
        loop {
            let timer = {
                let mut state = self.state();
                state.expire(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.running.insert(key.clone());
                    if !state.ready.is_empty() || !state.timers.is_empty() {
                        // Somebody else has to look after what is left, while this worker is busy.
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.timers.first().map(|(due, _)| *due)
            };
            match timer {
                None => self.wake.notified().await,
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, self.wake.notified()).await;
                }
            }
        }
    }

    /// Ends the work on a key. After a failure it comes back with a growing delay, which is returned.
    pub(crate) fn done(&self, key: &Key, success: bool) -> Duration {
        let mut wait = Duration::ZERO;
        let mut state = self.state();
        state.running.remove(key);
        if state.again.remove(key) {
            state.ready(key.clone());
        }
        if success {
            state.failures.remove(key);
        } else {
            let failures = state.failures.entry(key.clone()).or_default();
            wait = RETRY_FIRST.saturating_mul(1 << (*failures).min(20)).min(RETRY_MAX);
            *failures += 1;
        }
        let has_more = !state.ready.is_empty();
        drop(state);
        if has_more {
            self.wake.notify_one();
        }
        if !success {
            self.add_after(key.clone(), wait);
        }
        wait
    }
}

impl State {
    /// Makes a key ready; whether a worker has to be told.
    fn ready(&mut self, key: Key) -> bool {
        if self.running.contains(&key) {
            self.again.insert(key);
            return false;
        }
        if !self.waiting.insert(key.clone()) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn expire(&mut self, now: Instant) {
        while let Some((due, key)) = self.timers.first().cloned() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            self.due.remove(&key);
            self.ready(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_by_one_worker() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("b"));
        let second = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(second.is_err(), "a is still being worked on");
        queue.done(&key("a"), true);
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        queue.add(key("a"));
        for _ in 0..16 {
            let key = queue.next().await;
            waits.push(queue.done(&key, false).as_millis());
        }
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert_eq!(waits[15], 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_timer_holds() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(5));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
    }
}
