//! The last line: signal handlers and an exit handler, which say who was at work and let the
//! process die as it would.
//!
//! They are the host's own, and run at the worst moment: nothing here allocates, locks or panics. A
//! handler does its work once a process and returns: an instruction that faulted faults again, and
//! is left to whoever had the signal before; a signal that was sent is sent again, and does what it
//! does by default. It runs on the alternate stack that Rust's runtime gives to each thread that it
//! starts, so the overflow of such a thread's stack is told too.

#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use ksi_kernel::{executor::slot, label};
use libc::{c_int, c_void, siginfo_t};

use super::{
    journal::{CrashReport, LAST_WORDS, MAGIC, RecordPlace},
    line::Line,
    now::Now,
};

const SIGNALS: [(c_int, &[u8]); 5] = [
    (libc::SIGSEGV, b"SIGSEGV"),
    (libc::SIGBUS, b"SIGBUS"),
    (libc::SIGFPE, b"SIGFPE"),
    (libc::SIGILL, b"SIGILL"),
    (libc::SIGABRT, b"SIGABRT"),
];
/// An address so near to the stack pointer is that of an overflow.
const NEAR: u64 = 64 << 10;

/// Who had the signals before, in the order of [`SIGNALS`].
static BEFORE: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();
/// The thread that has written the line, or does so now; zero for none.
static TELLER: AtomicI32 = AtomicI32::new(0);
/// The line was written.
static TOLD: AtomicBool = AtomicBool::new(false);
/// How long a thread that faults meanwhile waits for that, in milliseconds.
const TELLING: u32 = 1000;
/// The process that this was installed in. One that was forked off it tells nothing: the journal is
/// not its own.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// An exit would be somebody else's than the program's own.
static IN_USE: AtomicBool = AtomicBool::new(false);
/// The descriptor of the journal that gets the line; negative for none.
static JOURNAL: AtomicI32 = AtomicI32::new(-1);

pub(super) fn install() -> io::Result<()> {
    // SAFETY: it only gives a number.
    PROCESS.store(unsafe { libc::getpid() }, Ordering::Release);
    IN_USE.store(true, Ordering::Release);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // SAFETY: an action of zeroes is the default one, with no flags and an empty mask.
    let mut before = [unsafe { std::mem::zeroed::<libc::sigaction>() }; SIGNALS.len()];
    for ((signal, _), before) in SIGNALS.iter().zip(&mut before) {
        // SAFETY: the call writes the present action and changes none.
        if unsafe { libc::sigaction(*signal, std::ptr::null(), before) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    // SAFETY: `on_exit` is a function of this program and not of a library that could be closed.
    if unsafe { libc::atexit(on_exit) } != 0 {
        return Err(io::Error::other("the C library takes no further exit handler"));
    }
    for (signal, _) in SIGNALS {
        // SAFETY: as above.
        let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `on_signal` is such a handler, and does nothing that a handler may not do.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

pub(super) fn expect_exit() {
    IN_USE.store(false, Ordering::Release);
    let journal = JOURNAL.load(Ordering::Acquire);
    if journal >= 0 {
        // What is at work still is not what this process ends of.
        // SAFETY: a file of this process, or one that is closed.
        let _ = unsafe { libc::ftruncate(journal, 0) };
        write_at(journal, MAGIC, 0);
    }
}

/// The line goes to this file as well.
pub(super) fn write_to(file: c_int) {
    JOURNAL.store(file, Ordering::Release);
}

/// Not any more.
pub(super) fn write_no_more_to(file: c_int) {
    let _ = JOURNAL.compare_exchange(file, -1, Ordering::AcqRel, Ordering::Relaxed);
}

extern "C" fn on_exit() {
    if IN_USE.load(Ordering::Acquire) {
        tell(CrashReport::EXIT, 0, |line| {
            line.push(b"exit() was called by somebody else than the host")
        });
    }
}

extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system calls this with the signal's own information, and the place of `errno` is
    // always there.
    let (code, errno) = unsafe { ((*info).si_code, *libc::__errno_location()) };
    // A code above zero is the processor's; others come with a sender, which `abort` is itself.
    // SAFETY: a signal with a sender says who it is.
    let is_our_own = code > 0 || unsafe { (*info).si_pid() == libc::getpid() };
    let (at, stack) = registers(context);
    if is_our_own {
        let name = SIGNALS.iter().find(|(number, _)| *number == signal);
        tell(signal as u8, at, |line| {
            line.push(name.map_or(b"a signal", |(_, name)| name));
            if code > 0 {
                // SAFETY: the processor's signals come with an address.
                let address = unsafe { (*info).si_addr() } as u64;
                line.push(b" at address 0x");
                line.hex(address);
                if signal == libc::SIGSEGV && stack != 0 && address.abs_diff(stack) < NEAR {
                    line.push(b" (the end of its stack)");
                }
            }
        });
    }
    let place = SIGNALS.iter().position(|(number, _)| *number == signal);
    // SAFETY: an action of zeroes is the default one.
    let default = unsafe { std::mem::zeroed::<libc::sigaction>() };
    let next = match (BEFORE.get(), place) {
        (Some(before), Some(place)) if code > 0 => &before[place],
        // `abort` ends the process after any handler.
        (Some(before), Some(place)) if signal == libc::SIGABRT && is_handler(&before[place]) => {
            &before[place]
        }
        // Rust's runtime takes a fault that it does not know for one that comes again, and this one
        // does not.
        _ => &default,
    };
    // SAFETY: both are valid actions of that signal. `errno` is put back to what the interrupted
    // code had.
    unsafe {
        libc::sigaction(signal, next, std::ptr::null_mut());
        if code <= 0 {
            // It waits until this handler has returned.
            libc::raise(signal);
        }
        *libc::__errno_location() = errno;
    }
}

fn is_handler(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
}

/// Where the interrupted code was, and its stack pointer; zeroes where that is not known.
#[cfg(target_arch = "x86_64")]
fn registers(context: *mut c_void) -> (u64, u64) {
    // SAFETY: the system calls handlers with such a context.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    (registers[libc::REG_RIP as usize] as u64, registers[libc::REG_RSP as usize] as u64)
}

#[cfg(target_arch = "aarch64")]
fn registers(context: *mut c_void) -> (u64, u64) {
    // SAFETY: the system calls handlers with such a context.
    let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    (context.pc, context.sp)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers(_: *mut c_void) -> (u64, u64) {
    (0, 0)
}

/// Writes the line, once a process, and marks the note of what this thread was at.
fn tell(mark: u8, at: u64, cause: impl FnOnce(&mut Line)) {
    if is_ours_to_tell() {
        write_line(mark, at, cause);
    }
}

/// Whether this thread is the first one. Another waits until that one is done. Apart from
/// [`write_line`], which needs far more of the small stack: an overflow ends in `abort`, whose
/// signal comes on top of that of the fault.
#[inline(never)]
fn is_ours_to_tell() -> bool {
    // SAFETY: both only give a number.
    let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
    if PROCESS.load(Ordering::Acquire) != process {
        return false;
    }
    match TELLER.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => true,
        Err(teller) => {
            if teller != thread {
                wait_until_told();
            }
            false
        }
    }
}

#[inline(never)]
fn write_line(mark: u8, at: u64, cause: impl FnOnce(&mut Line)) {
    let mut line = Line::new();
    line.push(b"ksi: this host dies: ");
    cause(&mut line);
    let place = who(&mut line);
    if at != 0 {
        code(&mut line, at);
    }
    let line = line.ended();
    let journal = JOURNAL.load(Ordering::Acquire);
    if journal >= 0 {
        write_at(journal, line, LAST_WORDS);
    }
    if let Some((place, is_guilty)) = place {
        let mark = if is_guilty { mark } else { CrashReport::ANOTHER };
        write_at(place.file, &[mark], place.mark());
    }
    // Last, because somebody else may be who does not read it.
    write_if_it_fits(libc::STDERR_FILENO, line);
    TOLD.store(true, Ordering::Release);
}

/// Another thread writes the line: this one would end the process before it is done.
fn wait_until_told() {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..TELLING {
        if TOLD.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the time is valid, and the rest of it may be told to nobody.
        unsafe { libc::nanosleep(&pause, std::ptr::null_mut()) };
    }
}

/// Who was at work on this thread, as far as that is known, and where this thread's note is, with
/// whether it is of the same code: a call inside what is noted may be of a handler that has none
/// any more.
fn who(line: &mut Line) -> Option<(RecordPlace, bool)> {
    let now = Now::here();
    let call = slot::current_call();
    match call {
        Some((handler, event)) => {
            line.push(b", in a call of ");
            if !label::read(handler, |piece| line.push(piece)) {
                line.push(b"a handler of the host");
            }
            line.push(b" with event evt_");
            line.hex(event);
        }
        None => match now.filter(|now| now.label != 0) {
            Some(now) => {
                line.push(b", in ");
                label::read(now.label, |piece| line.push(piece));
            }
            None => line.push(b", outside of calls"),
        },
    }
    line.push(b", on thread ");
    let mut name = [0_u8; 16];
    // SAFETY: the system writes at most sixteen bytes there.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    line.push(name.split(|byte| *byte == 0).next().unwrap_or_default());
    let now = now?;
    Some((now.place?, call.is_none() || call == now.call))
}

/// Room for [`code`], away from the small stack that a signal handler has.
struct Room(UnsafeCell<([u8; 4096], [u8; 512])>);

// SAFETY: `write_line` runs once a process, and it alone uses this.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new(([0; 4096], [0; 512])));

/// The file whose code was interrupted.
fn code(line: &mut Line, at: u64) {
    // SAFETY: see `Room`.
    let (chunk, map) = unsafe { &mut *ROOM.0.get() };
    // SAFETY: the path is a string of C's.
    let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if maps < 0 {
        return;
    }
    let mut length = 0;
    'read: loop {
        // SAFETY: the system writes at most as many bytes there as it is told.
        let read = unsafe { libc::read(maps, chunk.as_mut_ptr().cast(), chunk.len()) };
        let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { break };
        for byte in chunk.iter().take(read) {
            match *byte {
                b'\n' => {
                    if let Some(path) = path_if_within(&map[..length], at) {
                        line.push(b", in code of ");
                        line.push(path);
                        break 'read;
                    }
                    length = 0;
                }
                byte if length < map.len() => {
                    map[length] = byte;
                    length += 1;
                }
                _ => {}
            }
        }
    }
    // SAFETY: it was opened above.
    unsafe { libc::close(maps) };
}

/// The path at the end of `55d0-55e0 r-xp 00000000 fe:00 123   /path`, if the address lies within.
fn path_if_within(map: &[u8], at: u64) -> Option<&[u8]> {
    let (begin, rest) = hex(map);
    let (end, _) = hex(rest.strip_prefix(b"-")?);
    let path = map.iter().position(|byte| *byte == b'/')?;
    (begin <= at && at < end).then(|| &map[path..])
}

fn hex(text: &[u8]) -> (u64, &[u8]) {
    let (mut number, mut rest) = (0_u64, text);
    while let [digit, more @ ..] = rest {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => break,
        };
        (number, rest) = (number << 4 | u64::from(value), more);
    }
    (number, rest)
}

/// A pipe that can be written to at all has room for 4,096 bytes, which is more than a line has.
fn write_if_it_fits(file: c_int, bytes: &[u8]) {
    let mut poll = libc::pollfd { fd: file, events: libc::POLLOUT, revents: 0 };
    // SAFETY: there is one entry, and the bytes are there. What becomes of them, nobody is left to
    // ask.
    unsafe {
        if libc::poll(&mut poll, 1, 0) == 1 && poll.revents & libc::POLLOUT != 0 {
            libc::write(file, bytes.as_ptr().cast(), bytes.len());
        }
    }
}

fn write_at(file: c_int, bytes: &[u8], at: u64) {
    // SAFETY: as above.
    let _ = unsafe { libc::pwrite(file, bytes.as_ptr().cast(), bytes.len(), at as i64) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_an_address_is_read_off_the_memory_map() {
        let map = b"7f00a000-7f00b000 r-xp 00001000 fe:00 123      /tmp/ksi/chaos-1.so";
        assert_eq!(path_if_within(map, 0x7f00_a000), Some(&b"/tmp/ksi/chaos-1.so"[..]));
        assert_eq!(path_if_within(map, 0x7f00_b000), None);
        assert_eq!(path_if_within(b"7f00a000-7f00b000 rw-p 0 0:0 0 ", 0x7f00_a000), None);
        assert_eq!(path_if_within(b"", 0), None);
    }
}
