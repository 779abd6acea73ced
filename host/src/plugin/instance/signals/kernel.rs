//! The process's actions for signals: which one is installed, and which was there before the first
//! library wanted one.
//!
//! As long as a library has a handler for a signal, [`deliver`](super::deliver) is installed for
//! it; if libraries only want it ignored and the program has no handler, that; otherwise what was
//! there before.

#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    mem, ptr,
    sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst},
};

use ksi_abi::signals::SignalAction;

use super::{
    deliver,
    table::{self, SavedAction},
};

/// What is known of one signal.
struct SignalState {
    /// The action before the first library's, while another one is installed.
    original: SavedAction,
    /// What is installed is this host's.
    taken: AtomicBool,
}

/// A flag between the C library and the kernel.
const RESTORER: c_int = 0x0400_0000;

static STATES: [SignalState; 65] =
    [const { SignalState { original: SavedAction::none(), taken: AtomicBool::new(false) } }; 65];
static TURN: AtomicBool = AtomicBool::new(false);
/// The process that these are the actions of. One that was forked off has its own.
static PROCESS: AtomicI32 = AtomicI32::new(0);

pub(super) fn remember_process() {
    // SAFETY: it only gives a number.
    PROCESS.store(unsafe { libc::getpid() }, SeqCst);
}

/// Whether this process was forked off the host.
pub(super) fn is_forked() -> bool {
    // SAFETY: as above. It is one of the functions that may be called in a signal handler.
    PROCESS.load(SeqCst) != unsafe { libc::getpid() }
}

/// The right to change actions. All signals are blocked on its thread, so that no handler of a
/// signal ever waits for what it interrupts; thus it can be taken inside one.
pub(super) struct TableLock(libc::sigset_t);

impl TableLock {
    pub(super) fn take() -> Self {
        // SAFETY: the sets are written before they are read; a set of zeroes is one.
        unsafe {
            let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            while TURN.swap(true, SeqCst) {
                libc::sched_yield();
            }
            TableLock(before)
        }
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        TURN.store(false, SeqCst);
        // SAFETY: the set is the one that was given.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// What the program itself does at a signal.
pub(super) fn original(signal: c_int) -> SignalAction {
    let state = &STATES[signal as usize];
    match state.taken.load(SeqCst) {
        true => state.original.read().map(|(_, action)| action).unwrap_or_default(),
        // Installed before, in this moment or by somebody else: then it is not what is called here.
        false => installed(signal).filter(|action| !deliver::is_own(action)).unwrap_or_default(),
    }
}

/// The same, to be called now: a handler that is called once is given out once.
pub(super) fn original_to_call(signal: c_int) -> SignalAction {
    let kept = &STATES[signal as usize].original;
    loop {
        let Some((order, action)) = kept.read() else { return SignalAction::default() };
        let once = action.is_handler() && action.flags & libc::SA_RESETHAND != 0;
        if !once || kept.use_up(order) {
            return action;
        }
    }
}

/// Installs for a signal what follows from what libraries want. Whether what is wanted reaches the
/// libraries: somebody in the program may have installed a handler over this host's.
pub(super) fn settle(_turn: &TableLock, signal: c_int) {
    settle_over(signal, None);
}

/// The same for a library that has installed `own` over `before` by itself.
pub(super) fn settle_adopted(
    _turn: &TableLock,
    signal: c_int,
    own: &SignalAction,
    before: &SignalAction,
) {
    settle_over(signal, Some((own, before)));
}

fn settle_over(signal: c_int, adopted: Option<(&SignalAction, &SignalAction)>) {
    let state = &STATES[signal as usize];
    let Some(mut now) = installed(signal) else { return };
    if let Some((own, before)) = adopted
        && own.handler == now.handler
    {
        now = *before;
    } else if adopted.is_none() && state.taken.load(SeqCst) && is_of_others(&now) {
        // Installed since by the program, which will call this host's if it calls the one before
        // its own.
        return;
    }
    // This host's handler may be there although it was taken out: somebody put back what he had
    // found there.
    if !state.taken.load(SeqCst) && !deliver::is_own(&now) {
        state.original.write(&now);
    }
    let original = state.original.read().map(|(_, action)| action).unwrap_or_default();
    let wanted = wanted(signal, &original);
    state.taken.store(wanted.is_some(), SeqCst);
    let installed = wanted.unwrap_or(original);
    if adopted.is_some() || installed != now {
        install(signal, &installed);
    }
}

fn is_of_others(action: &SignalAction) -> bool {
    action.is_handler() && !deliver::is_own(action)
}

/// What is to be installed in place of the original action, if something is.
fn wanted(signal: c_int, original: &SignalAction) -> Option<SignalAction> {
    let wants = table::libraries().filter_map(|library| library.want(signal).now());
    let (mut handled, mut ignored) = (false, false);
    let mut common = libc::SA_RESTART | libc::SA_NOCLDSTOP;
    let mut any = 0;
    for (_, action) in wants {
        handled |= action.is_handler();
        ignored |= !action.is_handler();
        if action.is_handler() {
            common &= action.flags;
            any |= action.flags & libc::SA_ONSTACK;
        }
    }
    if original.is_handler() {
        common &= original.flags;
        any |= original.flags & libc::SA_ONSTACK;
    }
    let keeps = original.is_handler() || signal == libc::SIGCHLD || deliver::is_fault(signal);
    match (handled, ignored) {
        (true, _) => Some(deliver::action(common | any, original)),
        // To ignore the end of a child is to lose its status, for everybody.
        (false, true) if !keeps => {
            Some(SignalAction { handler: libc::SIG_IGN, ..SignalAction::default() })
        }
        _ => None,
    }
}

/// What the kernel has; `None` for a signal that there is not.
pub(super) fn installed(signal: c_int) -> Option<SignalAction> {
    system(signal, None).ok()
}

/// Changes what the kernel has.
pub(super) fn install(signal: c_int, action: &SignalAction) {
    // Refused for signals alone that nothing can be installed for, which `asked` refuses before.
    let _ = system(signal, Some(action));
}

/// `sigaction` of the C library, which may be called inside a signal handler.
pub(super) fn system(signal: c_int, new: Option<&SignalAction>) -> Result<SignalAction, c_int> {
    let new = new.map(to_raw);
    // SAFETY: both actions are whole. What is installed is this module's handler, what was there
    // before, or, in a process that was forked off, what its code asks for.
    unsafe {
        let mut old: libc::sigaction = mem::zeroed();
        let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
        match libc::sigaction(signal, new, &mut old) {
            0 => Ok(from_raw(&old)),
            _ => Err(*libc::__errno_location()),
        }
    }
}

fn to_raw(action: &SignalAction) -> libc::sigaction {
    // SAFETY: an action of zeroes is one. Its set is larger than a word, whose bits are those of
    // the kernel.
    unsafe {
        let mut raw: libc::sigaction = mem::zeroed();
        raw.sa_sigaction = action.handler;
        raw.sa_flags = action.flags;
        (&raw mut raw.sa_mask).cast::<u64>().write_unaligned(action.mask);
        raw
    }
}

fn from_raw(raw: &libc::sigaction) -> SignalAction {
    // SAFETY: as in `to_raw`.
    let mask = unsafe { (&raw const raw.sa_mask).cast::<u64>().read_unaligned() };
    SignalAction { handler: raw.sa_sigaction, flags: raw.sa_flags & !RESTORER, mask }
}
