//! The values themselves, and their bounds. Knows nothing of events.
//!
//! What is saved shares its maps with the store until the store changes, and then only those on the
//! way to the change are copied: to save costs a count, however much there is.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use ksi_plugin_api::{Error, Result, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// The longest namespace, and the longest key.
const MAX_NAME_BYTES: usize = 1_024;

/// How much may be stored.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) keys: usize,
    pub(crate) value_bytes: usize,
    pub(crate) total_bytes: usize,
}

/// Values by namespace and key. No namespace is empty.
#[derive(Default)]
pub(crate) struct Store {
    namespaces: Namespaces,
    keys: usize,
    bytes: usize,
}

type Namespaces = Arc<BTreeMap<String, Keys>>;
type Keys = Arc<BTreeMap<String, Stored>>;

/// All values, to be written as the text that they are: none is decoded for it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved {
    namespaces: Namespaces,
}

/// A value as text: decoded, small numbers would take a hundred times the memory that was counted.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Stored(Arc<RawValue>);

impl Stored {
    fn value(&self) -> Value {
        // It was written by `set`, of this instance or of one before it.
        self.0.get().parse().unwrap_or_default()
    }
}

/// What an entry counts.
fn size(namespace: &str, key: &str, text: &str) -> usize {
    namespace.len() + key.len() + text.len()
}

impl Store {
    /// Stores a value; what it replaces.
    ///
    /// # Errors
    /// `too_large`, `too_many_keys` or `full`, and nothing has changed then.
    pub(crate) fn set(
        &mut self,
        limits: &Limits,
        namespace: &str,
        key: &str,
        value: &Value,
    ) -> Result<Option<Value>> {
        let text = to_raw_value(value)?;
        check_entry(limits, namespace, key, text.get())?;
        let present = self.namespaces.get(namespace).and_then(|keys| keys.get(key));
        let replaced = present.map_or(0, |stored| size(namespace, key, stored.0.get()));
        if present.is_none() && self.keys >= limits.keys {
            let text = format!(
                "{namespace}/{key} is not stored: there are {} keys, and no more are allowed: delete some, or raise max_keys",
                self.keys
            );
            return Err(Error::new("too_many_keys", text));
        }
        let total = self.bytes - replaced + size(namespace, key, text.get());
        if total > limits.total_bytes {
            let text = format!(
                "{namespace}/{key} is not stored: all values together would have {total} bytes, and {} are allowed: delete some, or raise max_total_bytes",
                limits.total_bytes
            );
            return Err(Error::new("full", text));
        }
        self.bytes = total;
        let namespaces = Arc::make_mut(&mut self.namespaces);
        let keys = namespaces.entry(namespace.to_owned()).or_default();
        Ok(match Arc::make_mut(keys).entry(key.to_owned()) {
            Entry::Occupied(mut old) => Some(old.insert(Stored(text.into())).value()),
            Entry::Vacant(new) => {
                new.insert(Stored(text.into()));
                self.keys += 1;
                None
            }
        })
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<Value> {
        Some(self.namespaces.get(namespace)?.get(key)?.value())
    }

    /// Removes a value; what it was.
    pub(crate) fn delete(&mut self, namespace: &str, key: &str) -> Option<Value> {
        // Looked up first: what is not there is no reason to copy anything.
        let previous = self.get(namespace, key)?;
        let namespaces = Arc::make_mut(&mut self.namespaces);
        let keys = namespaces.get_mut(namespace)?;
        let stored = Arc::make_mut(keys).remove(key)?;
        if keys.is_empty() {
            namespaces.remove(namespace);
        }
        self.keys -= 1;
        self.bytes -= size(namespace, key, stored.0.get());
        Some(previous)
    }

    /// What there is, for a snapshot.
    pub(crate) fn saved(&self) -> Saved {
        Saved { namespaces: self.namespaces.clone() }
    }

    /// The store of which `saved` was taken.
    ///
    /// # Errors
    /// `invalid_name`, `too_large`, `too_many_keys` or `full`, when it does not keep the limits.
    pub(crate) fn restored(limits: &Limits, saved: Saved) -> Result<Self> {
        let mut namespaces = saved.namespaces;
        Arc::make_mut(&mut namespaces).retain(|_, keys| !keys.is_empty());
        let (mut keys, mut bytes) = (0, 0);
        for (namespace, entries) in namespaces.iter() {
            for (key, stored) in entries.iter() {
                check_entry(limits, namespace, key, stored.0.get()).map_err(does_not_fit)?;
                keys += 1;
                bytes += size(namespace, key, stored.0.get());
            }
        }
        if keys > limits.keys {
            let text =
                format!("there are {keys} keys, and {} are allowed: raise max_keys", limits.keys);
            return Err(does_not_fit(Error::new("too_many_keys", text)));
        }
        if bytes > limits.total_bytes {
            let text = format!(
                "all values together have {bytes} bytes, and {} are allowed: raise max_total_bytes",
                limits.total_bytes
            );
            return Err(does_not_fit(Error::new("full", text)));
        }
        Ok(Store { namespaces, keys, bytes })
    }

    /// The keys of a namespace, in order.
    pub(crate) fn keys(&self, namespace: &str) -> Vec<String> {
        self.namespaces.get(namespace).into_iter().flat_map(|keys| keys.keys()).cloned().collect()
    }

    /// All namespaces, in order.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    pub(crate) fn key_count(&self) -> usize {
        self.keys
    }

    pub(crate) fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }
}

/// Refuses what is not stored whatever else there is.
fn check_entry(limits: &Limits, namespace: &str, key: &str, text: &str) -> Result<()> {
    check_name("namespace", namespace)?;
    check_name("key", key)?;
    let (bytes, limit) = (text.len(), limits.value_bytes);
    if bytes > limit {
        let message = format!(
            "the value of {namespace}/{key} has {bytes} bytes, and {limit} are allowed: store less in it, or raise max_value_bytes"
        );
        return Err(Error::new("too_large", message));
    }
    Ok(())
}

fn does_not_fit(error: Error) -> Error {
    let text = format_args!("the snapshot does not fit the present configuration: {error}");
    Error::new(error.code(), text)
}

fn check_name(what: &str, name: &str) -> Result<()> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        0 => Err(Error::new("invalid_name", format_args!("the {what} is empty"))),
        bytes => {
            let text = format!("the {what} has {bytes} bytes, and {MAX_NAME_BYTES} are allowed");
            Err(Error::new("invalid_name", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use ksi_plugin_api::json;

    use super::*;

    #[test]
    fn sizes_are_those_of_what_is_stored_now() {
        let limits = Limits { keys: 2, value_bytes: 100, total_bytes: 18 };
        let mut store = Store::default();
        let mut set = |key, value: Value| {
            store.set(&limits, "a", key, &value).map_err(|e| e.code().to_owned())
        };
        assert_eq!(set("one", json!("1234")), Ok(None));
        assert_eq!(set("two", json!("1234")), Err("full".to_owned()));
        assert_eq!(set("one", json!("12345678")), Ok(Some(json!("1234"))));
        assert_eq!(set("one", json!(1)), Ok(Some(json!("12345678"))));
        assert_eq!(set("two", json!("1234")), Ok(None));
        assert_eq!(set("three", json!(1)), Err("too_many_keys".to_owned()));
        assert_eq!((store.keys, store.bytes), (2, 15));
        let restored = Store::restored(&limits, store.saved()).unwrap();
        assert_eq!((restored.keys, restored.bytes), (2, 15));
        store.delete("a", "one");
        store.delete("a", "two");
        assert_eq!((store.keys, store.bytes, store.namespace_count()), (0, 0, 0));
    }

    #[test]
    fn what_is_saved_stays_as_it_was() {
        let limits = Limits { keys: 9, value_bytes: 100, total_bytes: 1_000 };
        let mut store = Store::default();
        let set = |store: &mut Store, namespace, key, value| {
            store.set(&limits, namespace, key, &json!(value)).unwrap();
        };
        set(&mut store, "a", "1", 1);
        set(&mut store, "b", "1", 1);
        let saved = store.saved();
        set(&mut store, "a", "1", 2);
        set(&mut store, "a", "2", 2);
        store.delete("b", "1");
        let before = Store::restored(&limits, saved).unwrap();
        assert_eq!(before.get("a", "1"), Some(json!(1)));
        assert_eq!((before.keys("a").len(), before.keys("b").len()), (1, 1));
        assert_eq!(store.get("a", "1"), Some(json!(2)));
        assert_eq!(store.namespaces(), ["a"]);
    }

    #[test]
    fn what_is_not_there_is_deleted_without_a_copy() {
        let limits = Limits { keys: 9, value_bytes: 100, total_bytes: 1_000 };
        let mut store = Store::default();
        store.set(&limits, "a", "1", &json!(1)).unwrap();
        let saved = store.saved();
        assert_eq!(store.delete("a", "2"), None);
        assert_eq!(store.delete("b", "1"), None);
        assert!(Arc::ptr_eq(&saved.namespaces, &store.namespaces));
    }
}
