//! What the test emits.

use ksi_kernel::event::Payload;
use ksi_plugin_api::{
    __private::testing::{self, AwaitedReply},
    Emit, EmitOptions, Report, Result, named,
};
use serde::Serialize;

use super::{
    Harness,
    call::{Call, Said},
};

impl Harness {
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
        self.begin_said(event, &Said::default())
    }

    /// Emits with something said beside the event: attributes, a deadline, and how many events lie
    /// before it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Slow;
    ///
    /// #[plugin]
    /// impl Slow {
    ///     #[event_handler("slow:request")]
    ///     async fn slow(&self, ctx: &Context, _: Value) -> Result<Value> {
    ///         ctx.sleep(Duration::from_secs(1)).await;
    ///         Ok(json!(ctx.event().and_then(|event| event.attribute("order"))))
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Slow>();
    /// let order = EmitOptions::new().attribute("order", "17");
    /// let call = plugin.with(order.clone()).begin("slow:request", ());
    /// plugin.advance(Duration::from_secs(1));
    /// assert_eq!(call.finished().unwrap().results(), [json!("17")]);
    ///
    /// // With a deadline that comes before the handler's own.
    /// let call = plugin.with(order.timeout(Duration::from_millis(500))).begin("slow:request", ());
    /// plugin.advance(Duration::from_millis(500));
    /// let report = call.finished().unwrap();
    /// assert!(matches!(report.outcomes()[0].result, OutcomeKind::TimedOut { .. }));
    /// # }
    /// ```
    pub fn with(&self, options: EmitOptions) -> With<'_> {
        With { harness: self, said: Said { options, ..Said::default() } }
    }

    #[track_caller]
    pub(super) fn begin_said(&self, event: impl Emit, said: &Said) -> Call {
        let name = event.owned_name();
        let payload = match event.into_content().and_then(testing::bytes_of) {
            Ok(payload) => payload,
            Err(error) => panic!("the payload of {name}: {error:?}"),
        };
        let payload = Payload::from_json_bytes(payload.to_vec());
        let call = Call::new(self.world.clone(), &name, payload, said);
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
        let report = self.wait_until(!*self.runtime.lock(), || call.report());
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

    /// Attaches a text to every event that the test emits from now on, as clients of a host do
    /// (`_agent_id`).
    pub fn attribute(&self, key: &str, value: &str) {
        self.world.state.lock().attributes.push((key.to_owned(), value.to_owned()));
    }
}

/// A harness with what is said beside the events that are emitted through it; see
/// [`Harness::with`].
#[must_use = "nothing is emitted by it alone"]
pub struct With<'a> {
    pub(super) harness: &'a Harness,
    pub(super) said: Said,
}

impl With<'_> {
    /// As [`Harness::emit`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn emit(&self, event: &str, payload: impl Serialize) -> Report {
        self.harness.wait(&self.begin(event, payload))
    }

    /// As [`Harness::emit_event`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn emit_event(&self, event: impl Emit) -> Report {
        self.harness.wait(&self.begin_event(event))
    }

    /// As [`Harness::request`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn request<R: AwaitedReply>(&self, event: impl Emit) -> Result<R> {
        testing::reply(self.emit_event(event))
    }

    /// As [`Harness::begin`].
    #[track_caller]
    pub fn begin(&self, event: &str, payload: impl Serialize) -> Call {
        self.begin_event(named(event, &payload))
    }

    /// As [`Harness::begin_event`].
    #[track_caller]
    pub fn begin_event(&self, event: impl Emit) -> Call {
        self.harness.begin_said(event, &self.said)
    }
}
