//! Functions of a library that the C library calls later, and would still call after the library is
//! closed.
//!
//! Those of `atexit`, `at_quick_exit` and `pthread_atfork` belong to the library that registers
//! them: the C library calls or forgets them when it is closed. Those counted here do not.

use std::{
    ffi::c_void,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Relaxed},
    },
};

use super::Original;

type AtExit = unsafe extern "C" fn(libc::c_int, *mut c_void);
type OnExit = unsafe extern "C" fn(AtExit, *mut c_void) -> libc::c_int;
type TimerCreate =
    unsafe extern "C" fn(libc::clockid_t, *mut libc::sigevent, *mut libc::timer_t) -> libc::c_int;
type TimerDelete = unsafe extern "C" fn(libc::timer_t) -> libc::c_int;

pub(super) static ON_EXIT: Original = Original::new(c"on_exit");
pub(super) static TIMER_CREATE: Original = Original::new(c"timer_create");
pub(super) static TIMER_DELETE: Original = Original::new(c"timer_delete");

/// How many functions were registered with `on_exit`. There is no way to take one back.
static EXIT_FUNCTIONS: AtomicU64 = AtomicU64::new(0);
/// The timers that call a function, each one more than its number, so that 0 stands for none.
static TIMERS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

/// The library's own `on_exit`.
///
/// # Safety
/// As for the function of glibc.
pub unsafe extern "C" fn on_exit(function: AtExit, argument: *mut c_void) -> libc::c_int {
    let Some(found) = ON_EXIT.find() else { return -1 };
    // SAFETY: the type is that of glibc's function.
    let result = unsafe { std::mem::transmute::<*mut c_void, OnExit>(found)(function, argument) };
    if result == 0 {
        EXIT_FUNCTIONS.fetch_add(1, Relaxed);
    }
    result
}

/// The library's own `timer_create`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn timer_create(
    clock: libc::clockid_t,
    event: *mut libc::sigevent,
    timer: *mut libc::timer_t,
) -> libc::c_int {
    let Some(found) = TIMER_CREATE.find() else { return -1 };
    // SAFETY: the type is that of the function, and the arguments are the caller's.
    let (result, calls) = unsafe {
        let create = std::mem::transmute::<*mut c_void, TimerCreate>(found);
        let calls = !event.is_null() && (*event).sigev_notify == libc::SIGEV_THREAD;
        (create(clock, event, timer), calls)
    };
    if result != 0 || !calls {
        return result;
    }
    // SAFETY: the function has written it.
    let given = unsafe { *timer };
    if change(0, numbered(given)) {
        return 0;
    }
    // A timer that is not noted would call into a library that is gone.
    // SAFETY: given just now, and nobody knows it yet.
    unsafe {
        timer_delete(given);
        *libc::__errno_location() = libc::EAGAIN;
    }
    -1
}

/// The library's own `timer_delete`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn timer_delete(timer: libc::timer_t) -> libc::c_int {
    let Some(found) = TIMER_DELETE.find() else { return -1 };
    // SAFETY: the type is that of the function.
    let result = unsafe { std::mem::transmute::<*mut c_void, TimerDelete>(found)(timer) };
    if result == 0 {
        change(numbered(timer), 0);
    }
    result
}

fn numbered(timer: libc::timer_t) -> usize {
    (timer as usize).wrapping_add(1)
}

fn change(from: usize, to: usize) -> bool {
    TIMERS.iter().any(|place| place.compare_exchange(from, to, AcqRel, Relaxed).is_ok())
}

/// How many functions were registered with `on_exit`.
pub(super) fn exit_functions() -> u64 {
    EXIT_FUNCTIONS.load(Relaxed)
}

/// How many timers call a function.
pub(super) fn timers() -> u64 {
    TIMERS.iter().filter(|timer| timer.load(Relaxed) != 0).count() as u64
}
