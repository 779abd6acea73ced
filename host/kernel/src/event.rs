//! An event on its way: what was emitted, by whom, and because of what.

mod emit_options;
mod event_ref;
mod ids;
mod into_event;
mod payload;

use std::{
    fmt,
    mem::ManuallyDrop,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    executor::{clock, slot::EventNumbers},
    value::{Encoded, Keeper, Unencodable, let_go},
};
use ksi_abi::{
    Buffer, Counted, Encoding, EventObject, EventView, Fingerprint, NameError, Refusal, Value,
    validate_event_name,
};

/// What clients attach to an event and all its descendants inherit: `_correlation_id`, `_agent_id`
/// and the like.
pub(crate) use ksi_abi::Attributes;

pub use emit_options::EmitOptions;
pub use event_ref::EventRef;
pub use ids::EventId;
pub(crate) use ids::EventIds;
pub use into_event::{IntoEvent, InvalidEvent};
pub use payload::Payload;

/// An event that is about to be emitted.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub(crate) name: Arc<str>,
    pub(crate) payload: Payload,
    pub(crate) source: Arc<str>,
    pub(crate) attributes: Attributes,
    pub(crate) timeout: Option<Duration>,
    /// Whether a plugin emits it.
    pub(crate) of_plugin: bool,
    /// How many events lie before it that this host does not know.
    pub(crate) depth: u32,
}

impl NewEvent {
    /// An event of this name and payload.
    ///
    /// # Errors
    /// The name is no event name.
    pub fn new(name: &str, payload: Payload) -> Result<Self, NameError> {
        validate_event_name(name)?;
        Ok(NewEvent::valid(name, payload))
    }

    /// The same for a name that is known to be one.
    pub(crate) fn valid(name: &str, payload: Payload) -> Self {
        NewEvent {
            name: name.into(),
            payload,
            source: "".into(),
            attributes: Attributes::new(),
            timeout: None,
            of_plugin: false,
            depth: 0,
        }
    }

    /// Attaches a text that handlers, and watchers of all events that follow from this one, can
    /// read.
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// How long its handlers may take in all, if that is shorter than their own timeouts.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many events lie before it that this host does not know.
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// Who emits it, for watchers and the graph. Empty by default.
    pub fn source(mut self, source: &str) -> Self {
        self.source = source.into();
        self
    }
}

/// What an emitter says beside its event.
pub(crate) struct Said {
    pub(crate) attributes: Attributes,
    pub(crate) timeout: Option<Duration>,
    pub(crate) depth: u32,
}

impl Said {
    /// What a plugin says beside an event of this name that follows from `parent`.
    pub(crate) fn of(
        options: &impl EmitOptions,
        name: &str,
        parent: Option<&Event>,
    ) -> Result<Self, Refusal> {
        let inherited = parent.and_then(|parent| parent.attributes.as_deref());
        let attributes = options.attached(name, inherited.unwrap_or(&Attributes::new()))?;
        Ok(Said { attributes, timeout: options.timeout(), depth: options.depth() })
    }
}

pub(crate) fn bytes_of(attributes: &Attributes) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// An event of the host: its name is known to be one.
pub fn of_host(name: &str, payload: Payload) -> NewEvent {
    NewEvent::valid(name, payload)
}

/// The name of an event that is about to be emitted.
pub fn name_of(event: &NewEvent) -> &str {
    &event.name
}

/// Under which name an event is emitted, and by whom; the same for all events of one name that a
/// plugin emits.
#[derive(Clone)]
pub(crate) struct Emitter {
    pub(crate) name: Arc<str>,
    pub(crate) source: Arc<str>,
    /// Keeps a plugin's library mapped for as long as there is a value of it on its way.
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
    /// Bytes that a value may have as JSON.
    pub(crate) limit: usize,
    /// Stands for both names where what becomes of the event is recorded; 0 if nothing does. Above
    /// 32 bits that are zero, as it is recorded.
    pub(crate) pair: u64,
}

impl Emitter {
    /// One whose events are JSON, or nothing.
    pub(crate) fn plain(name: Arc<str>, source: Arc<str>, pair: u32) -> Self {
        Emitter { name, source, keeper: None, limit: 0, pair: u64::from(pair) << 32 }
    }
}

/// What an event carries.
enum Carried {
    Json(Payload),
    /// JSON that a plugin emitted, which most often goes to plugins alone; and the payload for
    /// others, once there are any.
    Bytes(Buffer, OnceLock<Payload>),
    /// A value of the emitter's library, which the emitter keeps mapped; and its JSON, once
    /// somebody needed it.
    Value(ManuallyDrop<Value>, OnceLock<Encoded>),
    /// Nothing any more: it is an ancestor, and known by its names alone.
    Nothing,
}

/// An emitted event.
pub struct Event {
    id: EventId,
    emitter: Arc<Emitter>,
    carried: Carried,
    parent: Option<Counted<Event>>,
    root: EventId,
    depth: u32,
    /// Nobody waits for what becomes of it.
    sent: AtomicBool,
    /// In nanoseconds since the Unix epoch.
    timestamp: u64,
    deadline: Option<Instant>,
    attributes: Option<Arc<Attributes>>,
    /// This event without what it carries, for those who keep it longer than its handlers run.
    kept: OnceLock<Counted<Event>>,
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Carried::Value(value, _) = std::mem::replace(&mut self.carried, Carried::Nothing) {
            let_go(ManuallyDrop::into_inner(value), self.emitter.keeper.as_ref());
        }
    }
}

impl Event {
    /// The event, as a child of `parent` if there is one: with its root, one deeper, with its
    /// deadline at the latest, and with its attributes.
    /// `pair` stands for its name and source where what becomes of it is recorded.
    pub(crate) fn new(
        new: NewEvent,
        parent: Option<Counted<Event>>,
        ids: &EventIds,
        pair: u32,
    ) -> Self {
        // A client that answers an event by another one says so, and a loop through it is a loop
        // all the same.
        let outside = new.attributes.get("_event_depth").filter(|_| !new.of_plugin);
        let outside: u32 = outside.and_then(|depth| depth.parse().ok()).unwrap_or(0);
        let emitter = Emitter::plain(new.name, new.source, pair);
        let mut event = Event::child(Arc::new(emitter), Carried::Json(new.payload), parent, ids);
        if event.parent.is_none() {
            event.depth = outside;
        }
        event.say(Said { attributes: new.attributes, timeout: new.timeout, depth: new.depth });
        event
    }

    /// Adds what its emitter says beside it.
    pub(crate) fn say(&mut self, said: Said) {
        let own = said.timeout.and_then(|timeout| clock::now().checked_add(timeout));
        self.deadline = own.into_iter().chain(self.deadline).min();
        self.depth = self.depth.saturating_add(said.depth);
        if !said.attributes.is_empty() {
            self.attributes = Some(match &self.attributes {
                None => Arc::new(said.attributes),
                Some(inherited) => {
                    let mut all = (**inherited).clone();
                    all.extend(said.attributes);
                    Arc::new(all)
                }
            });
        }
    }

    /// An event of a plugin, as JSON.
    pub(crate) fn of_emitter(
        emitter: Arc<Emitter>,
        json: Buffer,
        parent: Option<Counted<Event>>,
        ids: &EventIds,
    ) -> Self {
        Event::child(emitter, Carried::Bytes(json, OnceLock::new()), parent, ids)
    }

    /// An event of a plugin that carries a value.
    #[inline(always)]
    pub(crate) fn with_value(
        emitter: Arc<Emitter>,
        value: Value,
        parent: Option<Counted<Event>>,
        ids: &EventIds,
    ) -> Self {
        let carried = Carried::Value(ManuallyDrop::new(value), OnceLock::new());
        Event::child(emitter, carried, parent, ids)
    }

    #[inline(always)]
    fn child(
        emitter: Arc<Emitter>,
        carried: Carried,
        parent: Option<Counted<Event>>,
        ids: &EventIds,
    ) -> Self {
        let id = ids.next();
        let (root, depth, deadline, attributes) = match &parent {
            None => (id, 0, None, None),
            Some(parent) => (
                parent.root,
                parent.depth.saturating_add(1),
                parent.deadline,
                parent.attributes.clone(),
            ),
        };
        let (timestamp, kept, sent) =
            (clock::event_time(), OnceLock::new(), AtomicBool::new(false));
        Event {
            id,
            emitter,
            carried,
            parent,
            root,
            depth,
            sent,
            timestamp,
            deadline,
            attributes,
            kept,
        }
    }

    /// The same event for whoever keeps it: without its value, if it carries one, lest that keeps
    /// the emitter's library mapped.
    pub(crate) fn to_keep(this: &Counted<Self>) -> Counted<Event> {
        match this.carried {
            Carried::Value(..) => {
                let nothing = || Counted::new(this.with(Carried::Nothing));
                this.kept.get_or_init(nothing).clone()
            }
            _ => this.clone(),
        }
    }

    /// The same event with its payload as JSON, for those who know nothing else. Where plugin code
    /// may run.
    ///
    /// # Errors
    /// The value cannot become JSON.
    pub(crate) fn to_json(this: &Counted<Self>) -> Result<Counted<Event>, Unencodable> {
        match &this.carried {
            Carried::Value(value, json) => {
                let json = this.encoded(value, json).get().map_err(Clone::clone)?;
                let json = Payload::copied(json);
                Ok(Counted::new(this.with(Carried::Json(json))))
            }
            _ => Ok(this.clone()),
        }
    }

    fn with(&self, carried: Carried) -> Event {
        let (name, source) = (self.shared_name().clone(), self.shared_source().clone());
        Event {
            id: self.id,
            emitter: Arc::new(Emitter { name, source, keeper: None, limit: 0, pair: self.pair() }),
            carried,
            parent: self.parent.clone(),
            root: self.root,
            depth: self.depth,
            sent: AtomicBool::new(self.is_sent()),
            timestamp: self.timestamp,
            deadline: self.deadline,
            attributes: self.attributes.clone(),
            kept: OnceLock::new(),
        }
    }

    fn encoded<'a>(&self, value: &Value, json: &'a OnceLock<Encoded>) -> &'a Encoded {
        Encoded::once(json, || Encoded::within(value, self.emitter.limit))
    }

    /// Its number.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.shared_name()
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.emitter.name
    }

    /// Its payload.
    pub fn payload(&self) -> &Payload {
        match &self.carried {
            Carried::Json(payload) => payload,
            Carried::Bytes(json, payload) => payload.get_or_init(|| Payload::copied(json)),
            // Whoever sees it from outside has one with JSON; see `to_json`.
            Carried::Value(..) | Carried::Nothing => Payload::nothing(),
        }
    }

    /// About how much memory it keeps: what it carries as JSON, and its own size. Of a plugin's
    /// value only the latter is known.
    pub(crate) fn bytes(&self) -> usize {
        let json = match &self.carried {
            Carried::Json(payload) => payload.as_json().len(),
            Carried::Bytes(json, _) => json.len(),
            Carried::Value(..) | Carried::Nothing => 0,
        };
        size_of::<Event>() + self.name().len() + json + self.attribute_bytes()
    }

    /// Those of what is attached to it, which goes on to the events that follow from it.
    pub(crate) fn attribute_bytes(&self) -> usize {
        self.attributes.as_deref().map_or(0, bytes_of)
    }

    /// The plugin that emitted it; empty for the host and its clients.
    pub fn source(&self) -> &str {
        self.shared_source()
    }

    fn shared_source(&self) -> &Arc<str> {
        &self.emitter.source
    }

    /// The event in whose handler it was emitted.
    pub fn parent(&self) -> Option<EventId> {
        self.parent.as_ref().map(|parent| parent.id)
    }

    /// The first event of the chain; itself, when it is the first.
    pub fn root(&self) -> EventId {
        self.root
    }

    /// Its number and that of its root.
    pub fn numbers(&self) -> EventNumbers {
        EventNumbers { number: self.id.number(), root: self.root.number() }
    }

    /// How many events lie between it and the first one.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// When it was emitted, in seconds since the Unix epoch.
    pub fn timestamp(&self) -> f64 {
        Duration::from_nanos(self.timestamp).as_secs_f64()
    }

    /// The same in nanoseconds.
    pub(crate) fn emitted(&self) -> u64 {
        self.timestamp
    }

    /// Stands for its name and source where what becomes of it is recorded; 0 if nothing does.
    pub(crate) fn pair(&self) -> u64 {
        self.emitter.pair
    }

    /// Whether nobody waits for what becomes of it.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Nobody waits for what becomes of it.
    pub(crate) fn send(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// When its handlers must be done at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What a client attached to it, or to an event that it comes from.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.as_ref()?.get(key).map(String::as_str)
    }

    /// All that is attached to it.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let attributes = self.attributes.iter().flat_map(|attributes| attributes.iter());
        attributes.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The numbers of this event and of all it comes from, itself first.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(self), |event| event.parent.as_deref())
            .map(|event| event.id.number())
    }

    /// The names from the first event to this one, the middle left out when there are many.
    pub(crate) fn chain(&self) -> String {
        const SHOWN: usize = 12;
        let mut names = vec![self.name()];
        let mut event = self;
        while let Some(parent) = &event.parent {
            names.push(parent.name());
            event = parent;
        }
        names.reverse();
        if names.len() > SHOWN {
            names.splice(SHOWN / 2..names.len() - SHOWN / 2, ["…"]);
        }
        names.join(" -> ")
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("id", &self.id).field("name", &self.name()).finish()
    }
}

impl EventObject for Event {
    fn view(&self) -> EventView<'_> {
        EventView {
            name: self.name().into(),
            source: self.source().into(),
            id: self.id.number(),
            parent: self.parent().map_or(0, EventId::number),
            root: self.root.number(),
            depth: self.depth,
            timestamp: self.timestamp,
        }
    }

    fn payload(&self) -> Result<Encoding<'_>, (&str, &str)> {
        match &self.carried {
            Carried::Value(value, json) => {
                let json = self.encoded(value, json).get();
                json.map(Encoding::of).map_err(Unencodable::texts)
            }
            Carried::Bytes(json, _) => Ok(Encoding::of(json)),
            _ => Ok(self.payload().encoding()),
        }
    }

    fn value(&self, print: &Fingerprint) -> Option<&Value> {
        match &self.carried {
            Carried::Value(value, _) if value.fingerprint() == *print => Some(value),
            _ => None,
        }
    }

    fn to_keep(this: &Counted<Self>) -> Counted<Self> {
        Event::to_keep(this)
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        Event::attribute(self, key)
    }
}

#[cfg(test)]
mod tests;
