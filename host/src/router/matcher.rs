//! Which subscriptions a name matches.
//!
//! Patterns lie in a tree of segments, so a look-up walks along the name and never over the subscriptions that do not
//! match.

use std::collections::HashMap;

use ksi_plugin_api::{Pattern, PatternSegment};

/// Values by pattern. Built once, then only read.
#[derive(Debug)]
pub(crate) struct Matcher<T> {
    exact: HashMap<Box<str>, Vec<T>>,
    root: Node<T>,
    patterns: bool,
}

#[derive(Debug)]
struct Node<T> {
    exact: HashMap<Box<str>, Node<T>>,
    one: Option<Box<Node<T>>>,
    many: Option<Box<Node<T>>>,
    values: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Node { exact: HashMap::new(), one: None, many: None, values: Vec::new() }
    }
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Matcher { exact: HashMap::new(), root: Node::default(), patterns: false }
    }
}

impl<T: Clone> Matcher<T> {
    /// Adds `value` under `pattern`.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: T) {
        if pattern.is_exact() {
            self.exact.entry(pattern.as_str().into()).or_default().push(value);
            return;
        }
        self.patterns = true;
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = match segment {
                PatternSegment::Exact(segment) => node.exact.entry(segment.clone()).or_default(),
                PatternSegment::One => node.one.get_or_insert_default(),
                PatternSegment::Many => node.many.get_or_insert_default(),
            };
        }
        node.values.push(value);
    }

    /// The exact names that values stand under.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(|name| &**name)
    }

    /// Every value whose pattern matches `name`, in no order; one that stands under several patterns comes several
    /// times.
    pub(crate) fn find(&self, name: &str) -> Vec<T> {
        let mut found = self.exact.get(name).cloned().unwrap_or_default();
        if self.patterns {
            let segments: Vec<&str> = name.split(':').collect();
            // Two `**` can reach one node at one place on many ways; each is walked once.
            let mut walked = std::collections::HashSet::new();
            walk(&self.root, &segments, &mut walked, &mut found);
        }
        found
    }
}

fn walk<T: Clone>(
    node: &Node<T>,
    rest: &[&str],
    walked: &mut std::collections::HashSet<(*const Node<T>, usize)>,
    found: &mut Vec<T>,
) {
    if !walked.insert((std::ptr::from_ref(node), rest.len())) {
        return;
    }
    if let Some(many) = &node.many {
        for skipped in 0..=rest.len() {
            walk(many, &rest[skipped..], walked, found);
        }
    }
    let Some((first, rest)) = rest.split_first() else {
        found.extend(node.values.iter().cloned());
        return;
    };
    if let Some(next) = node.exact.get(*first) {
        walk(next, rest, walked, found);
    }
    if let Some(next) = &node.one {
        walk(next, rest, walked, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_agrees_with_each_pattern_taken_alone() {
        let patterns = [
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
        let names = ["a:b", "a:c", "b:b", "a:b:c", "a:x:y:c", "a:b:c:d", "x:b:d", "b:d", "z:z"];
        let mut matcher = Matcher::default();
        for pattern in patterns {
            matcher.insert(&Pattern::parse(pattern).unwrap(), pattern);
        }
        for name in names {
            let mut found = matcher.find(name);
            found.sort_unstable();
            let mut expected: Vec<&str> =
                patterns.into_iter().filter(|p| Pattern::parse(p).unwrap().matches(name)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn many_double_stars_do_not_explode() {
        let mut matcher = Matcher::default();
        let pattern = format!("{}a:b", "**:".repeat(30));
        matcher.insert(&Pattern::parse(&pattern).unwrap(), ());
        let name = ["x"; 60].join(":");
        assert_eq!(matcher.find(&name), []);
    }
}
