//! Rust values of a plugin that the host carries for it, without knowing what they are.
//!
//! A value's code (how it is dropped, how it becomes JSON) lies in the library of the plugin that
//! made it. So a value goes with a [`Keeper`] that keeps that library mapped, and both things
//! happen where plugin code may run: on dispatch workers, and what cannot wait for one on a thread
//! that ends with it. Anywhere else (a thread of another plugin, of the embedding program) that
//! code could leave a thread-local, and so the library, for as long as the thread lives.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
    thread,
};

use ksi_abi::{Buffer, Failure, Value};

use crate::executor::slot::on_worker;

/// Keeps a library mapped.
pub trait Keeper: Send + Sync + 'static {
    /// Drops a value of that library on a dispatch worker, some time soon, and keeps the library
    /// until then.
    fn drop_later(self: Arc<Self>, value: Value);
}

/// Drops a value where plugin code may run.
pub(crate) fn let_go(value: Value, keeper: Option<&Arc<dyn Keeper>>) {
    match keeper {
        Some(keeper) if value.needs_maker_to_drop() && !on_worker() => {
            keeper.clone().drop_later(value);
        }
        _ => drop(value),
    }
}

/// The value as JSON, by code of its maker.
fn encode(value: &Value) -> Result<Buffer, Failure> {
    if on_worker() {
        return value.encode();
    }
    encode_elsewhere(value).unwrap_or_else(|error| {
        let text = format!("no thread can be started that turns it into JSON: {error}");
        Err(Failure::new("no_thread", &text))
    })
}

/// The same on a thread of its own, which has ended with all its thread-locals when this returns.
#[cold]
fn encode_elsewhere(value: &Value) -> io::Result<Result<Buffer, Failure>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("ksi-encode".to_owned());
        let encoded = thread.spawn_scoped(scope, || value.encode())?.join();
        Ok(encoded.unwrap_or_else(|_| Err(Failure::new("host_panicked", "it did not become JSON"))))
    })
}

/// A value with what keeps its library.
pub struct SharedValue {
    /// `None` only while it is dropped.
    value: Option<Value>,
    keeper: Arc<dyn Keeper>,
}

impl SharedValue {
    pub(crate) fn new(value: Value, keeper: Arc<dyn Keeper>) -> Self {
        SharedValue { value: Some(value), keeper }
    }

    /// The value.
    pub(crate) fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// The value as JSON.
    pub(crate) fn encode(&self) -> Result<Buffer, Failure> {
        self.value.as_ref().map_or_else(|| Ok("null".into()), encode)
    }
}

impl Drop for SharedValue {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let_go(value, Some(&self.keeper));
        }
    }
}

/// What became of encoding a value.
#[derive(Debug)]
pub(crate) struct Encoded(Result<Buffer, Box<Unencodable>>);

impl Encoded {
    /// What `cell` has, or else what is made now. Not by the cell: nobody is to wait for the code
    /// of a plugin, least of all that code itself.
    pub(crate) fn once(cell: &OnceLock<Encoded>, make: impl FnOnce() -> Encoded) -> &Encoded {
        match cell.get() {
            Some(encoded) => encoded,
            None => {
                let made = make();
                cell.get_or_init(|| made)
            }
        }
    }

    /// The value as JSON of `limit` bytes at the most.
    pub(crate) fn within(value: &Value, limit: usize) -> Self {
        match encode(value) {
            Ok(json) if json.len() <= limit => Encoded(Ok(json)),
            Ok(json) => {
                let message = too_large("the payload as JSON", json.len(), limit);
                let code = "payload_too_large".to_owned();
                Encoded(Err(Box::new(Unencodable { code, message })))
            }
            Err(failure) => failure.into(),
        }
    }

    pub(crate) fn get(&self) -> Result<&Buffer, &Unencodable> {
        self.0.as_ref().map_err(|failure| &**failure)
    }
}

impl From<Failure> for Encoded {
    fn from(failure: Failure) -> Self {
        let (code, message) = failure.to_texts();
        Encoded(Err(Box::new(Unencodable { code, message })))
    }
}

impl From<Result<Buffer, Failure>> for Encoded {
    fn from(encoded: Result<Buffer, Failure>) -> Self {
        match encoded {
            Ok(json) => Encoded(Ok(json)),
            Err(failure) => failure.into(),
        }
    }
}

/// What is said of something that an event carries and that is too large.
pub(crate) fn too_large(what: impl fmt::Display, bytes: usize, limit: usize) -> String {
    format!("{what} has {bytes} bytes, and {limit} are allowed (limits.payload_bytes)")
}

/// Why a value did not become JSON: a code for programs, a message for people.
#[derive(Debug, Clone)]
pub(crate) struct Unencodable {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Unencodable {
    /// Code and message.
    pub(crate) fn texts(&self) -> (&str, &str) {
        (&self.code, &self.message)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use ksi_plugin_api::__private::Layout;
    use serde::{Serialize, Serializer};

    use super::*;
    use crate::lock::Lock;

    /// The threads that turned a value into JSON, by their names, and how many thread-locals of
    /// theirs have gone.
    static THERE: Lock<Vec<Option<String>>> = Lock::new(Vec::new());
    static GONE: AtomicUsize = AtomicUsize::new(0);

    struct CountsAtTheEnd;

    impl Drop for CountsAtTheEnd {
        fn drop(&mut self) {
            GONE.fetch_add(1, SeqCst);
        }
    }

    thread_local! {
        static LEFT: RefCell<Option<CountsAtTheEnd>> = const { RefCell::new(None) };
    }

    #[derive(Clone, Layout)]
    struct Note;

    impl Serialize for Note {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let name = thread::current().name().map(str::to_owned);
            THERE.lock().push(name);
            LEFT.set(Some(CountsAtTheEnd));
            serializer.serialize_u8(7)
        }
    }

    struct Keeps;

    impl Keeper for Keeps {
        fn drop_later(self: Arc<Self>, _: Value) {}
    }

    #[test]
    fn code_of_a_plugin_leaves_nothing_on_a_thread_that_is_no_dispatch_worker() {
        let value = Value::new(Note).unwrap_or_else(|_| panic!("its layout is proved"));
        let shared = SharedValue::new(value, Arc::new(Keeps));
        for read in 1..=3 {
            assert_eq!(shared.encode().unwrap().to_text(), "7");
            assert_eq!(GONE.load(SeqCst), read, "it has ended with its thread-locals");
        }
        let there = THERE.lock().clone();
        assert_eq!(there, vec![Some("ksi-encode".to_owned()); 3]);
    }
}
