//! Environment variables that lie in a library's memory.
//!
//! `putenv` does not copy: from a string literal of a plugin it makes a part of the process's
//! environment, and after the library is closed the next look for any variable is a crash. A
//! plugin's own `putenv` copies (`ksi_abi::unload`); this finds what came another way: through a
//! library that the plugin depends on, or written into `environ` directly.
//!
//! Such a variable is not put back here: somebody may have got it from `getenv`, for as long as he
//! likes.
//!
//! Nobody can keep the environment from changing meanwhile. The C library's lock is its own, and
//! Rust's standard library has one for each copy of it, of which every plugin has another. Before
//! glibc 2.41 a `setenv` even frees the list that is read. So the list is copied by the kernel
//! ([`peek`](super::peek)), which says that there is nothing where there is nothing, and counts
//! when it is the same twice. What remains: a variable that is put there later than this look is
//! not seen. Only code of the library had its address, and that has ended.

#![allow(unsafe_code)]

use std::ops::Range;

use super::Remaining;
#[cfg(unix)]
use super::peek;

/// How often the list is read again when it has changed meanwhile.
#[cfg(unix)]
const ATTEMPTS: usize = 16;
/// How many variables are looked at.
#[cfg(unix)]
const VARIABLES: usize = 1 << 20;
/// How much is shown of a variable's name.
#[cfg(unix)]
const NAME: usize = 256;

/// The variables that lie there.
#[cfg(unix)]
pub(super) fn look(memory: &Range<usize>) -> Vec<Remaining> {
    let peek = match peek::Peek::new() {
        Ok(peek) => peek,
        Err(error) => {
            let cause =
                format!("whether an environment variable lies in it cannot be seen: {error}");
            return vec![Remaining::new(cause)];
        }
    };
    let Some((list, variables)) = (0..ATTEMPTS).find_map(|_| environment(&peek)) else {
        return vec![Remaining::new(
            "whether an environment variable lies in it cannot be seen: the environment changes all the time",
        )];
    };
    let list = memory
        .contains(&list)
        .then(|| Remaining::new("the list of all environment variables (`environ`) lies in it"));
    let inside = variables.into_iter().filter(|variable| memory.contains(variable));
    list.into_iter().chain(inside.map(|variable| named(&peek.text(variable, NAME)))).collect()
}

/// Where the list lies, and where each variable does; nothing if the list has changed meanwhile.
#[cfg(unix)]
fn environment(peek: &peek::Peek) -> Option<(usize, Vec<usize>)> {
    let list = list();
    if list == 0 {
        return Some((list, Vec::new()));
    }
    let variables = peek.words(list, VARIABLES)?;
    let again = peek.words(list, VARIABLES)?;
    (variables == again && self::list() == list).then_some((list, variables))
}

/// Where the list lies now.
#[cfg(unix)]
fn list() -> usize {
    use std::{
        ptr::addr_of_mut,
        sync::atomic::{AtomicUsize, Ordering},
    };

    unsafe extern "C" {
        static mut environ: *mut libc::c_char;
    }
    // SAFETY: a pointer that lies in the process for as long as it runs, aligned as such. Others
    // may write it meanwhile.
    unsafe { AtomicUsize::from_ptr(addr_of_mut!(environ).cast()) }.load(Ordering::Acquire)
}

#[cfg(not(unix))]
pub(super) fn look(_memory: &Range<usize>) -> Vec<Remaining> {
    Vec::new()
}

#[cfg(unix)]
fn named(variable: &[u8]) -> Remaining {
    let text = String::from_utf8_lossy(variable);
    let name = text.split('=').next().unwrap_or_default();
    Remaining::new(format!(
        "the environment variable `{name}` lies in it: it was set with `putenv`, which does not copy. Set it with `setenv`"
    ))
}

#[cfg(all(test, unix))]
mod tests;
