//! Limits in bytes: what is huge, endless or never read takes little of the host's memory.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use crate::kit::{Library, TestHost, ksi};

const MIB: u64 = 1 << 20;

/// The most memory that the host's process ever had, in KiB, and what it has now.
fn peak_and_now(host: &TestHost) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", host.process.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmHWM:"), field("VmRSS:"))
}

/// A file of this length that begins with these bytes and has nothing but a hole behind them.
fn sparse(host: &TestHost, name: &str, begin: &[u8], len: u64) {
    let draft = host.file(&format!(".{name}.draft"));
    let file = File::create(&draft).unwrap();
    file.write_all_at(begin, 0).unwrap();
    file.set_len(len).unwrap();
    fs::rename(draft, host.file(name)).unwrap();
}

#[test]
fn huge_files_are_refused_by_their_length_and_their_head_and_take_no_memory() {
    let host = TestHost::chaos();
    let (_, before) = peak_and_now(&host);
    for number in 0..4 {
        sparse(&host, &format!("gigabyte{number}.so"), b"\x7fELF", 1024 * MIB);
        sparse(&host, &format!("zeroes{number}.so"), b"", 200 * MIB);
    }
    for number in 0..4 {
        let reason = host.until_refused(&format!("gigabyte{number}.so"));
        assert!(reason.contains("limits.plugin_bytes"), "{reason}");
        let reason = host.until_refused(&format!("zeroes{number}.so"));
        assert!(reason.contains("nothing but zero bytes"), "{reason}");
    }
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 32 * 1024, "{before} KiB became {peak} KiB");
}

#[test]
fn a_plugin_of_many_megabytes_is_loaded_and_takes_memory_for_none_but_its_code() {
    let host = TestHost::counter();
    let (_, before) = peak_and_now(&host);
    sparse(&host, "chaos.so", &Library::chaos().0, 250 * MIB);
    host.until_live("chaos", 1);
    let (peak, _) = peak_and_now(&host);
    assert!(peak < before + 64 * 1024, "{before} KiB became {peak} KiB");
}

#[test]
fn how_long_a_plugin_file_may_be_is_configured() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nplugin_bytes = 4096")
        .start();
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("4096 are allowed (limits.plugin_bytes)"), "{reason}");
}

#[test]
fn what_is_no_file_or_endless_is_not_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.so");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let huge = folder.path().join("huge.so");
    File::create(&huge).unwrap().set_len(1024 * MIB).unwrap();
    for (path, words) in [
        (pipe.to_str().unwrap(), "a named pipe"),
        ("/dev/zero", "a device"),
        (folder.path().to_str().unwrap(), "a directory"),
        (huge.to_str().unwrap(), "limits.plugin_bytes"),
    ] {
        let error = ksi(&folder.path().join("s"), &["inspect", path], "").fails(1);
        assert!(error.contains(words), "{path}: {error}");
    }
}
