//! What a plugin may leave behind in the process: either the library stays, pinned with the cause
//! by name, or it is really right to close it.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use ksi_wire::module::RetiredState;
use serde_json::{Value, json};

use crate::kit::{Ends, Library, States, TestHost};

pub(crate) fn library() -> Library {
    Library::of("ksi-fixture-leftovers")
}

pub(crate) fn host() -> TestHost {
    TestHost::builder().plugin("leftovers.so", &library()).start()
}

/// Has so many clients emit an event until `work` is done; all of their emits must succeed. Gives
/// how many there were.
#[track_caller]
fn while_emitting(
    host: &TestHost,
    clients: usize,
    event: &str,
    data: &Value,
    work: impl FnOnce(),
) -> u64 {
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let ends = Ends(&done);
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = host.client();
                while !done.load(SeqCst) {
                    client.emit(event, data.clone());
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
        work();
        drop(ends);
    });
    answered.into_inner()
}

pub(crate) fn reload(host: &TestHost, plugin: &str, times: usize) {
    let mut client = host.client();
    for _ in 0..times {
        client.emit("module:reload", json!({"module_name": plugin}));
    }
}

/// Puts another version into the place of a plugin and goes back from it, so many times; then the
/// last one stays.
#[track_caller]
fn roll_back(host: &TestHost, plugin: &str, times: u64) {
    let file = format!("{plugin}.so");
    let library = Library(fs::read(host.file(&file)).unwrap());
    let mut next = host.module(plugin)["generation"].as_u64().unwrap();
    for round in 1..=times + 1 {
        let mut other = library.clone();
        // What follows the last section is no part of the library.
        other.0.extend(vec![0; usize::try_from(round).unwrap()]);
        host.drop_in(&file, &other);
        host.until_live(plugin, next + 1);
        if round <= times {
            host.client().emit("module:rollback", json!({"module_name": plugin}));
            host.until_live(plugin, next + 2);
        }
        next += 2;
    }
}

/// The cause that the only older generation is pinned with, once there is one that says `what`.
#[track_caller]
pub(crate) fn pinned(host: &TestHost, plugin: &str, what: &str) -> String {
    let cause = |module: &Value| {
        let all = module["retired"].as_array()?;
        all.iter().find_map(|old| old["cause"].as_str()).map(str::to_owned)
    };
    let named = |module: &Value| cause(module).is_some_and(|cause| cause.contains(what));
    let module = host.until_module(&format!("it is pinned by {what}"), plugin, named);
    cause(&module).unwrap()
}

/// Emits an event all the while, from three clients, while the plugin is replaced, removed and
/// rolled back; then nothing of it may be left but the live library. Gives the number of events.
#[track_caller]
pub(crate) fn survives(
    host: &TestHost,
    plugin: &str,
    event: &str,
    data: &Value,
    replacements: usize,
) -> u64 {
    let answered = while_emitting(host, 3, event, data, || {
        reload(host, plugin, replacements);
        roll_back(host, plugin, 5);
    });
    host.until_unmapped(plugin);
    assert_eq!(host.resources().libraries.len(), 1, "{:?}", host.resources().libraries);
    // Removed, without clients: they would be told that nobody handles their event.
    let mut client = host.client();
    for _ in 0..20 {
        client.emit(event, data.clone());
        client.emit("module:unload", json!({"module_name": plugin}));
        let file = host.file(&format!("{plugin}.so"));
        client.emit("module:load", json!({"path": file}));
    }
    host.until_unmapped(plugin);
    assert_eq!(host.resources().libraries.len(), 1, "{:?}", host.resources().libraries);
    answered
}

/// For a minute of it:
/// `KSI_FIELD_SECONDS=60 cargo test -p ksi-tests --test integration started_for_each -- --nocapture`
#[test]
fn a_backtrace_that_keeps_the_bytes_of_the_file_mapped_does_not_count_as_its_library() {
    let host = host();
    let printed = host.client().emit("leave:backtrace", json!({}));
    assert!(printed.as_u64().is_some_and(|length| length > 0), "{printed}");
    reload(&host, "leftovers", 1);
    host.until_unmapped("leftovers");
    let maps = host.maps();
    let of_the_first: Vec<_> =
        maps.lines().filter(|line| line.contains("leftovers-1.so")).collect();
    assert!(!of_the_first.is_empty(), "std keeps no file mapped any more: this test shows nothing");
    assert!(of_the_first.iter().all(|line| line.contains(" r--p ")), "{of_the_first:#?}");
}

#[test]
fn threads_that_are_started_for_each_event_and_not_waited_for_survive_replacement() {
    let host = host();
    survives(&host, "leftovers", "leave:thread", &json!({}), 300);
    let seconds = std::env::var("KSI_FIELD_SECONDS").unwrap_or_default();
    let Ok(seconds) = seconds.parse().map(Duration::from_secs) else { return };
    let (began, mut replaced) = (Instant::now(), 0);
    let before = host.resources();
    let answered = while_emitting(&host, 3, "leave:thread", &json!({}), || {
        while began.elapsed() < seconds {
            reload(&host, "leftovers", 50);
            replaced += 50;
        }
    });
    host.until_unmapped("leftovers");
    let after = host.resources();
    println!(
        "{answered} events, each with a thread, and {replaced} replacements in {:?}",
        began.elapsed()
    );
    println!("{before:?}\n{after:?}");
    assert_eq!(after.libraries.len(), 1, "{:?}", after.libraries);
}

#[test]
fn threads_of_c_code_that_nobody_joins_survive_replacement() {
    survives(&host(), "leftovers", "leave:c_thread", &json!({"millis": 3}), 60);
}

#[test]
fn threads_that_an_instance_starts_when_it_is_dropped_end_before_its_code_goes() {
    let host = host();
    let mut client = host.client();
    for _ in 0..200 {
        client.emit("leave:threads_at_the_end", json!({"count": 4}));
        reload(&host, "leftovers", 1);
    }
    host.until_unmapped("leftovers");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_thread_that_runs_on_pins_the_generation_with_its_name_until_it_ends() {
    let host = host();
    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    let mut client = host.client();
    client.emit("leave:thread", json!({"name": "reader", "while_exists": flag}));
    client.emit("leave:thread", json!({"while_exists": flag}));
    reload(&host, "leftovers", 1);
    let cause = pinned(&host, "leftovers", "reader");
    assert_eq!(cause, "2 threads that it started still run: without a name, `reader`");
    client.emit("leave:read_environment", json!({}));
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("leftovers");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_literal_that_c_code_puts_into_the_environment_is_there_after_its_library_is_gone() {
    let host = host();
    let mut client = host.client();
    for _ in 0..3 {
        assert_eq!(client.emit("leave:variable", json!({})), "1");
        reload(&host, "leftovers", 1);
        host.until_unmapped("leftovers");
        assert!(client.emit("leave:read_environment", json!({})).as_u64() > Some(1));
    }
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_variable_that_still_lies_in_a_library_pins_it_with_its_name_until_it_is_taken_back() {
    let host = host();
    let mut client = host.client();
    client.emit("leave:variable_of_another_library", json!({}));
    reload(&host, "leftovers", 1);
    let cause = pinned(&host, "leftovers", "environment");
    assert!(cause.contains("`KSI_OF_ANOTHER`"), "{cause}");
    client.emit("leave:read_environment", json!({}));
    // Somebody else puts another value in its place.
    client.emit("leave:variable_of_another_library", json!({}));
    host.until_module("only the second is pinned", "leftovers", |module| {
        module.retired_state(0) == RetiredState::Unmapped
    });
}

#[test]
fn what_a_library_leaves_behind_when_it_was_closed_and_could_not_go_keeps_it_as_well() {
    let host = host();
    let mut client = host.client();
    let opened = client.emit("leave:opened_again", json!({}));
    reload(&host, "leftovers", 1);
    pinned(&host, "leftovers", "keeps a thread-local of it");
    // Nothing holds it any more but what was not there when it was closed.
    assert_eq!(client.emit("leave:variable_of_another_generation", opened), true);
    let cause = pinned(&host, "leftovers", "environment");
    assert!(cause.contains("`KSI_OF_ANOTHER`"), "{cause}");
    client.emit("leave:read_environment", json!({}));
    client.emit("leave:variable_of_another_library", json!({}));
    host.until_module("only the second is there", "leftovers", |module| {
        module.retired_state(0) == RetiredState::Unmapped
    });
}

#[test]
fn functions_that_the_c_library_forgets_with_their_library_are_no_reason_to_keep_it() {
    let host = host();
    let mut client = host.client();
    for _ in 0..20 {
        assert_eq!(client.emit("leave:functions", json!({})), true);
        reload(&host, "leftovers", 1);
        host.until_unmapped("leftovers");
    }
    assert_eq!(host.resources().libraries.len(), 1);
    // A probe's child is a fork, and the end calls what is registered.
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn functions_that_the_c_library_would_still_call_pin_the_library_with_what_registered_them() {
    let host = host();
    let mut client = host.client();
    assert_eq!(client.emit("leave:timer", json!({})), true);
    assert_eq!(client.emit("leave:exit_function", json!({})), true);
    reload(&host, "leftovers", 1);
    let cause = pinned(&host, "leftovers", "on_exit");
    assert!(cause.contains("SIGEV_THREAD"), "{cause}");
    // One that takes its timer back is no reason.
    assert_eq!(client.emit("leave:timer", json!({})), true);
    assert_eq!(client.emit("leave:timer", json!({})), true);
    reload(&host, "leftovers", 1);
    host.until_module("the second is gone", "leftovers", |module| {
        module.retired_state(1) == RetiredState::Unmapped
    });
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn the_name_that_a_plugin_gave_the_systems_log_lasts_longer_than_its_library() {
    let host = host();
    let mut client = host.client();
    for _ in 0..3 {
        client.emit("leave:log_name", json!({}));
        reload(&host, "leftovers", 1);
        host.until_unmapped("leftovers");
        client.emit("leave:write_log", json!({}));
    }
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_plugin_with_an_allocator_of_its_own_is_replaced_under_requests_that_allocate() {
    let library = Library::of("ksi-fixture-mimalloc");
    let host = TestHost::builder().plugin("mimalloc.so", &library).start();
    survives(&host, "mimalloc", "allocate:here", &json!({"bytes": 20_000}), 60);
    survives(&host, "mimalloc", "allocate:there", &json!({"bytes": 20_000}), 30);
}

#[test]
fn unloading_a_plugin_that_cannot_be_loaded_again_for_now_says_so() {
    let host = host();
    let flag = host.dir().join("runs");
    fs::write(&flag, "").unwrap();
    for _ in 0..16 {
        host.client().emit("leave:thread", json!({"name": "reader", "while_exists": flag}));
        reload(&host, "leftovers", 1);
    }
    host.until_module("16 are pinned", "leftovers", |module| {
        module.retired_states().iter().all(|old| *old == RetiredState::Pinned)
    });
    let told = host.ksi(&["unload", "leftovers"]).ok();
    assert!(told.contains("; it is not loaded again for now: 1"), "{told}");
    assert!(told.contains("`ksi inspect` tells what pins them"), "{told}");
    let file = host.file("leftovers.so");
    let refused = host.client().reply("module:load", json!({"path": file}));
    assert_eq!(refused["failed"], true, "{refused}");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("leftovers");
    host.ksi(&["load", file.to_str().unwrap()]).ok();
    assert!(!host.ksi(&["unload", "leftovers"]).ok().contains("for now"));
}

#[test]
fn a_stuck_call_is_named_where_its_thread_keeps_the_library_of_another_plugin() {
    let host = TestHost::builder()
        .plugin("leftovers.so", &library())
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 2")
        .start();
    let flag = host.dir().join("stuck");
    fs::write(&flag, "").unwrap();
    let (mut caller, mut blocking) = (host.client(), host.client());
    let stuck = caller.begin("leave:stuck", json!({"while_exists": flag}));
    let blocked = blocking.begin("leave:stuck_well", json!({"while_exists": flag}));
    let both = |module: &Value| module["counts"]["in_flight"] == 2;
    host.until_module("both are called", "leftovers", both);
    reload(&host, "chaos", 1);
    let cause = pinned(&host, "chaos", "stuck");
    assert!(cause.contains("leftovers.stuck with evt_"), "{cause}");
    assert!(cause.contains("leftovers.stuck_well with evt_"), "{cause}");
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("leftovers.stuck with evt_"), "{list}");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("chaos");
    caller.end(&stuck);
    blocking.end(&blocked);
}
