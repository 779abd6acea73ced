//! Values by namespace and key, for every other plugin.
//!
//! | event | payload | reply |
//! |---|---|---|
//! | `state:set` | `namespace`, `key`, `value` | `{"status":"set"}` |
//! | `state:get` | `namespace`, `key` | `{"value":..}`; `{"value":null,"found":false}` if there is none |
//! | `state:delete` | `namespace`, `key` | `{"status":"deleted"}`, or `{"status":"not_found"}` |
//! | `state:list` | `namespace`? | `{"keys":[..]}`, or `{"namespaces":[..]}` without a namespace |
//! | `state:update` | `operation` (`set`, `get`, `delete`, `list`) and what it needs | that of the operation |
//!
//! It sends `state:changed` after every set and `state:deleted` after every delete, without waiting
//! for whoever listens, and emits `state:persisting` when it ends.
//!
//! The values live in memory. They survive a reload of the plugin and, where the host keeps state
//! in files, a restart of the host. What is restored is not announced: to whoever listens, nothing
//! has changed.
//!
//! Configuration: `max_keys`, `max_value_bytes` and `max_total_bytes`; what would exceed one of
//! them is refused (`too_many_keys`, `too_large`, `full`), and what is stored stays as it is.
//! Values that no longer fit, because a limit was lowered, are not restored, nor are the others
//! then: the plugin says which limit it is, and does not start.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::sync::{Mutex, MutexGuard, PoisonError};

use ksi_plugin_api::prelude::*;

mod events;
mod store;
#[cfg(test)]
mod tests;

use events::{
    Changed, Delete, Deleted, Found, Get, List, Listed, Operation, Persisting, Reply, Set, Status,
    Update,
};
use store::{Limits, Saved, Store};

#[payload]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// How many keys there may be, over all namespaces.
    max_keys: usize,
    /// How many bytes the JSON of one value may have.
    max_value_bytes: usize,
    /// How many bytes all values together may have: their JSON, their keys and namespaces.
    max_total_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_keys: 100_000, max_value_bytes: 1 << 20, max_total_bytes: 256 << 20 }
    }
}

struct State {
    limits: Limits,
    store: Mutex<Store>,
}

#[plugin(emits(Changed, Deleted, Persisting))]
impl State {
    #[initialize]
    async fn initialize(_: &Context, config: Config) -> Result<Self> {
        let Config { max_keys, max_value_bytes, max_total_bytes } = config;
        let limits =
            Limits { keys: max_keys, value_bytes: max_value_bytes, total_bytes: max_total_bytes };
        Ok(State { limits, store: Mutex::default() })
    }

    /// Sets, gets, deletes or lists, as `operation` says.
    #[event_handler]
    async fn update(&self, ctx: &Context, update: Update) -> Result<Reply> {
        let Update { operation, namespace, key, value } = update;
        if operation == Operation::List {
            return self.list(ctx, List { namespace }).await.map(Reply::Listed);
        }
        let namespace = needed(operation, "namespace", namespace)?;
        let key = needed(operation, "key", key)?;
        match operation {
            Operation::Get => self.get(ctx, Get { namespace, key }).await.map(Reply::Found),
            Operation::Delete => {
                self.delete(ctx, Delete { namespace, key }).await.map(Reply::Status)
            }
            Operation::Set | Operation::List => {
                let value = needed(operation, "value", value)?;
                self.set(ctx, Set { namespace, key, value }).await.map(Reply::Status)
            }
        }
    }

    /// Stores a value.
    #[event_handler]
    async fn set(&self, ctx: &Context, set: Set) -> Result<Status> {
        let Set { namespace, key, value } = set;
        // Announced before anybody else can change it: a mirror must see changes in the order in
        // which they were made.
        let mut store = self.store();
        let previous = store.set(&self.limits, &namespace, &key, &value)?;
        announce(ctx, Changed { namespace, key, value, previous });
        Ok(Status::Set)
    }

    /// Reads a value.
    #[event_handler]
    async fn get(&self, _: &Context, get: Get) -> Result<Found> {
        Ok(Found::new(self.store().get(&get.namespace, &get.key)))
    }

    /// Removes a value.
    #[event_handler]
    async fn delete(&self, ctx: &Context, delete: Delete) -> Result<Status> {
        let Delete { namespace, key } = delete;
        let mut store = self.store();
        let Some(previous) = store.delete(&namespace, &key) else { return Ok(Status::NotFound) };
        announce(ctx, Deleted { namespace, key, previous });
        Ok(Status::Deleted)
    }

    /// Lists the keys of a namespace, or all namespaces.
    #[event_handler]
    async fn list(&self, _: &Context, list: List) -> Result<Listed> {
        let store = self.store();
        Ok(match list.namespace {
            Some(namespace) => Listed::Keys(store.keys(&namespace)),
            None => Listed::Namespaces(store.namespaces()),
        })
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<Saved> {
        Ok(self.store().saved())
    }

    #[restore]
    async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
        let restored = Store::restored(&self.limits, saved)?;
        *self.store() = restored;
        Ok(())
    }

    /// Says what is there before it goes.
    #[event_handler("module:shutdown")]
    async fn shutdown(&self, ctx: &Context, _: Value) -> Result<()> {
        let persisting = {
            let store = self.store();
            Persisting { namespaces: store.namespace_count(), keys: store.key_count() }
        };
        ctx.emit(&persisting).await;
        Ok(())
    }
}

impl State {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends, so that a slow listener does not make the setter slow.
fn announce<E: Event + Emit>(ctx: &Context, event: E) {
    if let Err(refusal) = ctx.send(event) {
        tracing::warn!("{} is done, but nobody hears of it: {refusal}", E::NAME);
    }
}

fn needed<T>(operation: Operation, field: &str, given: Option<T>) -> Result<T> {
    given.ok_or_else(|| {
        let text = format!("the operation {operation:?} needs a {field:?}").to_lowercase();
        Error::new("invalid_payload", text)
    })
}
