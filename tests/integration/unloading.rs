//! That replaced code really leaves memory, whatever it did before.

use std::fs;

use ksi_wire::module::RetiredState;
use serde_json::{Value, json};

use crate::kit::{Client, Library, Resources, States, TestHost, until};

/// Does everything on a generation that could keep its library in memory.
fn use_all(client: &mut Client) {
    client.emit("chaos:thread_local", json!({}));
    client.emit("chaos:own_thread", json!({"millis": 1}));
    client.emit("chaos:foreign_waker", json!({"millis": 1}));
    client.emit("chaos:spawn", json!({"count": 2}));
    client.emit("chaos:subscribe", json!({"pattern": "chaos:quiet"}));
    client.emit("chaos:quiet", json!({}));
    client.emit("chaos:block_well", json!({"millis": 0}));
    client.emit("chaos:log", json!({}));
    for event in ["chaos:panic", "chaos:panic_late", "chaos:panic_drop", "chaos:late"] {
        assert_eq!(client.reply(event, json!({}))["failed"], true);
    }
}

#[test]
fn two_hundred_replacements_in_a_row_end_with_one_mapped_library_and_no_growth() {
    const ROUNDS: usize = 200;
    const SETTLED: usize = 40;
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("other.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'x'")
        .start();
    let mut client = host.client();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reloaded", "module:retired"]);
    let mut library = Library::chaos();
    let mut settled = None;
    for round in 1..=ROUNDS {
        library.set_version(round + 1);
        host.drop_in("chaos.so", &library);
        assert_eq!(watcher.push_of("module:reloaded")["generation"], round + 1);
        let versions = client.emit("chaos:version", json!({}));
        assert_eq!(versions[1]["version"], format!("chaos-version-{:04}", round + 1));
        client.emit("chaos:thread_local", json!({}));
        assert_eq!(watcher.push_of("module:retired")["unmapped"], true);
        if round == SETTLED {
            settled = Some(host.resources());
        }
    }
    let module = host.until_unmapped("chaos");
    assert_eq!(module["generation"], ROUNDS + 1);
    let before = settled.unwrap();
    let is_as_before = |after: &Resources| {
        after.descriptors <= before.descriptors + 3 && after.threads <= before.threads + 3
    };
    let after = until("it holds no more", || host.resources(), is_as_before);
    assert_eq!(after.libraries.len(), 2, "one library a plugin: {:?}", after.libraries);
    // Allocators fill up for some two hundred rounds, by 6 MB in all; a library that stays costs
    // half a megabyte each.
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(grown < 100 * (ROUNDS - SETTLED) as u64, "{grown} KiB more\n{before:?}\n{after:?}");
    let copies = host.dir().join("tmp");
    let private = fs::read_dir(copies).unwrap().next().unwrap().unwrap().path();
    let is_copy = |file: &fs::DirEntry| file.path().extension().is_some_and(|it| it == "so");
    let copies = || fs::read_dir(&private).unwrap().flatten().filter(is_copy).count();
    let back = module["previous"].as_array().map_or(0, Vec::len);
    assert_eq!(back, 3);
    // But for those that can be gone back to.
    until("private copies go", copies, |copies| *copies == 2 + back);
}

/// glibc has 1,024 keys for thread-locals in a process, and the `std` of each library takes one.
#[test]
fn a_host_outlives_more_replacements_than_the_system_has_keys_for_thread_locals() {
    let host = TestHost::chaos();
    let mut client = host.client();
    for generation in 2..=1_060 {
        client.emit("chaos:thread_local", json!({}));
        let reloaded = client.emit("module:reload", json!({"module_name": "chaos"}));
        assert_eq!(reloaded["generation"], generation);
    }
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_generation_leaves_memory_after_panics_tasks_threads_and_wakers_of_its_own() {
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).start();
    let mut client = host.client();
    for generation in 2..=12 {
        use_all(&mut client);
        host.drop_in("chaos.so", &Library::chaos().version(generation));
        host.until_live("chaos", generation as u64);
        host.until_unmapped("chaos");
        assert_eq!(host.resources().libraries.len(), 1);
    }
}

#[test]
fn a_context_that_is_kept_pins_the_generation_with_the_cause_until_it_is_let_go() {
    let host = TestHost::chaos();
    let flag = host.dir().join("keep");
    fs::write(&flag, "").unwrap();
    host.client().emit("chaos:keep_context", json!({"while_exists": flag}));
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    let module = host.until_module("it is pinned", "chaos", pinned);
    let cause = module["retired"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("Context") || cause.contains("thread"), "{cause}");
    let list = host.ksi(&["list"]).ok();
    assert!(list.contains("1 pinned") && list.contains("generation 1 is pinned"), "{list}");
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "the new one answers");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_generation_leaves_memory_whatever_its_thread_locals_do_with_a_context_at_the_end() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let words = ["emit", "pending", "blocking", "send", "sleep", "log", "spawn"];
    for (generation, words) in (2..).zip(words) {
        client.emit("chaos:last_words", json!(words));
        client.emit("chaos:last_words_blocking", json!(words));
        host.drop_in("chaos.so", &Library::chaos().version(generation));
        host.until_live("chaos", generation as u64);
        let module = host.until_unmapped("chaos");
        assert_eq!(host.resources().libraries.len(), 1, "{words}: {module:#}");
    }
    host.stop().ok();
}

#[test]
fn a_slow_or_failing_shutdown_holds_up_neither_the_new_generation_nor_the_unmapping() {
    for (how, millis) in [("sleep", 300), ("block", 300), ("panic", 0), ("hang", 0)] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config("[timeouts]\nshutdown = '500ms'\n[plugin.chaos]")
            .config(&format!("shutdown = '{how}'\nshutdown_millis = {millis}"))
            .start();
        host.drop_in("chaos.so", &Library::chaos().version(2));
        host.until_live("chaos", 2);
        assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
        let module = host.until_unmapped("chaos");
        assert_eq!(module["retired"].as_array().unwrap().len(), 1, "{how}");
    }
}

#[test]
fn a_call_that_blocks_its_thread_delays_the_unmapping_and_nothing_else() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 2\n[timeouts]\ndrain = '100ms'")
        .start();
    let mut caller = host.client();
    let flag = host.dir().join("blocked");
    fs::write(&flag, "").unwrap();
    let blocked = caller.begin("chaos:block", json!({ "while_exists": flag }));
    host.until_module("it is called", "chaos", |module| module["counts"]["in_flight"] == 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    assert_eq!(host.client().emit("chaos:version", json!({}))["version"], "chaos-version-0002");
    assert_ne!(
        host.module("chaos").retired_state(0),
        RetiredState::Unmapped,
        "its code runs still"
    );
    fs::remove_file(&flag).unwrap();
    caller.end(&blocked);
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn a_plugin_whose_old_generations_cannot_be_unmapped_is_in_the_end_replaced_no_more() {
    let host = TestHost::chaos();
    let flag = host.dir().join("keep");
    fs::write(&flag, "").unwrap();
    let refused = |module: &Value| module["last_error"].is_string();
    let mut generation = 1;
    let last = loop {
        host.client().emit("chaos:keep_context", json!({"while_exists": flag}));
        host.drop_in("chaos.so", &Library::chaos().version(generation + 1));
        let module = host.until_module("it is replaced or not", "chaos", |module| {
            refused(module) || module["generation"] == generation + 1
        });
        if refused(&module) {
            break module;
        }
        generation += 1;
        assert!(generation < 100, "memory is filled without a bound");
    };
    let text = last["last_error"].as_str().unwrap();
    assert!(text.contains("still in memory"), "{text}");
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "the live one goes on");
    fs::remove_file(&flag).unwrap();
    host.until_unmapped("chaos");
    host.drop_in("chaos.so", &Library::chaos().version(generation + 2));
    host.until_live("chaos", generation as u64 + 1);
}

#[test]
fn many_plugins_are_replaced_at_the_same_time() {
    const PLUGINS: usize = 6;
    const ROUNDS: usize = 6;
    let name = |plugin: usize| format!("chao{plugin}");
    let mut builder = TestHost::builder();
    for plugin in 0..PLUGINS {
        builder = builder.plugin(&format!("{plugin}.so"), &Library::chaos().named(&name(plugin)));
    }
    let host = builder.start();
    let libraries: Vec<Library> =
        (0..PLUGINS).map(|plugin| Library::chaos().named(&name(plugin))).collect();
    for round in 2..=ROUNDS {
        for (plugin, library) in libraries.iter().enumerate() {
            host.drop_in(&format!("{plugin}.so"), &library.clone().version(round));
        }
        for plugin in 0..PLUGINS {
            host.until_live(&name(plugin), round as u64);
        }
        let versions = host.client().emit("chaos:version", json!({}));
        let expected = format!("chaos-version-{round:04}");
        assert!(
            versions.as_array().unwrap().iter().all(|it| it["version"] == expected),
            "{versions}"
        );
    }
    for plugin in 0..PLUGINS {
        host.until_unmapped(&name(plugin));
    }
    assert_eq!(host.resources().libraries.len(), PLUGINS);
}

#[test]
fn the_host_ends_in_order_although_a_generation_is_pinned() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ndrain = '500ms'\nshutdown = '500ms'")
        .start();
    let flag = host.dir().join("keep");
    fs::write(&flag, "").unwrap();
    host.client().emit("chaos:keep_context", json!({"while_exists": flag}));
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    host.client().emit("chaos:keep_context", json!({"while_exists": flag}));
    assert_eq!(host.stop().code, Some(0));
}
