//! A future that one side made and the other polls.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use abi_stable::StableAbi;

use super::{
    Buffer,
    memory::{Memory, SMALL, memory},
    panic::{discard, guarded},
    scratch,
    waker::{self, LentWaker, WakerBase},
};

/// What one poll gave.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum BoundaryPoll<T> {
    /// The result. The future is not polled again.
    Ready(T),
    /// Not yet.
    Pending,
    /// It panicked with this message. The future is not polled again.
    Panicked(Buffer),
}

/// A boxed future behind C functions of the side that made it. Its drop runs that side's code. It
/// is one pointer, so that whatever may be one crosses in registers.
#[repr(transparent)]
#[derive(StableAbi)]
#[sabi(unsafe_opaque_fields, phantom_field(block: Parts<T>))]
pub struct BoundaryFuture<T>(*mut Parts<T>);

/// In a block of the host's memory.
#[repr(C)]
#[derive(StableAbi)]
struct Parts<T> {
    memory: &'static Memory,
    data: *mut (),
    poll: unsafe extern "C" fn(*mut (), *const WakerBase) -> BoundaryPoll<T>,
    drop: unsafe extern "C" fn(*mut ()),
    result: PhantomData<extern "C" fn() -> T>,
}

// SAFETY: made from `Send` futures only.
unsafe impl<T> Send for BoundaryFuture<T> {}

impl<T> BoundaryFuture<T> {
    /// A future of a plugin, for the host. Its own wakers go to the host as they are.
    pub fn of_plugin<F: Future<Output = T> + Send + 'static>(future: F) -> Self {
        Self::of_plugin_box(Box::pin(future))
    }

    /// The same for a future that is boxed already, perhaps polled already.
    pub fn of_plugin_box<F: Future<Output = T> + Send + 'static>(future: Pin<Box<F>>) -> Self {
        Self::assemble(future, poll_plugin::<F>)
    }

    /// A future of the host, for a plugin. A waker that is not the host's own goes through `adopt`,
    /// because the host may keep it longer than the plugin's library lives.
    pub fn of_host<F, A>(future: F, adopt: A) -> Self
    where
        F: Future<Output = T> + Send + 'static,
        A: Fn(Waker) -> Waker + Send + 'static,
    {
        unsafe extern "C" fn poll<F: Future, A: Fn(Waker) -> Waker>(
            data: *mut (),
            base: *const WakerBase,
        ) -> BoundaryPoll<F::Output> {
            // SAFETY: `data` is the pinned `HostFuture` of `of_host`, polled by one thread at a
            // time. The future in it is never moved. `base` is valid for this call.
            let (future, adopt, own) = unsafe {
                let whole = &mut *data.cast::<HostFuture<F, A>>();
                (Pin::new_unchecked(&mut whole.future), &whole.adopt, waker::own(base))
            };
            finished(guarded(|| match own {
                Some(own) => future.poll(&mut Context::from_waker(own)),
                None => {
                    // SAFETY: `base` is valid for this call.
                    let adopted = adopt(unsafe { waker::cloned(base) });
                    future.poll(&mut Context::from_waker(&adopted))
                }
            }))
        }
        Self::assemble(Box::pin(HostFuture { future, adopt }), poll::<F, A>)
    }

    /// A future of a plugin that lies in a block of the host's memory, polled already.
    ///
    /// # Safety
    /// `data` is the start of a block of [`scratch`], and a pinned `F` lies there that nobody else
    /// uses.
    pub(super) unsafe fn in_block<F: Future<Output = T> + Send + 'static>(data: *mut F) -> Self {
        unsafe extern "C" fn drop<F>(data: *mut ()) {
            // SAFETY: promised by the caller of `in_block`; dropped once, in place, before the
            // block is freed.
            unsafe {
                discard(DropInPlace(data.cast::<F>()));
                scratch::free(data.cast());
            }
        }
        Self::of_parts(data.cast(), poll_plugin::<F>, drop::<F>)
    }

    fn assemble<B: Send + 'static>(
        body: Pin<Box<B>>,
        poll: unsafe extern "C" fn(*mut (), *const WakerBase) -> BoundaryPoll<T>,
    ) -> Self {
        unsafe extern "C" fn drop<B>(data: *mut ()) {
            // SAFETY: `data` came from the box in `assemble` and is dropped once, in place.
            discard(unsafe { Box::from_raw(data.cast::<B>()) })
        }
        // SAFETY: what is pinned is neither moved nor freed before `drop`.
        let data = Box::into_raw(unsafe { Pin::into_inner_unchecked(body) });
        Self::of_parts(data.cast(), poll, drop::<B>)
    }

    fn of_parts(
        data: *mut (),
        poll: unsafe extern "C" fn(*mut (), *const WakerBase) -> BoundaryPoll<T>,
        drop: unsafe extern "C" fn(*mut ()),
    ) -> Self {
        let memory = memory();
        let parts = memory.block(SMALL).cast::<Parts<T>>();
        // SAFETY: a small block has room for the parts, and is aligned for them.
        unsafe { parts.write(Parts { memory, data, poll, drop, result: PhantomData }) };
        BoundaryFuture(parts)
    }
}

unsafe extern "C" fn poll_plugin<F: Future>(
    data: *mut (),
    base: *const WakerBase,
) -> BoundaryPoll<F::Output> {
    // SAFETY: `data` is a pinned future of a plugin, polled by one thread at a time; `base` is
    // valid for this call.
    let (future, waker) =
        unsafe { (Pin::new_unchecked(&mut *data.cast::<F>()), waker::borrowed(base)) };
    finished(guarded(|| future.poll(&mut Context::from_waker(&waker))))
}

/// Drops what lies there, with itself.
pub(super) struct DropInPlace<T>(pub(super) *mut T);

impl<T> Drop for DropInPlace<T> {
    fn drop(&mut self) {
        // SAFETY: whoever made it owns what lies there and does not use it again.
        unsafe { self.0.drop_in_place() }
    }
}

struct HostFuture<F, A> {
    future: F,
    adopt: A,
}

fn finished<T>(polled: Result<Poll<T>, Buffer>) -> BoundaryPoll<T> {
    match polled {
        Ok(Poll::Ready(value)) => BoundaryPoll::Ready(value),
        Ok(Poll::Pending) => BoundaryPoll::Pending,
        Err(message) => BoundaryPoll::Panicked(message),
    }
}

impl<T> Future for BoundaryFuture<T> {
    /// The result, or the message of a panic.
    type Output = Result<T, Buffer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lent = LentWaker::new(cx.waker());
        let base = waker::unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        // SAFETY: the parts are there as long as `self`; `data` belongs to `poll`, `&mut self`
        // makes this the only poll, and `base` lives until it returns.
        match unsafe { ((*self.0).poll)((*self.0).data, base) } {
            BoundaryPoll::Ready(value) => Poll::Ready(Ok(value)),
            BoundaryPoll::Pending => Poll::Pending,
            BoundaryPoll::Panicked(message) => Poll::Ready(Err(message)),
        }
    }
}

impl<T> Drop for BoundaryFuture<T> {
    fn drop(&mut self) {
        // SAFETY: `data` belongs to `drop`, and neither it nor the parts are used again. The block
        // came from this memory.
        unsafe {
            let Parts { memory, data, drop, .. } = self.0.read();
            drop(data);
            memory.free(self.0.cast(), SMALL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;
    use crate::module::check_layouts;

    /// The future of a build whose blocks hold these parts.
    macro_rules! future_of_build {
        ($build:ident: $($fields:tt)*) => {
            #[allow(dead_code, unreachable_pub)]
            mod $build {
                use super::*;

                #[repr(transparent)]
                #[derive(StableAbi)]
                #[sabi(unsafe_opaque_fields, phantom_field(block: Parts<T>))]
                pub struct BoundaryFuture<T>(*mut Parts<T>);

                #[repr(C)]
                #[derive(StableAbi)]
                struct Parts<T> {
                    $($fields)*
                }
            }
        };
    }
    future_of_build! {
        same:
        memory: &'static Memory,
        data: *mut (),
        poll: unsafe extern "C" fn(*mut (), *const WakerBase) -> BoundaryPoll<T>,
        drop: unsafe extern "C" fn(*mut ()),
        result: PhantomData<extern "C" fn() -> T>,
    }
    future_of_build! {
        other:
        memory: &'static Memory,
        data: *mut (),
        drop: unsafe extern "C" fn(*mut ()),
        poll: unsafe extern "C" fn(*mut (), *const WakerBase) -> BoundaryPoll<T>,
        result: PhantomData<extern "C" fn() -> T>,
    }

    #[test]
    fn a_build_with_other_parts_is_refused() {
        let ours = BoundaryFuture::<u64>::LAYOUT;
        assert_eq!(check_layouts(ours, same::BoundaryFuture::<u64>::LAYOUT), Ok(()));
        assert!(check_layouts(ours, other::BoundaryFuture::<u64>::LAYOUT).is_err());
    }

    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_result_crosses_in_both_directions() {
        assert!(matches!(poll_once(BoundaryFuture::of_plugin(ready(7u64))), Poll::Ready(Ok(7))));
        let of_host = BoundaryFuture::of_host(ready(8u64), |waker| waker);
        assert!(matches!(poll_once(of_host), Poll::Ready(Ok(8))));
        assert!(poll_once(BoundaryFuture::of_plugin(pending::<u8>())).is_pending());
    }

    #[test]
    fn a_panic_crosses_as_a_message() {
        let panics = BoundaryFuture::of_plugin(poll_fn(|_| -> Poll<u8> { panic!("over there") }));
        match poll_once(panics) {
            Poll::Ready(Err(message)) => assert!(message.to_text().contains("over there")),
            _ => panic!("expected a message"),
        }
    }

    #[test]
    fn only_a_waker_that_is_not_the_hosts_own_is_adopted() {
        let adopted = Arc::new(AtomicUsize::new(0));
        let counted = || {
            let adopted = adopted.clone();
            move |waker: Waker| {
                adopted.fetch_add(1, Ordering::SeqCst);
                waker
            }
        };
        // The way of a nested call: host polls plugin, plugin polls host. Here both lie in one
        // binary, so every waker is our own.
        let inner = BoundaryFuture::of_host(pending::<u8>(), counted());
        let outer = BoundaryFuture::of_plugin(inner);
        assert!(poll_once(outer).is_pending());
        assert_eq!(adopted.load(Ordering::SeqCst), 0);
    }
}
