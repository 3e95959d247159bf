//! A persistent ordered list in two levels: a change copies one short run of items and the list of runs, and an item at random costs no walk.

use std::{cmp::Ordering, sync::Arc};

/// A run is split in two when it reaches this length.
const RUN_MAX: usize = 128;

/// The list.
#[derive(Debug, Clone)]
pub(crate) struct Sorted<T> {
    runs: Arc<Vec<Arc<Vec<T>>>>,
    len: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Sorted<T> {
        Sorted {
            runs: Arc::default(),
            len: 0,
        }
    }
}

impl<T: Clone> Sorted<T> {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// Places the item where `order` (of an item to the new one) says, instead of one that is equal.
    pub(crate) fn insert(&mut self, item: T, order: impl Fn(&T) -> Ordering) {
        let runs = Arc::make_mut(&mut self.runs);
        let Some(at) = run_of(runs, &order) else {
            runs.push(Arc::new(vec![item]));
            self.len += 1;
            return;
        };
        let run = Arc::make_mut(&mut runs[at]);
        match run.binary_search_by(&order) {
            Ok(place) => run[place] = item,
            Err(place) => {
                run.insert(place, item);
                self.len += 1;
                if run.len() >= RUN_MAX {
                    let second = run.split_off(RUN_MAX / 2);
                    runs.insert(at + 1, Arc::new(second));
                }
            }
        }
    }

    /// Takes out the item that `order` finds equal.
    pub(crate) fn remove(&mut self, order: impl Fn(&T) -> Ordering) -> Option<T> {
        let at = run_of(&self.runs, &order)?;
        let place = self.runs[at].binary_search_by(&order).ok()?;
        let runs = Arc::make_mut(&mut self.runs);
        let run = Arc::make_mut(&mut runs[at]);
        let removed = run.remove(place);
        self.len -= 1;
        // A short run joins its neighbour, so that the share of nearly empty runs stays small.
        let len = run.len();
        if len == 0 {
            runs.remove(at);
        } else if at > 0 && len + runs[at - 1].len() < RUN_MAX / 2 {
            let run = runs.remove(at);
            Arc::make_mut(&mut runs[at - 1]).extend(run.iter().cloned());
        }
        Some(removed)
    }

    /// A place chosen by two random numbers, each place alike: an item, or, where the run is shorter than the longest, nothing.
    pub(crate) fn probe(&self, run: u32, place: u32) -> Option<&T> {
        let at = scale(run, self.runs.len());
        let width = if self.runs.len() == 1 { self.len } else { RUN_MAX };
        self.runs.get(at)?.get(scale(place, width))
    }
}

/// A random 32-bit number as one below `limit`.
fn scale(random: u32, limit: usize) -> usize {
    ((u64::from(random) * limit as u64) >> 32) as usize
}

/// The run in which an item is or belongs.
fn run_of<T>(runs: &[Arc<Vec<T>>], order: &impl Fn(&T) -> Ordering) -> Option<usize> {
    let after = runs.partition_point(|run| run.first().is_some_and(|first| order(first) != Ordering::Greater));
    (!runs.is_empty()).then(|| after.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Sorted;

    proptest! {
        #[test]
        fn behaves_as_an_ordered_set(changes in proptest::collection::vec((0u8..3, 0u16..400), 0..1500)) {
            let mut list = Sorted::default();
            let mut set = BTreeSet::new();
            let mut kept = Vec::new();
            for (i, (kind, item)) in changes.into_iter().enumerate() {
                if kind > 0 {
                    list.insert(item, |other| other.cmp(&item));
                    set.insert(item);
                } else {
                    prop_assert_eq!(list.remove(|other| other.cmp(&item)).is_some(), set.remove(&item));
                }
                if i % 300 == 0 {
                    kept.push((list.clone(), set.clone()));
                }
            }
            kept.push((list, set));
            for (list, set) in kept {
                prop_assert_eq!(list.len(), set.len());
                prop_assert_eq!(list.iter().copied().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_item_can_be_probed() {
        let mut list = Sorted::default();
        for item in 0..500u16 {
            list.insert(item, |other| other.cmp(&item));
        }
        let mut seen: BTreeSet<&u16> = BTreeSet::new();
        for run in (0..=u32::MAX).step_by(1 << 26) {
            for place in (0..=u32::MAX).step_by(1 << 24) {
                seen.extend(list.probe(run, place));
            }
        }
        assert_eq!(seen.len(), 500);
    }
}
