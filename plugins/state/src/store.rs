//! The values themselves, and their bounds. Knows nothing of events.

use std::collections::{BTreeMap, btree_map::Entry};

use ksi_plugin_api::{Error, Result, Value};

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
    namespaces: BTreeMap<String, BTreeMap<String, Stored>>,
    keys: usize,
    bytes: usize,
}

/// A value as text: decoded, small numbers would take a hundred times the memory that was counted.
struct Stored(Box<str>);

impl Stored {
    fn value(&self) -> Value {
        // It was written by `set`.
        self.0.parse().unwrap_or_default()
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
        check_name("namespace", namespace)?;
        check_name("key", key)?;
        let text = value.to_string();
        let bytes = text.len();
        if bytes > limits.value_bytes {
            let limit = limits.value_bytes;
            let message = format!(
                "the value of {namespace}/{key} has {bytes} bytes, and {limit} are allowed: store less in it, or raise max_value_bytes"
            );
            return Err(Error::new("too_large", message));
        }
        let present = self.namespaces.get(namespace).and_then(|keys| keys.get(key));
        let replaced = present.map_or(0, |stored| size(namespace, key, &stored.0));
        if present.is_none() && self.keys >= limits.keys {
            let text = format!(
                "{namespace}/{key} is not stored: there are {} keys, and no more are allowed: delete some, or raise max_keys",
                self.keys
            );
            return Err(Error::new("too_many_keys", text));
        }
        let total = self.bytes - replaced + size(namespace, key, &text);
        if total > limits.total_bytes {
            let text = format!(
                "{namespace}/{key} is not stored: all values together would have {total} bytes, and {} are allowed: delete some, or raise max_total_bytes",
                limits.total_bytes
            );
            return Err(Error::new("full", text));
        }
        self.bytes = total;
        let keys = self.namespaces.entry(namespace.to_owned()).or_default();
        Ok(match keys.entry(key.to_owned()) {
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
        let keys = self.namespaces.get_mut(namespace)?;
        let stored = keys.remove(key)?;
        if keys.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.keys -= 1;
        self.bytes -= size(namespace, key, &stored.0);
        Some(stored.value())
    }

    /// The keys of a namespace, in order.
    pub(crate) fn keys(&self, namespace: &str) -> Vec<String> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::keys).cloned().collect()
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
        store.delete("a", "one");
        store.delete("a", "two");
        assert_eq!((store.keys, store.bytes, store.namespace_count()), (0, 0, 0));
    }
}
