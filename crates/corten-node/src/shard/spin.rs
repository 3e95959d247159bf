//! Asking for events again for a moment before going to sleep.
//!
//! To be woken costs a caller that waits for its answer more than the proxy's own work. Where events follow one another within
//! microseconds it pays to stay awake; where they do not, or where somebody else wants the processor, it would only take it from others.
//! So a shard stays awake only if it was last woken soon after it had gone to sleep, offers the processor to others each time it
//! asks, and stops for a while when that offer was taken.

use std::time::{Duration, Instant};

/// To get the processor back later than that means that somebody else had it.
const TAKEN: Duration = Duration::from_micros(5);
/// So many waits pass by sleeping after the processor was wanted by others.
const PAUSE: u32 = 256;

/// Whether to stay awake.
#[derive(Debug)]
pub(super) struct Spin {
    limit: Duration,
    /// The last sleep was short.
    soon: bool,
    /// Sleeps before it is tried again.
    pause: u32,
}

impl Spin {
    /// Stays awake for at most so long; zero: never.
    pub(super) fn new(limit: Duration) -> Spin {
        Spin {
            limit,
            soon: false,
            pause: 0,
        }
    }

    /// Whether it is used at all.
    pub(super) fn is_on(&self) -> bool {
        !self.limit.is_zero()
    }

    /// Whether events can be expected soon.
    pub(super) fn begin(&self) -> bool {
        self.soon && self.pause == 0
    }

    /// Whether to ask once more, `since` the first and `last` time, after the processor was offered to others.
    pub(super) fn go_on(&mut self, since: Instant, last: Instant, now: Instant) -> bool {
        if now.saturating_duration_since(last) > TAKEN {
            self.pause = PAUSE;
            return false;
        }
        self.soon = now.saturating_duration_since(since) < self.limit;
        self.soon
    }

    /// It slept so long.
    pub(super) fn slept(&mut self, length: Duration) {
        self.soon = length < self.limit;
        self.pause = self.pause.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    #[test]
    fn it_is_tried_only_where_events_come_soon() {
        let mut spin = Spin::new(LIMIT);
        assert!(!spin.begin());
        spin.slept(LIMIT / 2);
        assert!(spin.begin());
        let start = Instant::now();
        let (early, late) = (start + LIMIT / 2, start + LIMIT * 2);
        assert!(spin.go_on(start, early - TAKEN / 2, early));
        assert!(!spin.go_on(start, late - TAKEN / 2, late));
        // Nothing had come: it sleeps, and tries again after a short sleep only.
        assert!(!spin.begin());
        spin.slept(LIMIT * 2);
        assert!(!spin.begin());
        spin.slept(LIMIT / 2);
        assert!(spin.begin());
    }

    #[test]
    fn others_have_the_processor_when_they_want_it() {
        let mut spin = Spin::new(LIMIT);
        spin.slept(LIMIT / 2);
        let start = Instant::now();
        assert!(!spin.go_on(start, start, start + TAKEN * 2));
        for _ in 0..PAUSE {
            assert!(!spin.begin());
            spin.slept(LIMIT / 2);
        }
        assert!(spin.begin());
    }

    #[test]
    fn without_a_limit_it_sleeps() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.slept(Duration::ZERO);
        assert!(!spin.is_on() && !spin.begin());
    }
}
