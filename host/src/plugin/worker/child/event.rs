//! Events as a worker has them.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU8, Ordering::SeqCst},
};

use ksi_abi::{Attributes, Counted, Encoding, EventObject, EventView};
use ksi_worker_protocol::{Event, FromWorker, ProtocolError};

use super::host::WorkerHost;

/// The call goes on.
const RUNS: u8 = 0;
/// It is over, and the host keeps its context.
const KEPT: u8 = 1;
/// It is over.
const OVER: u8 = 2;

/// An event, and the call that it came with.
pub(super) struct EventData {
    /// The call's number; 0 for none.
    call: u64,
    state: AtomicU8,
    /// Who is told when the context is kept no longer.
    host: std::sync::OnceLock<Weak<WorkerHost>>,
    id: u64,
    parent: u64,
    root: u64,
    timestamp: u64,
    depth: u32,
    name: String,
    source: String,
    attributes: Attributes,
    payload: Vec<u8>,
}

impl EventData {
    pub(super) fn of(call: u64, event: Event<'_>) -> Result<Self, ProtocolError> {
        let attributes = event.attributes.iter();
        Ok(EventData {
            call,
            state: AtomicU8::new(RUNS),
            host: std::sync::OnceLock::new(),
            id: event.id,
            parent: event.parent,
            root: event.root,
            timestamp: event.timestamp,
            depth: event.depth,
            name: event.name.to_owned(),
            source: event.source.to_owned(),
            attributes: attributes.map(|(key, it)| (key.to_owned(), it.to_owned())).collect(),
            payload: event.payload.into_bytes(u64::MAX)?.into_owned(),
        })
    }

    /// The call in whose name is emitted; 0 once the host does not know it any more.
    pub(super) fn call(&self) -> u64 {
        if self.state.load(SeqCst) == OVER { 0 } else { self.call }
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> u64 {
        let attributes = self.attributes.iter().map(|(key, it)| key.len() + it.len());
        (self.payload.len() + self.name.len() + attributes.sum::<usize>()) as u64
    }

    /// The call has ended. Whether somebody has its context, for whom the host keeps it.
    pub(super) fn ended(this: &Arc<Self>, host: &Arc<WorkerHost>) -> bool {
        // One is this, and the plugin's handles have one together.
        let keeps = Arc::strong_count(this) > 1 && host.keeps_one_more();
        if keeps {
            let _ = this.host.set(Arc::downgrade(host));
        }
        this.state.store(if keeps { KEPT } else { OVER }, SeqCst);
        keeps
    }
}

impl Drop for EventData {
    fn drop(&mut self) {
        if let Some(host) = self.host.get().and_then(Weak::upgrade) {
            host.keeps_one_less();
            host.put(FromWorker::Release, self.call);
        }
    }
}

/// What a plugin's handles point to.
pub(super) struct WorkerEvent(pub(super) Arc<EventData>);

impl WorkerEvent {
    pub(super) fn counted(data: Arc<EventData>) -> Counted<Self> {
        Counted::new(WorkerEvent(data))
    }
}

impl EventObject for WorkerEvent {
    fn view(&self) -> EventView<'_> {
        let EventData { id, parent, root, timestamp, depth, name, source, .. } = &*self.0;
        EventView {
            name: name.as_str().into(),
            source: source.as_str().into(),
            id: *id,
            parent: *parent,
            root: *root,
            depth: *depth,
            timestamp: *timestamp,
        }
    }

    fn payload(&self) -> Result<Encoding<'_>, (&str, &str)> {
        Ok(Encoding::Bytes(&self.0.payload))
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.0.attributes.get(key).map(String::as_str)
    }
}
