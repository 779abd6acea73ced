//! What changes around a host while it runs, and what it does about that.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{Client, Library, Running, TestHost, after_mounts, artifacts, ksi_command, until};

/// A folder beside its own, for what a second host would keep.
fn second_host(socket: &Path, dir: &Path) -> Command {
    let mut second = ksi_command(&["run", "--plugins"]);
    second.arg(dir).arg("--socket").arg(socket);
    second.env("TMPDIR", dir).env("XDG_STATE_HOME", dir);
    second
}

#[test]
fn a_second_host_is_refused_and_clients_wait_while_the_first_one_still_loads_its_plugins() {
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ninit = '1h'\n[plugin.chaos]\ninit = 'file'\ninit_in_earnest = true");
    let gate = builder.dir().join("gate");
    let builder = builder.config(&format!("init_file = '{}'", gate.display()));
    let socket = builder.socket();
    let first = Running::start(&mut builder.command());
    until_listening(&socket);
    let mut early = Client::connect(&socket);
    early.send(&json!({"event": "chaos:echo", "data": 7}).to_string());

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.so"), &Library::chaos().0).unwrap();
    let refused = Running::start(&mut second_host(&socket, dir.path())).ended().fails(1);
    assert!(refused.contains(&format!("ksi --socket {} stop", socket.display())), "{refused}");
    assert_eq!(first.line_soon(), None, "the first one is not ready yet");

    fs::write(&gate, "").unwrap();
    assert!(first.line().starts_with("ready on "));
    assert_eq!(early.read()["data"], 7, "a request from before is answered by the plugin");
}

/// Waits until somebody listens on a socket: its file is there a moment before.
#[track_caller]
fn until_listening(socket: &Path) {
    let connected = || UnixStream::connect(socket).is_ok();
    until("somebody listens there", connected, |connected| *connected);
}

/// What lies in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_host_whose_private_folder_was_removed_replaces_plugins_and_goes_back_to_earlier_versions() {
    let host = TestHost::builder()
        .plugin("counter.so", &Library::counter(1))
        .plugin("chaos.so", &Library::chaos())
        .start();
    let temporary = host.dir().join("tmp");
    host.drop_in("counter.so", &Library::counter(2));
    host.until_version("counter", "2.0.0");
    let before = entries(&temporary);
    assert_eq!(before.len(), 1);
    fs::remove_dir_all(&before[0]).unwrap();

    // Nothing but its open file is left of the first version.
    let said = host.ksi(&["rollback", "counter"]).ok();
    assert!(said.contains("1.0.0"), "{said}");
    host.until_version("counter", "1.0.0");
    host.ksi(&["reload", "chaos"]).ok();
    host.until_live("chaos", 2);
    let after = entries(&temporary);
    assert!(after.len() == 1 && after != before, "{after:?}");
    let told = host.process.told("is gone");
    assert!(told.contains("host.private_dir"), "{told}");
    host.until_unmapped("counter");
    let setup = host.stopped();
    assert_eq!(entries(&setup.temporary()), [] as [PathBuf; 0]);
}

#[test]
fn systemds_cleaner_leaves_the_private_folder_of_a_running_host_alone() {
    let host = TestHost::chaos();
    let (tmp, rules) = (host.dir().join("tmp"), host.dir().join("tmpfiles.conf"));
    fs::write(tmp.join("old"), "").unwrap();
    // Whatever lies there is old.
    fs::write(&rules, format!("d {} - - - 0\n", tmp.display())).unwrap();
    let mut cleaner = Command::new("systemd-tmpfiles");
    let Ok(ran) = cleaner.arg("--clean").arg(&rules).output() else {
        eprintln!("SKIPPED: there is no systemd-tmpfiles here");
        return;
    };
    if tmp.join("old").exists() {
        eprintln!("SKIPPED: systemd-tmpfiles does not clean here: {ran:?}");
        return;
    }
    let left = entries(&tmp);
    assert_eq!(left.len(), 1, "the private folder stays");
    assert!(
        entries(&left[0]).len() >= 2,
        "with the lock file and the copy: {:?}",
        entries(&left[0])
    );
    host.ksi(&["reload", "chaos"]).ok();
}

#[test]
fn a_plugin_that_a_full_disk_kept_out_comes_when_there_is_room_again() {
    let builder =
        TestHost::builder().config("[recovery]\nfirst = '50ms'\nlongest = '50ms'\nattempts = 600");
    let tmp = builder.temporary();
    let script = format!(
        "mount -t tmpfs -o size=16m none {0} && head -c 15m /dev/zero >{0}/filler",
        tmp.display()
    );
    let Some(mut command) = after_mounts(&script, &builder.command()) else { return };
    let host = builder.start_by(&mut command);
    host.drop_in("chaos.so", &Library::chaos());
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("No space left") && reason.contains("host.private_dir"), "{reason}");
    let filler = format!("/proc/{}/root{}/filler", host.process.id(), tmp.display());
    fs::remove_file(filler).unwrap();
    host.until_live("chaos", 1);
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
}

#[test]
fn a_folder_that_is_mounted_noexec_is_named_with_the_setting_to_change() {
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    let (dir, tmp) = (builder.dir().to_owned(), builder.temporary());
    let noexec = format!("mount -t tmpfs -o noexec none {}", tmp.display());
    let Some(mut command) = after_mounts(&noexec, &builder.command()) else { return };
    let refused = Running::start(&mut command).ended().fails(1);
    for word in ["noexec", "host.private_dir", tmp.to_str().unwrap()] {
        assert!(refused.contains(word), "{word} is missing: {refused}");
    }
    assert!(!builder.socket().exists());

    let builder = builder.config(&format!("[host]\nprivate_dir = '{}/private'", dir.display()));
    let mut command = after_mounts(&noexec, &builder.command()).unwrap();
    let host = builder.start_by(&mut command);
    host.until_live("chaos", 1);
    assert_eq!(entries(&dir.join("private")).len(), 1);
    // It may become so later, which shows when a library is opened.
    let process = host.process.id().to_string();
    let mut remount = Command::new("nsenter");
    remount.args(["-t", &process, "-m", "sh", "-euc"]);
    remount.arg("mount --bind \"$0\" \"$0\" && mount -o remount,bind,noexec \"$0\"");
    assert!(remount.arg(dir.join("private")).status().unwrap().success());
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let failed = |module: &Value| module["last_error"].is_string();
    let module = host.until_module("it is not replaced", "chaos", failed);
    let error = module["last_error"].to_string();
    assert!(error.contains("host.private_dir") && error.contains("noexec"), "{error}");
    let _setup = host.stopped();
    assert_eq!(entries(&dir.join("private")), [] as [PathBuf; 0]);
}

#[test]
fn a_stop_during_a_copy_leaves_nothing_behind() {
    let mut host = TestHost::builder().start();
    let tmp = host.dir().join("tmp");
    let mut huge = Library::chaos();
    huge.0.resize(240 << 20, 7);
    host.drop_in("huge.so", &huge);
    let copies = || entries(&tmp).iter().map(|dir| entries(dir).len()).sum::<usize>();
    until("it is being copied", copies, |files| *files == 2);
    host.process.signal(Signal::TERM);
    assert_eq!(host.process.ended().code, Some(0));
    assert_eq!(entries(&tmp), [] as [PathBuf; 0]);
}

#[test]
fn without_proc_a_host_says_what_it_cannot_know_and_closes_no_library_that_may_be_in_use() {
    let leftovers = Library::of("ksi-fixture-leftovers");
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("leftovers.so", &leftovers);
    let Some(mut command) = after_mounts("mount -t tmpfs none /proc", &builder.command()) else {
        return;
    };
    let host = builder.start_by(&mut command);
    let told = host.process.told("without a probe");
    assert!(told.contains("/proc is not mounted"), "{told}");
    let told = host.log_by_now();
    assert!(!told.contains("does not call"), "{told}");
    let inspected = host.ksi(&["inspect", "chaos"]).ok();
    assert!(inspected.contains("skipped: the host has no probe process"), "{inspected}");
    assert!(inspected.contains("/proc is not mounted"), "{inspected}");

    // For a question, the host takes nothing in that it could not let go of.
    let checked = host.ksi(&["check", host.file("chaos.so").to_str().unwrap(), "--live"]).ok();
    assert!(checked.contains("what it sends and takes was not compared"), "{checked}");
    assert_eq!(host.module("chaos")["retired"], json!([]));

    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    let mut client = host.client();
    client.emit("leave:thread", json!({"name": "reader", "while_exists": flag}));
    for (plugin, cause) in [
        ("leftovers", "a thread that it started still runs"),
        ("chaos", "cannot be told: /proc is not mounted"),
    ] {
        host.ksi(&["reload", plugin]).ok();
        let pinned = |module: &Value| {
            module["retired"][0]["cause"].as_str().is_some_and(|told| told.contains(cause))
        };
        host.until_module(&format!("the old generation is pinned: {cause}"), plugin, pinned);
    }
    fs::remove_file(&flag).unwrap();
    assert_eq!(client.emit("chaos:echo", json!(1)), 1);
}

const NOBODY: u32 = 65534;

/// Whether the tests are run by the superuser; a test that needs that says that it was skipped.
fn is_superuser() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        eprintln!("SKIPPED: only the superuser may give files away and be others");
    }
    is
}

#[test]
fn the_superusers_host_loads_no_plugin_that_others_may_write_to_unless_it_is_told_to() {
    if !is_superuser() {
        return;
    }
    let builder = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1));
    chown(builder.plugins().join("counter.so"), Some(NOBODY), None).unwrap();
    let host = builder.start();
    host.until_live("chaos", 1);
    let reason = host.until_refused("counter.so");
    for words in ["belongs to user 65534", "host.untrusted_plugins", "chown"] {
        assert!(reason.contains(words), "{words} is missing: {reason}");
    }
    fs::set_permissions(host.plugins(), fs::Permissions::from_mode(0o777)).unwrap();
    host.drop_in("late.so", &Library::chaos().named("chao1"));
    let reason = host.until_refused("late.so");
    assert!(reason.contains("the plugin folder") && reason.contains("every user"), "{reason}");
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "what is live goes on");

    let builder = host.stopped().config("[host]\nuntrusted_plugins = 'warn'");
    let host = builder.start();
    for plugin in ["chaos", "chao1", "counter"] {
        host.until_live(plugin, 1);
    }
    host.process.told("belongs to user 65534");
    host.process.told("the plugin folder");
    let told = host.log_by_now();
    assert_eq!(told.matches("the plugin folder").count(), 1, "a folder is told once: {told}");
}

#[test]
fn another_users_host_loads_a_plugin_that_others_may_write_to_and_says_so() {
    if !is_superuser() {
        return;
    }
    if let Err(error) = Command::new(artifacts().ksi()).arg("--version").uid(NOBODY).output() {
        eprintln!("SKIPPED: another user cannot run what was built here ({error})");
        return;
    }
    let builder = TestHost::builder().plugin("chaos.so", &Library::chaos()).user(NOBODY);
    fs::set_permissions(builder.plugins(), fs::Permissions::from_mode(0o777)).unwrap();
    let host = builder.start();
    host.until_live("chaos", 1);
    let told = host.process.told("the plugin folder");
    assert!(told.contains("every user"), "{told}");
}

#[test]
fn a_control_socket_whose_file_was_removed_is_there_again_and_its_clients_go_on() {
    let host = TestHost::chaos();
    let mut early = host.client();
    early.subscribe(&["chaos:echo"]);
    for round in 1..=3 {
        fs::remove_file(host.socket()).unwrap();
        until_listening(&host.socket());
        assert_eq!(host.client().emit("chaos:echo", json!(round)), round);
        assert_eq!(early.push_of("chaos:echo"), round, "who was connected still is");
    }
    host.process.told("it was made again");
    host.ksi(&["stop"]).ok();
    assert!(!host.socket().exists());
}

#[test]
fn the_number_of_the_process_is_where_ksis_own_command_line_looks_for_it() {
    let builder = TestHost::builder();
    let pid_file = builder.dir().join("ksi_daemon.pid");
    let host = builder.config("[host]\npid_file = 'ksi_daemon.pid'").start();
    let says =
        || fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    assert_eq!(says(), Some(host.process.id()));
    // A second host does not take it.
    let dir = tempfile::tempdir().unwrap();
    let mut second = second_host(&host.socket(), dir.path());
    Running::start(second.arg("--pid-file").arg(&pid_file)).ended().fails(1);
    assert_eq!(says(), Some(host.process.id()));
    fs::remove_file(&pid_file).unwrap();
    until("it is there again", says, |says| *says == Some(host.process.id()));
    let setup = host.stopped();
    assert!(!pid_file.exists());

    let mut command = setup.command();
    let named = setup.dir().join("named.pid");
    let host = setup.start_by(command.arg("--pid-file").arg(&named));
    let id = host.process.id();
    assert_eq!(fs::read_to_string(&named).unwrap(), format!("{id}\n"), "the flag comes first");
    assert!(!pid_file.exists());
    drop(host);
}
