//! Which patterns a name matches, and which names a pattern.
//!
//! Both lie in trees of segments. A look-up walks along the name, on all ways that fit at once, and
//! never over what does not match. Copies of a tree share what is the same in them, so a change
//! costs the way to what it changes.

use std::sync::Arc;

use ksi_abi::{Pattern, PatternSegment};
use smallvec::SmallVec;

use super::shared_map::SharedMap;

/// One value for each pattern, or for each name.
#[derive(Debug, Clone)]
pub(crate) struct Tree<V> {
    root: Arc<PatternNode<V>>,
}

#[derive(Debug, Clone)]
struct PatternNode<V> {
    exact: SharedMap<Arc<str>, Arc<PatternNode<V>>>,
    one: Option<Arc<PatternNode<V>>>,
    many: Option<Arc<PatternNode<V>>>,
    value: Option<V>,
}

/// One step down a tree.
enum Step<'a> {
    Exact(&'a str),
    One,
    Many,
}

impl<V> Default for PatternNode<V> {
    fn default() -> Self {
        PatternNode { exact: SharedMap::default(), one: None, many: None, value: None }
    }
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Tree { root: Arc::default() }
    }
}

impl<V> PatternNode<V> {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.one.is_none() && self.many.is_none() && self.value.is_none()
    }
}

impl<V: Clone> Tree<V> {
    /// Changes the value that stands under a pattern.
    pub(crate) fn change_pattern(
        &mut self,
        pattern: &Pattern,
        change: impl FnOnce(&mut Option<V>),
    ) {
        let mut steps = pattern.segments().iter().map(|segment| match segment {
            PatternSegment::Exact(segment) => Step::Exact(segment),
            PatternSegment::One => Step::One,
            PatternSegment::Many => Step::Many,
        });
        change_below(&mut self.root, &mut steps, change);
    }

    /// Changes the value that stands under a name.
    pub(crate) fn change_name(&mut self, name: &str, change: impl FnOnce(&mut Option<V>)) {
        change_below(&mut self.root, &mut name.split(':').map(Step::Exact), change);
    }

    /// Shows the value of every pattern that `name` matches, in no order.
    pub(crate) fn matching<'t>(&'t self, name: &str, mut see: impl FnMut(&'t V)) {
        if self.root.is_empty() {
            return;
        }
        let mut walk = Walk::default();
        walk.enter(&self.root);
        name.split(':').for_each(|segment| walk.step(segment));
        for node in walk.at.iter().chain(&walk.staying) {
            node.value.iter().for_each(&mut see);
        }
    }

    /// Shows the value of every name that matches `pattern`, in no order. For a tree of names.
    pub(crate) fn matched_by<'t>(&'t self, pattern: &Pattern, mut see: impl FnMut(&'t V)) {
        let mut places = vec![0];
        skip_many(pattern.segments(), &mut places);
        select(&self.root, pattern.segments(), &places, &mut see);
    }
}

fn change_below<'s, V: Clone>(
    node: &mut Arc<PatternNode<V>>,
    steps: &mut impl Iterator<Item = Step<'s>>,
    change: impl FnOnce(&mut Option<V>),
) {
    let node = Arc::make_mut(node);
    let branch = match steps.next() {
        None => return change(&mut node.value),
        Some(Step::Exact(segment)) => {
            let mut child = node.exact.get(segment).cloned().unwrap_or_default();
            change_below(&mut child, steps, change);
            match child.is_empty() {
                true => node.exact.remove(segment),
                false => node.exact.insert(segment.into(), child),
            };
            return;
        }
        Some(Step::One) => &mut node.one,
        Some(Step::Many) => &mut node.many,
    };
    let child = branch.get_or_insert_default();
    change_below(child, steps, change);
    if child.is_empty() {
        *branch = None;
    }
}

/// Where a name has come to in a tree of patterns, on all ways at once.
struct Walk<'t, V> {
    at: SmallVec<[&'t PatternNode<V>; 8]>,
    next: SmallVec<[&'t PatternNode<V>; 8]>,
    /// Nodes that stand for a `**`: once reached, every further segment may be part of it. Each is
    /// here once, however many ways lead to it, so that many `**` do not multiply.
    staying: SmallVec<[&'t PatternNode<V>; 8]>,
}

impl<V> Default for Walk<'_, V> {
    fn default() -> Self {
        Walk { at: SmallVec::new(), next: SmallVec::new(), staying: SmallVec::new() }
    }
}

impl<'t, V: Clone> Walk<'t, V> {
    fn enter(&mut self, node: &'t PatternNode<V>) {
        self.at.push(node);
        let mut many = &node.many;
        while let Some(node) = many
            && !self.staying.iter().any(|known| std::ptr::eq(*known, &**node))
        {
            self.staying.push(node);
            many = &node.many;
        }
    }

    fn step(&mut self, segment: &str) {
        let from = std::mem::take(&mut self.next);
        let from = std::mem::replace(&mut self.at, from);
        // What is reached by this segment does not consume it again.
        let staying = self.staying.len();
        for at in 0..from.len() + staying {
            let node = match at.checked_sub(from.len()) {
                None => from[at],
                Some(at) => self.staying[at],
            };
            if let Some(next) = node.exact.get(segment) {
                self.enter(next);
            }
            if let Some(next) = &node.one {
                self.enter(next);
            }
        }
        self.next = from;
        self.next.clear();
    }
}

/// Walks down a tree of names. `places` are the segments of the pattern that may come next, in
/// order, each once.
fn select<'t, V: Clone>(
    node: &'t PatternNode<V>,
    pattern: &[PatternSegment],
    places: &[usize],
    see: &mut impl FnMut(&'t V),
) {
    if places.last() == Some(&pattern.len()) {
        node.value.iter().for_each(&mut *see);
    }
    let below = |segment: &str| {
        let mut next: Vec<usize> = Vec::new();
        for &place in places {
            match pattern.get(place) {
                Some(PatternSegment::Exact(exact)) if **exact == *segment => next.push(place + 1),
                Some(PatternSegment::One) => next.push(place + 1),
                Some(PatternSegment::Many) => next.push(place),
                _ => {}
            }
        }
        skip_many(pattern, &mut next);
        next
    };
    // One way down needs no look at the others.
    if let [place] = places
        && let Some(PatternSegment::Exact(exact)) = pattern.get(*place)
    {
        if let Some(child) = node.exact.get(&**exact) {
            select(child, pattern, &below(exact), see);
        }
        return;
    }
    for (segment, child) in node.exact.iter() {
        let next = below(segment);
        if !next.is_empty() {
            select(child, pattern, &next, see);
        }
    }
}

/// A `**` may stand for nothing, so what comes after it may come next, too.
fn skip_many(pattern: &[PatternSegment], places: &mut Vec<usize>) {
    let mut at = 0;
    while let Some(&place) = places.get(at) {
        if pattern.get(place) == Some(&PatternSegment::Many) {
            places.push(place + 1);
        }
        at += 1;
    }
    places.sort_unstable();
    places.dedup();
}

/// Any number of values by pattern. A change costs the way to what it changes, and the values that
/// stand there.
#[derive(Debug)]
pub(crate) struct Matcher<T>(Tree<Vec<T>>);

impl<T> Clone for Matcher<T> {
    fn clone(&self) -> Self {
        Matcher(Tree { root: self.0.root.clone() })
    }
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Matcher(Tree::default())
    }
}

impl<T: Clone> Matcher<T> {
    /// Adds `value` under `pattern`.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: T) {
        self.0.change_pattern(pattern, |values| values.get_or_insert_default().push(value));
    }

    /// Takes the values under `pattern` out that are meant.
    pub(crate) fn remove(&mut self, pattern: &Pattern, is_meant: impl Fn(&T) -> bool) {
        self.0.change_pattern(pattern, |values| {
            if let Some(there) = values {
                there.retain(|value| !is_meant(value));
                if there.is_empty() {
                    *values = None;
                }
            }
        });
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.root.is_empty()
    }

    /// Every value whose pattern matches `name`, in no order; one that stands under several
    /// patterns comes several times.
    pub(crate) fn find(&self, name: &str) -> Vec<T> {
        let mut found = Vec::new();
        self.0.matching(name, |values| found.extend(values.iter().cloned()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [&str; 13] = [
        "*",
        "**",
        "a:b",
        "a:*",
        "*:b",
        "*:*",
        "a:**",
        "**:b",
        "a:**:c",
        "a:*:c",
        "**:b:**:d",
        "**:**:c",
        "a:b:c:d",
    ];
    const NAMES: [&str; 9] =
        ["a:b", "a:c", "b:b", "a:b:c", "a:x:y:c", "a:b:c:d", "x:b:d", "b:d", "z:z"];

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn the_tree_agrees_with_each_pattern_taken_alone() {
        let mut matcher = Matcher::default();
        for text in PATTERNS {
            matcher.insert(&pattern(text), text);
        }
        for name in NAMES {
            let mut found = matcher.find(name);
            found.sort_unstable();
            let mut expected: Vec<&str> =
                PATTERNS.into_iter().filter(|text| pattern(text).matches(name)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_tree_of_names_agrees_with_each_name_taken_alone() {
        let mut names = Tree::default();
        for name in NAMES {
            names.change_name(name, |value| *value = Some(name));
        }
        for text in PATTERNS {
            let mut found = Vec::new();
            names.matched_by(&pattern(text), |name| found.push(*name));
            found.sort_unstable();
            let mut expected: Vec<&str> =
                NAMES.into_iter().filter(|name| pattern(text).matches(name)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_was_taken_out_leaves_nothing_behind() {
        let mut tree = Tree::default();
        for text in PATTERNS {
            tree.change_pattern(&pattern(text), |value| *value = Some(text));
        }
        let before = tree.clone();
        for text in PATTERNS {
            tree.change_pattern(&pattern(text), |value| *value = None);
        }
        assert!(tree.root.is_empty());
        let mut found = 0;
        before.matching("a:b", |_| found += 1);
        assert_eq!(found, 7, "a copy is not changed with it");
    }

    #[test]
    fn many_double_stars_do_not_explode() {
        let text = format!("{}a:b", "**:".repeat(30));
        let name = ["x"; 60].join(":");
        let mut matcher = Matcher::default();
        matcher.insert(&pattern(&text), ());
        assert_eq!(matcher.find(&name), []);
        let mut names = Tree::default();
        names.change_name(&name, |value| *value = Some(()));
        names.matched_by(&pattern(&text), |()| panic!("it does not match"));
    }
}
