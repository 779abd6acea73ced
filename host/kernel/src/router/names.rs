//! Numbers of event names, so that who emits an event again and again need not have its name looked
//! up.
//!
//! A name has a number while somebody holds it. Numbers are given out again, so there are never
//! more of them than names that were held at one time. This module does not know what a name is
//! for.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::lock::Lock;

/// The number of a name that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteId(u32);

impl RouteId {
    /// The number as a place in a list.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Gives out the numbers.
#[derive(Debug, Default)]
pub(crate) struct Names(Lock<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    held: HashMap<Arc<str>, Weak<HeldName>>,
    /// How many numbers there are, in use or free.
    numbers: u32,
    /// Those that nobody has.
    free: Vec<RouteId>,
}

/// A name that is held, and its number. Letting go of the last one gives the number back.
#[derive(Debug)]
pub(crate) struct HeldName {
    name: Arc<str>,
    id: RouteId,
    names: Arc<Names>,
}

impl Names {
    /// The name with its number, which is the same for everybody who holds it.
    pub(crate) fn hold(self: &Arc<Self>, name: &str) -> Arc<HeldName> {
        let mut numbered = self.0.lock();
        if let Some(held) = numbered.held.get(name).and_then(Weak::upgrade) {
            return held;
        }
        let id = numbered.free.pop().unwrap_or_else(|| {
            let id = RouteId(numbered.numbers);
            // Four thousand million names do not fit into any memory.
            numbered.numbers = numbered.numbers.saturating_add(1);
            id
        });
        let held = Arc::new(HeldName { name: name.into(), id, names: self.clone() });
        numbered.held.insert(held.name.clone(), Arc::downgrade(&held));
        held
    }

    /// How many names are held.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().held.len()
    }
}

impl HeldName {
    /// The name. Two holders of one number have the same `Arc` here, and never those of another
    /// one.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its number.
    pub(crate) fn id(&self) -> RouteId {
        self.id
    }
}

impl Drop for HeldName {
    fn drop(&mut self) {
        let mut numbered = self.names.0.lock();
        // Somebody may have come for the name since the last holder left: then it has another
        // number by now.
        let own = std::ptr::from_ref(self);
        if numbered.held.get(&self.name).is_some_and(|held| std::ptr::eq(held.as_ptr(), own)) {
            numbered.held.remove(&self.name);
        }
        numbered.free.push(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_same_number_for_a_name_as_long_as_somebody_holds_it() {
        let names = Arc::new(Names::default());
        let first = names.hold("a:b");
        let other = names.hold("a:c");
        assert_eq!(names.hold("a:b").id(), first.id());
        assert!(Arc::ptr_eq(names.hold("a:b").name(), first.name()));
        assert_ne!(other.id(), first.id());
    }

    #[test]
    fn there_are_no_more_numbers_than_names_that_were_held_at_one_time() {
        let names = Arc::new(Names::default());
        let kept = names.hold("kept:name");
        for round in 0..1_000 {
            let held: Vec<_> = (0..10).map(|i| names.hold(&format!("r{round}:n{i}"))).collect();
            assert!(held.iter().all(|held| held.id().index() < 11 && held.id() != kept.id()));
        }
        assert_eq!(names.len(), 1);
        assert_eq!(names.0.lock().free.len(), 10);
    }

    #[test]
    fn a_name_that_is_held_and_let_go_on_many_threads_has_one_number_at_a_time() {
        let names = Arc::new(Names::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let (one, two) = (names.hold("a:b"), names.hold("a:b"));
                        assert!(Arc::ptr_eq(&one, &two));
                    }
                });
            }
        });
        assert_eq!(names.len(), 0);
        let numbered = names.0.lock();
        assert_eq!(numbered.free.len(), numbered.numbers as usize, "every number came back");
        assert!(numbered.numbers <= 8, "{}", numbered.numbers);
    }
}
