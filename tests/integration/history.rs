//! `ksi history`: what has become of plugins, when, by whom and from which bytes, over restarts.

use std::fs;

use ksi_wire::module::{History, HistoryEntry, HistoryKind};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kit::{Library, TestHost, until};

#[track_caller]
fn asked(host: &TestHost, ask: Value) -> Vec<HistoryEntry> {
    let answer = host.client().emit("module:history", ask);
    let History { entries, unwritten, .. } = History::deserialize(&answer).unwrap();
    assert_eq!(unwritten, 0);
    entries
}

/// The kinds of what the host remembers, once the last one is there.
#[track_caller]
fn kinds(host: &TestHost, last: HistoryKind) -> Vec<HistoryKind> {
    let all = || asked(host, json!({"limit": 1000}));
    let is_there = |all: &Vec<HistoryEntry>| all.last().is_some_and(|it| it.kind == last);
    until("it is remembered", all, is_there).into_iter().map(|it| it.kind).collect()
}

#[test]
fn what_becomes_of_a_plugin_is_told_with_who_did_it_also_after_the_host_was_killed() {
    use HistoryKind::{Live, Quarantined, Refused, RolledBack, Started, Stopped, Unloaded};
    let (one, two) = (Library::counter(1), Library::counter(2).does("calls=fail"));
    let host = TestHost::builder()
        .plugin("counter.so", &one)
        .config("[state]\ndir = 'state'\n[reload]\nmin_calls = 5")
        .start();
    host.drop_in("counter.so", &two);
    host.until_version("counter", "2.0.0");
    let mut client = host.client();
    let fails = || client.reply("counter:increment", json!({"name": "a"}));
    until("it is gone back from", fails, |reply| reply["data"]["value"].is_u64());
    kinds(&host, Quarantined);
    fs::write(host.file("counter.so"), "no library").unwrap();
    kinds(&host, Refused);
    host.ksi(&["load", "/nowhere/x.so"]).fails(1);
    // What a client says of itself is not believed.
    let unload = json!({"event": "module:unload", "data": {"module_name": "counter"},
        "_peer": "uid=7 pid=7", "_parent_event_id": "evt_1"});
    client.send(&unload.to_string());
    client.read();

    // A last line that was torn by the death is nobody's.
    let file = host.dir().join("state/history.jsonl");
    until("it is on the disk", || fs::read_to_string(&file).unwrap(), |all| all.contains("unload"));
    let builder = host.crash();
    let mut torn = fs::read(&file).unwrap();
    torn.extend_from_slice(b"{\"at\":17");
    fs::write(&file, torn).unwrap();
    let host = builder.start();
    let mut expected = vec![Started, Live, Live, RolledBack, Quarantined, Refused, Refused];
    expected.extend([Unloaded, Started, Refused]);
    assert_eq!(kinds(&host, Refused), expected);
    let all = asked(&host, json!({}));
    let by: Vec<String> = all.iter().map(|it| it.by.kind.to_string()).collect();
    assert_eq!(by[1..6], ["start", "folder", "probation", "probation", "folder"]);
    let whose = format!("uid={} pid=", rustix::process::getuid().as_raw());
    assert_eq!(all[7].by.from, Some(format!("{whose}{}", std::process::id())));
    for (entry, event) in [(&all[6], "module:load"), (&all[7], "module:unload")] {
        assert_eq!((&*entry.by.kind, entry.by.event.as_deref()), ("request", Some(event)));
        assert!(entry.by.from.as_ref().unwrap().starts_with(&whose), "{entry:?}");
    }
    // What begins like no library is not read to its end.
    let hashes: Vec<_> = all[1..6].iter().map(|it| it.hash.clone().unwrap_or_default()).collect();
    let [one, two] = [&one.0, &two.0].map(|bytes| blake3::hash(bytes).to_hex().to_string());
    assert_eq!(hashes, [one.clone(), two.clone(), one, two, String::new()]);
    let versions = |it: &HistoryEntry| {
        let before = it.before.as_ref().map(|before| (before.version.clone(), before.generation));
        (it.version.clone(), it.generation, before)
    };
    let of = |version: &str, number: u64| (version.to_owned(), number);
    assert_eq!(versions(&all[3]), (Some("1.0.0".to_owned()), Some(3), Some(of("2.0.0", 2))));
    assert_eq!(versions(&all[5]), (None, None, Some(of("1.0.0", 3))), "it goes on");
    assert!(all.windows(2).all(|two| two[0].at <= two[1].at));
    assert!(all[8].reason.contains("did not stop in order"), "{:?}", all[8]);

    let text = host.ksi(&["history", "counter", "--kind", "rolled_back", "--last", "1d"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    let [line] = lines[..] else { panic!("{text}") };
    let path = host.file("counter.so").display().to_string();
    for part in [
        "Z rolled_back: counter 1.0.0 (generation 3",
        ") instead of 2.0.0 (generation 2), ",
        &path,
        &all[3].hash.as_ref().unwrap()[..12],
        "calls failed",
        "by the host's probation",
    ] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    let host = host.stopped().start();
    // What is refused again was refused before, for the same reason.
    assert_eq!(kinds(&host, Started)[10..], [Stopped, Started]);
    host.ksi(&["history", "--kind", "sold"]).fails(2);
}

#[test]
fn a_process_that_dies_is_told_and_what_is_isolated_and_asked_for_by_the_configuration() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[state]\npersist = false")
        .start();
    let isolated = "[state]\npersist = false\n[isolation.plugins.chaos]\nmode = 'process'\n";
    fs::write(host.dir().join("ksi.toml"), isolated).unwrap();
    host.ksi(&["config", "reload"]).ok();
    host.ksi(&["reload", "chaos"]).ok();
    let all = asked(&host, json!({"module_name": "chaos"}));
    assert_eq!(all.last().map(|it| it.kind.clone()), Some(HistoryKind::Isolated));
    let pid = host.module("chaos")["residence"]["pid"].as_u64().unwrap();
    assert_eq!(all.last().and_then(|it| it.process).map(u64::from), Some(pid));
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let all = kinds(&host, HistoryKind::Restarted);
    assert_eq!(all[all.len() - 2], HistoryKind::Died);
    // Nothing of it is on a disk.
    let ran = host.ksi(&["history", "chaos.so", "--count", "1"]);
    assert!(ran.stderr.contains("this history ends with the host"), "{ran:?}");
    assert!(ran.stderr.contains("before them are not shown"), "{ran:?}");
    assert_eq!(ran.ok().lines().count(), 1);
}
