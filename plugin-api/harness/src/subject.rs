//! What a test asks of a plugin whichever way it runs.

use std::time::Duration;

use ksi_plugin_api::{
    __private::testing::{self, AwaitedReply},
    Emit, Report, Result, named,
};
use serde::Serialize;
use serde_json::Value;

use super::{Emitted, Harness};

/// How long a call may take by the clock of a harness.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// A plugin under test: one that is compiled into the test, in a [`Harness`], or the library that
/// cargo has built of it, in a real host (`Hosted`, with the feature `host`). A test that is
/// written against this runs with both.
///
/// ```
/// use ksi_harness::{Harness, Subject};
/// use ksi_plugin_api::prelude::*;
///
/// #[derive(Default)]
/// struct Greeter;
///
/// #[plugin]
/// impl Greeter {
///     #[event_handler("greet:request")]
///     async fn greet(&self, ctx: &Context, name: String) -> Result<String> {
///         let text = format!("Hello, {name}!");
///         ctx.emit(named("greet:done", &text)).await;
///         Ok(text)
///     }
/// }
///
/// fn it_greets(plugin: &impl Subject) {
///     let text: String = plugin.request(named("greet:request", "Ada")).unwrap();
///     assert_eq!(text, "Hello, Ada!");
///     assert_eq!(plugin.emitted_of("greet:done"), [json!("Hello, Ada!")]);
/// }
///
/// # fn main() {
/// // In one #[test]:
/// it_greets(&Harness::start::<Greeter>());
/// // In another one, with ksi-harness's feature `host`: it_greets(&Hosted::start::<Greeter>());
/// # }
/// ```
pub trait Subject {
    /// Emits an event as a client does, and waits for its handlers. Time passes as they need it: at
    /// once in a harness, and as ever in a host.
    fn emit_event(&self, event: impl Emit) -> Report;

    /// The events that the plugin has emitted, in order. What it
    /// [sends](ksi_plugin_api::Context::send), and what its tasks and threads emit, may come later
    /// in a host.
    fn emitted(&self) -> Vec<Emitted>;

    /// Lets time pass: at once in a harness, and for real in a host.
    fn pass(&self, duration: Duration);

    /// Replaces the plugin by the same version of it, with its state.
    ///
    /// # Errors
    /// What keeps it from being replaced: as [`Harness::replace`] in a harness, and `refused` with
    /// the host's own words in a host.
    fn reload(&self) -> Result<()>;

    /// As [`emit_event`](Self::emit_event), with a name and a payload.
    fn emit(&self, event: &str, payload: impl Serialize) -> Report {
        self.emit_event(named(event, &payload))
    }

    /// Emits, and wants exactly one reply.
    ///
    /// # Errors
    /// As [`Context::request`](ksi_plugin_api::Context::request).
    fn request<R: AwaitedReply>(&self, event: impl Emit) -> Result<R> {
        testing::reply(self.emit_event(event))
    }

    /// The payloads of the events of one name that the plugin has emitted.
    fn emitted_of(&self, event: &str) -> Vec<Value> {
        let named = self.emitted().into_iter().filter(|emitted| emitted.name == event);
        named.map(|emitted| emitted.payload).collect()
    }
}

impl Subject for Harness {
    #[track_caller]
    fn emit_event(&self, event: impl Emit) -> Report {
        let call = self.begin_event(event);
        self.pass_time(LONGEST, || call.report());
        self.wait(&call)
    }

    fn emitted(&self) -> Vec<Emitted> {
        Harness::emitted(self)
    }

    #[track_caller]
    fn pass(&self, duration: Duration) {
        self.advance(duration);
    }

    fn reload(&self) -> Result<()> {
        self.reload_live()
    }
}
