//! Functions that are looked up by name: whoever looks for one that this library has of its own gets that.
//!
//! jemalloc looks for the `pthread_create` that comes after its own, and would start threads past the one that notes them. So
//! a library has a `dlsym` too. It asks the system's, and only what that finds to be the C library's function becomes the
//! library's own. Where a search begins depends on who calls (`RTLD_NEXT`): this is a part of the library that asks.

use std::{
    ffi::{CStr, c_char, c_void},
    mem, ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use super::{Original, functions, keys, strings, threads};

type Look = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The versions of glibc that it may have got its present form in: x86-64 and aarch64, the newest first.
const VERSIONS: [&CStr; 3] = [c"GLIBC_2.34", c"GLIBC_2.17", c"GLIBC_2.2.5"];

/// The system's `dlsym`.
///
/// # Safety
/// As for the function of POSIX.
pub(super) unsafe fn system(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut look = FOUND.load(Relaxed);
    if look.is_null() {
        // By its version: `dlsym` is a name that this library has.
        // SAFETY: the texts end with a zero byte.
        let versioned = |version: &&CStr| unsafe {
            libc::dlvsym(libc::RTLD_DEFAULT, c"dlsym".as_ptr(), version.as_ptr())
        };
        let mut found = VERSIONS.iter().map(versioned);
        look = found.find(|found| !found.is_null()).unwrap_or(ptr::null_mut());
        FOUND.store(look, Relaxed);
    }
    if look.is_null() {
        return look;
    }
    // SAFETY: the type is that of the function; the arguments are the caller's.
    unsafe { mem::transmute::<*mut c_void, Look>(look)(handle, name) }
}

/// The library's own `dlsym`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the arguments are the caller's.
    let found = unsafe { system(handle, name) };
    if found.is_null() {
        return found;
    }
    // SAFETY: what was found has a name, which ends with a zero byte.
    let name = unsafe { CStr::from_ptr(name) };
    match own(name) {
        // Another library's function of this name is what was asked for.
        Some((original, own)) if original.find() == Some(found) => own,
        _ => found,
    }
}

/// What this library has under a name, and in place of what.
fn own(name: &CStr) -> Option<(&'static Original, *mut c_void)> {
    let own = match name.to_bytes() {
        b"pthread_create" => (&threads::CREATE, threads::create as *mut c_void),
        b"pthread_key_create" => (&keys::CREATE, keys::create as *mut c_void),
        b"pthread_key_delete" => (&keys::DELETE, keys::delete as *mut c_void),
        b"putenv" => (&strings::PUTENV, strings::putenv as *mut c_void),
        b"openlog" => (&strings::OPENLOG, strings::openlog as *mut c_void),
        b"on_exit" => (&functions::ON_EXIT, functions::on_exit as *mut c_void),
        b"timer_create" => (&functions::TIMER_CREATE, functions::timer_create as *mut c_void),
        b"timer_delete" => (&functions::TIMER_DELETE, functions::timer_delete as *mut c_void),
        _ => return None,
    };
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_c_librarys_function_of_a_name_is_replaced_by_the_librarys_own() {
        // SAFETY: the names end with a zero byte.
        unsafe {
            let own = threads::create as *mut c_void;
            for handle in [libc::RTLD_NEXT, libc::RTLD_DEFAULT] {
                assert_eq!(dlsym(handle, c"pthread_create".as_ptr()), own);
                let other = c"pthread_join".as_ptr();
                assert_eq!(dlsym(handle, other), libc::dlsym(handle, other));
                assert!(dlsym(handle, c"ksi_no_such_function".as_ptr()).is_null());
            }
            assert!(!libc::dlerror().is_null(), "what the system says of it is there");
            // One of another library: the loader's, which has no such function.
            let of_this = libc::dlopen(ptr::null(), libc::RTLD_NOW);
            assert_eq!(dlsym(of_this, c"pthread_create".as_ptr()), own);
            libc::dlclose(of_this);
        }
    }
}
