//! Everything a ksi plugin is written with.
//!
//! A plugin is a struct and an impl block. It says which events it handles; it emits events; that
//! is the only way plugins talk to one another.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use ksi_plugin_api::prelude::*;
//!
//! /// Ask for a greeting.
//! #[event("greet:request")]
//! struct Greet {
//!     name: String,
//! }
//!
//! #[event("greet:done")]
//! struct Greeted {
//!     text: String,
//!     count: u64,
//! }
//!
//! #[derive(Default)]
//! struct Greeter {
//!     count: AtomicU64,
//! }
//!
//! #[plugin(emits(Greeted))]
//! impl Greeter {
//!     /// Greets by name.
//!     #[event_handler]
//!     async fn greet(&self, ctx: &Context, greet: Greet) -> Result<Greeted> {
//!         let count = self.count.fetch_add(1, Relaxed) + 1;
//!         let done = Greeted { text: format!("Hello, {}!", greet.name), count };
//!         ctx.emit(&done).await;
//!         Ok(done)
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # State
//! A plugin that is replaced starts anew, unless it says how its state is taken and restored:
//! `#[snapshot]` gives a value with serde's `Serialize`, `#[restore]` of the same version takes it
//! back. The version is that of the value's shape, and has nothing to do with the plugin's own.
//! When the shape changes, raise it, and keep a `#[restore]` for the old one:
//!
//! ```
//! use std::{collections::BTreeMap, sync::{Mutex, PoisonError}};
//! use ksi_harness::Harness;
//! use ksi_plugin_api::prelude::*;
//!
//! /// Version 1 counted all visits together.
//! #[payload]
//! struct SavedV1 {
//!     visits: u64,
//! }
//!
//! #[payload]
//! struct Saved {
//!     visits: BTreeMap<String, u64>,
//! }
//!
//! #[derive(Default)]
//! struct Visits {
//!     by_name: Mutex<BTreeMap<String, u64>>,
//! }
//!
//! #[plugin]
//! impl Visits {
//!     #[event_handler("visits:add")]
//!     async fn add(&self, _: &Context, name: String) -> Result<u64> {
//!         let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
//!         let count = by_name.entry(name).or_default();
//!         *count += 1;
//!         Ok(*count)
//!     }
//!
//!     #[snapshot(version = 2)]
//!     async fn snapshot(&self, _: &Context) -> Result<Saved> {
//!         let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
//!         Ok(Saved { visits: by_name.clone() })
//!     }
//!
//!     #[restore(version = 2)]
//!     async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
//!         *self.by_name.lock().unwrap_or_else(PoisonError::into_inner) = saved.visits;
//!         Ok(())
//!     }
//!
//!     #[restore(version = 1)]
//!     async fn restore_v1(&self, ctx: &Context, saved: SavedV1) -> Result<()> {
//!         let visits = BTreeMap::from([("somebody".to_owned(), saved.visits)]);
//!         self.restore(ctx, Saved { visits }).await
//!     }
//! }
//!
//! # fn main() {
//! let plugin = Harness::setup::<Visits>().restore(1, json!({"visits": 5})).start().unwrap();
//! assert_eq!(plugin.emit("visits:add", "somebody").results(), [json!(6)]);
//! assert_eq!(plugin.snapshot().unwrap(), (2, json!({"visits": {"somebody": 6}})));
//! # }
//! ```
//!
//! A `#[snapshot(version = 1)]` beside these would give the previous version of the plugin
//! something that it can read: going back would keep the state too. Of the versions that the old
//! one writes, the host takes the highest that the new one restores.
//!
//! What is guaranteed when a plugin with state is replaced:
//! * Its new events wait while the state is handed over; none is refused for that. Its calls in
//!   flight end before the snapshot is taken, or are cancelled at the deadline that the operator
//!   has set.
//! * `#[restore]` runs after `#[initialize]` and before the new instance gets its first event.
//! * Whatever fails (a snapshot, an initialization, a version that the new one does not restore),
//!   the old instance goes on as it was, and gets the events that have waited.
//! * Where the host keeps state in files, it also takes snapshots from time to time and when it
//!   stops, and restores the last complete one at the next start.
//!
//! What is not:
//! * A snapshot is no farewell. It is also taken beside calls, and the instance may go on after it:
//!   lock together what belongs together, and let nothing go.
//! * What background tasks and threads of the old instance change after the snapshot is not handed
//!   over. Let them [`send`](Context::send) the plugin an event that makes the change: events wait.
//! * Thread-locals, background tasks, subscriptions made at run time and open connections are no
//!   state. Make them anew in `#[initialize]` or `#[restore]`.
//! * `#[initialize]` and `#[restore]` are run twice: before a plugin is loaded or replaced, it is
//!   tried out in a process of its own, with a copy of the state if there is some.
//!   [`Context::is_trial`] is true there, events are refused and background tasks do not run. An
//!   `#[initialize]` that fails there for want of a reply is not refused for it, but no
//!   `#[restore]` is tried then.
//! * All three may emit. But an event for the plugin itself waits, like all others, for the end of
//!   the hand-over: do not await it in `#[snapshot]` or `#[restore]`.
//!
//! # By reference
//! An event that is emitted as a value reaches a handler as that same value, without JSON in
//! between, when both were built from one definition of its type. Which of the two it was makes no
//! difference to what a handler sees, but by the clock. What it takes by reference is not copied:
//!
//! ```
//! use ksi_harness::Harness;
//! use ksi_plugin_api::prelude::*;
//!
//! #[event("order:placed")]
//! struct Order {
//!     user: String,
//!     items: Vec<String>,
//! }
//!
//! /// What a handler of the same event needs of it, borrowed from the JSON.
//! #[payload]
//! struct Summary<'a> {
//!     user: &'a str,
//!     #[serde(borrow)]
//!     items: &'a RawValue,
//! }
//!
//! #[derive(Default)]
//! struct Shop;
//!
//! #[plugin]
//! impl Shop {
//!     #[event_handler]
//!     async fn place(&self, _: &Context, order: &Order) -> Result<usize> {
//!         Ok(order.items.len())
//!     }
//!
//!     #[event_handler("order:*")]
//!     async fn note(&self, _: &Context, order: Summary<'_>) -> Result<String> {
//!         Ok(format!("{}: {}", order.user, order.items.get()))
//!     }
//! }
//!
//! # fn main() {
//! let shop = Harness::start::<Shop>();
//! let order = Order { user: "ada".into(), items: vec!["pen".into()] };
//! assert_eq!(shop.emit_event(order).results(), [json!(1), json!("ada: [\"pen\"]")]);
//! # }
//! ```
//!
//! * `data: &T` is the emitter's value for the time of the call, and `data: T` a clone of it.
//!   Nothing can be kept of the reference: the handler's signature says so. `ctx.emit(event)` gives
//!   the event away, `ctx.emit(&event)` clones it.
//! * The same definition means: the same compiler and target, the same package, version and module,
//!   the same text of `#[event]` and `#[payload]` types, and the same types inside, down to
//!   numbers, `bool`, `char`, `String`, `Duration`, tuples, arrays, `Option`, `Box` and the
//!   collections of std. So put the types that plugins share into a crate of their own, and build
//!   the plugins with one compiler.
//! * All other types travel as JSON: those with an `Arc`, a cell, a reference, a `Value` or any
//!   type of another crate inside; enums with data but without `#[repr(u8)]`; packed structs;
//!   whatever serde skips, converts or flattens; generic types by themselves (as a field they are
//!   fine). Replies go by the same rules, and those of `request` by value.
//! * `&str` and `Summary<'_>` borrow from the JSON. A text with escapes cannot be borrowed: a
//!   `Cow<'_, str>` with `#[serde(borrow)]` takes both. serde has to be told `borrow` for all but
//!   `&str` and `&[u8]`.
//! * What JSON cannot carry goes by reference all the same: a float that is no number, a map whose
//!   keys are no texts.
//!
//! What is not proved: a std that was built otherwise (`-Zbuild-std`) than its sizes tell, flags
//! given to the last crate alone (`cargo rustc -- -Z..`), and what a type means. Whoever changes
//! that, and neither the definition nor the version of its package, has both meanings take each
//! other's values.
//!
//! # The book
//! `docs/` in the repository leads through all of it, from a first plugin to publishing: what may
//! change between two versions, sockets that survive a replacement, background work, testing, what
//! a plugin must not do. Here is the reference.
//!
//! # Reading order
//! [`Event`] and [`Emit`] (what is emitted), [`Context`] (what a handler has of the host),
//! [`Report`] and [`Error`] (what comes back), the attributes [`macro@plugin`],
//! [`macro@event_handler`], [`macro@initialize`], [`macro@configure`], [`macro@snapshot`] and
//! [`macro@restore`] (what is written at the impl block). Tests without a library and without a
//! host are written with a crate of their own, `ksi-harness`.
//!
//! # What an author has to know
//! * A handler runs on a thread of the host and must not block it. `#[event_handler(blocking)]`
//!   calls it on one that may be blocked; `#[plugin(runtime)]` (feature `runtime`) gives the plugin
//!   a tokio runtime of its own.
//! * Thread-locals do not last: the host exchanges its threads whenever it replaces a plugin.
//! * Threads that a plugin starts itself, and [`Context`] clones in them, must end in its handler
//!   of `module:shutdown`. Otherwise the library stays mapped, and the host says so.
//! * tokio's features `signal` and `process` keep two file descriptors of each generation that
//!   starts a runtime: leave them off in a plugin that is replaced often, and in crates that are
//!   built together with it.
//! * While a plugin is replaced, its old and its new version are alive at once for a moment. One
//!   that holds what two cannot hold (a SQLite file, a device, a lock) says `#[plugin(exclusive)]`;
//!   a listening socket is kept by the host ([`Context::listener`]). The host's documentation has a
//!   page on it, `docs/replacement.md`.
//! * `panic = "abort"` is refused: a panic is an outcome, not the end of the host.

// The attributes name this crate by its own name, in its tests too.
#[cfg(test)]
extern crate self as ksi_plugin_api;

mod call;
mod context;
mod emitting;
mod error;
mod event;
mod export;
mod kept;
mod log;
mod payload;
mod plugin;
mod report;
mod routes;
mod running;
mod runtime;
mod schema;
mod scope;
mod state;
mod subscriptions;
mod types;
mod watch;

pub use context::{Context, EventInfo, Interval, Received, SubscriptionId, Task};
pub use emitting::{EmitOptions, EmitWith};
pub use error::{Error, ErrorKind, Refusal, Result};
pub use event::{Emit, Event, Named, named};
#[doc(hidden)]
pub use ksi_abi::Layout;
pub use ksi_abi::{NameError, Pattern, PatternSegment, validate_event_name};
pub use ksi_plugin_macros::{
    configure, event, event_handler, initialize, payload, plugin, restore, snapshot,
};
pub use plugin::Plugin;
#[doc(hidden)]
pub use plugin::{Handler, PluginRef};
pub use report::{Outcome, OutcomeKind, Report};
pub use serde_json::{Value, json, value::RawValue};
pub use subscriptions::SubscribeOptions;
pub use tracing;
pub use types::{AwaitedReply, SubscribedPayload, SubscribedReply};
pub use watch::{Watch, Watched};

/// What a plugin's file imports.
pub mod prelude {
    pub use crate::{
        Context, Emit, EmitOptions, Error, Event, OutcomeKind, RawValue, Refusal, Report, Result,
        SubscribeOptions, Value, Watched, configure, event, event_handler, initialize, json, named,
        payload, plugin, restore, snapshot, tracing,
    };
}

/// What the macros expand to. Not for authors; it may change without notice.
#[doc(hidden)]
pub mod __private {
    pub use ksi_abi::{
        __hidden_functions as hidden_functions, EventName, Fingerprint, Layout, TypeDescription,
        Value,
        export::LibHeader,
        layout::{Cached, LayoutDescription},
        manifest,
        manifest::assert_distinct,
        probe::{Give, Probe, Unproved},
    };
    pub use ksi_plugin_macros::Layout;
    pub use schemars;
    pub use serde;
    pub use serde_json;

    pub use crate::{
        __export_plugin as export_plugin,
        call::{Call, Restoring, Taking},
        event::EventSlot,
        plugin::{
            NoSchema, RawConfig, SchemaOf, SentSchemas, by_default, lent_schema, payload_schema,
            reply_schema, type_of,
        },
        running::header,
        state::{Restore, Snapshot, read_as},
        subscriptions::handler_end,
        types::{
            Configuration, HandlerPayload, HandlerReply, LentPayload, PayloadField,
            RestoredSnapshot, TakenSnapshot,
        },
    };

    pub const HAS_RUNTIME: bool = cfg!(feature = "runtime");

    /// What `ksi-harness` is made with.
    pub mod testing {
        pub use crate::{
            emitting::said,
            payload::{bytes_of, decode, encode},
            report::{reply, report},
            running::{InProcess, module},
            subscriptions::{call_end, failed},
            types::AwaitedReply,
        };
    }
}
