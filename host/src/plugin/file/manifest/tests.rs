//! Real libraries, built once, cut and patched in memory.

use std::process::Command;
use std::sync::OnceLock;

use super::*;

const ABI: u32 = 1;
/// Room for the manifests that the tests patch in.
const ROOM: usize = 2048;

const GOOD: &str = r#"{"format":1,"name":"hello","version":"0.3.0","built":"native","crate":"hello",
    "header":"ksi_plugin_hello","abi":1,"rustc":"rustc 1.95.0","target":"any-triple","panic":"unwind","handlers":[{"name":"greet","subscriptions":["greet:request"],
    "priority":-3,"timeout_ms":5000,"blocking":true}],"emits":["greet:done"],"requires":["state:set"],
    "state":{"writes":[3,1],"restores":[3,2,1]},"runtime":false,"exclusive":true,"isolated":true,"trial":false,
    "added_later":{"x":1}}"#;

/// What [`GOOD`] says of its state.
const STATE: &str = r#"{"writes":[3,1],"restores":[3,2,1]}"#;

fn build(source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("library.so");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    std::fs::write(dir.path().join("lib.rs"), source).unwrap();
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=cdylib", "--crate-name=library", "-o"])
        .arg(&file)
        .arg(dir.path().join("lib.rs"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(file).unwrap()
}

/// A shared library with the manifest [`GOOD`].
fn library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let content = section(MAGIC, GOOD.as_bytes());
        build(&format!(
            "#[used]\n#[unsafe(link_section = \"{SECTION}\")]\nstatic MANIFEST: [u8; {ROOM}] = *b\"{}\";\n",
            content.escape_ascii()
        ))
    })
}

fn section(magic: &[u8], json: &[u8]) -> Vec<u8> {
    let mut content = [magic, json].concat();
    assert!(content.len() <= ROOM);
    content.resize(ROOM, 0);
    content
}

/// Where the manifest section of [`library`] starts in the file.
fn section_start() -> usize {
    library().windows(MAGIC.len()).position(|window| window == MAGIC).unwrap()
}

fn with_section(content: &[u8]) -> Vec<u8> {
    let mut bytes = library().to_vec();
    bytes[section_start()..][..ROOM].copy_from_slice(content);
    bytes
}

fn with_json(json: &str) -> Result<Manifest, ManifestError> {
    read_manifest(&with_section(&section(MAGIC, json.as_bytes())), ABI, Path::new("libhello.so"))
}

fn with_bytes(at: usize, patch: &[u8]) -> Result<Manifest, ManifestError> {
    let mut bytes = library().to_vec();
    bytes[at..][..patch.len()].copy_from_slice(patch);
    read_manifest(&bytes, ABI, Path::new("libhello.so"))
}

/// Offset of the header of the section called `name`, found the way a reader with a hex dump would.
fn section_header(name: &str) -> usize {
    let bytes = library();
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..][..8].try_into().unwrap()) as usize;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..][..4].try_into().unwrap()) as usize;
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(bytes[at..][..2].try_into().unwrap()));
    let (table, count, names) = (u64_at(0x28), u16_at(0x3c), u16_at(0x3e));
    let names = u64_at(table + names * 64 + 0x18);
    let wanted = [name.as_bytes(), b"\0"].concat();
    (0..count)
        .map(|index| table + index * 64)
        .find(|header| bytes[names + u32_at(*header)..].starts_with(&wanted))
        .unwrap()
}

#[test]
fn a_plugin_is_read_whole() {
    let manifest = read_manifest(library(), ABI, Path::new("libhello.so")).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("hello", "0.3.0"));
    let Built::Native(build) = &manifest.built else { panic!("{manifest:?}") };
    assert_eq!((manifest.format, build.abi), (1, 1));
    assert_eq!(build.target, "any-triple");
    assert_eq!(
        manifest.handlers,
        [HandlerManifest {
            name: "greet".to_owned(),
            subscriptions: vec!["greet:request".to_owned()],
            priority: -3,
            timeout_ms: 5000,
            blocking: true,
        }]
    );
    assert_eq!(manifest.emits, ["greet:done"]);
    assert_eq!(manifest.requires, ["state:set"]);
    assert_eq!(manifest.state, Some(StateManifest { writes: vec![3, 1], restores: vec![3, 2, 1] }));
    assert!(!build.runtime && manifest.exclusive && manifest.isolated && !manifest.trial);
    assert_eq!((&*build.crate_name, &*build.header), ("hello", "ksi_plugin_hello"));
    assert_eq!(with_json(&format!("{GOOD}\n\n")).unwrap(), manifest);
    // Built before a plugin could ask for a process.
    let before = with_json(&GOOD.replace("\"isolated\":true,", "")).unwrap();
    assert!(!before.isolated);
}

#[test]
fn a_manifest_is_shown_as_it_stands_in_the_file_and_a_way_of_building_that_is_usual_is_not_named() {
    let manifest = read_manifest(library(), ABI, Path::new("libhello.so")).unwrap();
    let mut stands: serde_json::Value = serde_json::from_str(GOOD).unwrap();
    for unseen in ["built", "added_later"] {
        stands.as_object_mut().unwrap().remove(unseen).unwrap();
    }
    assert_eq!(serde_json::to_value(&manifest).unwrap(), stands);
}

#[test]
fn a_plugin_that_was_built_in_a_way_that_is_new_to_the_host_is_refused_with_that() {
    let error = with_json(&GOOD.replacen("\"native\"", "\"wasm\"", 1)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`wasm`") && text.contains("`native`"), "{text}");
}

#[test]
fn a_plugin_of_an_abi_that_did_not_say_how_it_was_built_is_told_its_abi() {
    let old = GOOD.replacen("\"built\":\"native\",", "", 1).replacen("\"abi\":1", "\"abi\":0", 1);
    let error = with_json(&old).unwrap_err();
    assert!(matches!(error, ManifestError::OtherAbi { found: 0, host: ABI }), "{error}");
}

#[test]
fn a_plugin_without_state_says_so() {
    let manifest = with_json(&GOOD.replacen(STATE, "null", 1)).unwrap();
    assert_eq!(manifest.state, None);
}

#[test]
fn what_a_manifest_leaves_out_is_named() {
    let all: serde_json::Value = serde_json::from_str(GOOD).unwrap();
    for (field, _) in all.as_object().unwrap() {
        // Without a state it keeps none, and nobody asked for a process at first.
        if ["format", "added_later", "state", "isolated"].contains(&field.as_str()) {
            continue;
        }
        let mut without = all.clone();
        without.as_object_mut().unwrap().remove(field);
        let error = with_json(&without.to_string()).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{field}`")), "{field}: {error}");
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = library();
    let step = (bytes.len() / 500).max(1);
    let lengths = (0..300).chain((300..bytes.len()).step_by(step));
    for length in lengths.chain(bytes.len() - 300..bytes.len()) {
        let error = read_manifest(&bytes[..length], ABI, Path::new("libhello.so")).unwrap_err();
        match (length, &error) {
            (0, ManifestError::Empty) => {}
            (1..4, ManifestError::NotElf { .. }) => {}
            (4.., ManifestError::Torn { len, end, .. }) => {
                assert_eq!(*len, length as u64);
                assert!(*end > *len);
            }
            _ => panic!("{length} bytes: {error}"),
        }
    }
}

#[test]
fn hostile_bytes_never_panic() {
    let mut bytes = library().to_vec();
    let mut state = 0x5eed_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let tables = section_header(SECTION) - 64 * 8;
    let mut refused = 0;
    for round in 0..3000 {
        let flips: Vec<(usize, u8)> = (0..=random(4))
            .map(|_| {
                let at = match round % 4 {
                    0 => random(64),
                    1 => random(1024),
                    2 => tables + random(bytes.len() - tables),
                    _ => random(bytes.len()),
                };
                (at, 1 << random(8))
            })
            .collect();
        flips.iter().for_each(|(at, bit)| bytes[*at] ^= bit);
        refused += usize::from(read_manifest(&bytes, ABI, Path::new("libhello.so")).is_err());
        flips.iter().for_each(|(at, bit)| bytes[*at] ^= bit);
    }
    assert!((500..3000).contains(&refused), "{refused} of 3000 refused");
    assert!(bytes == library());
}

#[test]
fn ranges_beyond_any_file_are_torn() {
    for (at, part) in [(0x20, "program header table"), (0x28, "section table")] {
        match with_bytes(at, &u64::MAX.to_le_bytes()) {
            Err(ManifestError::Torn { part: found, .. }) => assert_eq!(found, part),
            other => panic!("{part}: {other:?}"),
        }
    }
    let header = section_header(SECTION);
    let offset = with_bytes(header + 0x18, &(u64::MAX - 8).to_le_bytes());
    assert!(matches!(offset, Err(ManifestError::Torn { .. })), "{offset:?}");
}

#[test]
fn other_machines_are_named() {
    let error = with_bytes(0x12, &object::elf::EM_RISCV.0.to_le_bytes()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, ManifestError::OtherArchitecture { .. }), "{message}");
    assert!(message.contains("riscv64") && message.contains(std::env::consts::ARCH), "{message}");

    assert!(matches!(with_bytes(4, &[1]), Err(ManifestError::Not64Bit { .. })));
    assert!(matches!(with_bytes(4, &[9]), Err(ManifestError::Not64Bit { .. })));
    assert!(matches!(with_bytes(5, &[7]), Err(ManifestError::Damaged { part: "header", .. })));
}

#[test]
fn other_kinds_of_elf_are_refused() {
    for (kind, says) in [(1_u16, "object file"), (2, "executable"), (4, "core dump")] {
        let error = with_bytes(0x10, &kind.to_le_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::NotSharedLibrary { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let error = read_manifest(&program, ABI, Path::new("libhello.so")).unwrap_err();
    assert!(matches!(error, ManifestError::NotSharedLibrary { .. }), "{error}");
}

#[test]
fn files_that_are_not_elf_are_named() {
    let cases: [(&[u8], &str); 9] = [
        (b"#!/bin/sh\n", "a script"),
        (b"/* GNU ld script */\nGROUP ( libc.so.6 )\n", "a text"),
        ("näive".as_bytes(), "a text"),
        (b"!<arch>\nfoo", "static library"),
        (b"MZ\x90\0", "Windows"),
        (b"\xcf\xfa\xed\xfe\0", "macOS"),
        (&[0; 4096], "zero bytes"),
        (b"\xff\xff", "unknown"),
        (b"\x7fEL", "unknown"),
    ];
    for (bytes, says) in cases {
        let error = read_manifest(bytes, ABI, Path::new("libhello.so")).unwrap_err();
        assert!(matches!(error, ManifestError::NotElf { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(matches!(read_manifest(b"", ABI, Path::new("libhello.so")), Err(ManifestError::Empty)));
}

#[cfg(target_env = "gnu")]
#[test]
fn the_c_library_is_no_plugin() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|line| {
        let path = line.get(line.find('/')?..)?;
        path.contains("libc.so.6").then_some(path)
    });
    let libc = std::fs::read(path.unwrap()).unwrap();
    assert!(matches!(
        read_manifest(&libc, ABI, Path::new("libhello.so")),
        Err(ManifestError::NoManifest)
    ));
}

#[test]
fn a_section_outside_the_loaded_parts_is_refused() {
    let header = section_header(SECTION);
    let table = section_header(".shstrtab");
    let nobits = with_bytes(header + 4, &object::elf::SHT_NOBITS.0.to_le_bytes());
    assert!(matches!(nobits, Err(ManifestError::NotLoaded)), "{nobits:?}");
    let unloaded = with_bytes(header + 0x18, &library()[table + 0x18..][..8]);
    assert!(matches!(unloaded, Err(ManifestError::NotLoaded)), "{unloaded:?}");
}

#[test]
fn a_section_of_more_than_a_mebibyte_is_refused() {
    let source = format!(
        "#[used]\n#[unsafe(link_section = \"{SECTION}\")]\nstatic M: [u8; 1 << 21] = [b'x'; 1 << 21];\n"
    );
    let error = read_manifest(&build(&source), ABI, Path::new("libhello.so")).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { found, .. } if found == 1 << 21), "{error}");
}

#[test]
fn bad_manifests_are_told_apart() {
    let changed = |from: &str, to: &str| {
        assert!(GOOD.contains(from));
        with_json(&GOOD.replacen(from, to, 1)).unwrap_err()
    };
    let magic =
        read_manifest(&with_section(&section(b"KSIM2\n", b"{}")), ABI, Path::new("libhello.so"))
            .unwrap_err();
    assert!(matches!(&magic, ManifestError::BadMagic { found } if found == "KSIM2\\n"), "{magic}");
    assert!(matches!(with_json("{\"format\":1,"), Err(ManifestError::BadJson(_))));
    assert!(matches!(with_json("{\"format\":1}"), Err(ManifestError::BadJson(_))));
    assert!(matches!(with_json("\n"), Err(ManifestError::NoJson)));
    assert!(matches!(with_json(&format!("{GOOD} {{}}")), Err(ManifestError::TrailingBytes { .. })));
    let twice = format!("{GOOD}\0\0KSIM1\n{GOOD}");
    assert!(matches!(with_json(&twice), Err(ManifestError::SeveralPlugins { .. })));

    let format = changed("\"format\":1", "\"format\":2");
    assert!(matches!(format, ManifestError::UnsupportedFormat { found: 2, supported: 1 }));
    let abi = changed("\"abi\":1", "\"abi\":9");
    assert!(matches!(abi, ManifestError::OtherAbi { found: 9, host: ABI }));
    assert!(abi.to_string().contains("ksi-plugin-api"), "{abi}");
    let panic = changed("\"unwind\"", "\"abort\"");
    assert!(matches!(panic, ManifestError::PanicStrategy { .. }), "{panic}");

    for (state, says) in [
        ("{\"writes\":[],\"restores\":[]}", "no snapshots"),
        ("{\"writes\":[1,0],\"restores\":[1]}", "no version 0"),
        ("{\"writes\":[1],\"restores\":[1,0]}", "no version 0"),
        ("{\"writes\":[1,2],\"restores\":[2]}", "in order"),
        ("{\"writes\":[2],\"restores\":[2,2]}", "in order"),
    ] {
        let error = changed(STATE, state);
        assert!(matches!(error, ManifestError::BadState { .. }), "{state}: {error}");
        assert!(error.to_string().contains(says), "{state}: {error}");
    }
    for state in ["true", "{\"writes\":[1]}", "{\"writes\":[-1],\"restores\":[1]}", "1"] {
        assert!(matches!(changed(STATE, state), ManifestError::BadJson(_)), "{state}");
    }

    let long = format!("\"{}\"", "x".repeat(65));
    for name in ["\"\"", "\"-a\"", "\"a/b\"", "\"a b\"", "\"ä\"", "\"..\"", long.as_str()] {
        let error = changed("\"hello\"", name);
        assert!(matches!(error, ManifestError::BadName { .. }), "{error}");
    }
    for name in ["A", "9-b_C", &"x".repeat(64)] {
        let json = GOOD.replacen("hello", name, 1);
        assert_eq!(with_json(&json).unwrap().name, name);
    }
}
