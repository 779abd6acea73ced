//! Functions of the C library that keep a pointer to what they are given. From a literal of a
//! plugin that would be a pointer into its library: the next look at the environment, or the next
//! line to the system's log, would crash the host after the library is closed. Here they get
//! copies.

use std::ffi::{CStr, c_char};

use super::Original;

type PutEnv = unsafe extern "C" fn(*mut c_char) -> libc::c_int;
type OpenLog = unsafe extern "C" fn(*const c_char, libc::c_int, libc::c_int);

pub(super) static PUTENV: Original = Original::new(c"putenv");
pub(super) static OPENLOG: Original = Original::new(c"openlog");

/// The library's own `putenv`: `setenv`, which copies. A later change of the text is therefore no
/// change of the environment. The C library keeps its copy for ever, as with `setenv`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn putenv(text: *mut c_char) -> libc::c_int {
    // SAFETY: promised by the caller.
    let whole = unsafe { CStr::from_ptr(text) }.to_bytes();
    let Some(equals) = whole.iter().position(|byte| *byte == b'=') else {
        // glibc's removes the variable then, and keeps nothing.
        let Some(found) = PUTENV.find() else { return -1 };
        // SAFETY: the type is that of glibc's function.
        return unsafe { std::mem::transmute::<*mut libc::c_void, PutEnv>(found)(text) };
    };
    // SAFETY: a copy of so many bytes and a zero byte, and the rest of `text` after the equals
    // sign.
    unsafe {
        let name = libc::strndup(text, equals);
        if name.is_null() {
            return -1;
        }
        let result = libc::setenv(name, text.add(equals + 1), 1);
        libc::free(name.cast());
        result
    }
}

/// The library's own `openlog`: the name that lines of the system's log begin with is copied, once
/// for each call.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn openlog(name: *const c_char, options: libc::c_int, facility: libc::c_int) {
    let Some(found) = OPENLOG.find() else { return };
    // SAFETY: the type is that of the function; the name is null or ends with a zero byte, as the
    // caller promises.
    unsafe {
        let copy = if name.is_null() { name } else { libc::strdup(name).cast_const() };
        std::mem::transmute::<*mut libc::c_void, OpenLog>(found)(copy, options, facility);
    }
}
