//! When changes are pushed: at once while the mesh is quiet, then together at intervals. Pure.
//!
//! istiod waits until nothing has changed for 100 ms, for at most 10 s, because each push there computes everything anew for every proxy.
//! Here a push costs what has changed, so there is no reason to wait for the end of a storm of changes: the first change goes out
//! at once (most changes come alone), and after a push the next one waits for the interval, in which changes to the same object merge.
//! A storm costs ten pushes a second, and nobody is ever more than an interval behind.

use std::time::{Duration, Instant};

/// Decides when to push.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    pushed: Option<Instant>,
    /// When the first event was seen that has not been pushed.
    since: Option<Instant>,
}

impl Throttle {
    /// At most one push in an interval.
    pub(crate) fn new(interval: Duration) -> Throttle {
        Throttle {
            interval,
            pushed: None,
            since: None,
        }
    }

    /// Something has changed.
    pub(crate) fn event(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When to push; none: there is nothing to push.
    pub(crate) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(self.pushed.map_or(since, |pushed| since.max(pushed + self.interval)))
    }

    /// It is being pushed. Yields when the first event of it was seen.
    pub(crate) fn push(&mut self, now: Instant) -> Option<Instant> {
        let since = self.since.take()?;
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
        let mut throttle = Throttle::new(Duration::from_millis(100));
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
}
