//! What the plugin has emitted.

use ksi_kernel::event::EventRef;
use ksi_plugin_api::__private::testing::decode;
use serde_json::Value;

use super::Harness;

/// An event that the plugin emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Value,
}

impl Harness {
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
}

/// The payload, as the emitter's own encoder wrote it: so it decodes.
fn payload(event: &EventRef) -> Value {
    decode(event.payload().as_json()).unwrap_or(Value::Null)
}

impl Emitted {
    fn of(event: &EventRef) -> Self {
        Emitted { name: event.name().to_owned(), payload: payload(event) }
    }
}
