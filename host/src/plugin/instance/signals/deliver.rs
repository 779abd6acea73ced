//! The one handler that the kernel knows: calls the program's own and those of the libraries.
//!
//! It takes no lock, allocates nothing and preserves `errno`. Handlers are called with the signals
//! blocked that they asked for.
//!
//! A signal from outside goes to the program's original handler first and then to every library
//! that has one; only if there is neither does its default action follow. A *fault* (SIGSEGV and
//! the like, also SIGABRT) goes to the handler that was installed last, as it would without a host;
//! what that was told is the handler before it is [`pass_on`], which goes on to the next one and at
//! last to the program's own. A handler of a fault that returns has dealt with it.

#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    mem, ptr,
};

use ksi_abi::signals::SignalAction;

use super::{
    kernel,
    table::{self, Entered, Library},
};

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

const FAULTS: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

thread_local! {
    /// How many handlers of libraries this thread is inside of. More than that, for good, if one of
    /// them was left by a jump.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The order of the handler of each fault that this thread called last; those below it are yet
    /// to be called.
    static REACHED: [Cell<u64>; FAULTS.len()] = const { [const { Cell::new(0) }; FAULTS.len()] };
}

/// Whether the signal means that the thread cannot go on.
pub(super) fn is_fault(signal: c_int) -> bool {
    FAULTS.contains(&signal)
}

/// Whether this thread may be inside a handler of a library.
pub(super) fn is_inside() -> bool {
    DEPTH.get() > 0
}

/// What is installed in the kernel, with these flags, in place of an original action.
pub(super) fn action(flags: c_int, original: &SignalAction) -> SignalAction {
    let mask = if original.is_handler() { original.mask } else { 0 };
    SignalAction { handler: address(deliver), flags: flags | libc::SA_SIGINFO, mask }
}

/// What a library gets for the handler before its own, of a fault.
pub(super) fn passing_on() -> SignalAction {
    SignalAction { handler: address(pass_on), flags: libc::SA_SIGINFO | libc::SA_ONSTACK, mask: 0 }
}

/// Whether the handler is one of these.
pub(super) fn is_own(action: &SignalAction) -> bool {
    action.handler == address(deliver) || action.handler == address(pass_on)
}

fn address(handler: Handler) -> usize {
    handler as *const () as usize
}

extern "C" fn deliver(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: this thread's place for it.
    let errno = unsafe { *libc::__errno_location() };
    match FAULTS.iter().position(|fault| *fault == signal) {
        Some(fault) => REACHED.with(|reached| {
            let outer = reached[fault].replace(u64::MAX);
            pass_on(signal, info, context);
            // `abort` ends the process after its handlers; the program's own may have something to
            // say.
            if signal == libc::SIGABRT && reached[fault].get() > 0 {
                call_original(signal, info, context, true);
            }
            reached[fault].set(outer);
        }),
        None => call_all(signal, info, context),
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn call_all(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    call_each(table::libraries, signal, info, context);
}

/// The default action follows when nobody was there to be called, whatever was wanted a moment ago:
/// libraries come and go meanwhile, and a signal that none of them got is not lost.
pub(super) fn call_each<L: Iterator<Item = &'static Library>>(
    libraries: impl Fn() -> L,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    let original = kernel::original_to_call(signal);
    if original.is_handler() {
        call(&original, signal, info, context);
    }
    let mut is_dealt_with = original.handler != libc::SIG_DFL;
    loop {
        for library in libraries() {
            if let Some(entered) = library.want(signal).enter() {
                is_dealt_with = true;
                call_entered(&entered, signal, info, context);
            }
        }
        // One that came meanwhile may be in a place that was passed by then.
        let is_wanted = || libraries().any(|library| library.want(signal).now().is_some());
        if is_dealt_with || !is_wanted() {
            break;
        }
    }
    if !is_dealt_with && !is_over(signal) {
        default(signal, info);
    }
}

/// Calls the handler of a fault that was installed before the one that this is called from.
extern "C" fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(fault) = FAULTS.iter().position(|fault| *fault == signal) else { return };
    REACHED.with(|reached| {
        loop {
            let wants = table::libraries().filter_map(|library| {
                let want = library.want(signal);
                let (order, action) = want.now()?;
                (action.is_handler() && order < reached[fault].get()).then_some((order, want))
            });
            let Some((order, want)) = wants.max_by_key(|(order, _)| *order) else { break };
            // It may have been taken out, or replaced by a later one.
            if let Some(entered) = want.enter_at(order) {
                reached[fault].set(order);
                call_entered(&entered, signal, info, context);
                return;
            }
        }
        reached[fault].set(0);
        call_original(signal, info, context, false);
    });
}

fn call_entered(
    entered: &Entered<'_>,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    if !entered.action.is_handler() {
        return;
    }
    DEPTH.set(DEPTH.get().saturating_add(1));
    call(&entered.action, signal, info, context);
    DEPTH.set(DEPTH.get().saturating_sub(1));
}

fn call_original(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, is_wanted: bool) {
    let original = kernel::original_to_call(signal);
    match original.handler {
        libc::SIG_IGN => {}
        libc::SIG_DFL if is_wanted => {}
        libc::SIG_DFL if is_over(signal) => {}
        libc::SIG_DFL => default(signal, info),
        _ => call(&original, signal, info, context),
    }
}

/// Whether the program has put something of its own in the place of this handler, which the signal
/// is for then: it called this one because it was there before. With a fault it cannot go on all
/// the same.
fn is_over(signal: c_int) -> bool {
    !is_fault(signal)
        && kernel::installed(signal)
            .is_some_and(|now| now.handler != libc::SIG_DFL && !is_own(&now))
}

/// Calls a handler with those signals blocked that it wants blocked.
fn call(action: &SignalAction, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the handler is the program's, or one of a library that was entered and so is not
    // closed. One that takes the signal alone is called with more than that, which the C calling
    // conventions of these processors allow.
    let handler = unsafe { mem::transmute::<*const (), Handler>(action.handler as *const ()) };
    let deferred = action.flags & libc::SA_NODEFER == 0;
    if action.mask == 0 && deferred {
        return handler(signal, info, context);
    }
    // SAFETY: the sets are made before they are read. All of these functions may be called in a
    // signal handler.
    unsafe {
        let mut before = mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut before);
        let mut wanted = before;
        if !deferred {
            libc::sigdelset(&mut wanted, signal);
        }
        for blocked in table::signals().filter(|other| action.mask & (1 << (other - 1)) != 0) {
            libc::sigaddset(&mut wanted, blocked);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &wanted, ptr::null_mut());
        handler(signal, info, context);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
}

/// Whether the instruction that the processor refused is run again when the handler returns. A trap
/// and a refused system call are behind it then.
fn is_run_again(signal: c_int) -> bool {
    matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE)
}

/// What the kernel does with a signal that nobody handles.
fn default(signal: c_int, info: *mut libc::siginfo_t) {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => return,
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
            // SAFETY: it only stops the process, as the signal would.
            unsafe { libc::raise(libc::SIGSTOP) };
            return;
        }
        _ => {}
    }
    kernel::install(signal, &SignalAction::default());
    // SAFETY: what the kernel passes.
    let again =
        is_run_again(signal) && unsafe { info.as_ref() }.is_some_and(|info| info.si_code > 0);
    if !again {
        // SAFETY: the signal is pending until the handler returns, and ends the process then.
        unsafe { libc::raise(signal) };
    }
}
