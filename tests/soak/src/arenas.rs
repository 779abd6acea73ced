//! How much memory the system's allocator may keep for itself.
//!
//! glibc gives threads one of up to eight arenas a processor, and each arena keeps what was once
//! needed in it. A host exchanges its threads at every reload, so it takes thousands of reloads
//! until all arenas have grown to the same size, and until then that growth looks like a leak, or
//! hides one. With four of them it is over soon.

use std::{env, os::unix::process::CommandExt, process::Command};

const VARIABLE: &str = "MALLOC_ARENA_MAX";
const ARENAS: &str = "4";

/// Starts this program anew with few arenas, unless the environment says how many there are.
pub(crate) fn limit() {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        // It comes back only if it fails; the run has more arenas then, and says so.
        let error = Command::new(program).args(env::args_os().skip(1)).env(VARIABLE, ARENAS).exec();
        eprintln!("{VARIABLE} could not be set: {error}");
    }
}

/// What the environment says.
pub(crate) fn described() -> String {
    let arenas = env::var(VARIABLE).unwrap_or_else(|_| "the default".to_owned());
    format!("{VARIABLE}: {arenas}")
}
