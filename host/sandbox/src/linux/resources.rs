//! What the process may take: `setrlimit`.

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

use super::number;
use crate::{Applied, Bytes, Limits, SandboxError};

/// `status` is what `/proc/self/status` says, if there is one.
pub(super) fn set(
    limits: &Limits,
    status: Option<&str>,
    applied: &mut Applied,
) -> Result<(), SandboxError> {
    // A core file would hold what the process was handed, and takes the longer the more it had.
    bound("core", Resource::Core, 0, 0, |_| "no core files".to_owned(), applied)?;
    if let Some(memory) = limits.memory {
        let taken = status.and_then(|status| number(status, "VmSize:")).map(|kib| kib << 10);
        if let Some(taken) = taken.filter(|taken| *taken >= memory.0) {
            let (wanted, taken) = (memory.to_string(), Bytes(taken).to_string());
            return Err(SandboxError::Taken { setting: "memory", wanted, taken });
        }
        let shown = |to| format!("{} of address space", Bytes(to));
        bound("memory", Resource::As, memory.0, memory.0, shown, applied)?;
    }
    if let Some(cpu) = limits.cpu {
        let seconds = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
        // SIGXCPU says what the process ended of, where SIGKILL says nothing. That is for the one
        // who does not end of it.
        let shown = |to| format!("{to} s of processor time");
        bound("cpu", Resource::Cpu, seconds, seconds + 1, shown, applied)?;
    }
    if let Some(files) = limits.open_files {
        let shown = |to| format!("{to} descriptors");
        bound("open_files", Resource::Nofile, files, files, shown, applied)?;
    }
    if let Some(processes) = limits.processes {
        let shown = |to| format!("{to} threads and processes of this user");
        bound("processes", Resource::Nproc, processes, processes, shown, applied)?;
        if getuid().is_root() {
            applied.lacks(
                "processes and threads are not limited",
                "RLIMIT_NPROC",
                "the superuser, whose processes are not counted",
                "run the host as a user of its own, or limit it by a cgroup",
            );
        }
    }
    Ok(())
}

/// A bound that is stricter already stays.
fn bound(
    setting: &'static str,
    resource: Resource,
    soft: u64,
    hard: u64,
    shown: impl Fn(u64) -> String,
    applied: &mut Applied,
) -> Result<(), SandboxError> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let to = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    setrlimit(resource, to).map_err(|error| SandboxError::Resource {
        setting,
        value: shown(soft),
        source: error.into(),
    })?;
    let was = if soft > most { ", as it was before" } else { "" };
    applied.is_set(setting, format!("{}{was}", shown(soft.min(most))));
    Ok(())
}
