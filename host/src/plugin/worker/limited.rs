//! A process that limits itself and becomes another program then: the limits stay.
//!
//! For plugins that a program of somebody else runs, which is not asked to limit itself.

use std::{os::unix::process::CommandExt, process::Command};

use ksi_sandbox::Limits;

use crate::text::causes::with_causes;

/// The first argument of such a process; behind it are its limits as JSON, and the program with its
/// arguments.
pub(crate) const ARGUMENT: &str = "__ksi-limited";

/// Is such a process, until it is another program; the status with which it is to exit if it does
/// not become that.
pub(crate) fn answer(_: fn(i32) -> !) -> i32 {
    // Standard error is the log of the host.
    eprintln!("ksi: {}", become_another());
    1
}

/// Why it has not.
fn become_another() -> String {
    let mut arguments = std::env::args_os().skip(2);
    let (Some(limits), Some(program)) = (arguments.next(), arguments.next()) else {
        return "no program was named".to_owned();
    };
    let limits: Limits = match serde_json::from_slice(limits.as_encoded_bytes()) {
        Ok(limits) => limits,
        Err(error) => return format!("the limits of this process cannot be read: {error}"),
    };
    match limits.apply() {
        Ok(applied) => {
            applied.missing.iter().for_each(|missing| eprintln!("ksi: {missing}"));
        }
        Err(error) => return with_causes(&error).to_string(),
    }
    let error = Command::new(&program).args(arguments).exec();
    format!("{} cannot be run: {error}", program.display())
}
