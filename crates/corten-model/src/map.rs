//! A map whose copies share what they have in common: a clone costs a pointer, a change the path to what changed.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    sync::Arc,
};

/// Bits of the hash that one level of the tree looks at.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// Entries a leaf holds before it is split.
const LEAF: usize = 8;
/// Below this depth the hash is used up and leaves grow instead.
const DEPTH: u32 = 64 / BITS;

/// A persistent hash map.
#[derive(Debug)]
pub struct Map<K, V> {
    root: Node<K, V>,
    len: usize,
}

#[derive(Debug)]
enum Node<K, V> {
    Empty,
    Leaf(Arc<Vec<(K, V)>>),
    Branch(Arc<[Node<K, V>; WIDTH]>),
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Node<K, V> {
        match self {
            Node::Empty => Node::Empty,
            Node::Leaf(entries) => Node::Leaf(Arc::clone(entries)),
            Node::Branch(children) => Node::Branch(Arc::clone(children)),
        }
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Map<K, V> {
        Map {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Map<K, V> {
        Map {
            root: Node::Empty,
            len: 0,
        }
    }
}

fn hash<Q: Hash + ?Sized>(key: &Q) -> u64 {
    // Fixed keys: two processes that did the same hold the same tree.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

fn slot(hash: u64, depth: u32) -> usize {
    ((hash >> (depth * BITS)) as usize) & (WIDTH - 1)
}

impl<K: Hash + Eq + Clone, V: Clone> Map<K, V> {
    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = hash(key);
        let mut node = &self.root;
        for depth in 0.. {
            match node {
                Node::Empty => return None,
                Node::Leaf(entries) => return entries.iter().find(|(k, _)| k.borrow() == key).map(|(_, v)| v),
                Node::Branch(children) => node = children.get(slot(hash, depth))?,
            }
        }
        None
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key; the old one is returned.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = insert(&mut self.root, hash(&key), 0, key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a key out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looking first keeps what is shared shared when there is nothing to remove.
        self.get(key)?;
        let old = remove(&mut self.root, hash(key), 0, key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Sets or removes.
    pub fn set(&mut self, key: K, value: Option<V>) -> Option<V> {
        match value {
            Some(value) => self.insert(key, value),
            None => self.remove(&key),
        }
    }
}

impl<K, V> Map<K, V> {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, in no particular order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            nodes: vec![&self.root],
            entries: [].iter(),
        }
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

/// The entries of a [`Map`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    nodes: Vec<&'a Node<K, V>>,
    entries: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                return Some((key, value));
            }
            match self.nodes.pop()? {
                Node::Empty => {}
                Node::Leaf(entries) => self.entries = entries.iter(),
                Node::Branch(children) => self.nodes.extend(children.iter().rev()),
            }
        }
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;
    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Map<K, V> {
        let mut map = Map::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Hash + Eq + Clone, V: Clone + PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Map<K, V>) -> bool {
        self.len == other.len && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

fn insert<K: Hash + Eq + Clone, V: Clone>(node: &mut Node<K, V>, hash: u64, depth: u32, key: K, value: V) -> Option<V> {
    match node {
        Node::Empty => {
            *node = Node::Leaf(Arc::new(vec![(key, value)]));
            None
        }
        Node::Branch(children) => {
            let child = Arc::make_mut(children).get_mut(slot(hash, depth))?;
            insert(child, hash, depth + 1, key, value)
        }
        Node::Leaf(entries) => {
            let entries = Arc::make_mut(entries);
            if let Some((_, held)) = entries.iter_mut().find(|(k, _)| *k == key) {
                return Some(std::mem::replace(held, value));
            }
            if entries.len() < LEAF || depth >= DEPTH {
                entries.reserve_exact(1);
                entries.push((key, value));
                return None;
            }
            let entries = std::mem::take(entries);
            let mut split: [Node<K, V>; WIDTH] = [const { Node::Empty }; WIDTH];
            for (key, value) in entries.into_iter().chain([(key, value)]) {
                let hash = self::hash(&key);
                if let Some(child) = split.get_mut(slot(hash, depth)) {
                    insert(child, hash, depth + 1, key, value);
                }
            }
            *node = Node::Branch(Arc::new(split));
            None
        }
    }
}

fn remove<K: Hash + Eq + Clone + Borrow<Q>, V: Clone, Q: Hash + Eq + ?Sized>(
    node: &mut Node<K, V>,
    hash: u64,
    depth: u32,
    key: &Q,
) -> Option<V> {
    match node {
        Node::Empty => None,
        // Branches that became small stay: what shrank will most likely grow again.
        Node::Branch(children) => {
            let child = Arc::make_mut(children).get_mut(slot(hash, depth))?;
            remove(child, hash, depth + 1, key)
        }
        Node::Leaf(entries) => {
            let at = entries.iter().position(|(k, _)| k.borrow() == key)?;
            Some(Arc::make_mut(entries).swap_remove(at).1)
        }
    }
}
