//! Kills processes of plugins at random: of live ones, and of those that are on their way up or
//! down.

use std::{fs, process, sync::Arc, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::task::JoinHandle;

use crate::{ledger::Ledger, roles::Role};

/// Kills one process after the other until it is dropped.
pub(crate) struct Killer(JoinHandle<()>);

impl Killer {
    /// On average one in so long.
    pub(crate) fn start(every: Duration, seed: u64, ledger: Arc<Ledger>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Killer(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every.mul_f64(2.0 * random.f64())).await;
                kill_one(&mut random, &ledger);
            }
        }))
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Kills the process of a plugin, if one is found: there may be none for a moment.
fn kill_one(random: &mut fastrand::Rng, ledger: &Ledger) {
    let Some(role) = random.choice(Role::ALL) else { return };
    let of_role = children().into_iter().filter(|pid| plugin_in(*pid) == Some(role));
    let Some(pid) = random.choice(of_role.collect::<Vec<_>>()) else { return };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // From here on it is this one, or none.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if plugin_in(pid.as_raw_nonzero().get().unsigned_abs()) == Some(role) {
        ledger.kills.note(role);
        // It may have ended by itself.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// The processes that this one has started.
pub(crate) fn children() -> Vec<u32> {
    let numbers = |text: String| {
        text.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<u32>>()
    };
    let tasks = fs::read_dir(format!("/proc/{}/task", process::id()));
    let tasks = tasks.into_iter().flatten().flatten().map(|task| task.path().join("children"));
    tasks.filter_map(|file| fs::read_to_string(file).ok()).flat_map(numbers).collect()
}

/// Whose library a process has open.
fn plugin_in(pid: u32) -> Option<Role> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let names = maps.lines().filter_map(|line| line.rsplit_once('/').map(|(_, name)| name));
    names.filter(|name| name.contains(".so")).find_map(|name| {
        Role::ALL.into_iter().find(|role| name.starts_with(&format!("{}-", role.name())))
    })
}
