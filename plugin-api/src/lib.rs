//! Everything a ksi plugin is written with.
//!
//! A plugin is a struct and an impl block. It says which events it handles; it emits events; that is the only way
//! plugins talk to one another.
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
//! In reading order: [`mod@event`] and [`name`] (what is emitted), [`context`] (what a handler has of the host), [`report`]
//! and [`error`] (what comes back), [`mod@plugin`] and [`manifest`] (what the `#[plugin]` attribute makes of the impl block),
//! [`harness`] (tests without a library and without a host).
//!
//! # What an author has to know
//! * A handler runs on a thread of the host and must not block it. `#[event_handler(blocking)]` calls it on one that
//!   may be blocked; `#[plugin(runtime)]` (feature `runtime`) gives the plugin a tokio runtime of its own.
//! * Thread-locals do not last: the host exchanges its threads whenever it replaces a plugin.
//! * Threads that a plugin starts itself, and [`Context`] clones in them, must end in its handler of
//!   `module:shutdown`. Otherwise the library stays mapped, and the host says so.
//! * tokio's features `signal` and `process` keep two file descriptors of each generation that starts a runtime: leave
//!   them off in a plugin that is replaced often, and in crates that are built together with it.
//! * `panic = "abort"` is refused: a panic is an outcome, not the end of the host.

// The attributes name this crate by its own name, in its tests too.
#[cfg(test)]
extern crate self as ksi_plugin_api;

pub mod abi;
pub mod context;
pub mod error;
pub mod event;
pub mod harness;
pub mod manifest;
pub mod name;
pub mod plugin;
pub mod report;
pub mod state;

mod log;
mod payload;
mod runtime;
mod subscriptions;

pub use context::{Context, EventInfo, Interval, Received, SubscriptionId, Task};
pub use error::{Error, Result};
pub use event::{Emit, Event, Named, named};
pub use ksi_plugin_macros::{event, event_handler, initialize, payload, plugin, restore, snapshot};
pub use name::{NameError, Pattern, PatternSegment, validate_event_name};
pub use plugin::{Description, Handler, HandlerDescription, Plugin, PluginRef};
pub use report::{Outcome, OutcomeKind, Report};
pub use serde_json::{Value, json};
pub use tracing;

/// What a plugin's file imports.
pub mod prelude {
    pub use crate::{
        Context, Emit, Error, Event, OutcomeKind, Report, Result, Value, event, event_handler,
        initialize, json, named, payload, plugin, restore, snapshot, tracing,
    };
}

/// What the macros expand to. Not for authors; it may change without notice.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;
    pub use serde_json;

    pub use crate::{
        __export_plugin as export_plugin,
        abi::export::{LibHeader, header},
        manifest::assert_distinct,
        plugin::{Call, RawConfig, Running, schema},
        state::{Restore, Snapshot},
    };

    pub const HAS_RUNTIME: bool = cfg!(feature = "runtime");
}
