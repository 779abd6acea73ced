//! A start that does not get what it needs ends with a reason and an exit code: it neither hangs
//! nor panics.

use std::{os::unix::process::CommandExt, process::Command};

use crate::kit::{HostBuilder, Library, Running, TestHost, artifacts, until, wrapped};

/// Starts a host under each of these limits, the lowest first, until one is enough. Each start
/// before that has to end with a reason, and leave nothing; gives the reasons.
#[track_caller]
fn refused_starts(setup: &HostBuilder, limit: &str, around: &[&str], from: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    for number in from..from + 200 {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--{limit}={number}")).args(around);
        let mut host = Running::start(&mut wrapped(limited, &setup.command()));
        let ready_or_gone = || (host.has_ended(), host.stdout().contains("ready on "));
        let (has_ended, _) =
            until("it is ready or ends", ready_or_gone, |(ended, ready)| *ended || *ready);
        if !has_ended {
            return reasons;
        }
        let ran = host.ended();
        // 2 where the configuration could not be read.
        assert!(matches!(ran.code, Some(1 | 2)), "{limit} {number}: {ran:#?}");
        let reason = ran.stderr;
        assert!(!reason.contains("panicked"), "{limit} {number}: {reason}");
        assert!(reason.contains("error: "), "{limit} {number}: {reason}");
        assert!(!setup.socket().exists(), "{limit} {number}: it leaves no socket");
        reasons.push(reason);
    }
    panic!("no limit was enough")
}

#[test]
fn a_start_that_gets_too_few_threads_ends_with_what_to_do() {
    // One that nobody else has: the limit counts all threads of a user. It does not hold for the
    // superuser.
    const USER: u32 = 54_321;
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let can_run = Command::new(artifacts().ksi()).arg("--version").uid(USER).output();
    if !can_run.is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: this test runs a host as another user, which only the superuser may");
        return;
    }
    let builder = builder.user(USER);
    let around = ["setpriv", &user, &group, "--clear-groups"];
    let reasons = refused_starts(&builder, "nproc", &around, 2);
    assert!(reasons.len() > 5, "{reasons:#?}");
    for reason in &reasons {
        assert!(reason.contains("ulimit -u"), "{reason}");
    }
}

#[test]
fn a_start_that_gets_too_few_descriptors_ends_with_the_step_that_failed() {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let reasons = refused_starts(&builder, "nofile", &[], 4);
    assert!(reasons.len() > 5, "{reasons:#?}");
    for reason in &reasons {
        assert!(reason.contains("Too many open files"), "{reason}");
    }
}
