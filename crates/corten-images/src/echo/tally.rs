//! Counts of requests by a name that they carry, so that whoever calls sees how often a proxy on the way has called.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How many names are counted apart; a server should not grow with what it is asked.
const NAMES_MAX: usize = 10_000;

/// The counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<String, u64>>);

impl Tallies {
    /// Counts a request; its number, from 1. None when there are too many names already.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= NAMES_MAX && !counts.contains_key(name) {
            return None;
        }
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        Some(*count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_apart_and_are_not_too_many() {
        let tallies = Tallies::default();
        assert_eq!(
            [tallies.count("a"), tallies.count("b"), tallies.count("a")],
            [Some(1), Some(1), Some(2)]
        );
        for number in 0..NAMES_MAX {
            tallies.count(&format!("more-{number}"));
        }
        assert_eq!((tallies.count("one-too-many"), tallies.count("a")), (None, Some(3)));
    }
}
