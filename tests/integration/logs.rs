//! What stands in a host's log, in which form, and what does not.

use serde_json::{Value, json};

use crate::kit::{Library, TestHost, ksi, until};

/// The lines of JSON that a host has logged, once there is one that is looked for.
#[track_caller]
fn json_lines(host: &TestHost, has: impl Fn(&Value) -> bool) -> Vec<Value> {
    let read = || -> Vec<Value> {
        let text = host.process.stderr();
        // The last one may be on its way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    until("it is logged", read, |lines| lines.iter().any(&has))
}

#[test]
fn a_log_in_json_is_a_flat_object_a_line_whoever_has_written_it() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[log]\nformat = 'json'")
        .start();
    host.client().emit("chaos:log", json!({"what": "this\nand that"}));
    let lines = json_lines(&host, |line| line["at"] == "chaos::log");
    for line in &lines {
        let object = line.as_object().unwrap();
        for key in ["time", "level", "target", "message"] {
            assert!(object[key].is_string(), "{line}");
        }
        assert!(object.values().all(|value| !value.is_object() && !value.is_array()), "{line}");
    }
    let of_plugin = |level: &str| {
        let is_it = |line: &&Value| line["plugin"] == "chaos" && line["level"] == level;
        lines.iter().filter(|line| line["target"] == "ksi_plugin").find(is_it).unwrap()
    };
    let warned = of_plugin("WARN");
    assert_eq!(warned["message"], "logged by a plugin: {\"what\":\"this\\nand that\"}");
    assert_eq!(warned["fields"], "number=7");
    assert!(warned["event_id"].as_str().unwrap().starts_with("evt_"), "{warned}");
    assert_eq!(warned["root_id"], warned["event_id"]);
    assert!(lines.iter().any(|line| line["plugin"] == "chaos" && line["generation"] == 1));
}

#[test]
fn a_command_that_logs_json_says_in_json_why_it_ends() {
    let arguments = ["run", "--log-format", "json", "--config", "no such file"];
    let ran = ksi("nowhere".as_ref(), &arguments, "");
    let said = ran.fails(2);
    let line: Value = serde_json::from_str(said.trim()).expect(&said);
    assert_eq!((&line["level"], &line["target"]), (&json!("ERROR"), &json!("ksi")));
    assert!(line["message"].as_str().unwrap().contains("no such file"), "{line}");
}

#[test]
fn spans_and_the_root_of_events_go_with_lines_from_plugin_to_plugin_and_into_processes() {
    for isolation in ["", "[isolation.plugins.asks]\nmode = 'process'\n"] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .plugin("asks.so", &Library::of("ksi-fixture-asks"))
            .config(&format!("{isolation}[log]\nformat = 'json'"))
            .start();
        let relay = json!({"event": "asks:span", "data": "chaos:log"});
        host.client().emit("chaos:span", relay);
        let lines = json_lines(&host, |line| line["at"] == "chaos::log");
        let of = |message: &str| {
            let has = |line: &&Value| line["message"].as_str().unwrap().starts_with(message);
            lines.iter().find(has).unwrap()
        };
        let (asked, root) = (of("it asks"), &of("it asks")["event_id"]);
        let outer = "asking{plugin=chaos order=7}";
        assert_eq!((&asked["spans"], &asked["root_id"]), (&json!(outer), root), "{asked}");
        let inner = format!("{outer}:answering{{plugin=asks}}");
        for (message, spans) in [("it is asked", outer), ("it answers", &inner)] {
            let line = of(message);
            assert_eq!((&line["plugin"], &line["spans"]), (&json!("asks"), &json!(spans)));
            assert_eq!(&line["root_id"], root, "{line}");
            assert_ne!(&line["event_id"], root, "{line}");
        }
        // Two events further, and in the host's process again.
        let last = of("logged by a plugin");
        assert_eq!((&last["spans"], &last["root_id"]), (&json!(outer), root), "{last}");
        assert_ne!(last["event_id"], of("it answers")["event_id"], "{last}");
    }
}

/// Has the plugin `chaos` log until a line says this of it, or none does any more.
#[track_caller]
fn until_logs(host: &TestHost, what: &str, is_written: bool) {
    let mut number = 0;
    let mut logs = || {
        number += 1;
        host.client().emit("chaos:log", json!(number));
        // Of the same call, and written last.
        let last = format!("it has logged: {number}");
        let lines = json_lines(host, |line| line["message"] == *last);
        let sought = format!("{what}: {number}");
        lines.iter().any(|line| line["message"] == *sought)
    };
    until(&format!("{what:?} is written: {is_written}"), &mut logs, |was| *was == is_written);
}

#[test]
fn a_level_that_changes_reaches_a_plugin_that_is_live_wherever_it_lives() {
    const FORMAT: &str = "[log]\nformat = 'json'\n";
    for isolation in ["", "[isolation.plugins.chaos]\nmode = 'process'\n"] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config(&format!("{isolation}{FORMAT}"))
            .start();
        let (by_log, by_tracing) = ("more detailed than the host wants it", "detailed");
        until_logs(&host, by_log, false);
        until_logs(&host, by_tracing, false);
        let shown = host.ksi(&["log", "chaos=debug"]).ok();
        let in_effect: Vec<&str> = shown.lines().flat_map(str::split_whitespace).collect();
        let expected =
            ["PLUGIN", "OR", "TARGET", "LEVEL", "FROM", "*", "info", "default", "chaos", "debug"];
        assert_eq!(in_effect[..10], expected, "{shown}");
        until_logs(&host, by_log, true);
        until_logs(&host, by_tracing, true);
        // The nearest target counts: what `log` is told is still of that level, and this is not.
        host.ksi(&["log", "chaos::tracing=info"]).ok();
        until_logs(&host, by_tracing, false);
        until_logs(&host, by_log, true);
        host.ksi(&["log", "--reset"]).ok();
        until_logs(&host, by_log, false);
        // The file says it too.
        let config = host.dir().join("ksi.toml");
        std::fs::write(&config, format!("{isolation}{FORMAT}levels = {{ chaos = 'debug' }}\n"))
            .unwrap();
        let told = host.ksi(&["config", "reload"]).ok();
        assert!(told.contains("from now on: log.levels.\"chaos\""), "{told}");
        until_logs(&host, by_tracing, true);
    }
}

#[test]
fn a_level_that_changes_reaches_a_module_of_python_that_is_live() {
    if !crate::python::is_there() {
        return;
    }
    let module = "
import logging
from ksi.events import event_handler

@event_handler('chaos:log')
async def log(data):
    logging.getLogger('chaos').debug('detailed: %s', data)
    logging.getLogger('chaos').warning('it has logged: %s', data)
";
    let host = TestHost::builder()
        .plugin("chaos.py", &Library(module.into()))
        .config("[log]\nformat = 'json'")
        .start();
    until_logs(&host, "detailed", false);
    host.ksi(&["log", "chaos=debug"]).ok();
    until_logs(&host, "detailed", true);
    // Its lines belong to their events too.
    let lines = json_lines(&host, |line| line["message"] == "it has logged: 1");
    let line = lines.iter().find(|line| line["message"] == "it has logged: 1").unwrap();
    assert!(line["root_id"].is_string() && line["root_id"] == line["event_id"], "{line}");
}

#[test]
fn what_is_no_level_is_refused_and_a_name_that_nobody_has_is_told() {
    let host = TestHost::chaos();
    let said = host.ksi(&["log", "chaos=loud"]).fails(2);
    assert!(said.contains("off, error, warn, info, debug and trace"), "{said}");
    let said = host.ksi(&["log", "a b=debug"]).fails(1);
    assert!(said.contains("neither the name of a plugin nor a target"), "{said}");
    let ran = host.ksi(&["log", "chaso=debug", "chaos=debug", "ksi_host::plugin=warn"]);
    assert!(ran.stderr.contains("no plugin named chaso is live"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    ran.ok();
}

#[test]
fn lines_of_a_plugin_that_are_alike_are_written_once_and_counted_although_their_events_differ() {
    const EVENTS: u64 = 60;
    for isolation in ["", "[isolation.plugins.chaos]\nmode = 'process'\n"] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config(&format!("{isolation}[log]\nformat = 'json'"))
            .start();
        let mut client = host.client();
        for _ in 0..EVENTS {
            client.emit("chaos:log", json!("again"));
        }
        client.emit("chaos:log", json!("another"));
        // What was counted is told at the end at the latest.
        let stderr = host.stop().stderr;
        let read = |line: &str| serde_json::from_str::<Value>(line).expect(line);
        let of = |what: &str| -> Vec<Value> {
            let is_it = |line: &Value| line["message"] == *format!("it has logged: \"{what}\"");
            stderr.lines().map(read).filter(is_it).collect()
        };
        let alike = of("again");
        let told = |line: &Value| line["repeated"].as_u64().unwrap_or(1);
        assert_eq!(alike.iter().map(told).sum::<u64>(), EVENTS, "{stderr}");
        // More than two if they took more than the time for which they are counted.
        assert!(alike.len() < 10, "{stderr}");
        assert_ne!(alike[0]["event_id"], alike[1]["event_id"], "{stderr}");
        assert_eq!(of("another").len(), 1, "{stderr}");
    }
}
