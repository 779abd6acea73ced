//! What a library must not leave behind in the C library, so that it can be unloaded, again and
//! again.
//!
//! A plugin's library carries hidden functions of its own under the names of some of the C
//! library's. What is linked into the plugin, its std and C code alike, binds to them; the host and
//! other libraries keep those of the C library. Each does what the C library does, through it, and
//! sees to it that closing the library is right:
//!
//! * [`keys`]: pthread keys are noted, and deleted when the library is closed;
//! * [`threads`]: threads that the library starts are noted until the kernel has no such thread any
//!   more;
//! * [`strings`]: what the C library keeps a pointer to is copied;
//! * [`functions`]: functions that the C library calls later, and would call in a library that is
//!   gone, are counted;
//! * [`lookup`]: whoever looks one of these functions up by its name (`dlsym`) gets the library's
//!   own.
//!
//! The host asks for what is noted before it closes the library (`before_close`). What a library
//! does through *another* library that it depends on is not seen here.
//!
//! Linux with glibc on x86-64 and aarch64 only. Elsewhere the functions are not there, and nothing
//! is noted.

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod functions;
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod keys;
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod lookup;
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod strings;
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod threads;

use abi_stable::{StableAbi, std_types::RSliceMut};

/// A thread that a library has started.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartedThread {
    /// Its number in the kernel; 0 as long as it has only begun.
    pub id: u32,
    /// When it noted itself: ticks, a hundred a second, since the system was booted. A thread of
    /// this number that began later is another one.
    pub noted: u64,
}

/// What the C library and the kernel have of a library.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remains {
    /// Threads that it has started and that have not ended.
    pub threads: u64,
    /// Functions that were registered with `on_exit`.
    pub exit_functions: u64,
    /// Timers that call a function of it (`timer_create` with `SIGEV_THREAD`).
    pub timers: u64,
}

/// What remains of this library, which is about to be closed; `threads` is filled as far as it has
/// room.
///
/// No code of the library may run meanwhile but on the threads that this finds.
pub(super) extern "C" fn before_close(threads: RSliceMut<'_, StartedThread>) -> Remains {
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    return Remains {
        threads: threads::before_close(threads.into_mut_slice()),
        exit_functions: functions::exit_functions(),
        timers: functions::timers(),
    };
    #[cfg(not(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        let _ = threads;
        Remains::default()
    }
}

/// A function of the C library, looked up once.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
struct Original {
    name: &'static std::ffi::CStr,
    found: std::sync::atomic::AtomicPtr<libc::c_void>,
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
impl Original {
    const fn new(name: &'static std::ffi::CStr) -> Self {
        Original { name, found: std::sync::atomic::AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// What a library without hidden functions would call: usually the C library's, or what
    /// somebody put before it (a sanitizer, a preloaded library). This library's own is hidden, so
    /// it is not what is found.
    fn find(&self) -> Option<*mut libc::c_void> {
        use std::sync::atomic::Ordering::Relaxed;
        let mut found = self.found.load(Relaxed);
        if found.is_null() {
            // SAFETY: the name ends with a zero byte.
            found = unsafe { lookup::system(libc::RTLD_DEFAULT, self.name.as_ptr()) };
            self.found.store(found, Relaxed);
        }
        (!found.is_null()).then_some(found)
    }
}

/// Emits the hidden functions, and the entries in `.fini_array`, into the library that is being
/// compiled.
///
/// A link may hold several plugin crates: a test of two plugins, or a plugin that uses another
/// one's event type. So the symbols are weak, and the first definition is taken for all. Link-time
/// optimization puts the assembly of all crates into one piece, where a weak symbol too may be
/// defined only once: hence the `.ifndef`. What runs at the end may run twice.
#[doc(hidden)]
#[macro_export]
macro_rules! __unloadable {
    () => {
        #[cfg(all(
            not(test),
            target_os = "linux",
            target_env = "gnu",
            any(target_arch = "x86_64", target_arch = "aarch64")
        ))]
        const _: () = {
            mod unloadable {
                $crate::__hidden! {
                    "pthread_key_create" => $crate::unload::keys::create,
                    "pthread_key_delete" => $crate::unload::keys::delete,
                    "pthread_create" => $crate::unload::threads::create,
                    "dlsym" => $crate::unload::lookup::dlsym,
                    "putenv" => $crate::unload::strings::putenv,
                    "openlog" => $crate::unload::strings::openlog,
                    "on_exit" => $crate::unload::functions::on_exit,
                    "timer_create" => $crate::unload::functions::timer_create,
                    "timer_delete" => $crate::unload::functions::timer_delete,
                }
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static DELETE_KEYS: unsafe extern "C" fn() = $crate::unload::keys::delete_keys;
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static GIVE_BACK: unsafe extern "C" fn() = $crate::unload::threads::give_back;
            }
        };
    };
}

/// Emits functions that are known by these names in the library that is being compiled, and not
/// outside of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __hidden {
    ($($name:literal => $function:path,)*) => {$(
        #[cfg(target_arch = "x86_64")]
        $crate::__hidden!(@jump "jmp", $name, $function);
        #[cfg(target_arch = "aarch64")]
        $crate::__hidden!(@jump "b", $name, $function);
    )*};
    (@jump $jump:literal, $name:literal, $function:path) => {
        ::core::arch::global_asm!(
            ::core::concat!(".ifndef ", $name),
            ::core::concat!(".weak ", $name),
            ::core::concat!(".hidden ", $name),
            ::core::concat!(".type ", $name, ",%function"),
            ::core::concat!($name, ": ", $jump, " {function}"),
            ".endif",
            function = sym $function,
        );
    };
}
