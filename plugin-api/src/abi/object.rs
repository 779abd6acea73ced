//! The host's objects that a plugin sees: an event, and the report of an emitted event.
//!
//! A plugin holds them as handles: a pointer that only the host understands, and a table of the host's functions.

use std::{marker::PhantomData, mem, mem::ManuallyDrop, sync::Arc};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};

/// What an event is, borrowed from the host.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct EventView<'a> {
    /// Its name.
    pub name: RStr<'a>,
    /// The plugin that emitted it; empty for the host itself.
    pub source: RStr<'a>,
    /// Its payload, encoded.
    pub payload: RSlice<'a, u8>,
    /// Its number, unique in this host.
    pub id: u64,
    /// The event in whose handler it was emitted; 0 for none.
    pub parent: u64,
    /// The first event of the chain.
    pub root: u64,
    /// How many events lie between it and the first one.
    pub depth: u32,
    /// When it was emitted, in nanoseconds since the Unix epoch.
    pub timestamp: u64,
}

/// The host's side of an event.
pub trait EventObject: Send + Sync + 'static {
    /// What the event is.
    fn view(&self) -> EventView<'_>;
    /// What a client attached to the event or to one that it came from, such as a correlation id.
    fn attribute(&self, key: &str) -> Option<&str>;
}

/// Functions of the host that a plugin calls on an event.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = EventTableRef)))]
#[sabi(missing_field(panic))]
pub struct EventTable {
    retain: unsafe extern "C" fn(*const ()),
    release: unsafe extern "C" fn(*const ()),
    view: unsafe extern "C" fn(*const ()) -> EventView<'static>,
    /// An empty text and `false` when there is none.
    #[sabi(last_prefix_field)]
    attribute: unsafe extern "C" fn(*const (), RStr<'_>, &mut bool) -> RStr<'static>,
}

/// A counted reference to an event of the host.
#[repr(C)]
#[derive(StableAbi)]
pub struct EventHandle {
    object: *const (),
    table: EventTableRef,
}

// SAFETY: the object is `Send + Sync` and its count is atomic.
unsafe impl Send for EventHandle {}
// SAFETY: as above.
unsafe impl Sync for EventHandle {}

struct EventShims<E>(PhantomData<E>);

impl<E: EventObject> EventShims<E> {
    unsafe extern "C" fn retain(object: *const ()) {
        // SAFETY: `object` came from `Arc::into_raw` in `EventHandle::new`, and the handle holds one count.
        unsafe { Arc::increment_strong_count(object.cast::<E>()) }
    }

    unsafe extern "C" fn release(object: *const ()) {
        // SAFETY: as in `retain`; the handle gives up its count.
        unsafe { Arc::decrement_strong_count(object.cast::<E>()) }
    }

    unsafe extern "C" fn view(object: *const ()) -> EventView<'static> {
        // SAFETY: as in `retain`. `EventHandle::view` ties the lifetime to the handle.
        unsafe { mem::transmute::<EventView<'_>, EventView<'static>>((*object.cast::<E>()).view()) }
    }

    unsafe extern "C" fn attribute(
        object: *const (),
        key: RStr<'_>,
        found: &mut bool,
    ) -> RStr<'static> {
        // SAFETY: as in `view`.
        let value = unsafe { (*object.cast::<E>()).attribute(key.as_str()) };
        *found = value.is_some();
        // SAFETY: `EventHandle::attribute` ties the lifetime to the handle.
        unsafe {
            mem::transmute::<RStr<'_>, RStr<'static>>(RStr::from_str(value.unwrap_or_default()))
        }
    }

    abi_stable::staticref! {
        const TABLE: WithMetadata<EventTable> = WithMetadata::new(EventTable {
            retain: Self::retain,
            release: Self::release,
            view: Self::view,
            attribute: Self::attribute,
        });
    }
}

impl EventHandle {
    /// A handle to `event`. Only hosts (and the test harness) make one.
    pub fn new<E: EventObject>(event: Arc<E>) -> Self {
        EventHandle {
            object: Arc::into_raw(event).cast(),
            table: EventTableRef(EventShims::<E>::TABLE.as_prefix()),
        }
    }

    /// What the event is.
    pub fn view(&self) -> EventView<'_> {
        // SAFETY: the handle holds a count of the object, so it outlives the view.
        unsafe { (self.table.view())(self.object) }
    }

    /// What was attached under `key`.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let mut found = false;
        // SAFETY: as in `view`.
        let value =
            unsafe { (self.table.attribute())(self.object, RStr::from_str(key), &mut found) };
        found.then_some(value.as_str())
    }

    /// The pointer that the host gave.
    pub(super) fn object(&self) -> *const () {
        self.object
    }
}

/// The host's own event behind the pointer of a handle.
///
/// # Safety
/// `object` is null or the pointer of a live handle that was made for an `E`.
pub(super) unsafe fn event_of<E>(object: *const ()) -> Option<ManuallyDrop<Arc<E>>> {
    // SAFETY: promised by the caller; the count stays with the handle.
    (!object.is_null()).then(|| ManuallyDrop::new(unsafe { Arc::from_raw(object.cast::<E>()) }))
}

impl Clone for EventHandle {
    fn clone(&self) -> Self {
        // SAFETY: the handle holds a count; the clone gets one of its own.
        unsafe { (self.table.retain())(self.object) };
        EventHandle { object: self.object, table: self.table }
    }
}

impl Drop for EventHandle {
    fn drop(&mut self) {
        // SAFETY: gives up the handle's count.
        unsafe { (self.table.release())(self.object) }
    }
}

/// How a call ended, as a number that crosses.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeCode {
    /// With a reply.
    Replied,
    /// Well, without a reply.
    NoReply,
    /// With an error.
    Failed,
    /// With a panic.
    Panicked,
    /// It took too long.
    TimedOut,
    /// It was not started.
    Rejected,
}

/// One outcome, borrowed from a report of the host.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct OutcomeView<'a> {
    /// How the call ended.
    pub kind: OutcomeCode,
    /// The plugin that was called; empty for the host itself.
    pub plugin: RStr<'a>,
    /// Its handler.
    pub handler: RStr<'a>,
    /// The reply, encoded; empty unless there is one.
    pub reply: RSlice<'a, u8>,
    /// The code of a failure.
    pub code: RStr<'a>,
    /// The message of whatever is not well.
    pub message: RStr<'a>,
}

/// The host's side of a report.
pub trait ReportObject: Send + Sync + 'static {
    /// How many outcomes there are.
    fn len(&self) -> usize;
    /// One of them; `index` is below [`len`](Self::len).
    fn outcome(&self, index: usize) -> OutcomeView<'_>;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Functions of the host that a plugin calls on a report.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ReportTableRef)))]
#[sabi(missing_field(panic))]
pub struct ReportTable {
    release: unsafe extern "C" fn(*mut ()),
    len: unsafe extern "C" fn(*const ()) -> usize,
    #[sabi(last_prefix_field)]
    outcome: unsafe extern "C" fn(*const (), usize) -> OutcomeView<'static>,
}

/// A report of the host, owned by whoever asked for it.
#[repr(C)]
#[derive(StableAbi)]
pub struct ReportHandle {
    object: *mut (),
    table: ReportTableRef,
}

// SAFETY: the object is `Send + Sync`.
unsafe impl Send for ReportHandle {}
// SAFETY: as above.
unsafe impl Sync for ReportHandle {}

struct ReportShims<R>(PhantomData<R>);

impl<R: ReportObject> ReportShims<R> {
    unsafe extern "C" fn release(object: *mut ()) {
        // SAFETY: `object` came from the box in `ReportHandle::new`.
        drop(unsafe { Box::from_raw(object.cast::<R>()) })
    }

    unsafe extern "C" fn len(object: *const ()) -> usize {
        // SAFETY: as in `release`.
        unsafe { (*object.cast::<R>()).len() }
    }

    unsafe extern "C" fn outcome(object: *const (), index: usize) -> OutcomeView<'static> {
        // SAFETY: as in `release`; `ReportHandle::outcome` checks the index and ties the lifetime to the handle.
        unsafe {
            let view = (*object.cast::<R>()).outcome(index);
            mem::transmute::<OutcomeView<'_>, OutcomeView<'static>>(view)
        }
    }

    abi_stable::staticref! {
        const TABLE: WithMetadata<ReportTable> = WithMetadata::new(ReportTable {
            release: Self::release,
            len: Self::len,
            outcome: Self::outcome,
        });
    }
}

impl ReportHandle {
    /// A handle to `report`. Only hosts (and the test harness) make one.
    pub fn new<R: ReportObject>(report: R) -> Self {
        ReportHandle {
            object: Box::into_raw(Box::new(report)).cast(),
            table: ReportTableRef(ReportShims::<R>::TABLE.as_prefix()),
        }
    }

    /// How many outcomes there are.
    pub fn len(&self) -> usize {
        // SAFETY: the handle owns the object.
        unsafe { (self.table.len())(self.object) }
    }

    /// Whether no handler was there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The outcomes, in the router's order.
    pub fn outcomes(&self) -> impl Iterator<Item = OutcomeView<'_>> {
        // SAFETY: the handle owns the object, which outlives the view; the index is in range.
        (0..self.len()).map(|index| unsafe { (self.table.outcome())(self.object, index) })
    }
}

impl Drop for ReportHandle {
    fn drop(&mut self) {
        // SAFETY: the handle owns the object and gives it up.
        unsafe { (self.table.release())(self.object) }
    }
}
