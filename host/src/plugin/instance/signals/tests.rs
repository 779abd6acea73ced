//! Real signals in this process. Each test has signals of its own, since all of them run in one
//! process.

#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use super::*;

type Info = *mut libc::siginfo_t;

/// A library that asks, as one does that was bound.
fn library() -> LibrarySignals {
    kernel::remember_process();
    LibrarySignals(table::take())
}

fn with(handler: usize, flags: c_int) -> SignalAction {
    SignalAction { handler, flags, mask: 0 }
}

fn set(library: LibrarySignals, signal: c_int, new: &SignalAction) -> Result<SignalAction, c_int> {
    let (host, mut old) = (library.0.host(), SignalAction::default());
    // SAFETY: what a library does.
    match unsafe { (host.set)(host.library, signal, new, &mut old) } {
        0 => Ok(old),
        error => Err(error),
    }
}

fn raise(signal: c_int) {
    // SAFETY: the test has handlers for it.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn realtime(number: c_int) -> c_int {
    libc::SIGRTMIN() + number
}

fn leave(library: LibrarySignals) {
    library.withdraw();
    assert_eq!(library.inside(), [""; 0]);
    library.gone();
}

/// A counter of its own for each `N`.
struct Counter<const N: usize>;
static COUNTS: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

impl<const N: usize> Counter<N> {
    extern "C" fn count(_: c_int, _: Info, _: *mut c_void) {
        COUNTS[N].fetch_add(1, SeqCst);
    }

    fn handler() -> usize {
        Self::count as *const () as usize
    }

    fn now() -> u64 {
        COUNTS[N].load(SeqCst)
    }
}

#[test]
fn no_handler_runs_after_its_library_went_in_a_storm_of_signals() {
    const ROUNDS: u64 = 3_000;
    static ALIVE: AtomicBool = AtomicBool::new(false);
    static CALLED: AtomicU64 = AtomicU64::new(0);
    static AFTER: AtomicU64 = AtomicU64::new(0);
    extern "C" fn handler(_: c_int, _: Info, _: *mut c_void) {
        for _ in 0..50 {
            if !ALIVE.load(SeqCst) {
                AFTER.fetch_add(1, SeqCst);
            }
        }
        CALLED.fetch_add(1, SeqCst);
    }
    let signal = realtime(1);
    // The program's own, so that a signal in between ends nobody.
    kernel::install(signal, &with(Counter::<0>::handler(), libc::SA_SIGINFO | libc::SA_RESTART));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    raise(signal);
                    // SAFETY: to this process, which handles it.
                    unsafe { libc::kill(libc::getpid(), signal) };
                }
            });
        }
        for round in 0..ROUNDS {
            let library = library();
            ALIVE.store(true, SeqCst);
            let before = CALLED.load(SeqCst);
            set(library, signal, &with(handler as *const () as usize, libc::SA_SIGINFO)).unwrap();
            // Some go before they were called once.
            while round % 4 != 0 && CALLED.load(SeqCst) == before {
                thread::yield_now();
            }
            library.withdraw();
            while !library.inside().is_empty() {
                thread::yield_now();
            }
            ALIVE.store(false, SeqCst);
            library.gone();
        }
        done.store(true, SeqCst);
    });
    assert_eq!(AFTER.load(SeqCst), 0, "of {} calls", CALLED.load(SeqCst));
    assert!(Counter::<0>::now() >= CALLED.load(SeqCst), "the program's own is called each time");
    assert_eq!(kernel::installed(signal).unwrap().handler, Counter::<0>::handler());
    let places = table::libraries().count();
    assert!(places < 50, "places are used again: {places}");
}

#[test]
fn every_library_is_called_and_none_gets_the_handler_of_another() {
    let signal = realtime(2);
    let (first, second) = (library(), library());
    let own = with(Counter::<1>::handler(), libc::SA_SIGINFO | libc::SA_RESTART);
    assert_eq!(set(first, signal, &own), Ok(SignalAction::default()));
    let other = with(Counter::<2>::handler(), 0);
    assert_eq!(set(second, signal, &other), Ok(SignalAction::default()));
    assert_eq!(set(first, signal, &own), Ok(own), "its own one is what it gets back");
    raise(signal);
    assert_eq!((Counter::<1>::now(), Counter::<2>::now()), (1, 1));
    let flags = kernel::installed(signal).unwrap().flags;
    assert_eq!(flags & libc::SA_RESTART, 0, "one of them wants to interrupt system calls");
    // To give up one's own leaves the others'.
    assert_eq!(set(second, signal, &SignalAction::default()), Ok(other));
    raise(signal);
    assert_eq!((Counter::<1>::now(), Counter::<2>::now()), (2, 1));
    assert_ne!(kernel::installed(signal).unwrap().flags & libc::SA_RESTART, 0);
    leave(first);
    leave(second);
    assert_eq!(kernel::installed(signal), Some(SignalAction::default()));
}

#[test]
fn the_programs_own_handler_is_called_whatever_libraries_ask_for() {
    let signal = realtime(3);
    let original = with(Counter::<3>::handler(), libc::SA_SIGINFO | libc::SA_RESTART);
    kernel::install(signal, &original);
    let library = library();
    let ignore = SignalAction { handler: libc::SIG_IGN, ..SignalAction::default() };
    assert_eq!(set(library, signal, &ignore), Ok(SignalAction::default()));
    raise(signal);
    assert_eq!(Counter::<3>::now(), 1, "it cannot be ignored");
    let told = library.handled();
    let expected = Handled { signal: name(signal), ignored: true, host_too: true };
    assert_eq!(told, [expected]);
    let own = with(Counter::<4>::handler(), libc::SA_SIGINFO | libc::SA_RESTART);
    assert_eq!(set(library, signal, &own), Ok(ignore));
    raise(signal);
    assert_eq!((Counter::<3>::now(), Counter::<4>::now()), (2, 1));
    set(library, signal, &SignalAction::default()).unwrap();
    raise(signal);
    assert_eq!((Counter::<3>::now(), Counter::<4>::now()), (3, 1));
    assert_eq!(kernel::installed(signal), Some(original));
    leave(library);
    assert_eq!(kernel::installed(signal), Some(original));
}

#[test]
fn a_fault_goes_to_the_newest_handler_and_on_to_those_before_it() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    static BEFORE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    fn pass<const N: usize>(signal: c_int, info: Info, context: *mut c_void) {
        type Handler = extern "C" fn(c_int, Info, *mut c_void);
        let before = BEFORE[N].load(SeqCst);
        // SAFETY: what `sigaction` said is there before.
        let before = unsafe { std::mem::transmute::<usize, Handler>(before) };
        before(signal, info, context);
    }
    fn note(digit: usize) {
        ORDER.store(ORDER.load(SeqCst) * 10 + digit, SeqCst);
    }
    extern "C" fn original(_: c_int, _: Info, _: *mut c_void) {
        note(1);
    }
    extern "C" fn older(signal: c_int, info: Info, context: *mut c_void) {
        note(2);
        pass::<0>(signal, info, context);
    }
    extern "C" fn newer(signal: c_int, info: Info, context: *mut c_void) {
        note(3);
        pass::<1>(signal, info, context);
    }
    let signal = libc::SIGFPE;
    let own = with(original as *const () as usize, libc::SA_SIGINFO);
    kernel::install(signal, &own);
    let (first, second) = (library(), library());
    let action = |handler: usize| with(handler, libc::SA_SIGINFO);
    let old = set(first, signal, &action(older as *const () as usize)).unwrap();
    assert_ne!(old.flags & libc::SA_SIGINFO, 0);
    BEFORE[0].store(old.handler, SeqCst);
    let old = set(second, signal, &action(newer as *const () as usize)).unwrap();
    assert_ne!(old.handler, older as *const () as usize);
    BEFORE[1].store(old.handler, SeqCst);
    raise(signal);
    assert_eq!(ORDER.swap(0, SeqCst), 321);
    // The one before its own went; what it chains to still leads on.
    leave(first);
    raise(signal);
    assert_eq!(ORDER.swap(0, SeqCst), 31);
    // To put back what was there before gives up one's own.
    set(second, signal, &old).unwrap();
    raise(signal);
    assert_eq!(ORDER.swap(0, SeqCst), 1);
    assert_eq!(kernel::installed(signal), Some(own));
    leave(second);
    kernel::install(signal, &SignalAction::default());
}

#[test]
fn a_handler_can_change_handlers_and_leaves_the_error_number_as_it_was() {
    static LIBRARY: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn once(signal: c_int, _: Info, _: *mut c_void) {
        COUNTS[5].fetch_add(1, SeqCst);
        // SAFETY: as a library does it, and as the C library lets it.
        unsafe {
            let library = LIBRARY.load(SeqCst) as *const ();
            asked::set(library, signal, &SignalAction::default(), ptr::null_mut());
            *libc::__errno_location() = libc::EDOM;
        }
    }
    let signal = realtime(4);
    kernel::install(signal, &with(Counter::<6>::handler(), libc::SA_SIGINFO));
    let library = library();
    LIBRARY.store(library.0.host().library as usize, SeqCst);
    set(library, signal, &with(once as *const () as usize, libc::SA_SIGINFO)).unwrap();
    // SAFETY: this thread's place for it.
    unsafe { *libc::__errno_location() = libc::ENOENT };
    raise(signal);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT));
    raise(signal);
    assert_eq!((COUNTS[5].load(SeqCst), Counter::<6>::now()), (1, 2));
    leave(library);
}

#[test]
fn a_handler_to_be_called_once_is_called_once() {
    let signal = realtime(5);
    kernel::install(signal, &with(Counter::<8>::handler(), libc::SA_SIGINFO));
    let library = library();
    set(library, signal, &with(Counter::<7>::handler(), libc::SA_RESETHAND)).unwrap();
    (0..3).for_each(|_| raise(signal));
    assert_eq!((Counter::<7>::now(), Counter::<8>::now()), (1, 3));
    assert_eq!(library.handled(), []);
    leave(library);
}

#[test]
fn a_handler_has_those_signals_blocked_that_it_asked_for() {
    static BLOCKED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn look(signal: c_int, _: Info, _: *mut c_void) {
        // SAFETY: the set is written before it is read.
        unsafe {
            let mut now = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut now);
            let own = libc::sigismember(&now, signal) == 1;
            let other = libc::sigismember(&now, libc::SIGWINCH) == 1;
            BLOCKED.store(u64::from(own) + 2 * u64::from(other), SeqCst);
        }
    }
    let (signal, library) = (realtime(6), library());
    let handler = look as *const () as usize;
    let blocked = |flags, mask| {
        set(library, signal, &SignalAction { handler, flags, mask }).unwrap();
        raise(signal);
        BLOCKED.load(SeqCst)
    };
    let other = 1 << (libc::SIGWINCH - 1);
    assert_eq!(blocked(0, 0), 1);
    assert_eq!(blocked(libc::SA_NODEFER, 0), 0);
    assert_eq!(blocked(0, other), 3);
    assert_eq!(blocked(libc::SA_NODEFER, other), 2);
    leave(library);
}

#[test]
fn a_handler_that_does_not_return_is_told_of_by_name() {
    static STAY: AtomicBool = AtomicBool::new(true);
    extern "C" fn stay(_: c_int, _: Info, _: *mut c_void) {
        while STAY.load(SeqCst) {
            std::hint::spin_loop();
        }
    }
    let (signal, library) = (libc::SIGUSR2, library());
    set(library, signal, &with(stay as *const () as usize, 0)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| raise(signal));
        let start = Instant::now();
        while library.inside().is_empty() && start.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        library.withdraw();
        let (inside, new) = (library.inside(), with(stay as *const () as usize, 0));
        let refused = set(library, signal, &new);
        STAY.store(false, SeqCst);
        assert_eq!(inside, ["SIGUSR2"]);
        assert_eq!(refused, Err(libc::ECANCELED), "it installs nothing any more");
    });
    leave(library);
}

#[test]
fn a_handler_that_constructors_installed_is_taken_over() {
    let (signal, library) = (realtime(7), library());
    let (own, before) = (with(Counter::<9>::handler(), libc::SA_RESTART), SignalAction::default());
    kernel::install(signal, &own);
    let host = library.0.host();
    // SAFETY: what a library does when it is bound.
    unsafe { (host.adopt)(host.library, signal, &own, &before) };
    assert_ne!(kernel::installed(signal).unwrap().handler, own.handler);
    raise(signal);
    assert_eq!(Counter::<9>::now(), 1);
    leave(library);
    assert_eq!(kernel::installed(signal), Some(before));
}

#[test]
fn a_handler_that_the_program_installs_later_stays_and_may_chain_to_the_libraries() {
    let (signal, library) = (realtime(8), library());
    set(library, signal, &with(Counter::<10>::handler(), libc::SA_SIGINFO)).unwrap();
    static BEFORE: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn later(signal: c_int, info: Info, context: *mut c_void) {
        COUNTS[11].fetch_add(1, SeqCst);
        type Handler = extern "C" fn(c_int, Info, *mut c_void);
        // SAFETY: what was installed before.
        let before = unsafe { std::mem::transmute::<usize, Handler>(BEFORE.load(SeqCst)) };
        before(signal, info, context);
    }
    BEFORE.store(kernel::installed(signal).unwrap().handler, SeqCst);
    let later = with(later as *const () as usize, libc::SA_SIGINFO);
    kernel::install(signal, &later);
    // Asked once more, it is not put on top.
    set(library, signal, &with(Counter::<10>::handler(), libc::SA_SIGINFO)).unwrap();
    raise(signal);
    assert_eq!((Counter::<10>::now(), Counter::<11>::now()), (1, 1));
    leave(library);
    assert_eq!(kernel::installed(signal), Some(later));
    // The default action, which this host found, would end this process.
    raise(signal);
    assert_eq!((Counter::<10>::now(), Counter::<11>::now()), (1, 2));
    assert_eq!(kernel::installed(signal), Some(later));
    kernel::install(signal, &SignalAction { handler: libc::SIG_IGN, ..SignalAction::default() });
}

#[test]
fn a_process_that_was_forked_off_has_actions_of_its_own() {
    let (signal, library) = (realtime(9), library());
    set(library, signal, &with(Counter::<12>::handler(), 0)).unwrap();
    // SAFETY: the child calls nothing but functions that may be called after a fork of a program
    // with threads.
    let status = unsafe {
        match libc::fork() {
            0 => {
                let default = SignalAction::default();
                let refused =
                    asked::set(library.0.host().library, signal, &default, ptr::null_mut());
                let now = kernel::installed(signal).map_or(9, |action| action.handler);
                libc::_exit(if refused == 0 && now == libc::SIG_DFL { 0 } else { 1 })
            }
            child => {
                let mut status = 0;
                libc::waitpid(child, &mut status, 0);
                status
            }
        }
    };
    assert_eq!(status, 0);
    raise(signal);
    assert_eq!(Counter::<12>::now(), 1, "nothing is changed here");
    leave(library);
}

#[test]
fn nothing_can_be_installed_for_signals_that_do_not_allow_it() {
    let library = library();
    for signal in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 32, 65] {
        assert_eq!(set(library, signal, &with(1_000, 0)), Err(libc::EINVAL), "signal {signal}");
    }
    assert_eq!(library.handled(), []);
    library.gone();
}

#[test]
fn a_signal_whose_only_handler_goes_at_that_moment_is_handled_or_has_its_default_action() {
    let signal = realtime(10);
    for goes_at_look in 0..3 {
        let library = library();
        set(library, signal, &with(Counter::<13>::handler(), 0)).unwrap();
        // SAFETY: the child calls nothing but functions that may be called after a fork of a
        // program with threads.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    let looks = AtomicUsize::new(0);
                    let libraries = || {
                        let look = looks.fetch_add(1, SeqCst);
                        let goes = move |_: &_| {
                            if look == goes_at_look {
                                library.withdraw();
                            }
                        };
                        std::iter::once(library.0).inspect(goes)
                    };
                    deliver::call_each(libraries, signal, ptr::null_mut(), ptr::null_mut());
                    libc::_exit(if Counter::<13>::now() == 1 { 0 } else { 1 })
                }
                child => {
                    let mut status = 0;
                    libc::waitpid(child, &mut status, 0);
                    status
                }
            }
        };
        let has_ended_it = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal;
        assert!(has_ended_it || status == 0, "gone at look {goes_at_look}: {status}");
        leave(library);
    }
}
