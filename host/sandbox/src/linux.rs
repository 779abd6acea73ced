//! The steps, in the only order in which each can be done.

use std::fs;

use crate::{Applied, Limits, Profile, SandboxError};

mod landlock;
mod resources;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod seccomp;
/// Of other processors nobody makes filters.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod seccomp {
    use crate::{Applied, Limits, SandboxError};

    pub(super) fn restrict(_: &Limits, applied: &mut Applied) -> Result<(), SandboxError> {
        let found = "a processor of another kind";
        let advice = "run it on x86-64, aarch64 or riscv64";
        applied.lacks("system calls are not limited", "seccomp", found, advice);
        Ok(())
    }
}

pub(crate) fn apply(limits: &Limits) -> Result<Applied, SandboxError> {
    let mut applied = Applied::default();
    let status = fs::read_to_string("/proc/self/status").ok();
    one_thread(status.as_deref(), &mut applied)?;
    if limits.profile != Profile::None {
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| SandboxError::NoNewPrivs { source: error.into() })?;
        applied.is_set("rights", "no more by an exec");
    }
    resources::set(limits, status.as_deref(), &mut applied)?;
    if limits.profile != Profile::None {
        landlock::restrict(limits, &mut applied)?;
        seccomp::restrict(limits, &mut applied)?;
    }
    Ok(applied)
}

fn one_thread(status: Option<&str>, applied: &mut Applied) -> Result<(), SandboxError> {
    match status.and_then(|status| number(status, "Threads:")) {
        Some(1) => Ok(()),
        Some(threads) => Err(SandboxError::Threads { threads }),
        None => {
            applied.lacks(
                "other threads may not be limited",
                "to count the process's threads in /proc/self/status",
                "no such number",
                "mount /proc where this runs",
            );
            Ok(())
        }
    }
}

/// The first number of a line of `/proc/self/status`.
fn number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_other_threads_is_refused_and_one_that_cannot_be_looked_at_is_told() {
        let mut applied = Applied::default();
        one_thread(Some("Name:\tx\nThreads:\t1\n"), &mut applied).unwrap();
        assert_eq!(applied, Applied::default());
        let error = one_thread(Some("Threads:\t3\n"), &mut applied).unwrap_err();
        assert!(error.to_string().contains("has 3 threads"), "{error}");
        one_thread(None, &mut applied).unwrap();
        assert!(applied.missing[0].to_string().contains("mount /proc"), "{applied:?}");
    }

    #[test]
    fn this_test_has_more_than_one_thread_and_stays_as_it_is() {
        let error = std::thread::spawn(|| Limits::default().apply()).join().unwrap().unwrap_err();
        assert!(matches!(error, SandboxError::Threads { threads: 2.. }), "{error}");
    }
}
