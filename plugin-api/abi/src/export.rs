//! How a type of a plugin becomes the root module of its library.

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use abi_stable::{
    library::{__call_root_module_loader, CheckTypeLayout, RootModuleResult},
    prefix_type::WithMetadata,
    std_types::RSlice,
};

pub use abi_stable::library::LibHeader;

use super::{
    BoundaryFuture, Buffer, EventHandle, HostRef, ReplyForm,
    future::DropInPlace,
    memory::{Memory, adopt_memory},
    module::{CallEnd, CallStart, CreateEnd, InstancePointer, ModuleRef, PluginModule},
    panic::{discard, guarded, guarded_again},
    scratch::Scratch,
    waker::{WakerBase, borrowed},
};

/// A code and a message.
pub type FailureTexts = (String, String);

/// What a plugin's library exports, seen from Rust.
///
/// # Safety
/// What a call gets is of use as long as the instance, whose owner it does not ask: `this` goes
/// into what the call gives, and nowhere else.
pub unsafe trait Exported: Sized + Send + Sync + 'static {
    /// What the plugin says of itself, encoded.
    fn describe() -> Result<Buffer, FailureTexts>;
    /// The library is entered for the first time.
    fn enter_library(host: &HostRef);
    /// The host listens to another level of the log.
    fn log_level_changed();
    /// The instance is gone; the library gives up what it keeps beside it.
    fn leave_library();
    /// Makes the instance.
    fn create(
        host: HostRef,
        config: Vec<u8>,
    ) -> impl Future<Output = Result<Self, FailureTexts>> + Send + 'static;
    /// Starts a call.
    ///
    /// # Safety
    /// The event is one of the host that `create` got.
    unsafe fn call(
        this: Shared<Self>,
        handler: u64,
        event: EventHandle,
        first: FirstPoll<'_>,
    ) -> CallStart;
    /// Starts to take a snapshot of this version.
    fn snapshot(this: Shared<Self>, version: u32, first: FirstPoll<'_>) -> CallStart;
    /// Starts to restore a snapshot of this version. What it gives does not borrow from `state`.
    fn restore(this: Shared<Self>, version: u32, state: &[u8], first: FirstPoll<'_>) -> CallStart;
    /// Reads a snapshot of this version as `restore` does, and lets go of what it read.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_back(version: u32, state: &[u8]) -> Result<(), FailureTexts>;
}

/// A reference to a plugin's instance that a call may keep until it ends.
pub struct Shared<T>(*const T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: it is a shared reference to a `Sync` value.
unsafe impl<T: Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: whoever made it promised that the value lives as long as any call.
        unsafe { &*self.0 }
    }
}

impl<T> Shared<T> {
    /// # Safety
    /// `value` lives until every future and closure that got this reference, or a copy of it, is
    /// dropped.
    pub unsafe fn new(value: *const T) -> Self {
        Shared(value)
    }

    /// A reference to a part of the instance.
    pub fn part<U>(self, select: impl FnOnce(&T) -> &U) -> Shared<U> {
        Shared(select(&self))
    }
}

/// A reference to something that the instance keeps in an `Arc`: without a count of its own inside
/// a call, with one once it is cloned.
pub struct LentArc<T> {
    value: *const T,
    counted: bool,
}

// SAFETY: it is a reference to, or a count of, an `Arc<T>`.
unsafe impl<T: Send + Sync> Send for LentArc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for LentArc<T> {}

impl<T> LentArc<T> {
    /// With a count of its own.
    pub fn counted(value: Arc<T>) -> Self {
        LentArc { value: Arc::into_raw(value), counted: true }
    }

    /// Without one, for a call of `this`.
    ///
    /// # Safety
    /// The instance keeps the selected `Arc` for its whole life, and what this gives is dropped
    /// with the call.
    pub unsafe fn of<P>(this: Shared<P>, select: impl FnOnce(&P) -> &Arc<T>) -> Self {
        LentArc { value: Arc::as_ptr(select(&this)), counted: false }
    }
}

impl<T> Clone for LentArc<T> {
    fn clone(&self) -> Self {
        // SAFETY: the `Arc` is alive, by the count of `self` or because the instance keeps it
        // during the call.
        unsafe { Arc::increment_strong_count(self.value) };
        LentArc { value: self.value, counted: true }
    }
}

impl<T> Deref for LentArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as in `clone`.
        unsafe { &*self.value }
    }
}

impl<T> Drop for LentArc<T> {
    fn drop(&mut self) {
        if self.counted {
            // SAFETY: gives up the count that this value took.
            unsafe { Arc::decrement_strong_count(self.value) }
        }
    }
}

/// What the first poll of a call needs. It is made where the host's call enters, below a guard.
pub struct FirstPoll<'a> {
    waker: &'a Waker,
    scratch: &'a mut Scratch,
    form: &'a ReplyForm,
}

impl FirstPoll<'_> {
    /// In which form the emitter takes the reply.
    #[inline]
    pub fn form(&self) -> &ReplyForm {
        self.form
    }

    /// Starts a call: makes its future and polls it once, in the host's block if it fits there, and
    /// in a box otherwise.
    #[inline]
    pub fn start<F>(self, make: impl FnOnce() -> F) -> CallStart
    where
        F: Future<Output = CallEnd> + Send + 'static,
    {
        let mut cx = Context::from_waker(self.waker);
        let Some(place) = self.scratch.room_for::<F>() else { return self.start_boxed(make()) };
        // SAFETY: a block has room for an `F` at `place`, and nothing else lies there. The future
        // is not moved from here on, and dropped in place before the block is given back.
        let polled = unsafe {
            place.write(make());
            guarded_again(|| Pin::new_unchecked(&mut *place).poll(&mut cx))
        };
        let end = match polled {
            Ok(Poll::Pending) => {
                self.scratch.keep();
                // SAFETY: the block is kept, and the future in it is pinned and used by nobody
                // else.
                return CallStart::Pending(unsafe { BoundaryFuture::in_block(place) });
            }
            Ok(Poll::Ready(end)) => end,
            Err(message) => CallEnd::Panicked(message),
        };
        discard(DropInPlace(place));
        end.into()
    }

    fn start_boxed<F>(self, future: F) -> CallStart
    where
        F: Future<Output = CallEnd> + Send + 'static,
    {
        let mut cx = Context::from_waker(self.waker);
        let mut future = Box::pin(future);
        let end = match guarded_again(|| future.as_mut().poll(&mut cx)) {
            Ok(Poll::Pending) => return CallStart::Pending(BoundaryFuture::of_plugin_box(future)),
            Ok(Poll::Ready(end)) => end,
            Err(message) => CallEnd::Panicked(message),
        };
        discard(future);
        end.into()
    }
}

/// A library that was entered. It is left again with this, so an instance that is made forgets it:
/// otherwise what the library keeps of the host would outlive an instance that was never made, and
/// pin the library.
struct Visit<P: Exported>(PhantomData<P>);

impl<P: Exported> Drop for Visit<P> {
    fn drop(&mut self) {
        let _ = guarded(P::leave_library);
    }
}

/// The same future; a panic in it is its error.
async fn caught<T>(
    future: impl Future<Output = Result<T, FailureTexts>>,
) -> Result<T, FailureTexts> {
    let mut future = Box::pin(future);
    let result = poll_fn(|cx| match guarded(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled,
        Err(message) => Poll::Ready(Err(panicked(&message))),
    })
    .await;
    discard(future);
    result
}

fn panicked(message: &Buffer) -> FailureTexts {
    ("panicked".to_owned(), format!("it panicked: {}", message.to_text()))
}

/// Starts a call that the host has entered with.
#[inline]
fn entered(
    waker: &Waker,
    scratch: &mut Scratch,
    form: &ReplyForm,
    start: impl FnOnce(FirstPoll<'_>) -> CallStart,
) -> CallStart {
    let started = guarded(|| start(FirstPoll { waker, scratch, form }));
    started.unwrap_or_else(CallStart::Panicked)
}

struct PluginShims<P>(PhantomData<P>);

impl<P: Exported> PluginShims<P> {
    extern "C" fn describe(memory: &'static Memory) -> CallEnd {
        adopt_memory(memory);
        super::signals::library::entered();
        match guarded(P::describe) {
            Ok(Ok(text)) => CallEnd::Reply(text),
            Ok(Err((code, message))) => CallEnd::Failed(super::Failure::new(&code, &message)),
            Err(message) => CallEnd::Panicked(message),
        }
    }

    extern "C" fn log_level_changed() {
        let _ = guarded(P::log_level_changed);
    }

    extern "C" fn create(
        memory: &'static Memory,
        host: HostRef,
        config: RSlice<'_, u8>,
    ) -> BoundaryFuture<CreateEnd> {
        adopt_memory(memory);
        super::signals::library::entered();
        let visit = Visit::<P>(PhantomData);
        let entered = guarded(|| P::enter_library(&host));
        let config = config.to_vec();
        BoundaryFuture::of_plugin(async move {
            // A call into `P::create` may panic before it gives a future, so it stands inside this
            // one.
            let made = match entered {
                Ok(()) => caught(async move { P::create(host, config).await }).await,
                Err(message) => Err(panicked(&message)),
            };
            match made {
                Ok(value) => {
                    std::mem::forget(visit);
                    CreateEnd::Created(InstancePointer(Box::into_raw(Box::new(value)).cast()))
                }
                Err((code, message)) => {
                    drop(visit);
                    CreateEnd::Failed(super::Failure::new(&code, &message))
                }
            }
        })
    }

    unsafe extern "C" fn call(
        instance: *const (),
        handler: u64,
        event: EventHandle,
        waker: *const WakerBase,
        scratch: &mut Scratch,
        form: &ReplyForm,
    ) -> CallStart {
        // SAFETY: the host passes the pointer that `create` gave, of an instance that it has not
        // destroyed, and drops every call before the instance (see `Instance`). `waker` is valid
        // for this call.
        let (this, waker) = unsafe { (Shared::new(instance.cast::<P>()), borrowed(waker)) };
        entered(&waker, scratch, form, |first| {
            // SAFETY: the host passes its own events (see `module::create`).
            unsafe { P::call(this, handler, event, first) }
        })
    }

    unsafe extern "C" fn snapshot(
        instance: *const (),
        version: u32,
        waker: *const WakerBase,
    ) -> CallStart {
        // SAFETY: as in `call`; a snapshot that goes on is a call too.
        let (this, waker) = unsafe { (Shared::new(instance.cast::<P>()), borrowed(waker)) };
        let form = &ReplyForm::Json;
        entered(&waker, &mut Scratch::none(), form, |first| P::snapshot(this, version, first))
    }

    unsafe extern "C" fn restore(
        instance: *const (),
        version: u32,
        state: RSlice<'_, u8>,
        waker: *const WakerBase,
    ) -> CallStart {
        // SAFETY: as in `snapshot`.
        let (this, waker) = unsafe { (Shared::new(instance.cast::<P>()), borrowed(waker)) };
        let state = state.as_slice();
        let form = &ReplyForm::Json;
        entered(&waker, &mut Scratch::none(), form, |first| P::restore(this, version, state, first))
    }

    extern "C" fn read_back(version: u32, state: RSlice<'_, u8>) -> CallEnd {
        match guarded(|| P::read_back(version, state.as_slice())) {
            Ok(Ok(())) => CallEnd::NoReply,
            Ok(Err((code, message))) => CallEnd::Failed(super::Failure::new(&code, &message)),
            Err(message) => CallEnd::Panicked(message),
        }
    }

    unsafe extern "C" fn destroy(instance: *mut ()) {
        // SAFETY: the host passes the pointer that `create` gave, once, and no call is left.
        discard(unsafe { Box::from_raw(instance.cast::<P>()) });
        let _ = guarded(P::leave_library);
    }

    abi_stable::staticref! {
        const MODULE: WithMetadata<PluginModule> = WithMetadata::new(PluginModule {
            describe: Self::describe,
            create: Self::create,
            call: Self::call,
            destroy: Self::destroy,
            snapshot: Self::snapshot,
            restore: Self::restore,
            read_back: Self::read_back,
            before_close: super::unload::before_close,
            bind_signals: super::signals::library::bind,
            log_level_changed: Self::log_level_changed,
        });
    }

    extern "C" fn construct() -> RootModuleResult {
        __call_root_module_loader(|| ModuleRef(Self::MODULE.as_prefix()))
    }
}

/// The module of a plugin that is compiled into this very binary, for tests without a library.
pub fn module<P: Exported>() -> ModuleRef {
    ModuleRef(PluginShims::<P>::MODULE.as_prefix())
}

/// The header of a library that exports `P`; the macro makes it a symbol of the library.
pub const fn header<P: Exported>() -> LibHeader {
    // SAFETY: `construct` gives a `ModuleRef`.
    unsafe {
        LibHeader::from_constructor::<ModuleRef>(PluginShims::<P>::construct, CheckTypeLayout::Yes)
    }
}
