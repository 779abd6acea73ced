//! A plugin for ksi that counts, and goes on where it was when it is replaced.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ksi_plugin_api::prelude::*;

/// Counts one more.
#[event("greeter:count")]
struct Count {
    name: String,
}

/// The reply to [`Count`].
#[payload]
struct Counted {
    count: u64,
}

#[derive(Default)]
struct Counter {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Counter {
    fn counts<T>(&self, of: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        of(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one generation hands over to the next.
#[payload]
struct Saved {
    counts: BTreeMap<String, u64>,
}

/// What the first version of this plugin handed over: one count, without a name.
#[payload]
struct FirstSaved {
    count: u64,
}

#[plugin]
impl Counter {
    /// Counts one more.
    #[event_handler]
    async fn count(&self, _: &Context, count: Count) -> Result<Counted> {
        let count = self.counts(|counts| {
            let count = counts.entry(count.name).or_default();
            *count += 1;
            *count
        });
        Ok(Counted { count })
    }

    #[snapshot(version = 2)]
    async fn snapshot(&self, _: &Context) -> Result<Saved> {
        Ok(Saved { counts: self.counts(|counts| counts.clone()) })
    }

    #[restore(version = 2)]
    async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
        self.counts(|counts| *counts = saved.counts);
        Ok(())
    }

    /// Goes on from the first version's state.
    #[restore(version = 1)]
    async fn restore_first(&self, _: &Context, saved: FirstSaved) -> Result<()> {
        self.counts(|counts| *counts = BTreeMap::from([("all".to_owned(), saved.count)]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;

    use super::*;

    fn count(plugin: &Harness, name: &str) -> u64 {
        let counted: Counted = plugin.request(Count { name: name.into() }).unwrap();
        counted.count
    }

    #[test]
    fn the_next_generation_goes_on_counting() {
        let plugin = Harness::start::<Counter>();
        assert_eq!([count(&plugin, "a"), count(&plugin, "a"), count(&plugin, "b")], [1, 2, 1]);
        let (version, saved) = plugin.snapshot().unwrap();
        let next = Harness::setup::<Counter>().restore(version, saved).start().unwrap();
        assert_eq!([count(&next, "a"), count(&next, "b")], [3, 2]);
    }

    #[test]
    fn it_goes_on_from_the_state_of_the_first_version() {
        let saved = json!({"count": 41});
        let plugin = Harness::setup::<Counter>().restore(1, saved).start().unwrap();
        assert_eq!(count(&plugin, "all"), 42);
    }
}
