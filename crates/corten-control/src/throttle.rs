//! When changes are pushed: at once while the mesh is quiet, then together at intervals. Pure.
//!
//! istiod waits until nothing has changed for 100 ms, for at most 10 s, because each push there computes everything anew for every proxy.
//! Here a push costs what has changed, so there is no reason to wait for the end of a storm of changes: the first change goes out
//! at once (most changes come alone), and after a push the next one waits for the interval, in which changes to the same object merge.
//! A storm costs ten pushes a second, and nobody is ever more than an interval behind.
//!
//! Of istiod's settings `PILOT_DEBOUNCE_AFTER` is the interval, which is never longer than `PILOT_DEBOUNCE_MAX`, since that is how long
//! a change may wait at most; and without `PILOT_ENABLE_EDS_DEBOUNCE` changes of endpoints do not wait at all.

use std::time::{Duration, Instant};

/// Decides when to push.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    pushed: Option<Instant>,
    /// When the first event was seen that has not been pushed.
    since: Option<Instant>,
    /// Something among it does not wait.
    urgent: bool,
}

impl Throttle {
    /// At most one push in an interval, and nothing waits for longer than `longest`.
    pub(crate) fn new(interval: Duration, longest: Duration) -> Throttle {
        Throttle {
            interval: interval.min(longest),
            pushed: None,
            since: None,
            urgent: false,
        }
    }

    /// Something has changed that does not wait, and nothing with it.
    pub(crate) fn urgent(&mut self, now: Instant) {
        self.event(now);
        self.urgent = true;
    }

    /// Something has changed.
    pub(crate) fn event(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When to push; none: there is nothing to push.
    pub(crate) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        if self.urgent {
            return Some(since);
        }
        Some(self.pushed.map_or(since, |pushed| since.max(pushed + self.interval)))
    }

    /// It is being pushed. Yields when the first event of it was seen.
    pub(crate) fn push(&mut self, now: Instant) -> Option<Instant> {
        let since = self.since.take()?;
        self.urgent = false;
        self.pushed = Some(now);
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_goes_at_once_and_others_in_intervals() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut throttle = Throttle::new(Duration::from_millis(100), Duration::from_secs(10));
        assert_eq!(throttle.due(), None);
        throttle.event(at(5));
        assert_eq!(throttle.due(), Some(at(5)));
        assert_eq!(throttle.push(at(6)), Some(at(5)));
        assert_eq!(throttle.due(), None);
        assert_eq!(throttle.push(at(7)), None);
        // Changes that follow wait for the interval, and no longer, however many there are.
        for milliseconds in 10..90 {
            throttle.event(at(milliseconds));
            assert_eq!(throttle.due(), Some(at(106)));
        }
        assert_eq!(throttle.push(at(106)), Some(at(10)));
        // Quiet again.
        throttle.event(at(500));
        assert_eq!(throttle.due(), Some(at(500)));
    }

    #[test]
    fn nothing_waits_for_longer_than_the_longest_and_what_is_urgent_not_at_all() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut throttle = Throttle::new(Duration::from_millis(100), Duration::from_millis(30));
        throttle.event(at(0));
        throttle.push(at(0));
        throttle.event(at(10));
        assert_eq!(throttle.due(), Some(at(30)));
        throttle.urgent(at(12));
        assert_eq!(throttle.due(), Some(at(10)));
        throttle.push(at(12));
        throttle.event(at(13));
        assert_eq!(throttle.due(), Some(at(42)));
    }
}
