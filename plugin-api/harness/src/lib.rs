//! Tests of a plugin in its own crate, without a library and without a host.
//!
//! A [`Harness`] is a host for one plugin inside the test: it makes the instance, routes events to
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
//! # State
//! [`Harness::snapshot`] and [`Setup::restore`] hand the state of one instance to another, as a
//! reload does, and [`Setup::trial`] makes the plugin as a host does that only tries it out.
//!
//! # Several plugins
//! A harness holds one plugin. A test of two, each of a crate of its own, has a harness for each,
//! and a stand-in that hands events from one to the other ([`Harness::on`]); the second harness is
//! driven from inside the first:
//!
//! ```ignore
//! // In the tests of a crate that depends on both; `shop::Order` is the event type of the shop.
//! let shop = Harness::start::<shop::Shop>();
//! let warehouse = Harness::start::<warehouse::Warehouse>();
//! warehouse.on("shop:order", move |order: shop::Order| shop.request::<String>(order));
//! let filled = warehouse.emit("warehouse:fill", "pen");
//! assert_eq!(filled.results(), [json!("one pen")]);
//! ```
//!
//! # What differs from a host
//! Blocking handlers run on the thread of the test too, and a handler that does not return holds up
//! the test. A watch of the plugin is bounded by its number of events alone. The `tracing` of the
//! plugin is that of the test. A panic of the plugin is an outcome, as in a host, but it also
//! prints its message; a panic in a stand-in fails the test.

use std::{sync::Arc, time::Duration};

use ksi_abi::panic;
use ksi_kernel::{event::Payload, lock::Lock, session::HandlerSpec};
use ksi_plugin_api::{
    __private::testing::{self, AwaitedReply},
    Emit, Plugin, Report, Result, named,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

mod call;
mod drive;
mod setup;
mod state;

mod handlers;
mod host_api;
#[cfg(unix)]
mod kept;
mod world;

#[cfg(test)]
mod tests;

pub use call::{Call, Emitted};
pub use setup::Setup;

use handlers::StandIn;
use world::World;

/// A plugin in a test, and the host that it sees. See the [module](self).
///
/// When it is dropped, the plugin is shut down.
pub struct Harness {
    world: Arc<World>,
    runtime: bool,
    /// The highest version of snapshots that the plugin writes.
    writes: Option<u32>,
    at_shutdown: Lock<Vec<HandlerSpec>>,
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

    /// Emits an event, as a client of the host does, and runs everything that follows from it.
    ///
    /// # Panics
    /// When a handler waits for time to pass: use [`begin`](Self::begin) and
    /// [`advance`](Self::advance) then.
    #[track_caller]
    pub fn emit(&self, event: &str, payload: impl Serialize) -> Report {
        self.wait(&self.begin(event, payload))
    }

    /// The same for an event with a type. A payload that cannot be encoded fails the test.
    ///
    /// # Panics
    /// As [`emit`](Self::emit).
    #[track_caller]
    pub fn emit_event(&self, event: impl Emit) -> Report {
        self.wait(&self.begin_event(event))
    }

    /// Emits, and wants exactly one reply.
    ///
    /// # Errors
    /// As [`Context::request`](ksi_plugin_api::Context::request).
    ///
    /// # Panics
    /// As [`emit`](Self::emit).
    #[track_caller]
    pub fn request<R>(&self, event: impl Emit) -> Result<R>
    where
        R: AwaitedReply,
    {
        testing::reply(self.emit_event(event))
    }

    /// Emits an event, and runs what follows from it as far as it goes without time passing.
    #[track_caller]
    pub fn begin(&self, event: &str, payload: impl Serialize) -> Call {
        self.begin_event(named(event, &payload))
    }

    /// The same for an event with a type.
    #[track_caller]
    pub fn begin_event(&self, event: impl Emit) -> Call {
        let name = event.owned_name();
        let payload = match event.into_content().and_then(testing::bytes_of) {
            Ok(payload) => payload,
            Err(error) => panic!("the payload of {name}: {error:?}"),
        };
        let call = Call::new(self.world.clone(), &name, Payload::from_json_bytes(payload.to_vec()));
        self.settle();
        call
    }

    /// The report of a call that was [begun](Self::begin): for plugins that do I/O, which is waited
    /// for in real time.
    ///
    /// # Panics
    /// As [`emit`](Self::emit), and when it does not end within the [`patience`](Self::patience).
    #[track_caller]
    pub fn wait(&self, call: &Call) -> Report {
        let report = self.wait_until(!self.runtime, || call.report());
        match report {
            Some(report) => report,
            None => panic!(
                "{} is not finished: {}. The clock of a harness stands still: use `begin`, `advance` and \
                 `Call::finished` for a call that takes time",
                call.event(),
                self.what_it_waits_for()
            ),
        }
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

    /// From now on `stand_in` handles the events that match, in place of another plugin. A reply
    /// that encodes as `null` is none. A panic in it fails the test.
    ///
    /// ```
    /// # use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # #[derive(Default)]
    /// # struct Reader;
    /// # #[plugin]
    /// # impl Reader {
    /// #     #[event_handler("reader:read")]
    /// #     async fn read(&self, ctx: &Context, key: Value) -> Result<Value> {
    /// #         ctx.request(named("state:get", &key)).await
    /// #     }
    /// # }
    /// # fn main() {
    /// # let plugin = Harness::start::<Reader>();
    /// plugin.on("state:get", |_: Value| Ok(json!({"value": 1})));
    /// # assert_eq!(plugin.emit("reader:read", "k").results(), [json!({"value": 1})]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When `pattern` is none.
    #[track_caller]
    pub fn on<D, R>(&self, pattern: &str, stand_in: impl Fn(D) -> Result<R> + Send + Sync + 'static)
    where
        D: DeserializeOwned,
        R: Serialize,
    {
        match StandIn::new(pattern, stand_in) {
            Ok(stand_in) => self.world.stand_in(stand_in),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Attaches a text to every event that the test emits from now on, as clients of a host do
    /// (`_agent_id`).
    pub fn attribute(&self, key: &str, value: &str) {
        self.world.state.lock().attributes.push((key.to_owned(), value.to_owned()));
    }

    /// The events that the plugin emitted or sent, in order.
    #[track_caller]
    pub fn emitted(&self) -> Vec<Emitted> {
        self.settle();
        self.world.state.lock().emitted.iter().map(Emitted::of).collect()
    }

    /// The payloads of those of one name.
    #[track_caller]
    pub fn emitted_of(&self, event: &str) -> Vec<Value> {
        let named = self.emitted().into_iter().filter(|emitted| emitted.name == event);
        named.map(|emitted| emitted.payload).collect()
    }

    /// The events that the plugin emitted since this was called last.
    #[track_caller]
    pub fn take_emitted(&self) -> Vec<Emitted> {
        self.settle();
        let emitted = std::mem::take(&mut self.world.state.lock().emitted);
        emitted.iter().map(Emitted::of).collect()
    }

    /// Waits, in real time, until the plugin has emitted this event; the payload of the first. For
    /// plugins with a runtime or threads of their own.
    ///
    /// # Panics
    /// When it does not come within the [`patience`](Self::patience).
    #[track_caller]
    pub fn wait_emitted(&self, event: &str) -> Value {
        let found = self.wait_until(false, || {
            let state = self.world.state.lock();
            state.emitted.iter().find(|emitted| emitted.name() == event).map(Emitted::of)
        });
        match found {
            Some(emitted) => emitted.payload,
            None => panic!("{event} was not emitted: {}", self.what_it_waits_for()),
        }
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
        if self.world.state.lock().retired {
            return;
        }
        // A stand-in may fail here, and the test may be panicking already.
        let _ = panic::guarded(|| drop(self.retire()));
    }
}
