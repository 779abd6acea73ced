//! What makes a plugin's library unloadable more than a thousand times.
//!
//! The std inside each library takes one of glibc's 1,024 `pthread_key`s at the first use of a thread-local with a
//! destructor and never returns it. After some 1,020 loads the process aborts ("out of TLS keys"), and a key whose
//! destructor was unmapped crashes the next thread that exits.
//!
//! So a plugin's library carries a hidden `pthread_key_create` of its own, to which its std binds at link time. It
//! notes the keys that glibc gives, and an entry in `.fini_array` deletes them when the library is closed. Only
//! libraries get the symbol (through `export_plugin!`); the host keeps glibc's.
//!
//! Linux with glibc on x86-64 and aarch64 only. Elsewhere a replaced library stays mapped, and the host says so.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

    type Destructor = Option<unsafe extern "C" fn(*mut libc::c_void)>;
    type KeyCreate = unsafe extern "C" fn(*mut libc::pthread_key_t, Destructor) -> libc::c_int;

    /// How many keys a library can note. std takes one; C code in a plugin may take a few.
    const LIMIT: usize = 64;
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    static KEYS: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];

    /// The library's own `pthread_key_create`.
    ///
    /// # Safety
    /// As for the function of POSIX.
    pub unsafe extern "C" fn create(
        key: *mut libc::pthread_key_t,
        destructor: Destructor,
    ) -> libc::c_int {
        // SAFETY: the name is that of glibc's function, whose type `KeyCreate` is. The library's own symbol is
        // hidden, so the search cannot find this very function.
        let result = unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"pthread_key_create".as_ptr());
            if found.is_null() {
                return libc::ENOSYS;
            }
            std::mem::transmute::<*mut libc::c_void, KeyCreate>(found)(key, destructor)
        };
        // SAFETY: glibc has written the key.
        let given = if result == 0 { unsafe { *key } } else { 0 };
        // std rejects key 0 and deletes it by itself; deleting it once more could hit a new owner.
        if given != 0 {
            let index = TAKEN.fetch_add(1, SeqCst);
            if let Some(slot) = KEYS.get(index) {
                slot.store(given, SeqCst);
            }
        }
        result
    }

    /// Runs when the library is closed.
    pub extern "C" fn delete_keys() {
        for slot in &KEYS[..TAKEN.load(SeqCst).min(LIMIT)] {
            let key = slot.swap(0, SeqCst);
            if key != 0 {
                // SAFETY: glibc gave this key to this library, and nobody else deletes it.
                unsafe { libc::pthread_key_delete(key) };
            }
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use glibc::{create, delete_keys};

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
        mod __ksi_key_fix {
            #[cfg(target_arch = "x86_64")]
            ::core::arch::global_asm!(
                ".globl pthread_key_create",
                ".hidden pthread_key_create",
                ".type pthread_key_create,@function",
                "pthread_key_create: jmp {create}",
                create = sym $crate::abi::keyfix::create,
            );
            #[cfg(target_arch = "aarch64")]
            ::core::arch::global_asm!(
                ".globl pthread_key_create",
                ".hidden pthread_key_create",
                ".type pthread_key_create,%function",
                "pthread_key_create: b {create}",
                create = sym $crate::abi::keyfix::create,
            );
            #[used]
            #[unsafe(link_section = ".fini_array")]
            static DELETE_KEYS: extern "C" fn() = $crate::abi::keyfix::delete_keys;
        }
    };
}
