//! Libraries that a plugin brings along: beside its file, where `$ORIGIN` leads.

use std::{fs, path::PathBuf};

use serde_json::json;

use crate::kit::{Library, TestHost, put};

const NULL: u64 = 0;
const TEXTS: u64 = 5;
const RUN_PATH: u64 = 0x1d;
/// The loader can do without this one.
const COUNT: u64 = 0x6fff_fff9;

/// The chaos plugin, which needs `libq.so.6` in place of the library for mathematics, and looks for it in `folder`.
fn needs_its_own(folder: &str, version: usize) -> Library {
    // A name that nobody needs to have makes room for the folder.
    let spare = "_ITM_deregisterTMCloneTable\0";
    let text = format!("{folder:\0<width$}", width = spare.len());
    let library = Library::chaos().version(version).with("libm.so.6\0", "libq.so.6\0");
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
    assert!(notice.starts_with("libq.so.6, which it needs, has changed"), "{notice}");
    assert!(host.ksi(&["list"]).ok().contains("still in memory"));
}

#[test]
fn a_library_that_lies_above_a_plugin_is_named_with_where_to_put_it() {
    let builder = TestHost::builder();
    put(&builder.dir().join("libq.so.6"), &mathematics());
    let host = builder.plugin("chaos.so", &needs_its_own("$ORIGIN/..", 1)).start();
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("libq.so.6: cannot open shared object file"), "{reason}");
    let log = host.process.stderr();
    assert!(log.contains("put it beside the plugin or below, as in `$ORIGIN/lib`"), "{log}");
}
