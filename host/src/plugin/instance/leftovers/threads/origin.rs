//! What a thread was started with, as the C library has it.
//!
//! glibc keeps that in the thread's descriptor, whose layout is its own and no promise. Two things
//! are: the kernel tells where a thread's list of robust mutexes begins, which lies in the
//! descriptor; and the function that a thread began with, and that function's argument, lie side by
//! side. How far they are from the list is measured once, on a thread whose two are known. Where
//! that gives nothing (another C library, a sanitizer that starts threads its own way), nothing is
//! said of any thread.

#![allow(unsafe_code)]

use std::{
    io, mem, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use ksi_kernel::lock::Lock;

use super::super::peek::Peek;

/// What a thread was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThreadOrigin {
    /// The function; 0 for the first thread of the process.
    pub(super) start: usize,
    pub(super) argument: usize,
    /// An address in its descriptor, which the C library puts above its stack.
    pub(super) descriptor: usize,
}

/// How the descriptors of threads are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// From the list to the function, in words.
    start: usize,
}

const WORD: usize = size_of::<usize>();
/// How many words after the list are looked at for the function.
const REACH: usize = 512;
/// The number of the thread lies so much before the list: there is only the list's other end
/// between them.
const NUMBER: usize = 2 * WORD;

impl Descriptors {
    /// As they are in this process, if that can be found out.
    ///
    /// # Errors
    /// The system gives no descriptor or thread to find it out with: it may later.
    pub(super) fn known() -> io::Result<Option<Descriptors>> {
        static KNOWN: OnceLock<Option<Descriptors>> = OnceLock::new();
        match KNOWN.get() {
            Some(known) => Ok(*known),
            None => {
                let measured = measure(Peek::new()?)?;
                Ok(*KNOWN.get_or_init(|| measured))
            }
        }
    }

    /// Of a thread of this process. Nothing if it has ended, has not begun, or was not started by
    /// the C library.
    pub(super) fn origin(self, thread: u32, peek: &Peek) -> Option<ThreadOrigin> {
        let list = list_of(thread, peek)?;
        let words = peek.some_words(list + self.start * WORD, 2);
        let [start, argument] = words[..] else { return None };
        Some(ThreadOrigin { start, argument, descriptor: list })
    }
}

/// Where the list of a thread of this number lies, if it is one that the C library has put into a
/// descriptor.
fn list_of(thread: u32, peek: &Peek) -> Option<usize> {
    let (mut list, mut length) = (0_usize, 0_usize);
    // SAFETY: the kernel writes the two words, or says that there is no such thread.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, thread, &raw mut list, &raw mut length) };
    let number = list.checked_sub(NUMBER).filter(|_| result == 0)?;
    let number = *peek.some_words(number, 1).first()?;
    // The lower half; the upper one is not used.
    (number as u32 == thread).then_some(list)
}

/// Starts a thread that looks for itself. What it needs for that is there before: what it says is
/// kept for good.
fn measure(peek: Peek) -> io::Result<Option<Descriptors>> {
    struct Measured {
        peek: Lock<Peek>,
        found: AtomicUsize,
    }
    extern "C" fn look(argument: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `measure` passes a place that is there until this thread is joined.
        let place = unsafe { &*argument.cast::<Measured>() };
        let peek = place.peek.lock();
        let found = distance(look as *const () as usize, argument as usize, &peek);
        place.found.store(found.unwrap_or(0), SeqCst);
        ptr::null_mut()
    }
    let place = Measured { peek: Lock::new(peek), found: AtomicUsize::new(0) };
    // SAFETY: `look` gets the place, which outlives the thread, since that is joined.
    let result = unsafe {
        let mut thread = mem::zeroed();
        let argument = ptr::from_ref(&place).cast_mut().cast();
        match libc::pthread_create(&raw mut thread, ptr::null(), look, argument) {
            0 => libc::pthread_join(thread, ptr::null_mut()),
            error => error,
        }
    };
    match result {
        0 => Ok(Some(place.found.into_inner())
            .filter(|found| *found != 0)
            .map(|start| Descriptors { start })),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// How many words after this thread's list the two lie, if they do in one place.
fn distance(start: usize, argument: usize, peek: &Peek) -> Option<usize> {
    // SAFETY: a thread may ask for its number.
    let this = unsafe { libc::syscall(libc::SYS_gettid) };
    let list = list_of(u32::try_from(this).ok()?, peek)?;
    let words = peek.some_words(list, REACH);
    let mut places = (0..words.len()).filter(|at| words[*at..].starts_with(&[start, argument]));
    let place = places.next()?;
    places.next().is_none().then_some(place)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_known_by_what_it_was_started_with() {
        extern "C" fn wait(argument: *mut libc::c_void) -> *mut libc::c_void {
            // SAFETY: it is what is given below.
            let ends = unsafe { Box::from_raw(argument.cast::<EndChannels>()) };
            // SAFETY: a thread may ask for its number.
            let _ = ends.0.send(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
            let _ = ends.1.recv();
            ptr::null_mut()
        }
        struct EndChannels(mpsc::Sender<u32>, mpsc::Receiver<()>);

        let descriptors = Descriptors::known().unwrap().expect("glibc keeps both in one place");
        let peek = Peek::new().unwrap();
        let ((sender, id), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let argument = Box::into_raw(Box::new(EndChannels(sender, ended)));
        // SAFETY: `wait` takes what it is given, and the thread is joined.
        let thread = unsafe {
            let mut thread = mem::zeroed();
            let result = libc::pthread_create(&raw mut thread, ptr::null(), wait, argument.cast());
            assert_eq!(result, 0);
            thread
        };
        let id = id.recv().unwrap();
        let origin = descriptors.origin(id, &peek).unwrap();
        assert_eq!(origin.start, wait as *const () as usize);
        assert_eq!(origin.argument, argument as usize);
        drop(end);
        // SAFETY: it was started above, and is joined once.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
        assert_eq!(descriptors.origin(u32::MAX / 2, &peek), None, "there is no such thread");
        let first = descriptors.origin(std::process::id(), &peek);
        assert_eq!(first.map(|origin| origin.start), Some(0), "the first was not started");
    }
}
