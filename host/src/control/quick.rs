//! Which events are served in place: those that were over at once the last time.

use std::{collections::VecDeque, sync::MutexGuard};

use ksi_kernel::lock::Lock;

/// Names of quick events that a connection remembers.
const REMEMBERED: usize = 16;

/// The events that were over with their first poll, and soon, when they were emitted last.
#[derive(Default)]
pub(super) struct Quick(Lock<VecDeque<String>>);

impl Quick {
    pub(super) fn is(&self, event: &str) -> bool {
        self.names().iter().any(|name| name == event)
    }

    pub(super) fn remember(&self, event: &str) {
        let mut names = self.names();
        if !names.iter().any(|name| name == event) {
            names.truncate(REMEMBERED - 1);
            names.push_front(event.to_owned());
        }
    }

    pub(super) fn forget(&self, event: &str) {
        self.names().retain(|name| name != event);
    }

    fn names(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_quick_when_it_was_the_last_time_and_few_are_remembered() {
        let quick = Quick::default();
        quick.remember("a:b");
        quick.remember("a:b");
        assert!(quick.is("a:b") && !quick.is("a:c"));
        quick.forget("a:b");
        assert!(!quick.is("a:b"));
        for number in 0..100 {
            quick.remember(&format!("a:n{number}"));
        }
        assert!(quick.is("a:n99") && !quick.is("a:n0"));
        assert_eq!(quick.names().len(), REMEMBERED);
    }
}
