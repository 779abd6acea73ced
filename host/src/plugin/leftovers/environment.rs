//! Environment variables that lie in a library's memory.
//!
//! `putenv` does not copy: from a string literal of a plugin it makes a part of the process's environment, and after the
//! library is closed the next look for any variable is a crash. A plugin's own `putenv` copies (`ksi_plugin_api::abi::unload`);
//! this finds what came another way: through a library that the plugin depends on, or written into `environ` directly.
//!
//! Such a variable is not put back here: somebody may have got it from `getenv`, for as long as he likes.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char},
    ops::Range,
};

use super::Remaining;

/// The variables that lie there.
#[cfg(unix)]
pub(super) fn look(memory: &Range<usize>) -> Vec<Remaining> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut found = Vec::new();
    // SAFETY: read as `getenv` reads it: a pointer to pointers up to a null one, to strings that end with a zero byte.
    // Whoever changes the environment while others read it breaks that rule for every reader of the process alike.
    unsafe {
        let mut entry = environ;
        if memory.contains(&(entry as usize)) {
            found.push(Remaining::new(
                "the list of all environment variables (`environ`) lies in it",
            ));
        }
        while !entry.is_null() && !(*entry).is_null() {
            if memory.contains(&(*entry as usize)) {
                found.push(named(CStr::from_ptr(*entry)));
            }
            entry = entry.add(1);
        }
    }
    found
}

#[cfg(not(unix))]
pub(super) fn look(_memory: &Range<usize>) -> Vec<Remaining> {
    Vec::new()
}

fn named(variable: &CStr) -> Remaining {
    let text = variable.to_string_lossy();
    let name = text.split('=').next().unwrap_or_default();
    Remaining::new(format!(
        "the environment variable `{name}` lies in it: it was set with `putenv`, which does not copy. Set it with `setenv`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_was_put_from_a_place_is_found_there_by_name_until_it_is_gone() {
        let place = c"KSI_TEST_PUT=1".to_owned();
        let start = place.as_ptr() as usize;
        let memory = start..start + place.as_bytes_with_nul().len();
        assert_eq!(look(&memory), []);
        // SAFETY: the string outlives its place in the environment. Tests of this process read no other variable.
        unsafe { libc::putenv(place.as_ptr().cast_mut()) };
        let found = look(&memory);
        // SAFETY: as above.
        unsafe { libc::unsetenv(c"KSI_TEST_PUT".as_ptr()) };
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("`KSI_TEST_PUT`"), "{}", found[0]);
        assert_eq!(look(&memory), []);
    }
}
