//! Tells ThreadSanitizer what it cannot see in a standard library that was built without it.
//!
//! Most of std's locks is generic or inlined, so it is compiled into the crates that use them, and
//! ThreadSanitizer sees it. What is not: the slow paths, which wait in the kernel, and the order
//! that a fence makes. Here is a function around each of them, which says what it orders, and
//! around epoll, which is asked through a copy of its descriptor.
//!
//! `tests/sanitizers.sh` links this into every executable and library, and has the linker take
//! these functions instead (`--wrap`). The names of std's differ from compiler to compiler; it
//! passes them in the environment.
//!
//! What no lock orders is found, be there a slow path or not. One thing is taken as stronger than
//! it is: a `fetch_sub` with `Release` that comes to zero, as if the fence that belongs behind it
//! were there. One kind of report is suppressed: on what std keeps of a thread, see
//! `__tsan_default_suppressions`.
#![no_std]

use core::{
    ffi::{c_char, c_int, c_void},
    ptr::from_ref,
    slice,
};

type Lock = *const c_void;
/// What a `Once` runs; it is passed on what std passes it.
type Run<'a> = &'a mut dyn FnMut(&c_void);

unsafe extern "C" {
    fn __tsan_acquire(address: Lock);
    fn __tsan_release(address: Lock);

    #[link_name = concat!("__real_", env!("MUTEX_LOCK"))]
    fn mutex_lock(mutex: Lock);
    #[link_name = concat!("__real_", env!("RWLOCK_READ"))]
    fn rwlock_read(lock: Lock);
    #[link_name = concat!("__real_", env!("RWLOCK_WRITE"))]
    fn rwlock_write(lock: Lock);
    #[link_name = concat!("__real_", env!("CONDVAR_WAIT"))]
    fn condvar_wait(condvar: Lock, mutex: Lock);
    #[link_name = concat!("__real_", env!("CONDVAR_WAIT_TIMEOUT"))]
    fn condvar_wait_timeout(condvar: Lock, mutex: Lock, secs: u64, nanos: u32) -> bool;
    #[link_name = concat!("__real_", env!("BARRIER_WAIT"))]
    fn barrier_wait(barrier: Lock) -> bool;
    #[link_name = "__real___tsan_atomic64_fetch_sub"]
    fn fetch_sub(number: *mut u64, less: u64, order: c_int) -> u64;
    #[link_name = "__real_epoll_ctl"]
    fn epoll_ctl(epoll: c_int, what: c_int, of: c_int, event: *const Event) -> c_int;
    #[link_name = "__real_epoll_wait"]
    fn epoll_wait(epoll: c_int, events: *const Event, room: c_int, millis: c_int) -> c_int;
}

unsafe extern "Rust" {
    /// The last argument is what a function with `#[track_caller]` gets behind its own.
    #[link_name = concat!("__real_", env!("ONCE_CALL"))]
    fn once_call(once: Lock, poisoned: bool, run: Run<'_>, caller: Lock);
}

/// Locks a mutex that somebody else has.
#[unsafe(export_name = concat!("__wrap_", env!("MUTEX_LOCK")))]
unsafe extern "C" fn wrap_mutex_lock(mutex: Lock) {
    unsafe {
        mutex_lock(mutex);
        __tsan_acquire(mutex);
    }
}

#[unsafe(export_name = concat!("__wrap_", env!("RWLOCK_READ")))]
unsafe extern "C" fn wrap_rwlock_read(lock: Lock) {
    unsafe {
        rwlock_read(lock);
        __tsan_acquire(lock);
    }
}

#[unsafe(export_name = concat!("__wrap_", env!("RWLOCK_WRITE")))]
unsafe extern "C" fn wrap_rwlock_write(lock: Lock) {
    unsafe {
        rwlock_write(lock);
        __tsan_acquire(lock);
    }
}

/// Unlocks the mutex, waits, and locks it again.
#[unsafe(export_name = concat!("__wrap_", env!("CONDVAR_WAIT")))]
unsafe extern "C" fn wrap_condvar_wait(condvar: Lock, mutex: Lock) {
    unsafe {
        __tsan_release(mutex);
        condvar_wait(condvar, mutex);
        __tsan_acquire(mutex);
    }
}

#[unsafe(export_name = concat!("__wrap_", env!("CONDVAR_WAIT_TIMEOUT")))]
unsafe extern "C" fn wrap_condvar_wait_timeout(
    condvar: Lock,
    mutex: Lock,
    secs: u64,
    nanos: u32,
) -> bool {
    unsafe {
        __tsan_release(mutex);
        let notified = condvar_wait_timeout(condvar, mutex, secs, nanos);
        __tsan_acquire(mutex);
        notified
    }
}

#[unsafe(export_name = concat!("__wrap_", env!("BARRIER_WAIT")))]
unsafe extern "C" fn wrap_barrier_wait(barrier: Lock) -> bool {
    unsafe {
        __tsan_release(barrier);
        let leader = barrier_wait(barrier);
        __tsan_acquire(barrier);
        leader
    }
}

/// What is run comes before everybody who sees that it is done: those who wait here, and those who
/// read the state, which ThreadSanitizer sees. It may panic.
#[unsafe(export_name = concat!("__wrap_", env!("ONCE_CALL")))]
unsafe fn wrap_once_call(once: Lock, poisoned: bool, run: Run<'_>, caller: Lock) {
    let mut run = |state: &c_void| {
        run(state);
        unsafe { __tsan_release(once) };
    };
    unsafe {
        once_call(once, poisoned, &mut run, caller);
        __tsan_acquire(once);
    }
}

/// `Arc` and all that is made like it count down with `Release`, and whoever comes to zero has a
/// fence before it drops the value. ThreadSanitizer knows no fences. Only who comes to zero gets an
/// order: all others go on with none, as they do without this.
#[unsafe(export_name = "__wrap___tsan_atomic64_fetch_sub")]
unsafe extern "C" fn wrap_fetch_sub(number: *mut u64, less: u64, order: c_int) -> u64 {
    const RELEASE: c_int = 3;
    unsafe {
        let before = fetch_sub(number, less, order);
        if order == RELEASE && before == less {
            // The place is a name here: nothing is read of it.
            __tsan_acquire(number.cast_const().cast());
        }
        before
    }
}

/// A thread and whoever started it own what std keeps of it (its name, its number) together. The
/// thread's half is given up in std, unseen, so whoever is the last of both seems to race with the
/// other. It happens where a `JoinHandle` is dropped.
///
/// The frames of this name touch nothing but that.
#[unsafe(no_mangle)]
extern "C" fn __tsan_default_suppressions() -> *const c_char {
    c"race:std::thread::thread::Inner".as_ptr()
}

/// What epoll is told with a descriptor, and tells when there is something to it.
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
struct Event {
    kinds: u32,
    mark: u64,
}

/// A place for what came before epoll was told a mark; marks are addresses or small numbers, and
/// few share a place.
fn place(mark: u64) -> Lock {
    static PLACES: [u64; 1 << 12] = [0; 1 << 12];
    from_ref(&PLACES[((mark ^ mark >> 6 ^ mark >> 18) % (1 << 12)) as usize]).cast()
}

/// ThreadSanitizer has what comes before this come before `epoll_wait` on the same descriptor. mio
/// asks on one, and waits on a copy that `fcntl` has made of it, which is not seen.
#[unsafe(export_name = "__wrap_epoll_ctl")]
unsafe extern "C" fn wrap_epoll_ctl(
    epoll: c_int,
    what: c_int,
    of: c_int,
    event: *const Event,
) -> c_int {
    unsafe {
        if !event.is_null() {
            __tsan_release(place((*event).mark));
        }
        epoll_ctl(epoll, what, of, event)
    }
}

#[unsafe(export_name = "__wrap_epoll_wait")]
unsafe extern "C" fn wrap_epoll_wait(
    epoll: c_int,
    events: *const Event,
    room: c_int,
    millis: c_int,
) -> c_int {
    unsafe {
        let count = epoll_wait(epoll, events, room, millis);
        if count > 0 {
            for event in slice::from_raw_parts(events, count as usize) {
                __tsan_acquire(place(event.mark));
            }
        }
        count
    }
}
