//! Files that are no plugin for this host: each ends in one clear message that names it, none of
//! its code runs, and the host goes on.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use ksi_wire::module::ModuleState;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::kit::{ABI, HostBuilder, Library, States, TestHost, artifacts, under_load, until};

/// Starts a host on what was put into its folder beside a good plugin, and gives the refused files
/// with their reasons.
#[track_caller]
fn refused(builder: HostBuilder) -> (TestHost, Vec<(String, String)>) {
    let host = builder.plugin("good.so", &Library::chaos().named("chao9")).start();
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "the good one answers");
    let of = |module: &Value, key: &str| {
        module[key].as_str().unwrap_or_else(|| panic!("no {key}: {module}")).to_owned()
    };
    let modules = host.modules();
    assert_eq!(
        modules.iter().filter(|module| module.state() == ModuleState::Live).count(),
        1,
        "{modules:#?}"
    );
    let refused = modules.iter().filter(|module| module.state() == ModuleState::Refused);
    let refused: Vec<_> =
        refused.map(|module| (of(module, "name"), of(module, "last_error"))).collect();
    assert_eq!(refused.len() + 1, modules.len());
    assert_eq!(host.resources().libraries.len(), 1, "only the good one is in memory");
    for (name, reason) in &refused {
        assert!(reason.contains(name), "the file is named: {reason}");
        assert!(reason.len() < 1_000, "{name}: {reason}");
        let line = reason.lines().next().unwrap();
        let log = host.process.told(line);
        assert_eq!(log.matches(line).count(), 1, "it is logged once: {reason}");
    }
    (host, refused)
}

/// Files that are no plugins, by the names of what they are, and words of why they are refused.
pub(crate) fn bad_files() -> Vec<(&'static str, Library, &'static str)> {
    let chaos = Library::chaos();
    let other_machine = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let mut bits32 = chaos.clone();
    bits32.0[4] = 1;
    vec![
        ("empty", Library(Vec::new()), "is empty"),
        ("text", Library(b"#!/bin/sh\necho I am a library\n".to_vec()), "no ELF shared library"),
        ("zeroes", Library(vec![0; 100_000]), "no ELF shared library"),
        ("archive", Library(b"!<arch>\n".repeat(100)), "no ELF shared library"),
        ("machine", chaos.clone().machine(other_machine), "build the plugin for"),
        ("bits", bits32, "64-bit"),
        ("program", Library(fs::read("/bin/true").unwrap()), "shared library"),
        ("abi", chaos.clone().of_abi_9(), "ABI version 9"),
        ("format", chaos.clone().with("{\"format\":1,", "{\"format\":7,"), "format 7"),
        ("magic", chaos.clone().with("KSIM1\n{", "KSIM8\n{"), "KSIM8"),
        (
            "json",
            chaos.clone().with("{\"format\":1,\"name\"", "{\"format\":1 \"name\""),
            "manifest cannot be read",
        ),
        ("name", chaos.clone().named("ch os"), "no plugin name"),
        ("abort", chaos.clone().with("\"panic\":\"unwind\"", "\"panic\": \"abort\""), "panic"),
    ]
}

#[test]
fn many_files_that_are_no_plugins_are_listed_by_their_reason_and_hide_no_plugin() {
    let mut builder = TestHost::builder().plugin("chaos.so", &Library::chaos());
    for number in 0..200 {
        builder = builder.plugin(&format!("notes-{number:03}.so"), &Library(b"a text".to_vec()));
    }
    let host = builder.start();
    let list = host.ksi(&["list"]).ok();
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[1].starts_with("chaos ") && lines.len() < 12, "{list}");
    assert!(list.contains("200 files are no plugins; `ksi list --all`"), "{list}");
    let group = lines.iter().find(|line| line.starts_with("  200 refused: ")).expect("a group");
    let names = "notes-000.so, notes-001.so, notes-002.so, notes-003.so, notes-004.so and 195 more";
    assert!(group.contains("no ELF") && group.ends_with(names), "{group}");
    let all = host.ksi(&["list", "--all"]).ok();
    let notes = all.lines().filter(|line| line.starts_with("notes-") && line.contains(" refused "));
    assert_eq!(notes.count(), 200);
}

#[test]
fn every_kind_of_file_that_is_no_plugin_is_refused_with_what_it_is() {
    let cases = bad_files();
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
fn a_plugin_of_the_abi_before_is_to_be_built_anew() {
    let plugin = Library::chaos().of_abi(ABI - 1);
    let (_host, refused) = refused(TestHost::builder().plugin("older.so", &plugin));
    let reason = &refused[0].1;
    let why = format!(
        "the plugin was built for ABI version {}, and this host speaks {ABI}: rebuild it with ksi-plugin-api {}",
        ABI - 1,
        env!("CARGO_PKG_VERSION")
    );
    assert!(reason.ends_with(&why), "{reason}");
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
    const NOBODY: u32 = 65534;
    let mut builder = TestHost::builder().plugin("secret.so", &Library::chaos());
    let file = builder.plugins().join("secret.so");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        // The superuser may read everything, so the host is somebody else.
        builder = builder.user(NOBODY);
        if let Err(error) = Command::new(artifacts().ksi()).arg("--version").uid(NOBODY).output() {
            eprintln!("not tested: another user cannot run what was built here ({error})");
            return;
        }
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
fn bad_files_under_load_cost_no_event_and_no_state() {
    let host = TestHost::counter();
    let good = Library::counter(2);
    let torn = Library(good.0[..good.0.len() / 2].to_vec());
    under_load(&host, 2, || {
        let text = Library(b"no library".to_vec());
        let foreign = good.clone().machine(8);
        for (name, bad) in [("text.so", &text), ("torn.so", &torn), ("foreign.so", &foreign)] {
            host.drop_in(name, bad);
            host.until_refused(name);
        }
        host.drop_in("counter.so", &torn);
        host.until_module("the live one goes on", "counter", |module| {
            module["version"] == "1.0.0" && module["last_error"].is_string()
        });
        host.drop_in("counter.so", &good);
        host.until_version("counter", "2.0.0");
    });
}
