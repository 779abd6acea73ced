//! Code that changes while the host runs.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use ksi_wire::module::{ModuleState, RetiredState};
use serde_json::{Value, json};

use crate::kit::{Client, Library, OutsideCrate, States, TestHost, put_in_place, until};

#[track_caller]
fn version(client: &mut Client) -> Value {
    client.emit("chaos:version", json!({}))["version"].clone()
}

#[track_caller]
fn until_waiting(client: &mut Client, count: u64) {
    until(
        "calls wait",
        || client.emit("gate:stats", json!({}))["waiting"].clone(),
        |n| *n == count,
    );
}

#[test]
fn a_rebuilt_plugin_answers_with_its_new_code_and_the_old_one_leaves_memory() {
    let host = TestHost::chaos();
    let mut client = host.client();
    assert_eq!(version(&mut client), "chaos-version-0001");
    let before = host.resources().libraries;
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    assert_eq!(version(&mut client), "chaos-version-0002", "on a connection from before");
    let module = host.until_unmapped("chaos");
    let retired = &module["retired"];
    assert_eq!(retired.as_array().map(Vec::len), Some(1), "{retired}");
    assert_eq!(
        (&retired[0]["generation"], &retired[0]["state"], &retired[0]["cause"]),
        (&json!(1), &json!("unmapped"), &json!(null))
    );
    for step in ["drain", "unmap"] {
        assert!(retired[0]["timings_ms"][step].as_f64() >= Some(0.0), "{retired}");
    }
    let after = host.resources().libraries;
    assert_eq!((before.len(), after.len()), (1, 1));
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
}

#[test]
fn a_file_that_is_written_over_in_place_is_taken_when_it_stands_still() {
    let host = TestHost::chaos();
    put_in_place(&host.file("chaos.so"), &Library::chaos().version(2).0);
    host.until_module("the new one is live", "chaos", |module| {
        module["generation"].as_u64() >= Some(2)
    });
    until("it answers", || version(&mut host.client()), |version| version == "chaos-version-0002");
}

#[test]
fn the_same_bytes_are_probed_once_and_are_described_all_the_same() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let mut handlers = Vec::new();
    for (generation, step, is_probed) in
        [(1, "start", true), (2, "reload", false), (3, "other bytes", true), (4, "rollback", false)]
    {
        match step {
            "start" => {}
            "other bytes" => host.drop_in("chaos.so", &Library::chaos().version(2)),
            _ => drop(client.emit(&format!("module:{step}"), json!({"module_name": "chaos"}))),
        }
        host.until_live("chaos", generation);
        let inspected = client.emit("module:inspect", json!({"module_name": "chaos"}));
        let timings = &inspected["timings_ms"];
        assert_eq!(timings.get("probe").is_some(), is_probed, "{step}: {timings}");
        handlers.push(inspected["handlers"].clone());
    }
    let echo = handlers[0].as_array().unwrap().iter().find(|handler| handler["name"] == "echo");
    assert!(echo.unwrap()["payload_schema"].is_object(), "{echo:?}");
    assert!(handlers.iter().all(|described| named(described) == named(&handlers[0])));
}

/// What a probe tells of handlers.
fn named(handlers: &Value) -> Vec<[&Value; 4]> {
    let parts = ["name", "summary", "payload_schema", "reply_schema"];
    let handlers = handlers.as_array().unwrap().iter();
    handlers.map(|handler| parts.map(|part| &handler[part])).collect()
}

#[test]
fn a_file_with_the_same_content_is_no_new_generation() {
    let host = TestHost::chaos();
    for _ in 0..3 {
        host.drop_in("chaos.so", &Library::chaos());
    }
    // What comes later is seen later, so this being generation 2 tells that there was none in
    // between.
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let module = host.until_module("there is a new one", "chaos", |it| it["generation"] != 1);
    assert_eq!(module["generation"], 2);
    assert_eq!(version(&mut host.client()), "chaos-version-0002");
}

#[test]
fn calls_in_flight_finish_on_the_old_code_and_new_ones_reach_the_new() {
    let host = TestHost::chaos();
    let (mut caller, mut other) = (host.client(), host.client());
    let old = caller.begin("gate:wait", json!("old"));
    until_waiting(&mut other, 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    let new = caller.begin("gate:wait", json!("new"));
    until_waiting(&mut other, 1);
    assert_eq!(host.module("chaos").retired_state(0), RetiredState::Draining);
    assert_eq!(host.resources().libraries.len(), 2, "both are in memory while the old call lasts");
    other.emit("gate:open", json!({}));
    assert_eq!(caller.end(&old)["data"], json!({"data": "old", "version": "chaos-version-0001"}));
    assert_eq!(caller.end(&new)["data"], json!({"data": "new", "version": "chaos-version-0002"}));
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 1);
}

#[test]
fn calls_that_outlast_the_drain_timeout_are_cancelled_and_say_so() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[timeouts]\ndrain = '150ms'")
        .start();
    let (mut caller, mut other) = (host.client(), host.client());
    let waiting = caller.begin("gate:wait", json!({}));
    until_waiting(&mut other, 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let reply = caller.end(&waiting);
    assert_eq!(
        (&reply["failed"], &reply["data"]["code"]),
        (&json!(true), &json!("rejected")),
        "{reply}"
    );
    host.until_live("chaos", 2);
    host.until_unmapped("chaos");
}

#[test]
fn no_event_is_lost_over_twenty_replacements_under_load() {
    let host = TestHost::chaos();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut number) = (host.client(), 0_u64);
                    while !done.load(SeqCst) {
                        number += 1;
                        let sent = if number % 16 == 0 { "chaos:sleep" } else { "chaos:echo" };
                        let answer = client.emit(sent, json!({"millis": 3, "number": number}));
                        assert!(answer["number"] == number || answer.is_string(), "{answer}");
                    }
                    number
                })
            })
            .collect();
        for generation in 2..=21 {
            host.drop_in("chaos.so", &Library::chaos().version(generation));
            host.until_live("chaos", generation as u64);
        }
        done.store(true, SeqCst);
        let answered: u64 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(answered > 100, "there was load: {answered}");
        let module = host.until_unmapped("chaos");
        let counts = &module["counts"];
        let well = counts["replied"].as_u64().unwrap() + counts["no_reply"].as_u64().unwrap();
        assert_eq!((&counts["accepted"], well >= answered), (&json!(well), true), "{counts}");
    });
}

#[test]
fn other_plugins_tasks_and_calls_go_on_undisturbed() {
    let host = TestHost::builder().plugin("other.so", &Library::chaos().named("chao1")).start();
    let mut client = host.client();
    client.emit("chaos:spawn", json!({"count": 5}));
    let mut caller = host.client();
    let waiting: Vec<_> = (0..20).map(|number| caller.begin("gate:wait", json!(number))).collect();
    let sleeping: Vec<_> =
        (0..20).map(|_| caller.begin("chaos:sleep", json!({"millis": 300}))).collect();
    until_waiting(&mut client, 20);
    for generation in 1..=10 {
        host.drop_in("chaos.so", &Library::chaos().version(1 + generation));
        host.until_live("chaos", generation as u64);
        host.until_unmapped("chaos");
    }
    let other = host.module("chao1");
    assert_eq!((&other["generation"], &other["retired"]), (&json!(1), &json!([])));
    // Two plugins answer now, the other one first.
    let ticks = |client: &mut Client| client.emit("chaos:ticks", json!({}))[0].as_u64().unwrap();
    let before = ticks(&mut client);
    until("its tasks go on", || ticks(&mut client), |now| *now > before + 20);
    client.emit("gate:open", json!({}));
    for (number, id) in waiting.iter().enumerate() {
        assert_eq!(
            caller.end(id)["data"],
            json!({"data": number, "version": "chaos-version-0001"})
        );
    }
    for id in &sleeping {
        assert_eq!(caller.end(id)["data"], "chaos-version-0001");
    }
}

#[test]
fn a_bad_file_leaves_the_old_generation_live_with_the_reason_beside_it() {
    let host = TestHost::chaos();
    let mut watcher = host.client();
    watcher.subscribe(&["module:reload_failed"]);
    let good = Library::chaos().version(2);
    for (bytes, words) in [
        (b"no library at all".to_vec(), "no ELF shared library"),
        (good.0[..good.0.len() / 2].to_vec(), "torn"),
        (good.clone().of_abi_9().0, "ABI version 9"),
    ] {
        host.drop_in("chaos.so", &Library(bytes));
        // A file may be looked at twice.
        let failed = || watcher.push_of("module:reload_failed");
        let is_of_it = |failed: &Value| failed["reason"].as_str().unwrap().contains(words);
        let failed = until("it is told", failed, is_of_it);
        assert_eq!((&failed["name"], &failed["generation"]), (&json!("chaos"), &json!(1)));
        for text in [failed["reason"].as_str(), host.module("chaos")["last_error"].as_str()] {
            let text = text.expect("a reason");
            assert!(text.contains(words) && text.contains("chaos.so"), "{words}: {text}");
        }
        let module = host.module("chaos");
        assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(1)));
        assert_eq!(version(&mut host.client()), "chaos-version-0001");
    }
    host.drop_in("chaos.so", &good);
    let module = host.until_live("chaos", 2);
    assert_eq!(module["last_error"], Value::Null, "a good one ends the trouble");
}

#[test]
fn an_init_that_fails_leaves_the_old_generation_live() {
    for (how, words) in [
        ("fail", "init fails on purpose"),
        ("panic", "init panics on purpose"),
        ("hang", "timeouts.init"),
        ("block", "timeouts.init"),
    ] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config("[timeouts]\ninit = '2s'\n[plugin.chaos]\ninit_version = 'chaos-version-0002'\ninit_millis = 4000")
            .config(&format!("init = '{how}'"))
            .start();
        host.drop_in("chaos.so", &Library::chaos().version(2));
        let failed =
            |module: &Value| module["last_error"].as_str().is_some_and(|text| text.contains(words));
        let module = host.until_module(&format!("{how} is told"), "chaos", failed);
        assert_eq!(
            (module.state(), &module["generation"]),
            (ModuleState::Live, &json!(1)),
            "{how}"
        );
        assert_eq!(version(&mut host.client()), "chaos-version-0001");
        host.drop_in("chaos.so", &Library::chaos().version(3));
        until(
            "the next good one is live",
            || version(&mut host.client()),
            |it| it == "chaos-version-0003",
        );
        host.until_unmapped("chaos");
        until(
            "nothing stays of the failed one",
            || host.resources().libraries.len(),
            |count| *count == 1,
        );
    }
}

#[test]
fn of_many_versions_in_quick_succession_the_last_one_stays() {
    let host = TestHost::chaos();
    for version in 2..=30 {
        host.drop_in("chaos.so", &Library::chaos().version(version));
    }
    let mut client = host.client();
    until("the last one answers", || version(&mut client), |it| it == "chaos-version-0030");
    let module = host.until_unmapped("chaos");
    assert_eq!((module.state(), &module["last_error"]), (ModuleState::Live, &Value::Null));
    // The file may be looked at once more when it is live.
    until("one is mapped", || host.resources().libraries.len(), |count| *count == 1);
}

#[test]
fn a_call_from_another_plugin_finishes_on_the_generation_that_it_reached() {
    let host = TestHost::chaos();
    host.drop_in("other.so", &Library::chaos().named("chao1"));
    host.until_live("chao1", 1);
    let mut client = host.client();
    client.emit("module:unload", json!({"module_name": "chao1"}));
    host.until_unmapped("chao1");
    // `gate:wait` is the chaos plugin's alone now, and a request that is under way when the other
    // one is gone too.
    let relayed = client.begin("chaos:request", json!({"event": "gate:wait", "data": "far"}));
    let mut other = host.client();
    until_waiting(&mut other, 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    other.emit("gate:open", json!({}));
    let reply = client.end(&relayed)["data"].take();
    assert_eq!(reply, json!({"data": "far", "version": "chaos-version-0001"}));
    host.until_unmapped("chaos");
}

#[test]
fn a_plugin_may_replace_and_unload_itself_in_the_middle_of_a_call() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let reload = json!({"event": "module:reload", "data": {"module_name": "chaos"}});
    assert_eq!(client.emit("chaos:request", reload)["generation"], 2);
    host.until_unmapped("chaos");
    let unload = json!({"event": "module:unload", "data": {"module_name": "chaos"}});
    assert_eq!(client.emit("chaos:request", unload)["status"], "unloaded");
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 0);
}

#[test]
fn nobody_can_have_a_plugin_shut_down_by_an_event() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nlast_words = 'words:last'")
        .start();
    let mut watcher = host.client();
    watcher.subscribe(&["words:last", "chaos:quiet"]);
    let mut client = host.client();
    assert_eq!(client.reply("module:shutdown", json!({}))["data"]["status"], "error");
    client.reply("chaos:request", json!({"event": "module:shutdown", "data": {}}));
    client.emit("chaos:quiet", json!({}));
    assert_eq!(watcher.push()["event"], "chaos:quiet", "it has not said its last words");
}

#[test]
fn a_host_that_is_stopped_in_the_middle_of_replacements_ends_in_order() {
    for _ in 0..3 {
        let mut builder = TestHost::builder();
        for plugin in 0..4 {
            let library = Library::chaos().named(&format!("chao{plugin}"));
            builder = builder.plugin(&format!("{plugin}.so"), &library);
        }
        let mut host = builder.start();
        let mut watcher = host.client();
        watcher.subscribe(&["module:reloaded"]);
        for plugin in 0..4 {
            let library = Library::chaos().named(&format!("chao{plugin}")).version(2);
            host.drop_in(&format!("{plugin}.so"), &library);
        }
        watcher.push();
        host.process.signal(rustix::process::Signal::TERM);
        assert_eq!(host.process.ended().code, Some(0));
    }
}

/// It counts by itself, and tells.
const TICKS: &str = r#"
use std::{sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}}, time::Duration};
use ksi_plugin_api::prelude::*;

#[event("ticks:ticked")]
struct Ticked { count: u64 }

struct Ticks { count: Arc<AtomicU64> }

#[payload]
struct Saved { count: u64 }

#[plugin(emits(Ticked))]
impl Ticks {
    #[initialize]
    async fn initialize(ctx: &Context, _: Value) -> Result<Self> {
        let count = Arc::<AtomicU64>::default();
        let (ticks, counted) = (ctx.clone(), count.clone());
        ctx.spawn(async move {
            loop {
                ticks.sleep(Duration::from_millis(5)).await;
                let count = counted.fetch_add(1, Relaxed) + 1;
                ticks.emit(&Ticked { count }).await;
            }
        })?;
        Ok(Ticks { count })
    }

    #[snapshot(version = 1)]
    async fn snapshot(&self, _: &Context) -> Result<Saved> {
        Ok(Saved { count: self.count.load(Relaxed) })
    }

    #[restore(version = 1)]
    async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
        self.count.store(saved.count, Relaxed);
        Ok(())
    }
}
"#;

#[test]
fn a_plugin_without_a_handler_is_live_and_is_replaced_with_its_state() {
    let library = Library(OutsideCrate::new("ticks", TICKS).build(&[]));
    let host = TestHost::builder().plugin("libticks.so", &library).start();
    let mut client = host.client();
    client.subscribe(&["ticks:ticked"]);
    let mut count = || client.push_of("ticks:ticked")["count"].as_u64().unwrap();
    until("it has counted", &mut count, |count| *count >= 20);
    assert_eq!(host.module("ticks").state(), ModuleState::Live);
    host.ksi(&["reload", "ticks"]).ok();
    host.until_unmapped("ticks");
    let module = host.module("ticks");
    assert_eq!((module.state(), &module["generation"]), (ModuleState::Live, &json!(2)));
    let before = count();
    assert!(before >= 20, "{before}");
    until("it goes on", &mut count, |count| *count > before + 5);
}
