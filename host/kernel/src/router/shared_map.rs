//! A map of which copies are cheap, because they share what is the same in them.
//!
//! A change copies the few nodes between the root and the entry that it is about, so it costs as
//! much in a map of a hundred thousand entries as in one of a hundred. A trie over the bits of the
//! keys' hashes.
//!
//! It is our own because the well-kept crates with such a map cost more where the table pays: when
//! a name is looked up, and when routes come and go. Instructions (callgrind, x86-64), for names in
//! maps of 100 and of 10,000 entries; a change is a copy, one insert, and the end of the copy:
//!
//! |            | this one        | imbl 7.0.2      | rpds 1.2.1      |
//! |------------|-----------------|-----------------|-----------------|
//! | look-up    |   319 and   334 |   363 and   395 |   395 and   449 |
//! | change     | 2,615 and 2,931 | 4,071 and 7,427 | 2,452 and 4,256 |
//! | all of 100 |           2,730 |           6,436 |           7,711 |
//!
//! Either one would also bring unsafe code that nothing else here needs (in imbl-sized-chunks; in
//! archery and triomphe below rpds), and imbl eight crates under the MPL. What they do better is to
//! fill an empty map (imbl, by a sixth). A plugin's emit of a name that it holds is no look-up.

use std::{
    borrow::Borrow,
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

/// Bits of the hash that one node looks at.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// From this depth on the hash has no more bits.
const DEEPEST: u32 = u64::BITS / BITS;
/// Entries that a leaf holds before it becomes a branch.
const LEAF: usize = 8;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct SharedMap<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

type Child<K, V> = Option<Arc<Node<K, V>>>;

#[derive(Debug, Clone)]
enum Node<K, V> {
    Leaf(Vec<Entry<K, V>>),
    Branch([Child<K, V>; WIDTH]),
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Node::Leaf(Vec::new())
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        SharedMap { root: Arc::default(), len: 0, hasher: RandomState::new() }
    }
}

impl<K, V> SharedMap<K, V> {
    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entry, in no order.
    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { leaf: [].iter(), nodes: Vec::new() };
        iter.enter(&self.root);
        iter
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Most maps of segments hold a handful, and many hold none.
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let (mut node, mut rest) = (&*self.root, hash);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let found = entries.iter().find(|e| e.hash == hash && e.key.borrow() == key);
                    return found.map(|entry| &entry.value);
                }
                Node::Branch(children) => {
                    node = children[place(rest)].as_ref()?;
                    rest >>= BITS;
                }
            }
        }
    }

    /// Puts a value under a key; the one that stood there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let before = insert(&mut self.root, 0, Entry { hash, key, value });
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes the value of a key out.
    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Otherwise the way to nothing would be copied.
        self.get(key)?;
        let removed = remove(&mut self.root, 0, self.hasher.hash_one(key), key);
        self.len -= usize::from(removed.is_some());
        removed
    }
}

/// Which child the next bits of a hash stand for.
fn place(rest: u64) -> usize {
    rest as usize % WIDTH
}

fn insert<K: Eq + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    depth: u32,
    entry: Entry<K, V>,
) -> Option<V> {
    let node = Arc::make_mut(node);
    if let Node::Leaf(entries) = node {
        let known = entries.iter_mut().find(|e| e.hash == entry.hash && e.key == entry.key);
        if let Some(known) = known {
            return Some(std::mem::replace(&mut known.value, entry.value));
        }
        if entries.len() < LEAF || depth == DEEPEST {
            entries.push(entry);
            return None;
        }
        let crowd = std::mem::take(entries);
        *node = Node::Branch(Default::default());
        for entry in crowd {
            insert_below(node, depth, entry);
        }
    }
    insert_below(node, depth, entry)
}

fn insert_below<K: Eq + Clone, V: Clone>(
    node: &mut Node<K, V>,
    depth: u32,
    entry: Entry<K, V>,
) -> Option<V> {
    let Node::Branch(children) = node else { return None };
    let child = children[place(entry.hash >> (depth * BITS))].get_or_insert_default();
    insert(child, depth + 1, entry)
}

fn remove<K, V, Q>(node: &mut Arc<Node<K, V>>, depth: u32, hash: u64, key: &Q) -> Option<V>
where
    K: Clone + Borrow<Q>,
    V: Clone,
    Q: Eq + ?Sized,
{
    let node = Arc::make_mut(node);
    match node {
        Node::Leaf(entries) => {
            let at = entries.iter().position(|e| e.hash == hash && e.key.borrow() == key)?;
            Some(entries.swap_remove(at).value)
        }
        Node::Branch(children) => {
            let child = &mut children[place(hash >> (depth * BITS))];
            let removed = remove(child.as_mut()?, depth + 1, hash, key);
            if child.as_deref().is_some_and(|child| matches!(child, Node::Leaf(l) if l.is_empty()))
            {
                *child = None;
                if children.iter().all(Option::is_none) {
                    *node = Node::default();
                }
            }
            removed
        }
    }
}

/// The entries of a [`SharedMap`].
#[derive(Debug)]
pub(crate) struct Iter<'a, K, V> {
    leaf: std::slice::Iter<'a, Entry<K, V>>,
    nodes: Vec<std::slice::Iter<'a, Child<K, V>>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn enter(&mut self, node: &'a Node<K, V>) {
        match node {
            Node::Leaf(entries) => self.leaf = entries.iter(),
            Node::Branch(children) => self.nodes.push(children.iter()),
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some((&entry.key, &entry.value));
            }
            match self.nodes.last_mut()?.next() {
                Some(Some(node)) => self.enter(node),
                Some(None) => {}
                None => drop(self.nodes.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// All of them fall into a handful of hashes, and into one deepest leaf each.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Crowded(u32);

    impl Hash for Crowded {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u32(self.0 % 3);
        }
    }

    fn agrees_with_a_plain_map<K: Hash + Eq + Clone + std::fmt::Debug>(key: impl Fn(u32) -> K) {
        let (mut shared, mut plain) = (SharedMap::default(), HashMap::new());
        let mut earlier = Vec::new();
        let mut random = 1_u32;
        for step in 0..6_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (random >> 8) % 400;
            // Grows first and shrinks then, so that branches come and go.
            match (random >> 20) % 4 < if step < 3_000 { 3 } else { 1 } {
                true => {
                    assert_eq!(shared.insert(key(number), step), plain.insert(key(number), step))
                }
                false => assert_eq!(shared.remove(&key(number)), plain.remove(&key(number))),
            }
            assert_eq!(shared.get(&key(number)), plain.get(&key(number)));
            assert_eq!(shared.len(), plain.len());
            if step % 1_000 == 0 {
                earlier.push((shared.clone(), plain.clone()));
            }
        }
        earlier.push((shared, plain));
        for (shared, plain) in earlier {
            let found: HashMap<K, u32> = shared.iter().map(|(k, v)| (k.clone(), *v)).collect();
            assert_eq!(found, plain, "copies do not see later changes");
            assert_eq!(shared.iter().count(), plain.len());
        }
    }

    #[test]
    fn it_agrees_with_a_plain_map_and_copies_stay_as_they_were() {
        agrees_with_a_plain_map(|number| number.to_string());
        agrees_with_a_plain_map(Crowded);
    }

    #[test]
    fn a_change_copies_little_of_a_large_map() {
        let mut map = SharedMap::default();
        (0..100_000).for_each(|n| drop(map.insert(n, Arc::new(()))));
        let copy = map.clone();
        map.insert(100_001, Arc::default());
        let copied = copy.iter().filter(|(_, value)| Arc::strong_count(value) > 1).count();
        assert!(copied <= LEAF, "{copied} entries were copied");
    }

    #[test]
    fn what_is_emptied_holds_nothing() {
        let mut map = SharedMap::default();
        (0..1_000).for_each(|n| assert_eq!(map.insert(n, n), None));
        (0..1_000).for_each(|n| assert_eq!(map.remove(&n), Some(n)));
        assert!(matches!(&*map.root, Node::Leaf(entries) if entries.is_empty()));
    }
}
