//! A call in progress, and what the plugin emitted.

use std::{fmt, sync::Arc};

use ksi_abi::{Buffer, Counted};
use ksi_plugin_api::{__private::testing::decode, Report};
use serde_json::Value;

use super::{
    emission::Emission,
    event::{HarnessEvent, Outcomes},
    world::World,
};

/// An event that the test has emitted and whose handlers may still run; see
/// [`Harness::begin`](super::Harness::begin).
///
/// Dropping it does not end them; [`cancel`](Self::cancel) does.
pub struct Call {
    world: Arc<World>,
    event: String,
    state: CallState,
}

enum CallState {
    Accepted(Arc<Emission>),
    Refused(Outcomes),
}

impl Call {
    pub(super) fn new(world: Arc<World>, event: &str, payload: Buffer) -> Self {
        let state = match world.accept("", None, event, payload, None) {
            Ok(event) => CallState::Accepted(world.dispatch(&event)),
            Err(refusal) => CallState::Refused(Outcomes::refused(refusal)),
        };
        Call { world, event: event.to_owned(), state }
    }

    pub(super) fn event(&self) -> &str {
        &self.event
    }

    pub(super) fn outcomes(&self) -> Option<Outcomes> {
        match &self.state {
            CallState::Accepted(emission) => emission.finished(),
            CallState::Refused(outcomes) => Some(outcomes.clone()),
        }
    }

    /// The report, once every handler has ended. It does not wait.
    pub fn finished(&self) -> Option<Report> {
        // What woke a task from another thread is seen to first. A loop is reported by whatever
        // drives next.
        let _ = self.world.tasks.settle();
        self.outcomes().map(|outcomes| outcomes.into_report(&self.event))
    }

    /// Gives the event up, as an emitter does that stops waiting: its handlers end at their next
    /// await, and are reported as rejected.
    pub fn cancel(&self) {
        if let CallState::Accepted(emission) = &self.state {
            emission.reject("the test gave it up");
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finished = self.outcomes().is_some();
        f.debug_struct("Call").field("event", &self.event).field("finished", &finished).finish()
    }
}

/// An event that the plugin emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Value,
}

impl Emitted {
    pub(super) fn of(event: &Counted<HarnessEvent>) -> Self {
        // The plugin's own encoder wrote it, so it decodes.
        let payload = decode(&event.payload).unwrap_or(Value::Null);
        Emitted { name: event.name.clone(), payload }
    }
}
