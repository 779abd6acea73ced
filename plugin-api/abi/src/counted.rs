//! A counted pointer for events.
//!
//! Most events are let go by the only one who has them, and there are millions a second. So this is
//! an [`Arc`] without weak references: the last owner sees that it is the last by a plain read,
//! where an `Arc` takes two locked instructions. And it allocates before it makes the value, which
//! then is made where it stays.
//!
//! [`Arc`]: std::sync::Arc

use std::{
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    process::abort,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

/// A value that is owned by as many as there are of these.
pub struct Counted<T>(NonNull<Inner<T>>, PhantomData<Inner<T>>);

#[repr(C)]
struct Inner<T> {
    value: T,
    owners: AtomicUsize,
}

// SAFETY: owners on any thread share the value, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    /// A value with one owner.
    pub fn new(value: T) -> Self {
        Self::made(|| value)
    }

    /// The same for a value that is made in its place.
    #[inline]
    pub fn made(make: impl FnOnce() -> T) -> Self {
        let inner: *mut MaybeUninit<Inner<T>> = Box::into_raw(Box::new_uninit());
        let inner = inner.cast::<Inner<T>>();
        // SAFETY: the box is large enough, aligned, and nobody else's. If `make` unwinds, its
        // memory is lost and nothing else.
        unsafe {
            (&raw mut (*inner).value).write(make());
            (&raw mut (*inner).owners).write(AtomicUsize::new(1));
            Counted(NonNull::new_unchecked(inner), PhantomData)
        }
    }

    /// Its pointer, which keeps the owner's count.
    pub(super) fn into_raw(this: Self) -> *const () {
        let raw = this.0.as_ptr().cast_const().cast();
        std::mem::forget(this);
        raw
    }

    /// # Safety
    /// `raw` came from [`into_raw`](Self::into_raw) of the same `T`, and its count has not been
    /// given up.
    pub(super) unsafe fn from_raw(raw: *const ()) -> Self {
        // SAFETY: `into_raw` gives no null pointer.
        let inner = unsafe { NonNull::new_unchecked(raw.cast::<Inner<T>>().cast_mut()) };
        Counted(inner, PhantomData)
    }

    /// The value behind such a pointer.
    ///
    /// # Safety
    /// As in [`from_raw`](Self::from_raw), and the count is not given up during `'a`.
    #[inline]
    pub(super) unsafe fn behind<'a>(raw: *const ()) -> &'a T {
        // SAFETY: promised by the caller.
        unsafe { &(*raw.cast::<Inner<T>>()).value }
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: an owner keeps it.
        unsafe { self.0.as_ref() }
    }

    /// The value is dropped by its last owner.
    #[inline(never)]
    fn end(inner: NonNull<Inner<T>>) {
        // SAFETY: it came from a box in `made`, and the last owner calls this once.
        drop(unsafe { Box::from_raw(inner.as_ptr()) });
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Clone for Counted<T> {
    #[inline]
    fn clone(&self) -> Self {
        // As in std: nobody can have so many without leaking them.
        if self.inner().owners.fetch_add(1, Relaxed) > isize::MAX as usize {
            abort();
        }
        Counted(self.0, PhantomData)
    }
}

impl<T> Drop for Counted<T> {
    #[inline]
    fn drop(&mut self) {
        let owners = &self.inner().owners;
        // Who is the only owner stays it: nobody else is there to clone. `Acquire` sees what former
        // owners did before they gave up theirs.
        if owners.load(Acquire) != 1 {
            if owners.fetch_sub(1, Release) != 1 {
                return;
            }
            fence(Acquire);
        }
        Self::end(self.0);
    }
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Counted<T> {
    /// Whether both are owners of one value.
    pub fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self.0.as_ptr(), other.0.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    #[test]
    fn a_value_is_dropped_by_its_last_owner_once() {
        let value = Arc::new(7);
        let first = Counted::new(value.clone());
        let second = first.clone();
        assert!(first.is_same(&second) && !first.is_same(&Counted::new(value.clone())));
        drop(first);
        assert_eq!((**second, Arc::strong_count(&value)), (7, 2));
        drop(second);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_pointer_keeps_its_count() {
        let value = Arc::new(7);
        let raw = Counted::into_raw(Counted::new(value.clone()));
        // SAFETY: the pointer came from `into_raw`, and its count is given up once, at the end.
        unsafe {
            assert_eq!(**Counted::<Arc<i32>>::behind(raw), 7);
            drop(Counted::<Arc<i32>>::from_raw(raw));
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn what_owners_did_on_other_threads_is_seen_by_the_last() {
        struct Seen(Arc<AtomicUsize>, AtomicUsize);
        impl Drop for Seen {
            fn drop(&mut self) {
                self.0.fetch_add(*self.1.get_mut(), Relaxed);
            }
        }
        for _ in 0..200 {
            let sum = Arc::new(AtomicUsize::new(0));
            let counted = Counted::new(Seen(sum.clone(), AtomicUsize::new(0)));
            let start = Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..3 {
                    let (mine, start) = (counted.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        drop(mine.clone());
                        (*mine).1.fetch_add(1, Relaxed);
                    });
                }
                drop(counted);
            });
            assert_eq!(sum.load(Relaxed), 3);
        }
    }
}
