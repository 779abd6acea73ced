//! Files that are no plugin for this host: each ends in one clear message that names it, none of its code runs, and the
//! host goes on.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, OutsideCrate, TestHost, until, workspace};

/// Starts a host on what was put into its folder beside a good plugin, and gives the refused files with their reasons.
#[track_caller]
fn refused(builder: HostBuilder) -> (TestHost, Vec<(String, String)>) {
    let host = builder.plugin("good.so", &Library::chaos().named("chao9")).start();
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "the good one answers");
    let of = |module: &Value, key: &str| {
        module[key].as_str().unwrap_or_else(|| panic!("no {key}: {module}")).to_owned()
    };
    let modules = host.modules();
    assert_eq!(
        modules.iter().filter(|module| module["state"] == "live").count(),
        1,
        "{modules:#?}"
    );
    let refused = modules.iter().filter(|module| module["state"] == "refused");
    let refused: Vec<_> =
        refused.map(|module| (of(module, "name"), of(module, "last_error"))).collect();
    assert_eq!(refused.len() + 1, modules.len());
    assert_eq!(host.resources().libraries.len(), 1, "only the good one is in memory");
    for (name, reason) in &refused {
        assert!(reason.contains(name), "the file is named: {reason}");
        assert!(reason.len() < 1_000, "{name}: {reason}");
        let times = host.process.stderr().matches(reason.lines().next().unwrap()).count();
        assert_eq!(times, 1, "it is logged once: {reason}");
    }
    (host, refused)
}

#[test]
fn every_kind_of_file_that_is_no_plugin_is_refused_with_what_it_is() {
    let chaos = Library::chaos();
    let other_machine = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let mut bits32 = chaos.clone();
    bits32.0[4] = 1;
    let cases = [
        ("empty", Library(Vec::new()), "is empty"),
        ("text", Library(b"#!/bin/sh\necho I am a library\n".to_vec()), "no ELF shared library"),
        ("zeroes", Library(vec![0; 100_000]), "no ELF shared library"),
        ("archive", Library(b"!<arch>\n".repeat(100)), "no ELF shared library"),
        ("machine", chaos.clone().machine(other_machine), "build the plugin for"),
        ("bits", bits32, "64-bit"),
        ("program", Library(fs::read("/bin/true").unwrap()), "shared library"),
        ("abi", chaos.clone().with("\"abi\":1,", "\"abi\":9,"), "ABI version 9"),
        ("format", chaos.clone().with("{\"format\":1,", "{\"format\":7,"), "format 7"),
        ("magic", chaos.clone().with("KSIM1\n{", "KSIM8\n{"), "KSIM8"),
        (
            "json",
            chaos.clone().with("{\"format\":1,\"name\"", "{\"format\":1 \"name\""),
            "manifest cannot be read",
        ),
        ("name", chaos.clone().named("ch os"), "no plugin name"),
        ("abort", chaos.clone().with("\"panic\":\"unwind\"", "\"panic\": \"abort\""), "panic"),
    ];
    let mut builder = TestHost::builder();
    for (name, library, _) in &cases {
        builder = builder.plugin(&format!("{name}.so"), library);
    }
    let (_host, refused) = refused(builder);
    assert_eq!(refused.len(), cases.len());
    for (name, _, words) in cases {
        let (_, reason) =
            refused.iter().find(|(file, _)| *file == format!("{name}.so")).expect(name);
        assert!(reason.contains(words), "{name}: {reason}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_with_what_it_is() {
    let builder = TestHost::builder();
    let file = |name: &str| builder.plugins().join(name);
    fs::create_dir(file("folder.so")).unwrap();
    symlink("nowhere", file("broken.so")).unwrap();
    symlink("loop2.so", file("loop1.so")).unwrap();
    symlink("loop1.so", file("loop2.so")).unwrap();
    mknodat(CWD, file("pipe.so"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (_host, refused) = refused(builder);
    let words = [
        ("broken.so", "does not exist"),
        ("folder.so", "not a regular file"),
        ("loop1.so", "leads back to itself"),
        ("loop2.so", "leads back to itself"),
        ("pipe.so", "not a regular file"),
    ];
    assert_eq!(refused.len(), words.len());
    for ((name, reason), (expected, words)) in refused.iter().zip(words) {
        assert!(name == expected && reason.contains(words), "{expected}: {reason}");
    }
}

#[test]
fn a_link_to_a_library_is_as_good_as_the_library() {
    let builder = TestHost::builder();
    fs::create_dir(builder.dir().join("store")).unwrap();
    let target = builder.dir().join("store/built.so");
    fs::write(&target, Library::chaos().0).unwrap();
    symlink(&target, builder.plugins().join("chaos.so")).unwrap();
    let host = builder.start();
    host.until_live("chaos", 1);
}

#[test]
fn an_unreadable_file_is_refused_with_what_to_do() {
    let builder = TestHost::builder().plugin("secret.so", &Library::chaos());
    let file = builder.plugins().join("secret.so");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        eprintln!("not tested: this user (root?) may read everything");
        return;
    }
    let (host, refused) = refused(builder);
    assert!(refused[0].1.contains("may not be read"), "{refused:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    host.until_live("chaos", 1);
}

#[test]
fn a_torn_library_is_refused_at_every_length() {
    let whole = Library::chaos().0;
    let mut lengths: Vec<usize> = vec![1, 4, 16, 63, 64, 65, 200, 4_095, 4_096, 4_097];
    lengths.extend((1..24).map(|part| whole.len() * part / 24));
    lengths.extend([whole.len() - 4_096, whole.len() - 64, whole.len() - 1]);
    let mut builder = TestHost::builder();
    for length in &lengths {
        builder = builder.plugin(&format!("{length:08}.so"), &Library(whole[..*length].to_vec()));
    }
    let (_host, refused) = refused(builder);
    assert_eq!(refused.len(), lengths.len(), "{refused:#?}");
    let torn = refused.iter().filter(|(_, reason)| reason.contains("the file is torn")).count();
    assert!(torn >= lengths.len() - 4, "{torn} say so: {refused:#?}");
}

#[test]
fn libraries_of_the_system_are_refused() {
    let libraries = system_libraries();
    assert!(libraries.len() >= 3, "{libraries:?}");
    let mut builder = TestHost::builder();
    for library in &libraries {
        let name = library.file_name().unwrap().to_str().unwrap();
        builder = builder.plugin(&format!("{name}.so"), &Library(fs::read(library).unwrap()));
    }
    let (_host, refused) = refused(builder);
    assert_eq!(refused.len(), libraries.len());
    for (name, reason) in refused {
        assert!(reason.contains("no ksi plugin"), "{name}: {reason}");
    }
}

/// Some of what there is, not too large; the C library is always among them.
fn system_libraries() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    let mut libraries: Vec<PathBuf> =
        maps.lines().filter_map(path).filter(|path| is_library(path)).collect();
    let folder = libraries.first().expect("the C library is mapped").parent().unwrap().to_owned();
    let mut others: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    others.retain(|path| {
        is_library(path) && fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() < 1 << 20)
    });
    others.sort();
    libraries.extend(others.into_iter().take(40));
    libraries.sort();
    libraries.dedup();
    libraries
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("lib")
        && name.contains(".so")
        && fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}

/// A library whose constructor does something, compiled from `fixtures/constructor.rs`.
fn with_constructor(host: &TestHost, name: &str, does: &[&str], manifest: Option<&str>) -> PathBuf {
    let library = host.dir().join(name);
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&library);
    rustc.args(does.iter().flat_map(|does| ["--cfg", *does]));
    rustc.arg(workspace().join("tests/fixtures/constructor.rs"));
    rustc.env("MARKER", host.dir().join("marker"));
    if let Some(manifest) = manifest {
        rustc.args(["--cfg", "manifest"]).env("MANIFEST", format!("KSIM1\n{manifest}"));
    }
    let output = rustc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

#[test]
fn no_code_of_a_refused_file_runs() {
    let host = TestHost::chaos();
    let marker = host.dir().join("marker");
    for (name, manifest) in [("plain.so", None), ("other_abi.so", Some(r#"{"format":1,"abi":9}"#))]
    {
        let library = with_constructor(&host, name, &[], manifest);
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
        .config("[timeouts]\nprobe = '400ms'")
        .start();
    let manifest = r#"{"format":1,"name":"mine","version":"1","abi":1,"rustc":"","target":"","panic":"unwind",
        "state":false,"runtime":false,"handlers":[],"emits":[]}"#;
    for (name, does, words) in [
        ("crash.so", &["crash"][..], "ended a probe process"),
        ("hang.so", &["hang"], "did not end within 400ms"),
        ("hollow.so", &[], "exports no plugin"),
    ] {
        let library = with_constructor(&host, name, does, Some(manifest));
        host.drop_in(name, &Library(fs::read(&library).unwrap()));
        let reason = host.until_refused(name);
        assert!(reason.contains(words) && reason.contains(name), "{name}: {reason}");
        assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
    }
    assert_eq!(host.resources().libraries.len(), 1);
    let own = host.process.id().to_string();
    until("no probe is left behind", || children(&own), |children| children.is_empty());
}

/// The processes that this one has started and not seen the end of.
fn children(process: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_task =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .flat_map(|task| {
            of_task(task.unwrap()).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_file_that_is_refused_is_announced() {
    let host = TestHost::builder().start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:*"]);
    host.drop_in("letter.so", &Library(b"Dear host".to_vec()));
    let failed = watcher.push_of("module:load_failed");
    assert_eq!(failed["file"], host.file("letter.so").to_str().unwrap());
    assert!(failed["reason"].as_str().unwrap().contains("ELF"), "{failed}");
    fs::remove_file(host.file("letter.so")).unwrap();
    until("a file that is gone is forgotten", || host.modules(), Vec::is_empty);
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
fn of_two_files_with_one_plugin_name_the_second_is_refused_until_the_first_is_gone() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().version(2))
        .start();
    let reason = host.until_refused("b.so");
    for word in ["\"chaos\"", "a.so", "b.so"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    let mut client = host.client();
    assert_eq!(client.emit("chaos:version", json!({}))["version"], "chaos-version-0001");
    fs::remove_file(host.file("a.so")).unwrap();
    let answer = || client.reply("chaos:version", json!({}))["data"]["version"].clone();
    until("the second takes its place", answer, |version| version == "chaos-version-0002");
    host.until_module("it is refused no more", "b.so", Value::is_null);
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
            .config("[timeouts]\ninit = '300ms'\n[plugin.chaos]\ninit_millis = 1500")
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

#[test]
fn a_folder_that_vanishes_and_comes_back_is_watched_again() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let aside = host.dir().join("aside");
    for round in 0_usize..2 {
        fs::rename(host.plugins(), &aside).unwrap();
        host.until_module("its plugins are unloaded", "chaos", |module| {
            module["state"] == "unloaded"
        });
        assert_eq!(client.emit("system:health", json!({}))["status"], "healthy");
        fs::rename(&aside, host.plugins()).unwrap();
        host.until_module("they are loaded again", "chaos", |module| module["state"] == "live");
        host.drop_in("chaos.so", &Library::chaos().version(round + 2));
        let version = || client.emit("chaos:version", json!({}))["version"].clone();
        until("a change is seen", version, |version| {
            *version == format!("chaos-version-{:04}", round + 2)
        });
    }
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let builder = TestHost::builder();
    fs::remove_dir(builder.plugins()).unwrap();
    let host = builder.start();
    until("it is said", || host.process.stderr(), |text| text.contains("is not there yet"));
    fs::create_dir(host.plugins()).unwrap();
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
}
