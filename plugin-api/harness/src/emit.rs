//! What the test emits.

use ksi_kernel::event::Payload;
use ksi_plugin_api::{
    __private::testing::{self, AwaitedReply},
    Emit, Report, Result, named,
};
use serde::Serialize;

use super::{Harness, call::Call};

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
