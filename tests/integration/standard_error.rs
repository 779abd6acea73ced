//! A host whose standard error takes nothing: nobody reads it, nobody can, or the disk is full.

use std::{fs::File, io::Write, os::fd::OwnedFd, os::unix::net::UnixStream, process::Stdio};

use ksi_wire::module::ModuleState;
use serde_json::json;

use rustix::process::Signal;

use crate::kit::{Client, Library, Ran, Running, States, TestHost, counters, ksi_command, until};

/// What takes nothing more, and its other end, which nobody reads from.
fn full() -> (UnixStream, UnixStream) {
    let (mut full, reader) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(b"x").is_ok() {}
    full.set_nonblocking(false).unwrap();
    (full, reader)
}

/// What cannot be written to, and what must live as long as that shall be so.
fn unwritable() -> [(&'static str, Stdio, Option<UnixStream>); 3] {
    let (full, reader) = full();
    let (closed, gone) = UnixStream::pair().unwrap();
    drop(gone);
    let no_space = File::options().write(true).open("/dev/full").unwrap();
    [
        ("nobody reads it", OwnedFd::from(full).into(), Some(reader)),
        ("its reader is gone", OwnedFd::from(closed).into(), None),
        ("the disk is full", no_space.into(), None),
    ]
}

#[test]
fn a_host_that_cannot_log_serves_lists_what_it_refused_and_keeps_state_when_it_stops() {
    for (what, stderr, reader) in unwritable() {
        let mut builder = TestHost::builder()
            .plugin("counter.so", &Library::counter(1))
            .config("[state]\ndir = 'state'");
        for number in 0..20 {
            builder = builder.plugin(&format!("junk{number}.so"), &Library(vec![b'x'; 100]));
        }
        let host = builder.start_with(stderr);
        let mut client = host.client();
        for count in 1..=3 {
            let counted = client.emit("counter:increment", json!({"name": "a"}));
            assert_eq!(counted["value"], count, "{what}");
        }
        for number in 0..20 {
            host.until_refused(&format!("junk{number}.so"));
        }
        let host = host.stopped().start();
        assert_eq!(counters(&mut host.client()).get("a"), Some(&3), "{what}");
        drop(reader);
    }
}

#[test]
fn the_last_words_of_a_host_whose_standard_error_nobody_reads_are_told_by_the_next_one() {
    let (stderr, _reader) = full();
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .start_with(OwnedFd::from(stderr).into());
    let mut client = host.client();
    client.begin("chaos:crash", json!({"how": "segfault"}));
    let (ran, setup) = host.died();
    assert_eq!(ran.signal, Some(11));
    let host = setup.start();
    assert_eq!(host.module("chaos.so").state(), ModuleState::Quarantined);
    host.process.told("ksi: this host dies: SIGSEGV");
}

#[test]
fn a_host_whose_standard_output_nobody_reads_either_serves_and_stops() {
    let builder = TestHost::builder().plugin("counter.so", &Library::counter(1));
    let (full, _reader) = full();
    let both = [full.try_clone().unwrap(), full].map(|end| Stdio::from(OwnedFd::from(end)));
    let [stdout, stderr] = both;
    let mut host = builder.command().stdout(stdout).stderr(stderr).spawn().unwrap();
    until("it serves", || UnixStream::connect(builder.socket()).is_ok(), |serves| *serves);
    let counted =
        Client::connect(&builder.socket()).emit("counter:increment", json!({"name": "a"}));
    assert_eq!(counted["value"], 1);
    rustix::process::kill_process(rustix::process::Pid::from_child(&host), Signal::TERM).unwrap();
    let ended = until("it ends", || host.try_wait().unwrap(), Option::is_some);
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}

#[test]
fn a_command_that_cannot_say_why_it_fails_ends_with_its_code_all_the_same() {
    for (what, stderr, reader) in unwritable() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = ksi_command(&["run", "--config", "no such file"]);
        let ran: Ran = Running::start_with(command.current_dir(&folder), stderr).ended();
        assert_eq!(ran.code, Some(2), "{what}");
        drop(reader);
    }
}
