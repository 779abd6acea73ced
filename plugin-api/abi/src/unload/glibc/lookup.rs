//! Functions that are looked up by name: whoever looks for one of those that note what a library
//! leaves behind gets the library's own.
//!
//! jemalloc looks for the `pthread_create` that comes after its own, and would start threads past
//! the one that notes them. So a library has a `dlsym` too. It asks the system's, and only what
//! that finds to be the C library's function becomes the library's own. Where a search begins
//! depends on who calls (`RTLD_NEXT`): this is a part of the library that asks.
//!
//! What is looked up with a version (`dlvsym`) is the system's. So are the functions for signals
//! that a library has of its own ([`signals`](crate::signals)): who looks for the next `sigaction`
//! means to call that one.

use std::{
    ffi::{CStr, c_char, c_void},
    mem, ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use super::{Original, functions, keys, strings, threads};

type Look = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The versions of glibc that it may have got its present form in: x86-64 and aarch64, the newest
/// first.
const VERSIONS: [&CStr; 3] = [c"GLIBC_2.34", c"GLIBC_2.17", c"GLIBC_2.2.5"];

/// The system's `dlsym`.
///
/// # Safety
/// As for the function of POSIX.
pub(crate) unsafe fn system(handle: *mut c_void, name: *const c_char) -> *mut c_void {
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
    use std::{
        env,
        ffi::CString,
        fs,
        os::unix::ffi::OsStrExt,
        process::{self, Command},
    };

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
            // The handle of the whole process, not of a library.
            let all = libc::dlopen(ptr::null(), libc::RTLD_NOW);
            assert_eq!(dlsym(all, c"pthread_create".as_ptr()), own);
            libc::dlclose(all);
        }
    }

    /// A library that has a `putenv`, as a wrapper of the C library's would.
    fn another_library() -> *mut c_void {
        let folder = env::temp_dir().join(format!("ksi-lookup-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (source, library) = (folder.join("wraps.c"), folder.join("wraps.so"));
        fs::write(&source, "int putenv(char *text) { return text == 0; }\n").unwrap();
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        let made = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let path = CString::new(library.as_os_str().as_bytes()).unwrap();
        // SAFETY: it has no code that runs when it is opened.
        let opened = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        fs::remove_dir_all(&folder).unwrap();
        assert!(!opened.is_null());
        opened
    }

    #[test]
    fn another_librarys_function_is_not_replaced_by_one_of_the_same_name() {
        let (library, name) = (another_library(), c"putenv".as_ptr());
        // SAFETY: the name ends with a zero byte.
        unsafe {
            let its = libc::dlsym(library, name);
            assert_eq!(dlsym(library, name), its);
            let own = strings::putenv as *mut c_void;
            assert_ne!(its, own);
            assert_eq!(dlsym(libc::RTLD_DEFAULT, name), own);
            libc::dlclose(library);
        }
    }
}
