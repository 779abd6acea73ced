//! Messages that name the cause: nothing that fails hides what the system said, and what to do
//! stands behind it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kit::{
    Library, Ran, Running, TestHost, ksi_command,
    sources::{code, sources},
    until, workspace,
};

/// Every place where an operator looks for why a file is no plugin.
fn told_everywhere(library: &Library, words: &[&str]) {
    let host = TestHost::builder().start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:load_failed"]);
    host.drop_in("chaos.so", library);
    let event = watcher.push_of("module:load_failed")["reason"].as_str().unwrap().to_owned();
    let listed = host.until_refused("chaos.so");
    let file = host.file("chaos.so");
    let reply = host.ksi(&["load", file.to_str().unwrap()]).fails(1);
    let list = host.ksi(&["list"]).ok();
    let log = host.process.told(words[0]);
    let places = [
        ("event", event),
        ("module:list", listed),
        ("ksi load", reply),
        ("ksi list", list),
        ("log", log),
    ];
    for (place, text) in places {
        for word in words {
            assert!(text.contains(word), "{place} has no {word:?}: {text}");
        }
    }
}

#[test]
fn a_library_that_is_missing_is_named_with_the_way_out_everywhere() {
    let library = Library::chaos().with("libm.so.6\0", "libq.so.6\0");
    told_everywhere(&library, &["libq.so.6", "cannot open shared object file", "LD_LIBRARY_PATH"]);
}

#[test]
fn a_symbol_that_nobody_has_is_named_with_the_way_out_everywhere() {
    let library = Library::chaos().with("\0clock_nanosleep\0", "\0clock_nanoslept\0");
    told_everywhere(&library, &["undefined symbol", "clock_nanoslept", "rustc-link-lib"]);
}

#[test]
fn a_lock_that_cannot_be_had_says_why() {
    let host = TestHost::builder();
    fs::create_dir(host.dir().join("s.lock")).unwrap();
    let Ran { code, stderr, .. } = Running::start(&mut host.command()).ended();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("s.lock: locking this file"), "{stderr}");
    assert!(stderr.contains("Is a directory"), "{stderr}");
}

#[test]
fn a_client_says_why_there_is_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none");
    let mut command = ksi_command(&["list"]);
    command.arg("--socket").arg(&socket);
    let said = Running::start(&mut command).ended().fails(3);
    assert!(said.contains("No such file or directory"), "{said}");
}

/// An error whose own text leaves its cause out is one that somebody prints without it.
#[test]
fn every_error_tells_its_cause() {
    let telling =
        ["{source", ".source", "(source)", "(&**source)", "{problem", "{0", "(.0)", "transparent"];
    let mut looked_at = 0;
    for path in ["host/src", "host/kernel/src", "plugin-api"].into_iter().flat_map(sources) {
        let text = code(&fs::read_to_string(workspace().join(&path)).unwrap());
        for variant in text.split("#[error(").skip(1) {
            let Some((message, rest)) = variant.split_once(")]\n") else { continue };
            // The variant ends where a line closes it.
            let body: String = rest
                .lines()
                .take_while(|line| !matches!(line.trim(), "}," | "}"))
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("\n");
            let first = rest.lines().find(|line| !line.trim_start().starts_with("//"));
            let one_line = first.filter(|line| line.trim_end().ends_with(','));
            let body = one_line.unwrap_or(&body);
            let has_cause = ["source:", "#[source]", "#[from]"].iter().any(|it| body.contains(it));
            if !has_cause {
                continue;
            }
            looked_at += 1;
            let tells = telling.iter().any(|it| message.contains(it));
            assert!(tells, "{}: the cause is not in {message:?}", path.display());
        }
    }
    assert!(looked_at > 50, "{looked_at} errors were found");
}

#[test]
fn what_a_client_is_refused_is_no_failure_of_a_call_in_the_log() {
    let host = TestHost::builder().start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:call_failed", "module:loaded"]);
    let refused = host.ksi(&["unload", "nobody"]).fails(1);
    assert!(refused.contains("there is no plugin named"), "{refused}");
    host.drop_in("chaos.so", &Library::chaos());
    assert_eq!(watcher.pushes_until("module:loaded"), ["module:loaded"]);
    let log = host.process.told("loaded");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_plugin_of_another_abi_is_refused_in_one_sentence_with_advice() {
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos().of_abi_9()).start();
    let said = host.until_refused("chaos.so");
    let expected = "the plugin was built for ABI version 9, and this host speaks 4: use a newer host, or rebuild it with \
                    ksi-plugin-api 0.1.0";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_process_that_a_plugin_has_forked_and_that_keeps_the_next_host_away_is_named() {
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).start();
    let dead = host.process.id();
    let forked = host.client().emit("chaos:fork", json!({}))["process"].as_i64().unwrap();
    let setup = host.crash();
    let Ran { code, stderr, .. } = Running::start(&mut setup.command()).ended();
    let forked_process = Pid::from_raw(i32::try_from(forked).unwrap()).unwrap();
    kill_process(forked_process, Signal::KILL).unwrap();
    assert_eq!(code, Some(1));
    let words = [format!("process {dead}, is gone"), format!("process {forked} (`")];
    assert!(words.iter().all(|it| stderr.contains(it)), "{stderr}");
    assert!(stderr.contains(&format!("`kill {forked}`")), "{stderr}");
    let lock = fs::File::open(setup.dir().join("s.lock")).unwrap();
    until("its lock is free", || lock.try_lock().is_ok(), |free| *free);
    drop(lock);
    setup.start();
}

/// The chaos plugin with more bits in an entry of its dynamic section.
pub(crate) fn linked(tag: u64, bits: u64, version: usize) -> Library {
    let mut library = Library::chaos().version(version);
    // How it is linked here: BIND_NOW in both, and nothing else.
    let old = if tag == FLAGS { 8_u64 } else { 1 };
    let entry = [tag.to_le_bytes(), old.to_le_bytes()].concat();
    let places = library.0.windows(16).enumerate().filter(|(_, bytes)| *bytes == entry);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "the entry stands in one place");
    library.0[places[0] + 8..places[0] + 16].copy_from_slice(&(old | bits).to_le_bytes());
    library
}

pub(crate) const FLAGS: u64 = 0x1e;
pub(crate) const FLAGS_1: u64 = 0x6fff_fffb;
pub(crate) const NODELETE: u64 = 8;
pub(crate) const STATIC_TLS: u64 = 0x10;

#[test]
fn a_library_that_is_linked_never_to_leave_memory_is_told_before_and_after_it_is_replaced() {
    let host = TestHost::builder().plugin("chaos.so", &linked(FLAGS_1, NODELETE, 1)).start();
    let file = host.file("chaos.so");
    let inspected = host.ksi(&["inspect", file.to_str().unwrap()]).ok();
    let listed = host.ksi(&["list"]).ok();
    let log = host.process.told("`-z nodelete`");
    for (place, text) in [("inspect", inspected), ("list", listed), ("log", log)] {
        assert!(
            text.contains("`-z nodelete`") && text.contains("link it without"),
            "{place}: {text}"
        );
    }
    host.drop_in("chaos.so", &linked(FLAGS_1, NODELETE, 2));
    let cause = |module: &Value| module["retired"][0]["cause"].as_str().map(str::to_owned);
    let pinned = host.until_module("the old one is pinned", "chaos", |it| cause(it).is_some());
    assert!(cause(&pinned).unwrap().contains("`-z nodelete`"), "{pinned:#}");
}

#[test]
fn a_library_with_static_thread_locals_is_told_before_there_is_no_room_for_another() {
    let library = linked(FLAGS, STATIC_TLS, 1);
    let host = TestHost::builder().plugin("chaos.so", &library).start();
    host.until_live("chaos", 1);
    let listed = host.ksi(&["list"]).ok();
    for word in ["bytes of static TLS", "local_dynamic_tls", "disable_initial_exec_tls"] {
        assert!(listed.contains(word), "{listed}");
    }
    let well = TestHost::chaos();
    assert_eq!(well.module("chaos")["notices"], json!([]));
}
