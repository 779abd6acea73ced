//! The functions under names of glibc's, and what they note:
//!
//! * [`keys`]: pthread keys are noted, and deleted when the library is closed;
//! * [`threads`]: threads that the library starts are noted until the kernel has no such thread any
//!   more;
//! * [`strings`]: what the C library keeps a pointer to is copied;
//! * [`functions`]: functions that the C library calls later, and would call in a library that is
//!   gone, are counted;
//! * [`lookup`]: whoever looks one of these functions up by its name (`dlsym`) gets the library's
//!   own.

pub mod functions;
pub mod keys;
pub mod lookup;
pub mod strings;
pub mod threads;

use std::{
    ffi::CStr,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use super::{Remains, StartedThread};

pub(super) fn before_close(started: &mut [StartedThread]) -> Remains {
    Remains {
        threads: threads::before_close(started),
        exit_functions: functions::exit_functions(),
        timers: functions::timers(),
    }
}

/// A function of the C library, looked up once.
struct Original {
    name: &'static CStr,
    found: AtomicPtr<libc::c_void>,
}

impl Original {
    const fn new(name: &'static CStr) -> Self {
        Original { name, found: AtomicPtr::new(null_mut()) }
    }

    /// What a library without hidden functions would call: usually the C library's, or what
    /// somebody put before it (a sanitizer, a preloaded library). This library's own is hidden, so
    /// it is not what is found.
    fn find(&self) -> Option<*mut libc::c_void> {
        let mut found = self.found.load(Relaxed);
        if found.is_null() {
            // SAFETY: the name ends with a zero byte.
            found = unsafe { lookup::system(libc::RTLD_DEFAULT, self.name.as_ptr()) };
            self.found.store(found, Relaxed);
        }
        (!found.is_null()).then_some(found)
    }
}
