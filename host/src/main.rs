//! `ksi`: runs a host, builds plugins into one, and speaks to one.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // The host starts this very executable to try a plugin file in; that child goes no further.
    ksi_host::answer_probe();
    cli::run()
}
