//! Tests of a plugin in its own crate, without a library and without a host.
//!
//! A [`Harness`] is a host for a plugin inside the test: it makes the instance, routes events to
//! it by the router of a real host with the limits of its default configuration, and records what
//! it emits. Other plugins are closures ([`Harness::on`]). Everything runs on the thread of the
//! test, and the clock stands still until the test moves it, so nothing depends on how fast the
//! machine is.
//!
//! ```
//! use ksi_harness::Harness;
//! use ksi_plugin_api::prelude::*;
//!
//! #[event("greet:request")]
//! struct Greet {
//!     name: String,
//! }
//!
//! #[event("greet:done")]
//! struct Greeted {
//!     text: String,
//! }
//!
//! #[derive(Default)]
//! struct Greeter;
//!
//! #[plugin(emits(Greeted))]
//! impl Greeter {
//!     #[event_handler]
//!     async fn greet(&self, ctx: &Context, greet: Greet) -> Result<Greeted> {
//!         let done = Greeted { text: format!("Hello, {}!", greet.name) };
//!         ctx.emit(&done).await;
//!         Ok(done)
//!     }
//! }
//!
//! // In a crate of your own, what follows is the body of a #[test].
//! # fn main() {
//! let plugin = Harness::start::<Greeter>();
//! let report = plugin.emit("greet:request", json!({"name": "Ada"}));
//! assert_eq!(report.results(), [json!({"text": "Hello, Ada!"})]);
//! assert_eq!(plugin.emitted_of("greet:done"), [json!({"text": "Hello, Ada!"})]);
//!
//! let report = plugin.emit("greet:request", json!({"name": 7}));
//! assert!(!report.is_ok());
//! # }
//! ```
//!
//! # Time
//! [`Context::sleep`](ksi_plugin_api::Context::sleep), `timeout`, `interval`, `wait_for` and the
//! timeouts of handlers follow the clock of the harness, in steps of a millisecond.
//! [`Harness::begin`] starts a call that
//! waits for time, and [`Harness::advance`] lets it pass:
//!
//! ```
//! use std::time::Duration;
//! use ksi_harness::Harness;
//! use ksi_plugin_api::prelude::*;
//!
//! #[derive(Default)]
//! struct Slow;
//!
//! #[plugin]
//! impl Slow {
//!     #[event_handler("slow:request", timeout = "2m")]
//!     async fn slow(&self, ctx: &Context, _: Value) -> Result<u32> {
//!         ctx.sleep(Duration::from_secs(60)).await;
//!         Ok(1)
//!     }
//! }
//!
//! # fn main() {
//! let plugin = Harness::start::<Slow>();
//! let call = plugin.begin("slow:request", json!({}));
//! plugin.advance(Duration::from_secs(59));
//! assert!(call.finished().is_none());
//! plugin.advance(Duration::from_secs(1));
//! assert_eq!(call.finished().unwrap().results(), [json!(1)]);
//! # }
//! ```
//!
//! A plugin with a runtime of its own (`#[plugin(runtime)]`) does its I/O for real: where its
//! answer is awaited, the harness waits for it in real time, up to [`Harness::patience`].
//!
//! # Other plugins
//! A closure answers for another plugin ([`Harness::on`]), or ends its call in any other way
//! ([`Harness::on_outcome`]): with a panic, a lost process, a time-out. What takes time, looks at
//! the event or emits is a plugin that the test plays ([`Harness::other`]), with handlers as
//! [`Context::subscribe`](ksi_plugin_api::Context::subscribe) takes them. Attributes, a deadline
//! and a depth are said beside an event ([`Harness::with`]); what passes is seen by
//! [`Harness::watch`].
//!
//! # State, and another version
//! [`Harness::snapshot`] and [`Setup::restore`] hand the state of one instance to another;
//! [`Setup::state_of`] does so between two versions of a type. [`Harness::replace`] replaces the
//! plugin as a host does, under traffic too ([`Harness::begin_replace`]): calls in flight end in
//! the old version, what comes meanwhile waits for the new one, the state and what the host keeps
//! go over, and whatever fails leaves the old version live. [`Setup::trial`] makes the plugin as a
//! host does that only tries it out.
//!
//! Two versions of one plugin in a test are two types of one name, each in a module:
//! `#[plugin(name = "counter")]`.
//!
//! # Several plugins
//! A test that depends on the crates of several plugins runs them in one host, by one clock, and
//! looks at one of them: [`Setup::beside`].
//!
//! # The library
//! A test that is written against [`Subject`] runs with a harness, and with the library that cargo
//! builds of the plugin, in a host that is started for it: `Hosted`, with the feature `host`.
//!
//! # What a test on a harness cannot show
//! - *The library.* Nothing is built as one, loaded or unloaded: not its manifest, a dependency
//!   that the loader does not find, static TLS, `panic = "abort"`, a second copy of a crate; not
//!   what keeps it in memory (threads, thread-locals, signal handlers, `atexit`).
//! - *Two builds.* Both versions of a replacement are compiled into the test with one compiler.
//!   That an event crosses as JSON because two builds differ does not happen; what the test itself
//!   emits always goes as JSON.
//! - *Threads.* Handlers run on the thread of the test, one poll at a time, blocking ones too. Data
//!   races, deadlocks between calls and a handler that blocks a worker do not show, and a handler
//!   that does not return holds up the test: no watchdog answers for it. Thread-locals last.
//! - *Processes.* `#[plugin(isolated)]` changes nothing. No limit of memory, files or system calls
//!   holds, no process ends; that of another plugin is played by [`Harness::on_outcome`].
//! - *The first run elsewhere.* A host tries each plugin in a process of its own before it loads
//!   it, so `#[initialize]` and `#[restore]` run twice there. Here they run once, or in a trial
//!   alone.
//! - *What decides about files.* `requires(..)` holds up no start; no version is on probation,
//!   rolled back, quarantined or tried again, and contracts with other plugins are not compared.
//! - *The host's own events.* `system:*`, `module:*` and the like are neither emitted nor handled,
//!   and a plugin is told of nobody's loading: play them by [`Harness::on`] and [`Harness::emit`].
//! - *State on the disk.* No snapshots are taken at an interval or kept, and none is restored at a
//!   start but by [`Setup::restore`].
//! - *The operator.* Limits and timeouts are those of a default configuration; of a configuration
//!   file there is the plugin's own table alone ([`Setup::config`], [`Harness::configure`]).
//! - *Bytes that wait.* A watch of the plugin is bounded by its number of events alone.
//! - *Clients.* There is no socket. What tells a client from a plugin is the empty
//!   [`source`](ksi_plugin_api::EventInfo::source) of its events.
//! - *Time of day.* [`EventInfo::timestamp`](ksi_plugin_api::EventInfo::timestamp) is the system's,
//!   which does not go by the clock of the harness; I/O, and the runtime and the threads of a
//!   plugin, do not either.
//! - *The log.* The `tracing` of the plugin is that of the test. A panic of the plugin is an
//!   outcome, as in a host, but it also prints its message; a panic in a stand-in fails the test.

use std::{sync::Arc, time::Duration};

use ksi_abi::panic;
use ksi_kernel::lock::Lock;
use ksi_plugin_api::{Plugin, Report, Result};
use serde_json::Value;

mod emit;
mod seen;
mod setup;

#[cfg(all(feature = "host", unix))]
mod hosted;
mod subject;

mod beside;
mod other;
mod stand_in;

mod configure;
mod replace;
mod state;

mod call;
mod drive;
mod generation;
mod handlers;
mod host_api;
#[cfg(unix)]
mod kept;
mod world;

#[cfg(test)]
mod tests;

pub use call::Call;
pub use emit::With;
#[cfg(all(feature = "host", unix))]
pub use hosted::{Hosted, HostedSetup};
pub use other::Other;
pub use replace::Replacement;
pub use seen::{Emitted, Passed, Watching};
pub use setup::Setup;
pub use subject::Subject;

use world::World;

/// A plugin in a test, and the host that it sees. See the [module](self).
///
/// When it is dropped, the plugin is shut down.
pub struct Harness {
    world: Arc<World>,
    /// Whether a version of the plugin has had a runtime of its own.
    runtime: Lock<bool>,
    patience: Lock<Duration>,
}

impl Harness {
    /// Makes the plugin with an empty configuration.
    ///
    /// # Panics
    /// When its initialisation fails; [`with_config`](Self::with_config) gives the error instead.
    #[track_caller]
    pub fn start<P: Plugin>() -> Self {
        match Self::setup::<P>().start() {
            Ok(harness) => harness,
            Err(error) => panic!("{} did not start: {error:?}", P::NAME),
        }
    }

    /// Makes the plugin with this configuration.
    ///
    /// # Errors
    /// Those of its initialisation: `invalid_config` for a configuration that does not decode,
    /// `panicked`, `timed_out`, or its own.
    pub fn with_config<P: Plugin>(config: Value) -> Result<Self> {
        Self::setup::<P>().config(config).start()
    }

    /// What the plugin is to be made with, beside its configuration.
    pub fn setup<P: Plugin>() -> Setup<P> {
        Setup::new()
    }

    /// Lets time pass. What the plugin waits for on the way happens in order.
    #[track_caller]
    pub fn advance(&self, duration: Duration) {
        self.settle();
        let clock = &self.world.in_place;
        let until = clock.now().saturating_add(duration);
        while clock.now() < until {
            clock.step(until);
            self.settle();
        }
    }

    /// How much time has passed: what [`Context::now`](ksi_plugin_api::Context::now) tells the
    /// plugin.
    pub fn now(&self) -> Duration {
        self.world.in_place.now()
    }

    /// The messages of background tasks that panicked.
    #[track_caller]
    pub fn background_panics(&self) -> Vec<String> {
        self.settle();
        self.world.state.lock().background_panics.clone()
    }

    /// How long the harness waits, in real time, for the I/O or the threads of the plugin. Default:
    /// 10 s.
    pub fn patience(&self, patience: Duration) {
        *self.patience.lock() = patience;
    }

    /// Shuts the plugin down as a host does: calls in flight and background tasks are given up, its
    /// handlers of `module:shutdown` run, the instance is dropped. Time passes as they need it.
    /// Gives the report of `module:shutdown`; a second call finds no handler.
    #[track_caller]
    pub fn shutdown(&self) -> Report {
        self.settle();
        let report = self.retire();
        self.settle();
        report
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if !self.world.state.lock().retired {
            // A stand-in may fail here, and the test may be panicking already.
            let _ = panic::guarded(|| drop(self.retire()));
        }
        let _ = panic::guarded(|| self.end_beside());
        self.end_others();
    }
}
