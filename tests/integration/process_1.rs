//! A host as process 1, as in a container.

use std::{fs, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::kit::{Library, TestHost, until, wrapped};

/// The children of a process, as numbers of this namespace, with their states.
fn children(of: u32) -> Vec<(u32, char)> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let each = list.split_whitespace().filter_map(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let state = stat.rsplit(") ").next()?.chars().next()?;
        Some((child.parse().ok()?, state))
    });
    each.collect()
}

#[test]
fn as_process_1_it_waits_for_orphans_and_passes_signals_on() {
    const ALONE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let allowed = Command::new("unshare").args(ALONE).arg("true").output();
    if !allowed.is_ok_and(|ran| ran.status.success()) {
        eprintln!(
            "SKIPPED: this test makes a namespace of processes, which only the superuser may"
        );
        return;
    }
    let setup = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let done = setup.dir().join("orphan");
    let script = format!("(sh -c 'sleep 0.2; echo > {}' &); exec \"$@\"", done.display());
    let mut host = setup.start_as(|host| {
        let mut alone = Command::new("unshare");
        alone.args(ALONE).args(["sh", "-c", &script, "sh"]);
        wrapped(alone, host)
    });
    until("the orphan has ended", || done.exists(), |done| *done);
    let first = children(host.process.id())[0].0;
    let zombies = || children(first).into_iter().filter(|(_, state)| *state == 'Z').count();
    until("nobody has to wait for it any more", zombies, |zombies| *zombies == 0);
    // The host still gets the statuses of its own children.
    host.drop_in("counter.so", &Library::counter(2));
    host.until_live("counter", 2);
    assert_eq!(host.client().emit("counter:increment", json!({"name": "a"}))["value"], 1);
    let first = Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    kill_process(first, Signal::TERM).unwrap();
    let ran = host.process.ended();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("stopping (SIGTERM)"), "{}", ran.stderr);
    assert!(!host.socket().exists());
}
