//! The host's objects that a plugin sees: an event, and the report of an emitted event.
//!
//! A plugin holds them as handles: a pointer that only the host understands, and a table of the
//! host's functions, which stands beside an event's pointer and at the beginning of a report.

use std::{marker::PhantomData, mem, mem::ManuallyDrop, ptr};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{RSlice, RStr},
};

use super::{Buffer, Counted, Fingerprint, Layout, OutcomeCode, OutcomeView, Value};

/// What an event is, borrowed from the host.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct EventView<'a> {
    /// Its name.
    pub name: RStr<'a>,
    /// The plugin that emitted it; empty for the host itself.
    pub source: RStr<'a>,
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

/// Encoded bytes that are lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding<'a> {
    /// They are known to be text.
    Text(&'a str),
    /// Nothing is known of them.
    Bytes(&'a [u8]),
}

impl<'a> Encoding<'a> {
    /// What is in a buffer.
    #[inline]
    pub fn of(buffer: &'a Buffer) -> Self {
        buffer.as_text().map_or(Encoding::Bytes(buffer), Encoding::Text)
    }

    /// As bytes.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Encoding::Text(text) => text.as_bytes(),
            Encoding::Bytes(bytes) => bytes,
        }
    }
}

/// The host's side of an event.
pub trait EventObject: Send + Sync + 'static {
    /// What the event is.
    fn view(&self) -> EventView<'_>;
    /// Its payload, encoded: now, if it was not before.
    ///
    /// # Errors
    /// Code and message of an encoding that failed.
    fn payload(&self) -> Result<Encoding<'_>, (&str, &str)>;
    /// Its payload as the value that was emitted, for somebody who knows this layout; none if it
    /// came as bytes, or is of another layout.
    fn value(&self, _: &Fingerprint) -> Option<&Value> {
        None
    }
    /// The same event for somebody who may keep it for longer than the call that it came with.
    fn to_keep(this: &Counted<Self>) -> Counted<Self>
    where
        Self: Sized,
    {
        this.clone()
    }
    /// What a client attached to the event or to one that it came from, such as a correlation id.
    fn attribute(&self, key: &str) -> Option<&str>;
}

/// Functions of the host that a plugin calls on an event.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = EventTableRef)))]
#[sabi(missing_field(panic))]
pub struct EventTable {
    /// One more reference, to be kept for any time: perhaps to another object of the same event.
    retain: unsafe extern "C" fn(*const ()) -> *const (),
    release: unsafe extern "C" fn(*const ()),
    view: unsafe extern "C" fn(*const ()) -> EventView<'static>,
    payload: unsafe extern "C" fn(*const ()) -> Lent<'static>,
    /// Null when it came as bytes.
    value: unsafe extern "C" fn(*const (), &Fingerprint) -> *const Value,
    /// An empty text and `false` when there is none.
    #[sabi(last_prefix_field)]
    attribute: unsafe extern "C" fn(*const (), RStr<'_>, &mut bool) -> RStr<'static>,
}

/// Bytes that the other side lends, or why there are none.
#[repr(C, u64)]
#[derive(StableAbi, Clone, Copy)]
pub enum Lent<'a> {
    /// Text.
    Text(RStr<'a>),
    /// The bytes.
    Bytes(RSlice<'a, u8>),
    /// A code and a message.
    Failed(RStr<'a>, RStr<'a>),
}

impl<'a> From<Result<Encoding<'a>, (&'a str, &'a str)>> for Lent<'a> {
    fn from(result: Result<Encoding<'a>, (&'a str, &'a str)>) -> Self {
        match result {
            Ok(Encoding::Text(text)) => Lent::Text(text.into()),
            Ok(Encoding::Bytes(bytes)) => Lent::Bytes(bytes.into()),
            Err((code, message)) => Lent::Failed(code.into(), message.into()),
        }
    }
}

impl<'a> From<Lent<'a>> for Result<Encoding<'a>, (&'a str, &'a str)> {
    fn from(lent: Lent<'a>) -> Self {
        match lent {
            Lent::Text(text) => Ok(Encoding::Text(text.as_str())),
            Lent::Bytes(bytes) => Ok(Encoding::Bytes(bytes.as_slice())),
            Lent::Failed(code, message) => Err((code.as_str(), message.as_str())),
        }
    }
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
    unsafe extern "C" fn retain(object: *const ()) -> *const () {
        // SAFETY: `object` came from `Counted::into_raw` in `EventHandle::new`, and the handle
        // holds one count, which it keeps.
        let event = ManuallyDrop::new(unsafe { Counted::<E>::from_raw(object) });
        Counted::into_raw(E::to_keep(&event))
    }

    unsafe extern "C" fn release(object: *const ()) {
        // SAFETY: as in `retain`; the handle gives up its count.
        drop(unsafe { Counted::<E>::from_raw(object) })
    }

    unsafe extern "C" fn view(object: *const ()) -> EventView<'static> {
        // SAFETY: as in `retain`. `EventHandle::view` ties the lifetime to the handle.
        unsafe {
            mem::transmute::<EventView<'_>, EventView<'static>>(Counted::<E>::behind(object).view())
        }
    }

    unsafe extern "C" fn payload(object: *const ()) -> Lent<'static> {
        // SAFETY: as in `view`; `EventHandle::payload` ties the lifetime to the handle.
        unsafe {
            mem::transmute::<Lent<'_>, Lent<'static>>(Counted::<E>::behind(object).payload().into())
        }
    }

    unsafe extern "C" fn value(object: *const (), print: &Fingerprint) -> *const Value {
        // SAFETY: as in `retain`.
        unsafe { Counted::<E>::behind(object).value(print) }.map_or(ptr::null(), ptr::from_ref)
    }

    unsafe extern "C" fn attribute(
        object: *const (),
        key: RStr<'_>,
        found: &mut bool,
    ) -> RStr<'static> {
        // SAFETY: as in `view`.
        let value = unsafe { Counted::<E>::behind(object).attribute(key.as_str()) };
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
            payload: Self::payload,
            value: Self::value,
            attribute: Self::attribute,
        });
    }
}

impl EventHandle {
    /// A handle to `event`. Only hosts (and the test harness) make one.
    pub fn new<E: EventObject>(event: Counted<E>) -> Self {
        EventHandle {
            object: Counted::into_raw(event),
            table: EventTableRef(EventShims::<E>::TABLE.as_prefix()),
        }
    }

    /// What the event is.
    pub fn view(&self) -> EventView<'_> {
        // SAFETY: the handle holds a count of the object, so it outlives the view.
        unsafe { (self.table.view())(self.object) }
    }

    /// Its payload, encoded.
    ///
    /// # Errors
    /// Code and message of an encoding that failed.
    pub fn payload(&self) -> Result<Encoding<'_>, (&str, &str)> {
        // SAFETY: as in `view`.
        unsafe { (self.table.payload())(self.object) }.into()
    }

    /// Its payload as the value that was emitted, if it came as one of this type.
    #[inline]
    pub fn value<T: Layout>(&self) -> Option<&T> {
        let print = T::fingerprint()?;
        // SAFETY: as in `view`; the object gives null or a pointer into itself.
        unsafe { (self.table.value())(self.object, &print).as_ref() }.and_then(Value::get)
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
pub(super) unsafe fn event_of<E>(object: *const ()) -> Option<ManuallyDrop<Counted<E>>> {
    // SAFETY: promised by the caller; the count stays with the handle.
    (!object.is_null()).then(|| ManuallyDrop::new(unsafe { Counted::<E>::from_raw(object) }))
}

impl Clone for EventHandle {
    /// A handle that may be kept: it knows the event, and holds no value that came with it.
    fn clone(&self) -> Self {
        // SAFETY: the handle holds a count; the clone gets one of its own.
        let object = unsafe { (self.table.retain())(self.object) };
        EventHandle { object, table: self.table }
    }
}

impl Drop for EventHandle {
    fn drop(&mut self) {
        // SAFETY: gives up the handle's count.
        unsafe { (self.table.release())(self.object) }
    }
}

/// The host's side of a report. Every `index` is below [`len`](Self::len).
pub trait ReportObject: Send + Sync + 'static {
    /// How many outcomes there are.
    fn len(&self) -> usize;
    /// How one of the calls ended.
    fn code(&self, index: usize) -> OutcomeCode;
    /// One of the outcomes.
    fn outcome(&self, index: usize) -> OutcomeView<'_>;
    /// A reply, encoded: now, if it was not before.
    ///
    /// # Errors
    /// Code and message of an encoding that failed.
    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)>;
    /// A reply as the value that the handler gave; none if it came as bytes, or there is none.
    fn value(&self, _: usize) -> Option<&Value> {
        None
    }
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
    code: unsafe extern "C" fn(*const (), usize) -> OutcomeCode,
    reply: unsafe extern "C" fn(*const (), usize) -> Lent<'static>,
    /// Null unless the reply is a value.
    value: unsafe extern "C" fn(*const (), usize) -> *const Value,
    #[sabi(last_prefix_field)]
    outcome: unsafe extern "C" fn(*const (), usize) -> OutcomeView<'static>,
}

/// A report of the host, owned by whoever asked for it.
///
/// One pointer, to the table that stands before the report, so that it crosses in a register.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct ReportHandle(*mut ReportTableRef);

/// A report behind its table.
#[repr(C)]
struct Headed<R> {
    table: ReportTableRef,
    report: R,
}

// SAFETY: the report is `Send + Sync`.
unsafe impl Send for ReportHandle {}
// SAFETY: as above.
unsafe impl Sync for ReportHandle {}

struct ReportShims<R>(PhantomData<R>);

impl<R: ReportObject> ReportShims<R> {
    unsafe extern "C" fn release(object: *mut ()) {
        // SAFETY: `object` came from the box in `ReportHandle::new`.
        drop(unsafe { Box::from_raw(object.cast::<Headed<R>>()) })
    }

    unsafe extern "C" fn len(object: *const ()) -> usize {
        // SAFETY: as in `release`.
        unsafe { (*object.cast::<Headed<R>>()).report.len() }
    }

    unsafe extern "C" fn code(object: *const (), index: usize) -> OutcomeCode {
        // SAFETY: as in `release`.
        unsafe { (*object.cast::<Headed<R>>()).report.code(index) }
    }

    unsafe extern "C" fn reply(object: *const (), index: usize) -> Lent<'static> {
        // SAFETY: as in `outcome`.
        unsafe {
            mem::transmute::<Lent<'_>, Lent<'static>>(
                (*object.cast::<Headed<R>>()).report.reply(index).into(),
            )
        }
    }

    unsafe extern "C" fn value(object: *const (), index: usize) -> *const Value {
        // SAFETY: as in `release`.
        unsafe { (*object.cast::<Headed<R>>()).report.value(index) }
            .map_or(ptr::null(), ptr::from_ref)
    }

    unsafe extern "C" fn outcome(object: *const (), index: usize) -> OutcomeView<'static> {
        // SAFETY: as in `release`; `ReportHandle` checks the index and ties the lifetime to the
        // handle.
        unsafe {
            let view = (*object.cast::<Headed<R>>()).report.outcome(index);
            mem::transmute::<OutcomeView<'_>, OutcomeView<'static>>(view)
        }
    }

    abi_stable::staticref! {
        const TABLE: WithMetadata<ReportTable> = WithMetadata::new(ReportTable {
            release: Self::release,
            len: Self::len,
            code: Self::code,
            reply: Self::reply,
            value: Self::value,
            outcome: Self::outcome,
        });
    }
}

impl ReportHandle {
    /// A handle to `report`. Only hosts (and the test harness) make one.
    pub fn new<R: ReportObject>(report: R) -> Self {
        let table = ReportTableRef(ReportShims::<R>::TABLE.as_prefix());
        ReportHandle(Box::into_raw(Box::new(Headed { table, report })).cast())
    }

    fn table(&self) -> ReportTableRef {
        // SAFETY: the handle owns what it points to, which begins with the table.
        unsafe { *self.0 }
    }

    fn object(&self) -> *mut () {
        self.0.cast()
    }

    /// How many outcomes there are.
    pub fn len(&self) -> usize {
        // SAFETY: the handle owns the object.
        unsafe { (self.table().len())(self.object()) }
    }

    /// Whether no handler was there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the calls ended, in the router's order.
    pub fn codes(&self) -> impl Iterator<Item = OutcomeCode> + use<'_> {
        // SAFETY: the handle owns the object; the index is in range.
        (0..self.len()).map(|index| unsafe { (self.table().code())(self.object(), index) })
    }

    /// The reply with this place among all outcomes, encoded.
    ///
    /// # Errors
    /// Code and message of an encoding that failed.
    pub fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        assert!(index < self.len(), "outcome {index} of {}", self.len());
        // SAFETY: the handle owns the object, which outlives what it lends; the index is in range.
        unsafe { (self.table().reply())(self.object(), index) }.into()
    }

    /// The same reply as the value that the handler gave, if it came as one.
    pub fn value(&self, index: usize) -> Option<&Value> {
        assert!(index < self.len(), "outcome {index} of {}", self.len());
        // SAFETY: as in `reply`; the object gives null or a pointer into itself.
        unsafe { (self.table().value())(self.object(), index).as_ref() }
    }

    /// The outcomes, in the router's order.
    pub fn outcomes(&self) -> impl Iterator<Item = OutcomeView<'_>> {
        // SAFETY: the handle owns the object, which outlives the view; the index is in range.
        (0..self.len()).map(|index| unsafe { (self.table().outcome())(self.object(), index) })
    }
}

impl Drop for ReportHandle {
    fn drop(&mut self) {
        // SAFETY: the handle owns the object and gives it up.
        unsafe { (self.table().release())(self.object()) }
    }
}
