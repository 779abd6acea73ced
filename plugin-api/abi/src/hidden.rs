//! What a plugin's library carries, hidden in it, under names of the C library's: the functions of
//! [`unload`](crate::unload) and of [`signals`](crate::signals), and what runs when it is closed.

/// Emits these functions, and the entries in `.fini_array`, into the library that is being
/// compiled.
///
/// A link may hold several plugin crates: a test of two plugins, or a plugin that uses another
/// one's event type. So the symbols are weak, and the first definition is taken for all. Link-time
/// optimization puts the assembly of all crates into one piece, where a weak symbol too may be
/// defined only once: hence the `.ifndef`. What runs at the end may run twice.
#[doc(hidden)]
#[macro_export]
macro_rules! __hidden_functions {
    () => {
        #[cfg(all(
            not(test),
            target_os = "linux",
            target_env = "gnu",
            any(target_arch = "x86_64", target_arch = "aarch64")
        ))]
        const _: () = {
            mod hidden {
                use $crate::{signals::library as signals, unload::glibc as unload};

                $crate::__hidden! {
                    "pthread_key_create" => unload::keys::create,
                    "pthread_key_delete" => unload::keys::delete,
                    "pthread_create" => unload::threads::create,
                    "dlsym" => unload::lookup::dlsym,
                    "putenv" => unload::strings::putenv,
                    "openlog" => unload::strings::openlog,
                    "on_exit" => unload::functions::on_exit,
                    "timer_create" => unload::functions::timer_create,
                    "timer_delete" => unload::functions::timer_delete,
                    "sigaction" => signals::sigaction,
                    "__sigaction" => signals::sigaction,
                    "signal" => signals::signal,
                    "ssignal" => signals::signal,
                    "bsd_signal" => signals::signal,
                    "sysv_signal" => signals::sysv_signal,
                    "__sysv_signal" => signals::sysv_signal,
                    "sigset" => signals::sigset,
                    "sigignore" => signals::sigignore,
                    "siginterrupt" => signals::siginterrupt,
                }
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static DELETE_KEYS: unsafe extern "C" fn() = unload::keys::delete_keys;
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static GIVE_BACK: unsafe extern "C" fn() = unload::threads::give_back;
                #[used]
                #[unsafe(link_section = ".fini_array")]
                static PUT_BACK: extern "C" fn() = signals::put_back;
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
