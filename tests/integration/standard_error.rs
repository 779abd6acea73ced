//! A host whose standard error takes nothing: nobody reads it, nobody can, or the disk is full.

use std::{fs::File, io::Write, os::fd::OwnedFd, os::unix::net::UnixStream, process::Stdio};

use serde_json::json;

use crate::kit::{Library, Ran, Running, TestHost, counters, ksi_command};

/// What cannot be written to, and what must live as long as that shall be so.
fn unwritable() -> [(&'static str, Stdio, Option<UnixStream>); 3] {
    let (mut full, reader) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(&[b'x'; 1]).is_ok() {}
    full.set_nonblocking(false).unwrap();
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
fn a_command_that_cannot_say_why_it_fails_ends_with_its_code_all_the_same() {
    for (what, stderr, reader) in unwritable() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = ksi_command(&["run", "--config", "no such file"]);
        let ran: Ran = Running::start_with(command.current_dir(&folder), stderr).ended();
        assert_eq!(ran.code, Some(2), "{what}");
        drop(reader);
    }
}
