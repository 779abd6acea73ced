//! Process 1 of a container: the host runs in a child of it, and this process does what process 1
//! has to.
//!
//! Orphans become children of process 1, and stay as zombies until it waits for them. A host that
//! waited for all children would take the exit statuses from its own probes, and from plugins that
//! have started processes. So whoever waits for everybody is a process of its own, which has no
//! other children than those: it waits, passes signals on, and ends as the host does.

use std::env;
use std::ffi::c_int;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::output;

/// What is passed on to the host. Process 1 gets no signal that it has no handler for.
const PASSED: &[c_int] = &[SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];

/// If this is process 1: runs the same command in a child, until that ends, and gives its exit
/// code. `None` if this is not process 1, or if there can be no child: then this process goes on as
/// the host, and orphans stay.
pub(crate) fn run_in_child() -> Option<u8> {
    if std::process::id() != 1 {
        return None;
    }
    let run = || -> std::io::Result<u8> {
        // Before there is a child, so that nothing of it is missed.
        let signals = Signals::new(PASSED.iter().copied().chain([SIGCHLD]))?;
        let child = start()?;
        Ok(wait_for(child, signals))
    };
    match run() {
        Ok(code) => Some(code),
        Err(error) => {
            output::error(&format!(
                "going on as process 1, which does not wait for orphans: {error}"
            ));
            None
        }
    }
}

fn start() -> std::io::Result<Pid> {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Of its own process group: what a terminal sends comes here alone, and is passed on once.
    command.args(arguments).process_group(0);
    // What names this process is meant for the host.
    for name in ["LISTEN_PID", "WATCHDOG_PID"] {
        if env::var_os(name).is_some_and(|pid| pid == "1") {
            command.env_remove(name);
        }
    }
    Ok(Pid::from_child(&command.spawn()?))
}

/// Waits for whatever ends, until it is the host.
fn wait_for(host: Pid, mut signals: Signals) -> u8 {
    loop {
        for signal in signals.wait() {
            if signal != SIGCHLD
                && let Some(signal) = Signal::from_named_raw(signal)
            {
                // It may have ended in this moment.
                let _ = kill_process(host, signal);
            }
        }
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if ended == host {
                return code(status);
            }
        }
    }
}

/// As shells tell it: 128 and the signal for one that was ended by a signal.
fn code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or(signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
