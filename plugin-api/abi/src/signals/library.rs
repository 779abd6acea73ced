//! The library's own `sigaction`, `signal` and their relatives.
//!
//! They are hidden symbols, to which all that is linked into the library binds: the plugin's code,
//! its crates, C code in it. Once the host has given itself to be known (`bind`) they ask the host.
//! What the library's constructors install before that goes to the C library, is noted, and handed
//! over then. A library whose host does not do that, because it was built before, goes on with the
//! C library. What was noted and not handed over is put back when the library is closed.
//!
//! Only plugins get the symbols (through `export_plugin!`), on Linux with glibc. In an executable
//! that a plugin's crate is linked into they go to the C library. A system call made past the C
//! library, and a library that the plugin depends on, are not seen here; the host looks for their
//! handlers before it closes a library.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{
        ffi::c_int,
        mem, ptr,
        sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst},
    };

    use crate::signals::{SignalAction, SignalHost};
    // Not the library's own `dlsym`, which gives functions that note what they are called for.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    use crate::unload::glibc::lookup::system as look_up;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    use libc::dlsym as look_up;

    type Sigaction =
        unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

    /// The host, once it is known.
    static HOST: AtomicPtr<SignalHost> = AtomicPtr::new(ptr::null_mut());
    /// The library was entered, and no host was made known before.
    static ALONE: AtomicBool = AtomicBool::new(false);
    /// Held, with all signals blocked, where the notes are used.
    static TURN: AtomicBool = AtomicBool::new(false);
    static NOTES: Notes = Notes(std::cell::UnsafeCell::new([const { None }; SIGNALS]));
    /// Signals that `siginterrupt` has interrupt system calls.
    static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

    const SIGNALS: usize = 65;
    const ERROR: usize = libc::SIG_ERR;
    /// `SIG_HOLD` of `sigset`.
    const HOLD: usize = 2;

    /// What the library has installed without a host, and what was there before.
    struct Note {
        own: SignalAction,
        before: SignalAction,
    }

    struct Notes(std::cell::UnsafeCell<[Option<Note>; SIGNALS]>);

    // SAFETY: the notes are used with `TURN` alone.
    unsafe impl Sync for Notes {}

    /// The right to use the notes. All signals are blocked meanwhile, so that no handler waits for
    /// what it interrupts.
    struct Turn(libc::sigset_t);

    impl Turn {
        fn take() -> Self {
            // SAFETY: the sets are written before they are read; a set of zeroes is one.
            unsafe {
                let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
                while TURN.swap(true, SeqCst) {
                    libc::sched_yield();
                }
                Turn(before)
            }
        }

        fn note(&mut self, signal: usize) -> &mut Option<Note> {
            // SAFETY: there is one turn at a time, and it is borrowed.
            unsafe { &mut (*NOTES.0.get())[signal] }
        }
    }

    impl Drop for Turn {
        fn drop(&mut self) {
            TURN.store(false, SeqCst);
            // SAFETY: the set is the one that was given.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
        }
    }

    /// The C library's `sigaction`. The library's own is hidden, so it is not what is found.
    fn next() -> Option<Sigaction> {
        static FOUND: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());
        let mut found = FOUND.load(SeqCst);
        if found.is_null() {
            // SAFETY: the name ends with a zero byte.
            found = unsafe { look_up(libc::RTLD_NEXT, c"sigaction".as_ptr()) };
            FOUND.store(found, SeqCst);
        }
        // SAFETY: the name is that of the function whose type `Sigaction` is.
        (!found.is_null()).then(|| unsafe { mem::transmute::<*mut libc::c_void, Sigaction>(found) })
    }

    /// Whether this code is a part of the executable, which is never closed.
    fn is_program() -> bool {
        static KNOWN: AtomicU32 = AtomicU32::new(0);
        let object = |address: *const libc::c_void| {
            // SAFETY: the place is written before it is read; what was not found is left as zeroes.
            unsafe {
                let mut found: libc::Dl_info = mem::zeroed();
                libc::dladdr(address, &mut found);
                found.dli_fbase
            }
        };
        match KNOWN.load(SeqCst) {
            0 => {
                // SAFETY: it only gives the place where the executable begins to run.
                let entry = unsafe { libc::getauxval(libc::AT_ENTRY) } as *const libc::c_void;
                let own = object(is_program as *const () as *const _);
                let program = !own.is_null() && own == object(entry);
                KNOWN.store(if program { 1 } else { 2 }, SeqCst);
                program
            }
            known => known == 1,
        }
    }

    /// From what C code passes.
    fn taken(action: &libc::sigaction) -> SignalAction {
        // SAFETY: the set is larger than a word, whose bits are those of the kernel.
        let mask = unsafe { (&raw const action.sa_mask).cast::<u64>().read_unaligned() };
        SignalAction { handler: action.sa_sigaction, flags: action.sa_flags, mask }
    }

    /// To what C code gets.
    fn given(action: &SignalAction) -> libc::sigaction {
        // SAFETY: an action of zeroes is one, and its set is larger than a word.
        unsafe {
            let mut raw: libc::sigaction = mem::zeroed();
            raw.sa_sigaction = action.handler;
            raw.sa_flags = action.flags;
            (&raw mut raw.sa_mask).cast::<u64>().write_unaligned(action.mask);
            raw
        }
    }

    /// Asks the C library; the error's number if it refuses.
    fn ask_system(signal: c_int, new: Option<&SignalAction>) -> Result<SignalAction, c_int> {
        let next = next().ok_or(libc::ENOSYS)?;
        let new = new.map(given);
        let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: both actions are whole. What is installed is what the library's code asked for.
        unsafe {
            let mut old = mem::zeroed();
            match next(signal, new, &mut old) {
                0 => Ok(taken(&old)),
                _ => Err(*libc::__errno_location()),
            }
        }
    }

    /// `sigaction` of this library.
    fn set(signal: c_int, new: Option<&SignalAction>) -> Result<SignalAction, c_int> {
        let known = HOST.load(SeqCst);
        if !known.is_null() {
            return ask_host(known, signal, new);
        }
        if is_program() {
            return ask_system(signal, new);
        }
        let Some(number) = usize::try_from(signal).ok().filter(|number| *number < SIGNALS) else {
            return Err(libc::EINVAL);
        };
        let mut turn = Turn::take();
        let known = HOST.load(SeqCst);
        if !known.is_null() {
            drop(turn);
            return ask_host(known, signal, new);
        }
        let system = ask_system(signal, new)?;
        let noted = turn.note(number);
        let mine = noted.as_ref().filter(|note| note.own.handler == system.handler);
        let old = match mine {
            Some(note) => note.own,
            // While there may be a host, its handlers and those of other plugins are not for this
            // library to call.
            None if system.is_handler() && !ALONE.load(SeqCst) => SignalAction::default(),
            None => system,
        };
        if let Some(new) = new {
            let before = mine.map_or(system, |note| note.before);
            *noted = Some(Note { own: *new, before });
        }
        Ok(old)
    }

    fn ask_host(
        host: *const SignalHost,
        signal: c_int,
        new: Option<&SignalAction>,
    ) -> Result<SignalAction, c_int> {
        let mut old = SignalAction::default();
        // SAFETY: `bind` got it from the host, for good.
        let refused = unsafe {
            let host = &*host;
            (host.set)(host.library, signal, new.map_or(ptr::null(), ptr::from_ref), &mut old)
        };
        if refused == 0 { Ok(old) } else { Err(refused) }
    }

    /// Makes the host known, and hands over what constructors have installed.
    pub(crate) extern "C" fn bind(host: &'static SignalHost) {
        let mut turn = Turn::take();
        HOST.store(ptr::from_ref(host).cast_mut(), SeqCst);
        for signal in 1..SIGNALS {
            if let Some(Note { own, before }) = turn.note(signal).take() {
                // SAFETY: the host gave the function, with what it is to be called with.
                unsafe { (host.adopt)(host.library, signal as c_int, &own, &before) };
            }
        }
    }

    /// The library is entered. A host that is not known by now will not be.
    pub(crate) fn entered() {
        if HOST.load(SeqCst).is_null() {
            ALONE.store(true, SeqCst);
        }
    }

    /// Runs when the library is closed. A host that is known has taken out its handlers before.
    pub extern "C" fn put_back() {
        if !HOST.load(SeqCst).is_null() {
            return;
        }
        let mut turn = Turn::take();
        for signal in 1..SIGNALS {
            if let Some(Note { own, before }) = turn.note(signal).take()
                && own.is_handler()
                && ask_system(signal as c_int, None).is_ok_and(|now| now.handler == own.handler)
            {
                let _ = ask_system(signal as c_int, Some(&before));
            }
        }
    }

    fn refused(error: c_int) {
        // SAFETY: the C library's place for it, of this thread.
        unsafe { *libc::__errno_location() = error };
    }

    fn handler_or_error(result: Result<SignalAction, c_int>) -> usize {
        result.map_or_else(
            |error| {
                refused(error);
                ERROR
            },
            |old| old.handler,
        )
    }

    /// For the functions that take a handler alone: what tells of an error is none.
    fn set_handler(signal: c_int, new: SignalAction) -> Result<SignalAction, c_int> {
        match new.handler {
            ERROR => Err(libc::EINVAL),
            _ => set(signal, Some(&new)),
        }
    }

    fn bit(signal: c_int) -> u64 {
        match signal {
            1..=64 => 1 << (signal - 1),
            _ => 0,
        }
    }

    /// The library's own `sigaction`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn sigaction(
        signal: c_int,
        new: *const libc::sigaction,
        old: *mut libc::sigaction,
    ) -> c_int {
        // SAFETY: promised by the caller: null or an action.
        let new = unsafe { new.as_ref() }.map(taken);
        match set(signal, new.as_ref()) {
            Ok(before) => {
                // SAFETY: promised by the caller: null or room for an action.
                if let Some(old) = unsafe { old.as_mut() } {
                    *old = given(&before);
                }
                0
            }
            Err(error) => {
                refused(error);
                -1
            }
        }
    }

    /// The library's own `signal`, as glibc has it: the handler stays, and system calls go on
    /// behind it.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
        let interrupts = INTERRUPTING.load(SeqCst) & bit(signal) != 0;
        let flags = if interrupts { 0 } else { libc::SA_RESTART };
        handler_or_error(set_handler(signal, SignalAction { handler, flags, mask: bit(signal) }))
    }

    /// `signal` as System V has it: the handler is called once.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: usize) -> usize {
        let flags = libc::SA_RESETHAND | libc::SA_NODEFER;
        handler_or_error(set_handler(signal, SignalAction { handler, flags, mask: 0 }))
    }

    /// The library's own `sigset`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn sigset(signal: c_int, handler: usize) -> usize {
        let new = SignalAction { handler, ..SignalAction::default() };
        let set = if handler == HOLD { set(signal, None) } else { set_handler(signal, new) };
        let old = match set {
            Ok(old) => old,
            failed => return handler_or_error(failed),
        };
        let how = if handler == HOLD { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
        // SAFETY: the sets are made before they are read.
        let was_blocked = unsafe {
            let (mut one, mut before) = (mem::zeroed(), mem::zeroed());
            libc::sigemptyset(&mut one);
            libc::sigaddset(&mut one, signal);
            libc::pthread_sigmask(how, &one, &mut before);
            libc::sigismember(&before, signal) == 1
        };
        if was_blocked { HOLD } else { old.handler }
    }

    /// The library's own `sigignore`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn sigignore(signal: c_int) -> c_int {
        let ignore = SignalAction { handler: libc::SIG_IGN, ..SignalAction::default() };
        match handler_or_error(set(signal, Some(&ignore))) {
            ERROR => -1,
            _ => 0,
        }
    }

    /// The library's own `siginterrupt`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn siginterrupt(signal: c_int, interrupts: c_int) -> c_int {
        let changed = set(signal, None).and_then(|mut action| {
            if interrupts == 0 {
                INTERRUPTING.fetch_and(!bit(signal), SeqCst);
                action.flags |= libc::SA_RESTART;
            } else {
                INTERRUPTING.fetch_or(bit(signal), SeqCst);
                action.flags &= !libc::SA_RESTART;
            }
            set(signal, Some(&action))
        });
        match handler_or_error(changed) {
            ERROR => -1,
            _ => 0,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_tells_of_an_error_is_not_taken_for_a_handler() {
            for install in [signal, sysv_signal, sigset] {
                // SAFETY: it is refused; nothing else uses the signal.
                let refused = unsafe { install(libc::SIGXFSZ, ERROR) };
                let error = std::io::Error::last_os_error().raw_os_error();
                assert_eq!((refused, error), (ERROR, Some(libc::EINVAL)));
                assert_ne!(ask_system(libc::SIGXFSZ, None).unwrap().handler, ERROR);
            }
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use glibc::{bind, entered};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use glibc::{put_back, sigaction, sigignore, siginterrupt, signal, sigset, sysv_signal};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) extern "C" fn bind(_host: &'static super::SignalHost) {}
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn entered() {}
