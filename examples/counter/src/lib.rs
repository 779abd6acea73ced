//! `examples/python/counter.py` once more, in Rust: the same events, the same replies, and state
//! that each of the two restores from the other.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ksi_plugin_api::prelude::*;

/// Adds to a counter, or sets it to 0.
#[event("counter:change")]
struct Change {
    name: String,
    #[serde(default = "one")]
    by: i64,
    #[serde(default)]
    operation: Operation,
}

fn one() -> i64 {
    1
}

#[payload]
#[derive(Default)]
#[serde(rename_all = "snake_case")]
enum Operation {
    #[default]
    Add,
    Reset,
}

/// Asks for one counter, or for all of them.
#[event("counter:read")]
struct Read {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A counter has changed.
#[event("counter:changed")]
struct Changed {
    name: String,
    value: i64,
}

/// The plugin ends, with so many.
#[event("counter:closing")]
struct Closing {
    counters: usize,
}

/// The reply to [`Read`].
#[payload]
#[serde(untagged)]
enum Found {
    One { name: String, value: i64 },
    All { counters: BTreeMap<String, i64> },
}

/// What Python's global of that name becomes in a snapshot.
#[payload]
struct Saved {
    #[serde(rename = "_state")]
    counters: BTreeMap<String, i64>,
}

#[derive(Default)]
struct Counter {
    counters: Mutex<BTreeMap<String, i64>>,
}

impl Counter {
    fn counters<T>(&self, of: impl FnOnce(&mut BTreeMap<String, i64>) -> T) -> T {
        of(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[plugin(emits(Changed, Closing))]
impl Counter {
    /// Adds to a counter, or sets it to 0.
    #[event_handler]
    async fn change(&self, ctx: &Context, change: Change) -> Result<Changed> {
        let Change { name, by, operation } = change;
        let value = self.counters(|counters| match operation {
            Operation::Reset => {
                counters.remove(&name);
                0
            }
            Operation::Add => {
                let value = counters.entry(name.clone()).or_default();
                *value = value.saturating_add(by);
                *value
            }
        });
        let changed = Changed { name, value };
        ctx.emit(&changed).await;
        Ok(changed)
    }

    /// One counter, or all of them.
    #[event_handler]
    async fn read(&self, _: &Context, read: Read) -> Result<Found> {
        Ok(self.counters(|counters| match read.name {
            Some(name) => {
                let value = counters.get(&name).copied().unwrap_or_default();
                Found::One { name, value }
            }
            None => Found::All { counters: counters.clone() },
        }))
    }

    /// Tells what it knew.
    #[event_handler("module:shutdown")]
    async fn say_goodbye(&self, ctx: &Context, _: Value) -> Result<()> {
        let counters = self.counters(|counters| counters.len());
        ctx.emit(&Closing { counters }).await;
        Ok(())
    }

    #[snapshot(version = 1)]
    async fn snapshot(&self, _: &Context) -> Result<Saved> {
        Ok(Saved { counters: self.counters(|counters| counters.clone()) })
    }

    #[restore(version = 1)]
    async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
        self.counters(|counters| *counters = saved.counters);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ksi_harness::{Harness, Hosted, Subject};

    use super::*;

    /// What holds for the plugin in a test, and for the library in a host.
    fn it_answers_as_the_module_of_python_does(plugin: &impl Subject) {
        let ask = |event, data| plugin.emit(event, data).results()[0].clone();
        assert_eq!(
            ask("counter:change", json!({"name": "a", "by": 2})),
            json!({"name": "a", "value": 2})
        );
        assert_eq!(plugin.emitted_of("counter:changed")[0], json!({"name": "a", "value": 2}));
        assert_eq!(ask("counter:read", json!({})), json!({"counters": {"a": 2}}));
        plugin.reload().unwrap();
        assert_eq!(ask("counter:read", json!({})), json!({"counters": {"a": 2}}));
        let read: Found = plugin.request(Read { name: Some("a".to_owned()) }).unwrap();
        assert!(matches!(read, Found::One { value: 2, .. }));
        assert_eq!(
            ask("counter:change", json!({"name": "a", "operation": "reset"})),
            json!({"name": "a", "value": 0})
        );
        assert!(plugin.emit("counter:change", json!({"by": 2})).failed());
    }

    #[test]
    fn it_answers_in_a_test() {
        it_answers_as_the_module_of_python_does(&Harness::start::<Counter>());
    }

    #[test]
    #[ignore = "it takes the `ksi` that KSI names, or that is on the path: cargo test -- --ignored"]
    fn it_answers_in_a_host() {
        it_answers_as_the_module_of_python_does(&Hosted::start::<Counter>());
    }
}
