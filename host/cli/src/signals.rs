//! The signals that a host obeys, and those that must not end it.
//!
//! A signal whose default action is to end the process would lose what has changed in plugins'
//! state since it was last kept. So every one that is sent to programs has a meaning here: it asks
//! the host to stop, or it is told and means nothing. What a shell has this process ignore
//! (`nohup`, a job in the background of a script) stays ignored. docs/signals.md has the whole
//! list.
//!
//! Not by tokio's own signal handling: cargo would turn that feature on for plugins of the same
//! build too, and in a plugin it keeps two file descriptors of each generation.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::sync::Arc;
use std::{io, thread};

use ksi_host::{StopHandle, StopStage};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use tokio::sync::Notify;

use super::exit::SIGNALLED_TOO_OFTEN;

/// Each asks the host to stop, or to go on to its next stage.
const STOP: &[c_int] = &[SIGINT, SIGTERM, SIGQUIT];
/// A terminal is gone, or time or power runs out. Asks the host to stop, and nothing more: a shell
/// passes on what the system sends as well, and some the system sends again and again.
#[cfg(target_os = "linux")]
const STOP_ONCE: &[c_int] = &[SIGHUP, SIGXCPU, libc::SIGPWR];
#[cfg(not(target_os = "linux"))]
const STOP_ONCE: &[c_int] = &[SIGHUP, SIGXCPU];
/// Mean nothing. SIGXFSZ has the write fail that was too much, which is told where it happens.
const NOTHING: &[c_int] = &[SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXFSZ];
/// Those that shells have programs ignore.
const LEFT_IGNORED: &[c_int] = &[SIGHUP, SIGINT, SIGQUIT];

/// Has signals ask the host to stop, from now on. One more than there are stages ends the process.
/// If there is somebody who reads the configuration again, SIGHUP wakes him instead.
pub(crate) fn listen(stop: StopHandle, reload: Option<Arc<Notify>>) -> io::Result<()> {
    let ignored = ignored();
    let heard = STOP.iter().chain(STOP_ONCE).chain(NOTHING).copied();
    let heard = heard
        .filter(|signal| !(LEFT_IGNORED.contains(signal) && ignored & (1 << (signal - 1)) != 0));
    let mut signals = Signals::new(heard)?;
    let mut told = BTreeSet::new();
    let obey = move || {
        for signal in signals.forever() {
            if let (SIGHUP, Some(reload)) = (signal, &reload) {
                tracing::info!("SIGHUP came: reading the configuration again");
                reload.notify_one();
            } else if STOP.contains(&signal) {
                ask(&stop, signal);
            } else if STOP_ONCE.contains(&signal) {
                if stop.stage() == StopStage::Running {
                    ask(&stop, signal);
                }
            } else if told.insert(signal) {
                tracing::info!("{} came, which means nothing to this host", name(signal));
            }
        }
    };
    thread::Builder::new().name("ksi-signals".to_owned()).spawn(obey)?;
    Ok(())
}

fn ask(stop: &StopHandle, signal: c_int) {
    let name = name(signal);
    match stop.request() {
        Some(StopStage::Draining) => tracing::info!(
            "stopping ({name}): what is inside may end; a further signal does not wait for it"
        ),
        Some(StopStage::Unloading) => {
            tracing::warn!("stopping ({name}): calls that have not ended are cancelled");
        }
        Some(_) => tracing::warn!(
            "stopping ({name}): state is kept, and plugins are not waited for; a further signal ends at once"
        ),
        None => {
            ksi_host::expect_exit();
            std::process::exit(SIGNALLED_TOO_OFTEN);
        }
    }
}

fn name(signal: c_int) -> String {
    signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// The signals that this process ignores, a bit each; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// Runs `then` at the first SIGINT or SIGTERM, on a thread of its own, for a command that has no
/// runtime; the second one ends the process.
pub(crate) fn on_first(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut then = Some(then);
    let run = move || {
        for _ in signals.forever() {
            match then.take() {
                Some(then) => then(),
                None => std::process::exit(SIGNALLED_TOO_OFTEN),
            }
        }
    };
    thread::Builder::new().name("ksi-signals".to_owned()).spawn(run)?;
    Ok(())
}
