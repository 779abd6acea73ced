//! Libraries that a plugin brings along: beside its file, where `$ORIGIN` leads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::kit::{Library, TestHost, put, until};

const NULL: u64 = 0;
const TEXTS: u64 = 5;
const RUN_PATH: u64 = 0x1d;
/// The loader can do without this one.
const COUNT: u64 = 0x6fff_fff9;

/// The chaos plugin, which needs `libq.so.6` in place of the library for mathematics, and looks for
/// it in `folder`.
fn needs_its_own(folder: &str, version: usize) -> Library {
    needs("libq.so.6", folder, version)
}

/// The same with another name of the library.
fn needs(name: &str, folder: &str, version: usize) -> Library {
    // A name that nobody needs to have makes room for the folder.
    let spare = "_ITM_deregisterTMCloneTable\0";
    let text = format!("{folder:\0<width$}", width = spare.len());
    let library = Library::chaos().version(version).with("libm.so.6\0", &format!("{name}\0"));
    let mut library = library.with(spare, &text);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let bytes = &mut library.0;
    let headers = (0..usize::from(bytes[56])).map(|number| 64 + number * 56);
    // The header of the dynamic section, whose type is 2.
    let dynamic = headers.into_iter().find(|at| bytes[*at..*at + 4] == [2, 0, 0, 0]).unwrap();
    let mut entries = word(bytes, dynamic + 8) as usize;
    let (mut texts, mut count) = (0, 0);
    while word(bytes, entries) != NULL {
        match word(bytes, entries) {
            TEXTS => texts = word(bytes, entries + 8) as usize,
            COUNT => count = entries,
            _ => {}
        }
        entries += 16;
    }
    let start = bytes.windows(text.len()).position(|it| it == text.as_bytes()).unwrap();
    // The texts lie in the first segment, where addresses are places in the file.
    bytes[count..count + 8].copy_from_slice(&RUN_PATH.to_le_bytes());
    bytes[count + 8..count + 16].copy_from_slice(&((start - texts) as u64).to_le_bytes());
    library
}

/// The library for mathematics of this system, as another file.
fn mathematics() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .find_map(|line| line.find("/").map(|at| &line[at..]).filter(|it| it.contains("/libm.so")));
    let path = path.map_or_else(|| PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6"), PathBuf::from);
    fs::read(path).unwrap()
}

/// Another content for a library, which the loader takes as well.
fn marked(mark: &str) -> Vec<u8> {
    let mut library = mathematics();
    library.extend_from_slice(mark.as_bytes());
    library
}

/// The libraries that plugins have brought along, wherever their copies lie.
fn brought(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(brought(&path)),
            false if path.to_string_lossy().contains("/libq.so.") => found.push(path),
            false => {}
        }
    }
    found
}

fn is_brought(host: &TestHost, mark: &str) -> bool {
    let copies = brought(&host.dir().join("tmp")).into_iter();
    copies.flat_map(fs::read).any(|content| content.ends_with(mark.as_bytes()))
}

#[test]
fn two_plugins_bring_libraries_of_one_name_and_each_has_its_own() {
    let builder = TestHost::builder();
    let other = builder.dir().join("other");
    for (folder, mark) in [(builder.plugins(), "first"), (other.clone(), "second")] {
        fs::create_dir_all(folder.join("own")).unwrap();
        put(&folder.join("own/libq.so.6"), &marked(mark));
    }
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/own", 1)).start();
    host.until_live("chaos", 1);
    let file = other.join("other.so");
    put(&file, &needs_its_own("$ORIGIN/own", 1).named("chao1").0);
    host.ksi(&["load", file.to_str().unwrap()]).ok();
    assert!(is_brought(&host, "first") && is_brought(&host, "second"));
    assert_eq!(host.module("chaos")["notices"], json!([]));
    // The loader has one of a name: that is told.
    let notice = host.module("chao1")["notices"][0].as_str().expect("a notice").to_owned();
    assert!(notice.starts_with("libq.so.6, which it needs, is in memory already"), "{notice}");
    // The same content is no other one, however often it is brought.
    host.ksi(&["reload", "chaos"]).ok();
    assert_eq!(host.module("chaos")["notices"], json!([]));
}

#[test]
fn what_a_plugin_has_brought_along_goes_with_its_private_copy() {
    let builder = TestHost::builder();
    let own = |version: usize| builder.plugins().join(format!("own/libq.so.{version}"));
    fs::create_dir(builder.plugins().join("own")).unwrap();
    for version in 1..=3 {
        put(&own(version), &mathematics());
    }
    let plugin = |version| needs(&format!("libq.so.{version}"), "$ORIGIN/own", version);
    let host = builder.plugin("chaos.so", &plugin(1)).start();
    for version in 2..=3 {
        host.drop_in("chaos.so", &plugin(version));
        host.until_live("chaos", version as u64);
    }
    let copies = || brought(&host.dir().join("tmp"));
    assert!(!copies().is_empty());
    host.ksi(&["unload", "chaos"]).ok();
    host.until_unmapped("chaos");
    until("they are gone", copies, Vec::is_empty);
}

#[test]
fn an_earlier_version_comes_back_with_the_libraries_that_it_had() {
    let builder = TestHost::builder();
    let own = builder.plugins().join("own/libq.so.6");
    fs::create_dir(own.parent().unwrap()).unwrap();
    put(&own, &marked("first"));
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/own", 1)).start();
    host.until_live("chaos", 1);
    put(&own, &marked("second"));
    host.drop_in("chaos.so", &needs_its_own("$ORIGIN/own", 2));
    host.until_live("chaos", 2);
    fs::remove_file(&own).unwrap();
    host.ksi(&["rollback", "chaos"]).ok();
    host.until_unmapped("chaos");
    assert_eq!(host.client().emit("chaos:version", json!({}))["version"], "chaos-version-0001");
    assert!(is_brought(&host, "first"));
}

#[test]
fn a_library_beside_a_plugin_is_found_is_safe_from_being_overwritten_and_its_change_is_told() {
    let builder = TestHost::builder();
    let own = builder.plugins().join("own/libq.so.6");
    fs::create_dir(own.parent().unwrap()).unwrap();
    put(&own, &mathematics());
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/own", 1)).start();
    let module = host.until_live("chaos", 1);
    assert_eq!(module["notices"], json!([]));

    // In place, while it is mapped: this ended the host where it was mapped from there.
    fs::write(&own, b"no library any more").unwrap();
    assert_eq!(host.client().emit("chaos:echo", json!({"a": 1})), json!({"a": 1}));

    let mut changed = mathematics();
    changed.extend_from_slice(b"changed");
    put(&own, &changed);
    host.drop_in("chaos.so", &needs_its_own("$ORIGIN/own", 2));
    let module = host.until_live("chaos", 2);
    let notice = module["notices"][0].as_str().expect("a notice");
    assert!(notice.starts_with("libq.so.6, which it needs, is in memory already"), "{notice}");
    assert!(host.ksi(&["list"]).ok().contains("with another content"));
}

#[test]
fn a_library_that_lies_above_a_plugin_is_named_with_where_to_put_it() {
    let builder = TestHost::builder();
    put(&builder.dir().join("libq.so.6"), &mathematics());
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/..", 1)).start();
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("libq.so.6: cannot open shared object file"), "{reason}");
    host.process.told("put it beside the plugin or below, as in `$ORIGIN/lib`");
}

#[test]
fn a_process_that_reaches_nothing_else_opens_what_its_plugin_has_brought_along() {
    let limits = "[isolation]\ndefault = \"process\"\nprofile = \"strict\"";
    let builder = TestHost::builder().config(limits);
    fs::create_dir(builder.plugins().join("own")).unwrap();
    put(&builder.plugins().join("own/libq.so.6"), &marked("mine"));
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/own", 1)).start();
    host.until_live("chaos", 1);
    assert!(is_brought(&host, "mine"));
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
}
