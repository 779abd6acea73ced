//! How a host stops: what ends first, who is answered until when, and what a further request
//! changes.

use std::process::Command;

use ksi_wire::module::ModuleState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kit::{
    Client, HostBuilder, Library, Running, States, TestHost, counters, isolated, ksi_command,
    until, wrapped,
};

/// A plugin that asks, which is started first and so would go last, and one that is asked.
fn asker_and_asked() -> HostBuilder {
    TestHost::builder()
        .plugin("a.so", &Library::counter(1))
        .plugin("b.so", &Library::chaos())
        .config("[timeouts]\ndrain = '10m'")
}

/// Begins a call that asks the other plugin, once the host was asked for `system:help`: the only
/// way left to speak to a plugin while the host stops.
#[track_caller]
fn ask_later(host: &TestHost, client: &mut Client) -> String {
    let relay = json!({"after": "system:help", "event": "chaos:echo", "data": "answered"});
    let asked = client.begin("counter:relay", relay);
    let waiting = || host.client().emit("counter:values", json!({}))["waiting"].clone();
    until("the call is inside", waiting, |waiting| *waiting == 1);
    asked
}

/// Waits until the host says that it is at this stage of its end.
#[track_caller]
fn until_stage(client: &mut Client, stage: &str) -> Value {
    let health = || client.emit("system:health", json!({}));
    until(&format!("it is {stage}"), health, |health| health["stopping"]["stage"] == stage)
}

#[test]
fn plugins_answer_each_other_until_what_is_inside_has_ended_while_clients_are_refused() {
    let mut host = asker_and_asked().start();
    let (mut caller, mut other) = (host.client(), host.client());
    let asked = ask_later(&host, &mut caller);
    host.process.signal(Signal::TERM);
    until_stage(&mut other, "draining");
    assert_eq!(other.emit("system:health", json!({}))["status"], "stopping");
    // The question that was let in before the stop counted itself, and one that was answered just
    // now may be counted for a moment longer.
    let waits_for = || other.emit("system:health", json!({}))["stopping"]["waits_for"].clone();
    let call =
        json!({"plugin": "counter", "handler": "relay", "events": ["counter:relay"], "calls": 1});
    until("its call alone is left", waits_for, |waits_for| {
        waits_for["events_of_clients"] == 1 && waits_for["calls"] == json!([call])
    });
    let refused = other.reply("chaos:echo", json!(1));
    assert_eq!((&refused["failed"], &refused["data"]["code"]), (&json!(true), &json!("stopping")));
    let words = "waiting for plugin counter, handler relay of counter:relay (1 call)";
    host.process.told(words);
    other.begin("system:help", json!({"event": "system:help"}));
    assert_eq!(caller.end(&asked)["data"], "answered");
    assert_eq!(host.process.ended().code, Some(0));
    assert!(!host.socket().exists());
}

#[test]
fn calls_that_do_not_end_are_cancelled_by_a_second_request_and_their_clients_are_answered() {
    for by_signal in [true, false] {
        let mut host = asker_and_asked().start();
        let (mut caller, mut other) = (host.client(), host.client());
        let asked = ask_later(&host, &mut caller);
        other.emit("counter:increment", json!({"name": "kept"}));
        host.process.signal(Signal::TERM);
        until_stage(&mut other, "draining");
        match by_signal {
            true => host.process.signal(Signal::TERM),
            false => drop(host.ksi(&["stop"]).ok()),
        }
        let answer = caller.end(&asked);
        assert_eq!(answer["data"]["code"], "rejected", "{answer:#}");
        assert_eq!(host.process.ended().code, Some(0));
        let host = host.has_stopped().start();
        assert_eq!(counters(&mut host.client())["kept"], 1);
    }
}

/// A host with state that waits for another plugin's shutdown, which does not end.
fn held_up() -> TestHost {
    let host =
        asker_and_asked().config("shutdown = '10m'\n[plugin.chaos]\nshutdown = 'hang'").start();
    host.client().emit("counter:increment", json!({"name": "kept"}));
    host.process.signal(Signal::TERM);
    until_stage(&mut host.client(), "unloading");
    host
}

#[test]
fn a_second_request_waits_for_no_shutdown_any_more_and_keeps_the_state_of_all_plugins() {
    let host = held_up();
    host.process.signal(Signal::TERM);
    let host = host.has_stopped().start();
    assert_eq!(counters(&mut host.client())["kept"], 1);
}

#[test]
fn the_state_of_a_plugin_that_was_just_being_unloaded_is_kept_however_often_one_asks() {
    for signals in [2, 3] {
        let mut host = asker_and_asked().start();
        let (mut caller, mut other) = (host.client(), host.client());
        other.emit("counter:increment", json!({"name": "kept"}));
        let asked = ask_later(&host, &mut caller);
        other.begin("module:unload", json!({"module_name": "counter"}));
        until(
            "it is unloaded",
            || host.module("counter"),
            |module| module.state() != ModuleState::Live,
        );
        host.process.signal(Signal::TERM);
        until_stage(&mut other, "draining");
        // Not the same again, of which two may become one.
        for signal in [Signal::INT, Signal::QUIT].into_iter().take(signals - 1) {
            host.process.signal(signal);
        }
        assert_eq!(caller.end(&asked)["data"]["code"], "rejected");
        assert_eq!(host.process.ended().code, Some(0));
        let host = host.has_stopped().start();
        assert_eq!(counters(&mut host.client())["kept"], 1, "after {signals} signals");
    }
}

#[test]
fn a_signal_when_there_is_nothing_left_to_hurry_ends_the_host_at_once() {
    let mut host = TestHost::builder()
        .plugin("a.so", &Library::counter(1).does("snapshot=hang"))
        .config("[reload]\ntrial = false")
        .start();
    let mut client = host.client();
    for stage in ["unloading", "leaving"] {
        host.process.signal(Signal::TERM);
        until_stage(&mut client, stage);
    }
    host.process.signal(Signal::TERM);
    assert_eq!(host.process.ended().code, Some(130));
}

#[test]
fn every_signal_that_tells_a_program_to_end_has_the_host_stop_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT, Signal::XCPU, Signal::POWER] {
        let host = TestHost::counter();
        host.client().emit("counter:increment", json!({"name": "kept"}));
        host.process.signal(signal);
        let host = host.has_stopped().start();
        assert_eq!(counters(&mut host.client())["kept"], 1, "{signal:?}");
    }
}

#[test]
fn sighup_has_a_host_without_a_configuration_file_stop_in_order() {
    let setup =
        TestHost::builder().plugin("a.so", &Library::counter(1)).plugin("b.so", &Library::chaos());
    let mut command = ksi_command(&["run", "--plugins"]);
    command.arg(setup.plugins()).arg("--socket").arg(setup.socket()).args(isolated::arguments());
    command.env("TMPDIR", setup.temporary()).current_dir(setup.dir());
    command.env("XDG_STATE_HOME", setup.dir().join("state-home"));
    let host = setup.start_by(&mut command);
    host.client().emit("counter:increment", json!({"name": "kept"}));
    host.process.signal(Signal::HUP);
    let host = host.has_stopped().start_by(&mut command);
    assert_eq!(counters(&mut host.client())["kept"], 1);

    // A shell passes on what the system sends as well, when a terminal is closed: that is one
    // request.
    let (mut caller, mut other) = (host.client(), host.client());
    let asked = ask_later(&host, &mut caller);
    host.process.signal(Signal::HUP);
    until_stage(&mut other, "draining");
    host.process.signal(Signal::HUP);
    host.process.signal(Signal::USR1);
    // Then both have come.
    host.process.told("SIGUSR1 came");
    other.begin("system:help", json!({"event": "system:help"}));
    assert_eq!(caller.end(&asked)["data"], "answered");
}

#[test]
fn signals_that_mean_nothing_to_a_host_do_not_end_it() {
    let host = TestHost::counter();
    let nothing = [
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::XFSZ, "SIGXFSZ"),
    ];
    for (signal, name) in nothing {
        host.process.signal(signal);
        host.process.told(&format!("{name} came, which means nothing"));
    }
    host.process.signal(Signal::PIPE);
    assert_eq!(host.client().emit("counter:increment", json!({"name": "a"}))["value"], 1);
    host.stop().ok();
}

#[test]
fn a_signal_that_a_shell_has_the_host_ignore_stays_ignored() {
    let shell = |host: &Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
        wrapped(shell, host)
    };
    let host = TestHost::builder().plugin("a.so", &Library::counter(1)).start_as(shell);
    let caught = host.resources().signals_caught;
    for signal in [Signal::HUP, Signal::INT] {
        assert_eq!(caught & (1 << (signal.as_raw() - 1)), 0, "{signal:?}");
        host.process.signal(signal);
    }
    assert_eq!(host.client().emit("counter:increment", json!({"name": "a"}))["value"], 1);
    host.stop().ok();
}

/// What a crash journal says of what is at work.
fn journal(setup: &HostBuilder) -> String {
    let states = setup.dir().join("state-home/ksi");
    let Ok(mut found) = std::fs::read_dir(states) else { return String::new() };
    let journal = found.next().map(|it| it.unwrap().path().join(".recovery/crashes"));
    let bytes = journal.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_host_that_is_only_starting_obeys_a_signal_at_once_whatever_a_plugin_does_meanwhile() {
    for how in ["hang", "block"] {
        let setup = TestHost::builder()
            .plugin("a.so", &Library::counter(1))
            .plugin("b.so", &Library::chaos())
            .config("[reload]\ntrial = false\n[timeouts]\ninit = '10m'")
            .config(&format!("[plugin.chaos]\ninit = '{how}'\ninit_millis = 600000"));
        let mut host = Running::start(&mut setup.command());
        until("it initializes", || journal(&setup), |notes| notes.contains("its initialize"));
        host.signal(Signal::TERM);
        let ran = host.ended();
        assert_eq!((ran.code, &*ran.stdout), (Some(0), ""), "{how}: {ran:#?}");
        assert!(!setup.socket().exists(), "{how}");
        let left = std::fs::read_dir(setup.temporary()).unwrap().count();
        assert_eq!(left, 0, "{how}: its private copies are gone");
        assert!(!journal(&setup).contains("its initialize"), "{how}: nobody is suspected");
    }
}
