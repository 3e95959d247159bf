//! A persistent hash trie: a set of items found by a hash and a predicate, of which old versions stay valid and share what did not change.
//!
//! A change copies the nodes on one path, whatever the number of items; a copy of the whole is one reference count.
//! Items carry their own key, so that nothing is stored twice, and a look-up needs neither an owned key nor an allocation.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, LazyLock},
};

/// Bits of the hash that one level uses.
const BITS: u32 = 5;
const MASK: u32 = (1 << BITS) - 1;
/// From here on all bits are used and items with equal hashes lie side by side.
const DEPTH_MAX: u32 = 32 / BITS;

/// One seed for the process: control planes choose names, but not where they fall.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The hash of a key, for every trie of the process.
pub(crate) fn hash(key: impl Hash) -> u32 {
    let wide = HASHER.hash_one(key);
    (wide ^ (wide >> 32)) as u32
}

/// The set.
#[derive(Debug, Clone)]
pub(crate) struct Trie<T> {
    root: Arc<Node<T>>,
    len: usize,
}

/// Children in the order of their position's bits; at the last level, items whose hashes are equal.
#[derive(Debug, Clone)]
struct Node<T> {
    bitmap: u32,
    slots: Vec<Slot<T>>,
}

#[derive(Debug, Clone)]
enum Slot<T> {
    Item(u32, T),
    Node(Arc<Node<T>>),
}

impl<T> Default for Trie<T> {
    fn default() -> Trie<T> {
        Trie {
            root: Arc::new(Node::default()),
            len: 0,
        }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Node<T> {
        Node {
            bitmap: 0,
            slots: Vec::new(),
        }
    }
}

impl<T: Clone> Trie<T> {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The item with this hash that satisfies `is`.
    pub(crate) fn get(&self, hash: u32, is: impl Fn(&T) -> bool) -> Option<&T> {
        let mut node = &*self.root;
        for depth in 0..DEPTH_MAX {
            match node.slots.get(node.position(hash, depth)?)? {
                Slot::Item(_, item) => return is(item).then_some(item),
                Slot::Node(next) => node = next,
            }
        }
        node.slots.iter().find_map(|slot| match slot {
            Slot::Item(_, item) if is(item) => Some(item),
            _ => None,
        })
    }

    /// The same, to be changed. The path to it is copied if an older version shares it.
    pub(crate) fn get_mut(&mut self, hash: u32, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        // Looked up first, so that a miss copies nothing.
        self.get(hash, &is)?;
        let mut node = Arc::make_mut(&mut self.root);
        for depth in 0..DEPTH_MAX {
            let at = node.position(hash, depth)?;
            match node.slots.get_mut(at)? {
                Slot::Item(_, item) => return Some(item),
                Slot::Node(next) => node = Arc::make_mut(next),
            }
        }
        node.slots.iter_mut().find_map(|slot| match slot {
            Slot::Item(_, item) if is(item) => Some(item),
            _ => None,
        })
    }

    /// Adds an item, in place of the one that satisfies `is`, which is returned.
    pub(crate) fn insert(&mut self, hash: u32, item: T, is: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(present) = self.get_mut(hash, is) {
            return Some(std::mem::replace(present, item));
        }
        self.len += 1;
        let mut node = Arc::make_mut(&mut self.root);
        let mut depth = 0;
        while depth < DEPTH_MAX {
            let bit = 1 << ((hash >> (depth * BITS)) & MASK);
            let at = (node.bitmap & (bit - 1)).count_ones() as usize;
            if node.bitmap & bit == 0 {
                node.bitmap |= bit;
                node.slots.reserve_exact(1);
                node.slots.insert(at, Slot::Item(hash, item));
                return None;
            }
            if let Slot::Item(other, _) = &node.slots[at] {
                // The two part at a deeper level: the other moves into a node of its own, and the loop goes on there.
                let other = *other;
                let mut deeper = Node::default();
                if depth + 1 < DEPTH_MAX {
                    deeper.bitmap = 1 << ((other >> ((depth + 1) * BITS)) & MASK);
                }
                let moved = std::mem::replace(&mut node.slots[at], Slot::Node(Arc::default()));
                deeper.slots = vec![moved];
                node.slots[at] = Slot::Node(Arc::new(deeper));
            }
            match &mut node.slots[at] {
                Slot::Node(next) => node = Arc::make_mut(next),
                Slot::Item(..) => unreachable!("an item was moved down above"),
            }
            depth += 1;
        }
        node.slots.push(Slot::Item(hash, item));
        None
    }

    /// Takes the item that satisfies `is` out.
    pub(crate) fn remove(&mut self, hash: u32, is: impl Fn(&T) -> bool) -> Option<T> {
        self.get(hash, &is)?;
        self.len -= 1;
        Arc::make_mut(&mut self.root).remove(hash, 0, &is)
    }

    /// All items, in no particular order.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            stack: vec![self.root.slots.iter()],
        }
    }
}

impl<T> Node<T> {
    fn position(&self, hash: u32, depth: u32) -> Option<usize> {
        let bit = 1 << ((hash >> (depth * BITS)) & MASK);
        (self.bitmap & bit != 0).then(|| (self.bitmap & (bit - 1)).count_ones() as usize)
    }
}

impl<T: Clone> Node<T> {
    /// Removes below this node, and folds a child that is left with a single item back into its place.
    fn remove(&mut self, hash: u32, depth: u32, is: &impl Fn(&T) -> bool) -> Option<T> {
        let at = if depth == DEPTH_MAX {
            self.slots
                .iter()
                .position(|slot| matches!(slot, Slot::Item(_, item) if is(item)))?
        } else {
            self.position(hash, depth)?
        };
        if let Slot::Node(next) = &mut self.slots[at] {
            let next = Arc::make_mut(next);
            let removed = next.remove(hash, depth + 1, is);
            if let [Slot::Item(..)] = next.slots.as_slice() {
                self.slots[at] = next.slots.pop()?;
            }
            return removed;
        }
        if depth < DEPTH_MAX {
            self.bitmap &= !(1 << ((hash >> (depth * BITS)) & MASK));
        }
        match self.slots.remove(at) {
            Slot::Item(_, item) => Some(item),
            Slot::Node(_) => None,
        }
    }
}

/// Goes over all items.
#[derive(Debug)]
pub(crate) struct Iter<'a, T> {
    stack: Vec<std::slice::Iter<'a, Slot<T>>>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            match self.stack.last_mut()?.next() {
                Some(Slot::Item(_, item)) => return Some(item),
                Some(Slot::Node(node)) => self.stack.push(node.slots.iter()),
                None => {
                    self.stack.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Trie;

    /// Few hashes, so that items meet at every level and at the end.
    fn poor_hash(item: u16) -> u32 {
        match item % 4 {
            0 => 7,
            1 => u32::from(item) << 30,
            2 => u32::from(item) << 8,
            _ => u32::from(item),
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_and_old_versions_stay(changes in proptest::collection::vec((any::<bool>(), 0u16..300), 0..600)) {
            let mut trie = Trie::default();
            let mut set = BTreeSet::new();
            let mut kept = Vec::new();
            for (i, (add, item)) in changes.into_iter().enumerate() {
                let is = |other: &u16| *other == item;
                if add {
                    prop_assert_eq!(trie.insert(poor_hash(item), item, is).is_none(), set.insert(item));
                } else {
                    prop_assert_eq!(trie.remove(poor_hash(item), is).is_some(), set.remove(&item));
                }
                prop_assert_eq!(trie.get(poor_hash(item), is).is_some(), add);
                prop_assert_eq!(trie.len(), set.len());
                if i % 100 == 0 {
                    kept.push((trie.clone(), set.clone()));
                }
            }
            kept.push((trie, set));
            for (trie, set) in kept {
                prop_assert_eq!(trie.iter().copied().collect::<BTreeSet<_>>(), set);
            }
        }
    }
}
