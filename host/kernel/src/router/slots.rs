//! What the routing table knows of each name that has a number, by that number.

use std::sync::{Arc, Weak};

use super::{
    names::{HeldName, RouteId},
    table::{Called, Targets},
};

/// Slots that are copied together. A change copies the chunk that it is in, and the list of chunks.
const CHUNK: usize = 32;

/// A name that the table knows.
#[derive(Clone)]
pub(super) struct NameSlot {
    pub(super) name: Arc<str>,
    /// Those of all patterns that the name matches, and of the name itself, in the order of
    /// calling; of an event that the host answers alone, only the host's.
    pub(super) called: Called,
    /// The others, of an event that the host answers alone.
    pub(super) onlookers: Targets,
    /// Those of the name itself.
    pub(super) exact: Targets,
    pub(super) holder: Holder,
}

/// Why a name has its number.
#[derive(Clone)]
pub(super) enum Holder {
    /// Somebody subscribes to it.
    Subscription(Arc<HeldName>),
    /// Somebody emits it, or did.
    Others(Weak<HeldName>),
}

impl NameSlot {
    /// Whether nobody needs it any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.holder, Holder::Others(held) if held.strong_count() == 0)
    }
}

/// The slots. Copies share what is the same in them.
#[derive(Clone, Default)]
pub(super) struct Slots {
    chunks: Arc<Vec<Arc<[Option<NameSlot>; CHUNK]>>>,
    taken: usize,
}

impl Slots {
    /// How many names have one.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn get(&self, id: RouteId) -> Option<&NameSlot> {
        let (chunk, place) = (id.index() / CHUNK, id.index() % CHUNK);
        self.chunks.get(chunk)?[place].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: RouteId) -> Option<&mut NameSlot> {
        // Nothing is copied for nothing.
        self.get(id)?;
        self.place(id).as_mut()
    }

    pub(super) fn put(&mut self, id: RouteId, slot: NameSlot) {
        let before = self.place(id).replace(slot);
        self.taken += usize::from(before.is_none());
    }

    pub(super) fn take(&mut self, id: RouteId) -> Option<NameSlot> {
        self.get(id)?;
        let taken = self.place(id).take();
        self.taken -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &NameSlot> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    fn place(&mut self, id: RouteId) -> &mut Option<NameSlot> {
        let (chunk, place) = (id.index() / CHUNK, id.index() % CHUNK);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= chunk {
            chunks.resize_with(chunk + 1, Arc::default);
        }
        &mut Arc::make_mut(&mut chunks[chunk])[place]
    }
}
