//! Wakers over the boundary.
//!
//! A [`RawWaker`] of std carries a table of Rust-ABI functions, which may differ between two
//! compilers. So what crosses is a pointer to a [`WakerBase`]: a table of C functions, then the
//! waker of the side that made it.
//!
//! The host must not keep a waker whose code lies in a plugin as if it were its own (waking it
//! after the library is gone is a crash). Therefore both directions can recognise a waker that
//! merely comes back: `unwrapped` finds the boundary waker inside a std waker, `own` finds this
//! binary's std waker inside a boundary waker.
//!
//! A waker may be an author's own, which panics when it is woken, cloned or dropped. Nobody can be
//! told: the panic goes to the log, and whoever was to be woken is not.

use std::{
    mem::ManuallyDrop,
    ptr,
    task::{RawWaker, RawWakerVTable, Waker},
};

use abi_stable::StableAbi;

use super::panic::contained;

/// The head of a waker that crosses. Behind it lies what `table` knows about.
#[repr(C)]
#[derive(StableAbi)]
pub struct WakerBase {
    table: *const WakerTable,
}

#[repr(C)]
#[derive(StableAbi)]
struct WakerTable {
    clone: unsafe extern "C" fn(*const WakerBase) -> *const WakerBase,
    wake: unsafe extern "C" fn(*const WakerBase),
    wake_by_ref: unsafe extern "C" fn(*const WakerBase),
    drop: unsafe extern "C" fn(*const WakerBase),
}

/// A waker lent to the other side for one poll.
#[repr(C)]
pub struct LentWaker<'a> {
    base: WakerBase,
    waker: &'a Waker,
}

/// A waker that the other side has cloned and owns.
#[repr(C)]
struct Owned {
    base: WakerBase,
    waker: Waker,
}

impl<'a> LentWaker<'a> {
    /// Wraps `waker` for the time of one poll.
    pub fn new(waker: &'a Waker) -> Self {
        LentWaker { base: WakerBase { table: &LENT }, waker }
    }

    /// What is passed over the boundary.
    pub fn as_base(&self) -> *const WakerBase {
        ptr::from_ref(self).cast()
    }
}

/// A clone of `waker` for the other side; if that panics, one that wakes nobody.
fn clone_of(waker: &Waker) -> *const WakerBase {
    owned(contained(|| waker.clone()).unwrap_or_else(|| Waker::noop().clone()))
}

fn owned(waker: Waker) -> *const WakerBase {
    Box::into_raw(Box::new(Owned { base: WakerBase { table: &OWNED }, waker })).cast()
}

static LENT: WakerTable = {
    unsafe extern "C" fn clone(base: *const WakerBase) -> *const WakerBase {
        // SAFETY: this table stands only in a `Lent`, which is alive during the poll that it was
        // made for.
        clone_of(unsafe { &*base.cast::<LentWaker<'_>>() }.waker)
    }
    unsafe extern "C" fn wake_by_ref(base: *const WakerBase) {
        // SAFETY: as in `clone`.
        let lent = unsafe { &*base.cast::<LentWaker<'_>>() };
        contained(|| lent.waker.wake_by_ref());
    }
    /// A lent waker is never owned by the other side, which wraps it in `ManuallyDrop`.
    unsafe extern "C" fn unreachable(_: *const WakerBase) {
        std::process::abort()
    }
    WakerTable { clone, wake: unreachable, wake_by_ref, drop: unreachable }
};

static OWNED: WakerTable = {
    unsafe extern "C" fn clone(base: *const WakerBase) -> *const WakerBase {
        // SAFETY: this table stands only in an `Owned` that has not been dropped yet.
        clone_of(&unsafe { &*base.cast::<Owned>() }.waker)
    }
    unsafe extern "C" fn wake(base: *const WakerBase) {
        // SAFETY: as in `clone`; `wake` consumes, so this is the last use.
        let owned = unsafe { Box::from_raw(base.cast::<Owned>().cast_mut()) };
        contained(|| owned.waker.wake());
    }
    unsafe extern "C" fn wake_by_ref(base: *const WakerBase) {
        // SAFETY: as in `clone`.
        let owned = unsafe { &*base.cast::<Owned>() };
        contained(|| owned.waker.wake_by_ref());
    }
    unsafe extern "C" fn drop(base: *const WakerBase) {
        // SAFETY: as in `wake`.
        let owned = unsafe { Box::from_raw(base.cast::<Owned>().cast_mut()) };
        contained(|| std::mem::drop(owned));
    }
    WakerTable { clone, wake, wake_by_ref, drop }
};

/// std's view of a [`WakerBase`], in the binary that uses the waker. A `static`, because its
/// address tells whether a std waker is one of these.
static STD: RawWakerVTable = {
    unsafe fn clone(data: *const ()) -> RawWaker {
        let base = data.cast::<WakerBase>();
        // SAFETY: the data of a waker with this table is a live `WakerBase`.
        RawWaker::new(unsafe { ((*(*base).table).clone)(base) }.cast(), &STD)
    }
    unsafe fn wake(data: *const ()) {
        let base = data.cast::<WakerBase>();
        // SAFETY: as in `clone`.
        unsafe { ((*(*base).table).wake)(base) }
    }
    unsafe fn wake_by_ref(data: *const ()) {
        let base = data.cast::<WakerBase>();
        // SAFETY: as in `clone`.
        unsafe { ((*(*base).table).wake_by_ref)(base) }
    }
    unsafe fn drop(data: *const ()) {
        let base = data.cast::<WakerBase>();
        // SAFETY: as in `clone`.
        unsafe { ((*(*base).table).drop)(base) }
    }
    RawWakerVTable::new(clone, wake, wake_by_ref, drop)
};

/// A std waker for the time of one poll. It may be cloned, and must not be dropped.
///
/// # Safety
/// `base` stays valid as long as what is returned is used.
pub(super) unsafe fn borrowed(base: *const WakerBase) -> ManuallyDrop<Waker> {
    // SAFETY: `STD` fulfils the contract of a waker table for every valid `WakerBase`.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(base.cast(), &STD)) })
}

/// A std waker that owns a clone of `base`.
///
/// # Safety
/// `base` is valid during the call.
pub(super) unsafe fn cloned(base: *const WakerBase) -> Waker {
    // SAFETY: `base` is valid, and `clone` gives a `WakerBase` that the new waker owns.
    unsafe { Waker::from_raw(RawWaker::new(((*(*base).table).clone)(base).cast(), &STD)) }
}

/// The boundary waker inside `waker`, if `waker` is nothing but one: then no second layer is needed
/// to pass it back.
pub(super) fn unwrapped(waker: &Waker) -> Option<*const WakerBase> {
    ptr::eq(waker.vtable(), &STD).then(|| waker.data().cast())
}

/// The std waker of this very binary inside `base`, if this binary made it.
///
/// # Safety
/// `base` stays valid as long as what is returned is used.
pub(super) unsafe fn own<'a>(base: *const WakerBase) -> Option<&'a Waker> {
    // SAFETY: `base` is valid, and the two tables of this binary stand only in a `Lent` and an
    // `Owned`.
    unsafe {
        let table = (*base).table;
        if ptr::eq(table, &LENT) {
            Some((*base.cast::<LentWaker<'_>>()).waker)
        } else if ptr::eq(table, &OWNED) {
            Some(&(*base.cast::<Owned>()).waker)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waker_that_comes_back_is_recognised_as_our_own() {
        let count = Arc::new(Count::default());
        let ours = Waker::from(count.clone());
        let lent = LentWaker::new(&ours);
        // SAFETY: `lent` outlives each use.
        let theirs = unsafe { borrowed(lent.as_base()) };
        let kept = Waker::clone(&theirs);
        let back = unwrapped(&kept).expect("a wrapped waker");
        // SAFETY: `kept` is alive.
        let again = unsafe { own(back) }.expect("made by this binary").clone();
        assert!(again.will_wake(&ours));
        kept.wake_by_ref();
        kept.wake();
        again.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
        drop(ours);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    struct Bomb;

    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("in wake");
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    #[test]
    fn a_waker_that_panics_does_so_for_nobody_on_the_other_side() {
        let lent = |waker: Waker, use_it: fn(Waker)| {
            let lent = LentWaker::new(&waker);
            // SAFETY: `lent` outlives each use.
            let theirs = unsafe { borrowed(lent.as_base()) };
            theirs.wake_by_ref();
            use_it(Waker::clone(&theirs));
            // The last reference is dropped on the other side.
            let last = Waker::clone(&theirs);
            std::mem::drop(waker);
            std::mem::drop(last);
        };
        lent(Waker::from(Arc::new(Bomb)), Waker::wake);
        lent(Waker::from(Arc::new(Bomb)), |waker| waker.wake_by_ref());
    }

    #[test]
    fn a_waker_of_somebody_else_is_not_taken_for_a_wrapped_one() {
        assert!(unwrapped(Waker::noop()).is_none());
    }
}
