//! Signals that plugins handle: they reach the live generations and the host, and never code that
//! is gone.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use ksi_wire::module::{ModuleState, RetiredState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kit::{
    Client, Ends, Library, OutsideCrate, States, TestHost, field_library, isolated, until,
};

/// The plugin that handles signals, as the version `number`.
fn library(number: usize) -> Library {
    const MARK: &str = "signals-version-";
    let bytes = std::fs::read(field_library("signals")).unwrap();
    Library(bytes).with(&format!("{MARK}0001"), &format!("{MARK}{number:04}"))
}

/// A host with that plugin, which installs handlers in these ways in `initialize`.
fn host_with(install: &[(&str, Signal)]) -> TestHost {
    let ways = install
        .iter()
        .map(|(way, signal)| format!("{{ way = \"{way}\", signal = {} }}", signal.as_raw()));
    let ways = ways.collect::<Vec<_>>().join(", ");
    TestHost::builder()
        .plugin("signals.so", &library(1))
        .config(&format!("[plugin.signals]\ninstall = [{ways}]"))
        .start()
}

fn count(client: &mut Client, signal: Signal) -> u64 {
    let answer = client.emit("signals:count", json!({"signal": signal.as_raw()}));
    answer.as_u64().expect("a number")
}

fn send(host: &TestHost, signal: Signal) {
    kill_process(Pid::from_raw(host.process.id() as i32).unwrap(), signal).unwrap();
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// Sends a signal until the live generation has got it once more.
#[track_caller]
fn is_delivered(host: &TestHost, signal: Signal) {
    let mut client = host.client();
    let before = count(&mut client, signal);
    let what = format!("{signal:?} reaches the live generation");
    let ask = || {
        send(host, signal);
        count(&mut client, signal)
    };
    until(&what, ask, |now| *now > before);
}

/// What the host says that the plugin wants of a signal.
fn wanted(host: &TestHost, signal: &str) -> Option<Value> {
    let all = host.module("signals")["signals"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|wanted| wanted["signal"] == signal)
}

#[track_caller]
fn unload(host: &TestHost) {
    let unloaded = host.client().emit("module:unload", json!({"module_name": "signals"}));
    assert_eq!(unloaded["status"], "unloaded");
}

/// Does something while these signals arrive all the time, and events too.
fn in_a_storm<T>(host: &TestHost, signals: &[Signal], work: impl FnOnce() -> T) -> T {
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let ends = Ends(&done);
        scope.spawn(|| {
            while !done.load(SeqCst) {
                signals.iter().for_each(|signal| send(host, *signal));
                sent.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            let mut client = host.client();
            while !done.load(SeqCst) {
                let version = client.emit("signals:version", json!({}));
                assert!(version.as_str().is_some_and(|it| it.starts_with("signals-version-")));
            }
        });
        let worked = work();
        until("signals were sent", || sent.load(SeqCst), |sent| *sent > 100);
        drop(ends);
        worked
    })
}

#[test]
fn signals_that_a_plugin_handles_in_a_process_of_its_own_end_nothing() {
    // Past the C library, without SA_RESTART.
    let way = format!("{{ way = \"system_call\", signal = {} }}", Signal::USR1.as_raw());
    let config = format!("[isolation]\ndefault = \"process\"\n[plugin.signals]\ninstall = [{way}]");
    let host = TestHost::builder().plugin("signals.so", &library(1)).config(&config).start();
    let residence = || host.module("signals")["residence"].clone();
    let pid = Pid::from_raw(residence()["pid"].as_i64().unwrap() as i32).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = Ends(&done);
        scope.spawn(|| {
            while !done.load(SeqCst) {
                kill_process(pid, Signal::USR1).unwrap();
                thread::yield_now();
            }
        });
        let mut client = host.client();
        let ask = || {
            assert_eq!(client.emit("signals:version", json!({})), "signals-version-0001");
            count(&mut client, Signal::USR1)
        };
        until("many have come", ask, |count| *count > 200);
        drop(ends);
    });
    let now = residence();
    assert_eq!(
        (&now["restarts"], now["pid"].as_i64()),
        (&json!(0), Some(pid.as_raw_nonzero().get().into()))
    );
}

/// Replaces the plugin, goes back to an earlier version and removes it, while signals arrive all
/// the time.
fn survives(install: &[(&str, Signal)], rounds: usize) {
    let host = host_with(install);
    let signals: Vec<Signal> = install.iter().map(|(_, signal)| *signal).collect();
    let all_delivered = || signals.iter().for_each(|signal| is_delivered(&host, *signal));
    all_delivered();
    in_a_storm(&host, &signals, || {
        for round in 2..=rounds {
            host.drop_in("signals.so", &library(round));
            host.until_live("signals", round as u64);
            host.until_unmapped("signals");
            all_delivered();
        }
        let back = host.client().emit("module:rollback", json!({"module_name": "signals"}));
        assert_eq!(back["status"], "rolled_back");
        host.until_unmapped("signals");
        all_delivered();
    });
    assert_eq!(host.resources().libraries.len(), 1);
    for (_, signal) in install {
        let name = name_of(*signal);
        assert!(wanted(&host, name).is_some(), "{name}: {:#}", host.module("signals"));
    }
    unload(&host);
    host.until_unmapped("signals");
    assert!(host.resources().libraries.is_empty());
    // What was there before is there again: signals that end the process by default are not sent.
    let without_plugins = TestHost::builder().start().resources().signals_caught;
    for signal in signals {
        let caught = host.resources().signals_caught & bit(signal);
        assert_eq!(caught, without_plugins & bit(signal), "{signal:?}");
        if [Signal::CHILD, Signal::WINCH, Signal::URG].contains(&signal) {
            (0..100).for_each(|_| send(&host, signal));
        }
    }
    assert_eq!(host.module("signals").state(), ModuleState::Unloaded);
    host.stop().ok();
}

fn name_of(signal: Signal) -> &'static str {
    match signal {
        Signal::USR1 => "SIGUSR1",
        Signal::USR2 => "SIGUSR2",
        Signal::CHILD => "SIGCHLD",
        Signal::WINCH => "SIGWINCH",
        Signal::URG => "SIGURG",
        other => panic!("{other:?} has no name here"),
    }
}

#[test]
fn signals_that_a_plugin_handles_with_tokio_reach_each_generation_and_none_that_is_gone() {
    survives(&[("tokio", Signal::USR1), ("tokio", Signal::CHILD)], 6);
}

#[test]
fn signals_that_a_plugin_handles_with_signal_hook_reach_each_generation_and_none_that_is_gone() {
    survives(&[("signal_hook", Signal::USR2), ("signal_hook", Signal::WINCH)], 6);
}

#[test]
fn signals_that_a_plugin_handles_with_sigaction_reach_each_generation_and_none_that_is_gone() {
    let ways = [("sigaction", Signal::USR1), ("chaining", Signal::USR2), ("signal", Signal::URG)];
    survives(&ways, 6);
}

#[test]
fn a_child_that_ends_after_the_plugin_that_waited_for_children_is_gone_is_no_crash() {
    let host = host_with(&[]);
    for round in 2..=5 {
        let waited = host.client().emit("signals:child", json!({}));
        assert!(waited.as_u64().is_some_and(|millis| millis < 15_000), "{waited}");
        assert!(isolated::is_on() || wanted(&host, "SIGCHLD").is_some());
        // Each replacement has a probe child, which ends.
        host.drop_in("signals.so", &library(round));
        host.until_live("signals", round as u64);
        host.until_unmapped("signals");
        (0..20).for_each(|_| send(&host, Signal::CHILD));
    }
    host.stop().ok();
}

#[test]
fn a_plugin_cannot_take_ctrl_c_from_the_host() {
    let host = host_with(&[("ctrlc", Signal::INT), ("tokio", Signal::TERM)]);
    send(&host, Signal::INT);
    host.has_stopped();
}

#[test]
fn a_plugin_that_handles_ctrl_c_is_told_of() {
    let host = host_with(&[("ctrlc", Signal::INT), ("tokio", Signal::TERM)]);
    let int = wanted(&host, "SIGINT").expect("it handles SIGINT");
    assert_eq!((&int["ignored"], &int["host_too"]), (&json!(false), &json!(true)));
    let list = host.ksi(&["list"]).ok();
    assert!(
        list.contains("has handlers for") && list.contains("SIGINT (so has the host)"),
        "{list}"
    );
    let inspect = host.ksi(&["inspect", "signals"]).ok();
    assert!(inspect.contains("SIGINT (so has the host)"), "{inspect}");
    for signal in ["SIGINT", "SIGTERM"] {
        let line = format!("it has installed a handler for {signal}: the host's own is called");
        let told = host.process.told(&line);
        let line = told.lines().find(|text| text.contains(&line)).unwrap();
        assert!(line.contains("WARN") && line.contains("signals"), "{line}");
    }
}

#[test]
fn ctrl_c_is_the_hosts_after_the_plugin_that_handled_it_is_gone() {
    let host = host_with(&[("ctrlc", Signal::INT), ("signal_hook", Signal::TERM)]);
    unload(&host);
    let gone = |module: &Value| module.retired_state(0) != RetiredState::Draining;
    // A thread of the crate's keeps the library, or it does not; its handler is taken out in any
    // case.
    host.until_module("it is retired", "signals", gone);
    send(&host, Signal::INT);
    host.has_stopped();
}

#[test]
fn a_plugin_that_ignores_or_resets_a_signal_of_the_hosts_does_not_change_what_the_host_gets() {
    for way in ["ignore", "default"] {
        let host = host_with(&[(way, Signal::INT), (way, Signal::TERM), (way, Signal::CHILD)]);
        if way == "ignore" && !isolated::is_on() {
            let term = wanted(&host, "SIGTERM").expect("it is told of");
            assert_eq!((&term["ignored"], &term["host_too"]), (&json!(true), &json!(true)));
        }
        // The probe's child is waited for, although the plugin would have nobody do so.
        host.drop_in("signals.so", &library(2));
        host.until_live("signals", 2);
        host.stop().ok();
    }
}

#[test]
fn a_handler_that_was_installed_past_the_c_library_pins_the_library_by_name() {
    let host = host_with(&[("system_call", Signal::USR2)]);
    host.drop_in("signals.so", &library(2));
    host.until_live("signals", 2);
    unload(&host);
    let pinned = |module: &Value| module.retired_state(1) == RetiredState::Pinned;
    let module = host.until_module("it is pinned", "signals", pinned);
    let cause = module["retired"][1]["cause"].as_str().unwrap();
    assert!(cause.contains("its handler for SIGUSR2 is still installed"), "{cause}");
    (0..100).for_each(|_| send(&host, Signal::USR2));
    assert_eq!(host.module("signals").state(), ModuleState::Unloaded);
    host.stop().ok();
}

#[test]
fn a_handler_that_does_not_return_pins_its_library_by_name_until_it_does() {
    let host = host_with(&[("sigaction", Signal::USR1)]);
    host.client().emit("signals:stay", json!({"millis": 10_000}));
    send(&host, Signal::USR1);
    until("it is inside", || count(&mut host.client(), Signal::USR1), |count| *count > 0);
    host.drop_in("signals.so", &library(2));
    let pinned = |module: &Value| module.retired_state(0) == RetiredState::Pinned;
    let module = host.until_module("it is pinned", "signals", pinned);
    let cause = module["retired"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("its handler for SIGUSR1 was entered"), "{cause}");
    host.until_unmapped("signals");
    is_delivered(&host, Signal::USR1);
}

#[test]
fn a_plugin_that_makes_good_for_its_own_faults_goes_on_doing_so_over_replacements() {
    let host = host_with(&[("repairing", Signal::SEGV)]);
    for round in 2..=4 {
        assert_eq!(host.client().emit("signals:fault", json!({})), 1);
        host.drop_in("signals.so", &library(round));
        host.until_live("signals", round as u64);
        host.until_unmapped("signals");
    }
    assert_eq!(host.client().emit("signals:fault", json!({})), 1);
}

#[test]
fn a_host_changes_nothing_of_signals_before_a_plugin_does() {
    let caught = |host: &TestHost| host.resources().signals_caught;
    let (none, one) = (TestHost::builder().start(), TestHost::chaos());
    one.client().emit("chaos:version", json!({}));
    assert_eq!(caught(&none), caught(&one));
    let some = host_with(&[("tokio", Signal::USR1)]);
    let of_plugin = if isolated::is_on() { 0 } else { bit(Signal::USR1) };
    assert_eq!(caught(&some), caught(&none) | of_plugin);
}

/// A library that the next plugin needs. Nobody but itself knows of what it installs.
const NEEDED: &str = r#"
unsafe extern "C" { fn signal(signal: i32, handler: usize) -> usize; }
extern "C" fn handler(_: i32) {}
#[unsafe(no_mangle)]
pub extern "C" fn install_handler(number: i32) {
    unsafe { signal(number, handler as *const () as usize) };
}
"#;

/// Its constructor installs a handler for SIGUSR1, before there is anybody to ask.
const EARLY: &str = r#"
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use ksi_plugin_api::prelude::*;

unsafe extern "C" {
    fn signal(signal: i32, handler: usize) -> usize;
    fn install_handler(signal: i32);
}
static SEEN: AtomicU64 = AtomicU64::new(0);
extern "C" fn see(_: i32) {
    SEEN.fetch_add(1, SeqCst);
}
extern "C" fn construct() {
    unsafe { signal(10, see as *const () as usize) };
}
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

#[derive(Default)]
struct Early;

#[plugin]
impl Early {
    #[event_handler("early:seen")]
    async fn seen(&self, _ctx: &Context, _data: Value) -> Result<u64> {
        Ok(SEEN.load(SeqCst))
    }

    #[event_handler("early:install")]
    async fn install(&self, _ctx: &Context, _data: Value) -> Result<()> {
        unsafe { install_handler(12) };
        Ok(())
    }
}
"#;

#[test]
fn handlers_of_constructors_are_taken_over_and_those_of_needed_libraries_pin_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("needed.rs"), NEEDED).unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "needed"]);
    rustc.args(["-C", "link-arg=-Wl,-soname,libneeded.so", "needed.rs"]).current_dir(&folder);
    assert!(rustc.status().unwrap().success());
    let (search, run_path) = (format!("native={place}"), format!("link-arg=-Wl,-rpath,{place}"));
    let package = OutsideCrate::new("early", EARLY);
    let mut bytes = package.build(&["-L", &search, "-l", "dylib=needed", "-C", &run_path]);

    let host = TestHost::builder().plugin("early.so", &Library(bytes.clone())).start();
    for generation in 2..=3 {
        let seen = || {
            send(&host, Signal::USR1);
            host.client().emit("early:seen", json!({})).as_u64()
        };
        until("the signal is seen", seen, |seen| seen.is_some_and(|seen| seen > 0));
        assert_eq!(host.module("early")["signals"][0]["signal"], "SIGUSR1");
        bytes.push(0);
        host.drop_in("early.so", &Library(bytes.clone()));
        host.until_live("early", generation);
        host.until_unmapped("early");
    }
    host.client().emit("early:install", json!({}));
    host.client().emit("module:unload", json!({"module_name": "early"}));
    let pinned = |module: &Value| module.retired_state(2) == RetiredState::Pinned;
    let module = host.until_module("it is pinned", "early", pinned);
    let cause = module["retired"][2]["cause"].as_str().unwrap();
    let words = "its handler for SIGUSR2 is still installed (by libneeded.so";
    assert!(cause.contains(words), "{cause}");
    (0..100).for_each(|_| send(&host, Signal::USR2));
    assert_eq!(host.module("early").state(), ModuleState::Unloaded);
    host.stop().ok();
}
