//! That no code of a file runs before it may, and that code which misbehaves when it does is
//! stopped where it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::kit::{ABI, Library, OutsideCrate, TestHost, children, isolated, until, workspace};

/// A library whose constructor does something, compiled from `fixtures/constructor.rs`.
pub(crate) fn with_constructor(
    dir: &Path,
    name: &str,
    does: &[&str],
    manifest: Option<&str>,
) -> PathBuf {
    let library = dir.join(name);
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&library);
    rustc.args(does.iter().flat_map(|does| ["--cfg", *does]));
    rustc.arg(workspace().join("tests/fixtures/constructor.rs"));
    rustc.env("MARKER", dir.join("marker"));
    if let Some(manifest) = manifest {
        rustc.args(["--cfg", "manifest"]).env("MANIFEST", format!("KSIM1\n{manifest}"));
    }
    let output = rustc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// The manifest of a plugin that its library does not export.
pub(crate) fn manifest_of_mine() -> String {
    let manifest = r#"{"format":1,"name":"mine","version":"1","built":"native","crate":"mine",
        "header":"ksi_plugin_mine","abi":ABI,"rustc":"","target":"","panic":"unwind",
        "state":null,"runtime":false,"exclusive":false,"trial":true,"handlers":[],"emits":[],"requires":[]}"#;
    manifest.replace("ABI", &ABI.to_string())
}

#[test]
fn no_code_of_a_refused_file_runs() {
    let host = TestHost::chaos();
    let marker = host.dir().join("marker");
    for (name, manifest) in [("plain.so", None), ("other_abi.so", Some(r#"{"format":1,"abi":9}"#))]
    {
        let library = with_constructor(host.dir(), name, &[], manifest);
        let loaded = Command::new("/bin/true").env("LD_PRELOAD", &library).status().unwrap();
        assert!(loaded.success() && marker.exists(), "its constructor does run where it is loaded");
        fs::remove_file(&marker).unwrap();
        host.drop_in(name, &Library(fs::read(&library).unwrap()));
        host.until_refused(name);
        assert!(!marker.exists(), "{name}: its code ran");
    }
}

#[test]
fn a_library_that_crashes_hangs_or_is_empty_when_it_is_opened_ends_a_probe_and_not_the_host() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\nprobe = '5s'")
        .start();
    let manifest = manifest_of_mine();
    for (name, does, words) in [
        ("crash.so", &["crash"][..], "ended a probe process"),
        ("hang.so", &["hang"], "did not end within 5s"),
        ("hollow.so", &[], "exports no plugin"),
    ] {
        let library = with_constructor(host.dir(), name, does, Some(&manifest));
        host.drop_in(name, &Library(fs::read(&library).unwrap()));
        let reason = host.until_refused(name);
        assert!(reason.contains(words) && reason.contains(name), "{name}: {reason}");
        assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
    }
    assert_eq!(host.resources().libraries.len(), 1);
    let own = host.process.id();
    // One waits for the next probe, and the plugin may have one of its own.
    let (waiting, expected) = (|| children(own), 1 + usize::from(isolated::is_on()));
    until("no probe is left behind", waiting, |children| children.len() == expected);
    let children = waiting();
    host.stop();
    let there = |child: &u32| Path::new("/proc").join(child.to_string()).exists();
    until("they end with the host", || children.iter().any(there), |there| !there);
}

#[test]
fn a_library_that_was_really_built_with_panic_abort_is_refused_from_its_manifest() {
    let source = fs::read_to_string(workspace().join("examples/hello/src/lib.rs")).unwrap();
    let package = OutsideCrate::new("aborting", &source);
    let host = TestHost::builder().start();
    host.drop_in("aborting.so", &Library(package.build(&["-C", "panic=abort"])));
    let reason = host.until_refused("aborting.so");
    assert!(reason.contains("panic = \"abort\"") && reason.contains("aborting.so"), "{reason}");
}

#[test]
fn a_plugin_whose_init_fails_panics_hangs_or_blocks_is_refused_and_holds_up_no_other() {
    for (how, words) in [
        ("fail", "init fails on purpose"),
        ("panic", "init panics on purpose"),
        ("hang", "timeouts.init"),
        ("block", "timeouts.init"),
    ] {
        let host = TestHost::builder()
            .plugin("a.so", &Library::chaos())
            .plugin("b.so", &Library::chaos().named("chao1"))
            .config("[timeouts]\ninit = '2s'\n[recovery]\nattempts = 0")
            .config("[plugin.chaos]\ninit_millis = 4000")
            .config(&format!("init = '{how}'"))
            .start();
        let reason = host.until_refused("a.so");
        assert!(reason.contains(words) && reason.contains("chaos"), "{how}: {reason}");
        host.until_live("chao1", 1);
        assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
        until(
            "nothing of it stays in memory",
            || host.resources().libraries.len(),
            |count| *count == 1,
        );
    }
}
