//! pthread keys: what makes a library unloadable more than a thousand times.
//!
//! The std inside each library takes one of glibc's 1,024 `pthread_key`s at the first use of a
//! thread-local with a destructor and never returns it. After some 1,020 loads the process aborts
//! ("out of TLS keys"), and a key whose destructor was unmapped crashes the next thread that exits.
//! So the keys that glibc gives are noted, and deleted when the library is closed.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::Original;

type Destructor = Option<unsafe extern "C" fn(*mut libc::c_void)>;
type KeyCreate = unsafe extern "C" fn(*mut libc::pthread_key_t, Destructor) -> libc::c_int;
type KeyDelete = unsafe extern "C" fn(libc::pthread_key_t) -> libc::c_int;

pub(super) static CREATE: Original = Original::new(c"pthread_key_create");
pub(super) static DELETE: Original = Original::new(c"pthread_key_delete");

/// How many keys a library may have at a time. std takes one; C code in a plugin may take a few.
const LIMIT: usize = 64;
/// The keys, each one more than glibc's number, so that 0 stands for none.
static KEYS: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];

/// The library's own `pthread_key_create`.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn create(
    key: *mut libc::pthread_key_t,
    destructor: Destructor,
) -> libc::c_int {
    let Some(found) = CREATE.find() else { return libc::ENOSYS };
    // SAFETY: the name is that of glibc's function, whose type `KeyCreate` is.
    let result =
        unsafe { std::mem::transmute::<*mut libc::c_void, KeyCreate>(found)(key, destructor) };
    if result != 0 {
        return result;
    }
    // SAFETY: glibc has written the key.
    let given = unsafe { *key };
    let noted = KEYS.iter().any(|slot| slot.compare_exchange(0, given + 1, SeqCst, SeqCst).is_ok());
    if noted {
        return 0;
    }
    // A key that is not noted would outlive the library and crash a thread.
    // SAFETY: glibc has just given it, and nobody knows it yet.
    unsafe { delete(given) };
    libc::EAGAIN
}

/// The library's own `pthread_key_delete`: a key that it gives back by itself may be somebody
/// else's by the time it is closed, and must not be deleted once more then.
///
/// # Safety
/// As for the function of POSIX.
pub unsafe extern "C" fn delete(key: libc::pthread_key_t) -> libc::c_int {
    // The greatest number is no key, which glibc says.
    if let Some(noted) = key.checked_add(1) {
        for slot in &KEYS {
            // Noted once at the most.
            let _ = slot.compare_exchange(noted, 0, SeqCst, SeqCst);
        }
    }
    let Some(found) = DELETE.find() else { return libc::ENOSYS };
    // SAFETY: the name is that of glibc's function, whose type `KeyDelete` is.
    unsafe { std::mem::transmute::<*mut libc::c_void, KeyDelete>(found)(key) }
}

/// Runs when the library is closed.
///
/// # Safety
/// Nothing of this library runs any more: its std would go on using a key that is somebody else's
/// by then.
pub unsafe extern "C" fn delete_keys() {
    for slot in &KEYS {
        if let Some(key) = slot.load(SeqCst).checked_sub(1) {
            // SAFETY: glibc gave this key to this library, which has not deleted it.
            unsafe { delete(key) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_key_is_refused_by_glibc() {
        // SAFETY: there is no such key.
        let refused = unsafe { delete(libc::pthread_key_t::MAX) };
        assert_eq!(refused, libc::EINVAL);
    }
}
