//! Cgroups, where the system gives the host a part of the tree: whatever a plugin has started ends
//! with its process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{is_there, isolated, process, until_restarted};
use crate::kit::{Library, TestHost, until};

/// A part of the tree that is given as systemd gives it. Removed when this is dropped.
struct Given(PathBuf);

impl Given {
    /// None where the tests may not make one.
    fn new() -> Option<Given> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(mount).join(format!("ksi-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let given = Given(folder);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&given.0, "trusted.delegate", b"1", flags).ok()?;
        given.0.join("cgroup.kill").exists().then_some(given)
    }

    /// A command that runs another one in it.
    fn around(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("echo $$ > \"$0/cgroup.procs\" && exec \"$@\"").arg(&self.0);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(command.get_current_dir().unwrap());
        shell
    }

    /// The groups of plugins' processes in it.
    fn groups(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("ksi-")).collect()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let removed = || fs::remove_dir(&self.0).is_ok() || !self.0.exists();
        let gone = (0..200).any(|_| {
            for group in self.groups() {
                let _ = fs::remove_dir(self.0.join(group));
            }
            removed() || {
                std::thread::sleep(std::time::Duration::from_millis(5));
                false
            }
        });
        if !gone {
            eprintln!("{} is left over", self.0.display());
        }
    }
}

fn given() -> Option<Given> {
    let given = Given::new();
    if given.is_none() {
        eprintln!("SKIPPED: no cgroup of version 2 can be made here");
    }
    given
}

/// A process that the plugin has started, in a session of its own.
fn left_behind(host: &TestHost) -> Pid {
    let forked = host.client().emit("chaos:fork", json!({"session": true}));
    Pid::from_raw(forked["process"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

fn group_of(pid: Pid) -> String {
    let groups = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let groups = fs::read_to_string(groups).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn what_a_plugin_has_started_ends_with_its_process_whatever_session_it_is_in() {
    let Some(given) = given() else { return };
    let builder = isolated("").plugin("chaos.so", &Library::chaos());
    let host = builder.start_as(|command| given.around(command));
    let (pid, left) = (process(&host, "chaos"), left_behind(&host));
    let group = format!("ksi-chaos-{}", pid.as_raw_nonzero());
    assert!(group_of(pid).ends_with(&group) && group_of(left).ends_with(&group));
    assert_eq!(given.groups(), [group]);
    kill_process(pid, Signal::KILL).unwrap();
    until("it is gone too", || is_there(left), |there| !there);
    until_restarted(&host, "chaos", 1);
    until("the group is removed", || given.groups().len(), |groups| *groups == 1);
    // A replacement and a stop are ends as well.
    let left = left_behind(&host);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    until("it goes with its version", || is_there(left), |there| !there);
    let left = left_behind(&host);
    host.stop().ok();
    until("it goes with the host", || is_there(left), |there| !there);
    assert!(given.groups().len() <= 1, "{:?}", given.groups());
}

#[test]
fn a_plugin_has_no_group_where_the_operator_wants_none() {
    let Some(given) = given() else { return };
    let builder = isolated("cgroup = false\n").plugin("chaos.so", &Library::chaos());
    let host = builder.start_as(|command| given.around(command));
    assert!(
        group_of(process(&host, "chaos")).ends_with(given.0.file_name().unwrap().to_str().unwrap())
    );
    assert!(given.groups().is_empty());
}

#[test]
fn a_group_or_a_bound_that_is_required_and_not_there_keeps_a_plugin_from_starting() {
    let host = isolated("cgroup = \"require\"\n").plugin("chaos.so", &Library::chaos()).start();
    let reason = host.until_refused("chaos.so");
    for words in ["not delegated", "Delegate=yes", "isolation.cgroup is \"require\""] {
        assert!(reason.contains(words), "{words} is missing: {reason}");
    }
    drop(host);
    let Some(given) = given() else { return };
    let has = fs::read_to_string(given.0.join("cgroup.controllers")).unwrap();
    if has.contains("memory") {
        eprintln!("SKIPPED: this part of the tree can bound memory");
        return;
    }
    let config = "cgroup = \"require\"\nmemory = \"1 GiB\"\n";
    let builder = isolated(config).plugin("chaos.so", &Library::chaos());
    let host = builder.start_as(|command| given.around(command));
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("`memory` cannot be bounded"), "{reason}");
}
