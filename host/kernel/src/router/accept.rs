//! An event is accepted, or refused: its payload and its chain have bounds. A name that a plugin
//! emits often is resolved once.

use std::sync::Arc;

use ksi_abi::{Buffer, Content, Counted, NameError, Refusal, RefusalCode, validate_event_name};

use super::{Router, resolved::Resolved, traffic::Pair};
use crate::{
    event::{EmitOptions, Emitter, Event, NewEvent, Said},
    value::{self, Keeper},
};

impl Router {
    /// Accepts an event of the host, of its clients or of the embedding program.
    pub(crate) fn accept(
        &self,
        event: NewEvent,
        parent: Option<Counted<Event>>,
    ) -> Result<Counted<Event>, Refusal> {
        let (bytes, limit) = (event.payload.as_json().len(), self.limits.payload_bytes);
        if bytes > limit {
            return Err(too_large(&event.name, bytes, limit));
        }
        let is_handled = || !self.table.load().targets(&event.name).is_empty();
        let pair = self.traffic.count(&event.source, &event.name, !event.of_plugin, is_handled);
        let event = Counted::new(Event::new(event, parent, &self.ids, pair));
        if event.depth() as usize >= self.limits.event_depth {
            return Err(self.too_deep(&event));
        }
        self.taps.show(&event);
        Ok(event)
    }

    /// Accepts an event of a plugin that holds its name resolved.
    #[inline]
    pub(crate) fn accept_resolved(
        &self,
        resolved: &Resolved,
        content: Content,
        parent: Option<Counted<Event>>,
    ) -> Result<Counted<Event>, Refusal> {
        resolved.emitted.up();
        if let Some(parent) = &parent
            && parent.depth() as usize + 1 >= self.limits.event_depth
        {
            return Err(self.too_deep_below(parent.clone(), resolved));
        }
        let emitters = resolved.emitters();
        // Made where it stays: an event is too large to be moved for nothing.
        let event = match content {
            Content::Value(value) => {
                let emitter = emitters.keeping.clone();
                Counted::made(|| Event::with_value(emitter, value, parent, &self.ids))
            }
            Content::Bytes(json) => {
                if json.len() > self.limits.payload_bytes {
                    return Err(too_large(resolved.name(), json.len(), self.limits.payload_bytes));
                }
                let emitter = emitters.plain.clone();
                Counted::made(|| Event::of_emitter(emitter, json, parent, &self.ids))
            }
        };
        self.taps.show(&event);
        Ok(event)
    }

    /// The same with something said beside it.
    #[cold]
    pub(crate) fn accept_said(
        &self,
        resolved: &Resolved,
        content: Content,
        parent: Option<Counted<Event>>,
        options: &impl EmitOptions,
    ) -> Result<Counted<Event>, Refusal> {
        resolved.emitted.up();
        let said = Said::of(options, resolved.name(), parent.as_deref())?;
        let (emitters, ids) = (resolved.emitters(), &self.ids);
        let mut event = match content {
            Content::Value(value) => {
                Event::with_value(emitters.keeping.clone(), value, parent, ids)
            }
            Content::Bytes(json) if json.len() > self.limits.payload_bytes => {
                return Err(too_large(resolved.name(), json.len(), self.limits.payload_bytes));
            }
            Content::Bytes(json) => Event::of_emitter(emitters.plain.clone(), json, parent, ids),
        };
        event.say(said);
        let event = Counted::new(event);
        if event.depth() as usize >= self.limits.event_depth {
            return Err(self.too_deep(&event));
        }
        self.taps.show(&event);
        Ok(event)
    }

    #[cold]
    fn too_deep_below(&self, parent: Counted<Event>, resolved: &Resolved) -> Refusal {
        let emitter = resolved.emitters().plain.clone();
        let refused = Event::of_emitter(emitter, Buffer::new(), Some(parent), &self.ids);
        self.too_deep(&refused)
    }

    #[cold]
    fn too_deep(&self, event: &Event) -> Refusal {
        let text = format_args!(
            "{} is event number {} of a chain of events, and {} are allowed (limits.event_depth). Is it a loop? {}",
            event.name(),
            u64::from(event.depth()) + 1,
            self.limits.event_depth,
            event.chain()
        );
        Refusal::new(RefusalCode::TOO_DEEP, text)
    }

    /// What a plugin holds to emit events of one name.
    pub(crate) fn resolve(
        &self,
        name: &str,
        source: &Arc<str>,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Resolved, NameError> {
        validate_event_name(name)?;
        let held = self.table.load().interner().hold(name);
        if self.table.load().held(&held).is_none() {
            self.change(|table| table.with_names([&held]));
        }
        let name = held.name().clone();
        let Pair { count: emitted, number: pair } = self.traffic.pair(source, &name, false);
        let limit = self.limits.payload_bytes;
        let emitter =
            Emitter { keeper: Some(keeper), limit, ..Emitter::plain(name, source.clone(), pair) };
        Ok(Resolved::new(held, emitter, emitted))
    }

    /// An event that goes to one handler past the routing table.
    pub fn directed(&self, event: NewEvent) -> Counted<Event> {
        let pair = self.traffic.pair(&event.source, &event.name, false).number;
        Counted::new(Event::new(event, None, &self.ids, pair))
    }
}

fn too_large(event: &str, bytes: usize, limit: usize) -> Refusal {
    Refusal::new(
        RefusalCode::TOO_LARGE,
        value::too_large(format_args!("the payload of {event}"), bytes, limit),
    )
}
