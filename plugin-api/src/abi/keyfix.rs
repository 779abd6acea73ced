//! What makes a plugin's library unloadable more than a thousand times.
//!
//! The std inside each library takes one of glibc's 1,024 `pthread_key`s at the first use of a thread-local with a
//! destructor and never returns it. After some 1,020 loads the process aborts ("out of TLS keys"), and a key whose
//! destructor was unmapped crashes the next thread that exits.
//!
//! So a plugin's library carries a hidden `pthread_key_create` and `pthread_key_delete` of its own, to which its std binds
//! at link time. They note the keys that glibc gives, and an entry in `.fini_array` deletes them when the library is closed. Only
//! libraries get the symbols (through `export_plugin!`); the host keeps glibc's.
//!
//! A link may hold several plugin crates: a test of two plugins, or a plugin that uses another one's event type. So the
//! symbols are weak, and the first definition is taken for all. Link-time optimization puts the assembly of all crates into
//! one piece, where a weak symbol too may be defined only once: hence the `.ifndef`. Deleting the keys twice does no harm.
//!
//! Linux with glibc on x86-64 and aarch64 only. Elsewhere a replaced library stays mapped, and the host says so.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{
        ffi::CStr,
        sync::atomic::{AtomicU32, Ordering::SeqCst},
    };

    type Destructor = Option<unsafe extern "C" fn(*mut libc::c_void)>;
    type KeyCreate = unsafe extern "C" fn(*mut libc::pthread_key_t, Destructor) -> libc::c_int;
    type KeyDelete = unsafe extern "C" fn(libc::pthread_key_t) -> libc::c_int;

    /// How many keys a library may have at a time. std takes one; C code in a plugin may take a few.
    const LIMIT: usize = 64;
    /// The keys, each one more than glibc's number, so that 0 stands for none.
    static KEYS: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];

    /// glibc's function of this name. The library's own is hidden, so it is not what is found.
    fn next(name: &CStr) -> Option<*mut libc::c_void> {
        // SAFETY: the name ends with a zero byte.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    }

    /// The library's own `pthread_key_create`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn create(
        key: *mut libc::pthread_key_t,
        destructor: Destructor,
    ) -> libc::c_int {
        let Some(found) = next(c"pthread_key_create") else { return libc::ENOSYS };
        // SAFETY: the name is that of glibc's function, whose type `KeyCreate` is.
        let result =
            unsafe { std::mem::transmute::<*mut libc::c_void, KeyCreate>(found)(key, destructor) };
        if result != 0 {
            return result;
        }
        // SAFETY: glibc has written the key.
        let given = unsafe { *key };
        let noted =
            KEYS.iter().any(|slot| slot.compare_exchange(0, given + 1, SeqCst, SeqCst).is_ok());
        if noted {
            return 0;
        }
        // A key that is not noted would outlive the library and crash a thread.
        // SAFETY: glibc has just given it, and nobody knows it yet.
        unsafe { delete(given) };
        libc::EAGAIN
    }

    /// The library's own `pthread_key_delete`: a key that it gives back by itself may be somebody else's by the time it
    /// is closed, and must not be deleted once more then.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn delete(key: libc::pthread_key_t) -> libc::c_int {
        for slot in &KEYS {
            // Noted once at the most.
            let _ = slot.compare_exchange(key + 1, 0, SeqCst, SeqCst);
        }
        let Some(found) = next(c"pthread_key_delete") else { return libc::ENOSYS };
        // SAFETY: the name is that of glibc's function, whose type `KeyDelete` is.
        unsafe { std::mem::transmute::<*mut libc::c_void, KeyDelete>(found)(key) }
    }

    /// Runs when the library is closed.
    ///
    /// # Safety
    /// Nothing of this library runs any more: its std would go on using a key that is somebody else's by then.
    pub unsafe extern "C" fn delete_keys() {
        for slot in &KEYS {
            if let Some(key) = slot.load(SeqCst).checked_sub(1) {
                // SAFETY: glibc gave this key to this library, which has not deleted it.
                unsafe { delete(key) };
            }
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use glibc::{create, delete, delete_keys};

/// Emits the hidden symbol and the entry in `.fini_array` into the library that is being compiled.
#[doc(hidden)]
#[macro_export]
macro_rules! __key_fix {
    () => {
        #[cfg(all(
            not(test),
            target_os = "linux",
            target_env = "gnu",
            any(target_arch = "x86_64", target_arch = "aarch64")
        ))]
        const _: () = {
            mod key_fix {
                #[cfg(target_arch = "x86_64")]
                ::core::arch::global_asm!(
                    ".ifndef pthread_key_create",
                    ".weak pthread_key_create",
                    ".hidden pthread_key_create",
                    ".type pthread_key_create,@function",
                    "pthread_key_create: jmp {create}",
                    ".endif",
                    ".ifndef pthread_key_delete",
                    ".weak pthread_key_delete",
                    ".hidden pthread_key_delete",
                    ".type pthread_key_delete,@function",
                    "pthread_key_delete: jmp {delete}",
                    ".endif",
                    create = sym $crate::abi::keyfix::create,
                    delete = sym $crate::abi::keyfix::delete,
                );
                #[cfg(target_arch = "aarch64")]
                ::core::arch::global_asm!(
                    ".ifndef pthread_key_create",
                    ".weak pthread_key_create",
                    ".hidden pthread_key_create",
                    ".type pthread_key_create,%function",
                    "pthread_key_create: b {create}",
                    ".endif",
                    ".ifndef pthread_key_delete",
                    ".weak pthread_key_delete",
                    ".hidden pthread_key_delete",
                    ".type pthread_key_delete,%function",
                    "pthread_key_delete: b {delete}",
                    ".endif",
                    create = sym $crate::abi::keyfix::create,
                    delete = sym $crate::abi::keyfix::delete,
                );
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static DELETE_KEYS: unsafe extern "C" fn() = $crate::abi::keyfix::delete_keys;
            }
        };
    };
}
