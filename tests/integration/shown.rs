//! What is shown to people, on a terminal and in the log: harmless whatever is in it, and no line
//! twice.

use serde_json::json;

use crate::kit::{Library, TestHost};

/// A line of its own that looks like the log's, an order to the terminal, and text that is shown
/// backwards.
const EVIL: &str = "x\n2026-01-01T00:00:00.000000Z  INFO ksi_host: all is well\u{1b}[2J\u{202e}";
const HARMLESS: &str =
    "x\\n2026-01-01T00:00:00.000000Z  INFO ksi_host: all is well\\u{1b}[2J\\u{202e}";

/// Nothing in it that a terminal obeys, or that begins a line as the log does.
#[track_caller]
fn is_harmless(what: &str, text: &str) {
    let steers = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(steers), "{what}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{what}: {text}");
}

#[test]
fn what_a_plugin_says_forges_no_line_of_the_log_and_steers_no_terminal() {
    let config = format!("[plugin.chaos]\nanswer = 'fail'\nlabel = {}", json!(EVIL));
    let config = config.replace("\\u001b", "\\u001B");
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).config(&config).start();
    let failed = host.ksi(&["emit", "chaos:answer"]).fails(1);
    is_harmless("ksi emit", &failed);
    assert!(failed.contains("2026-01-01"), "{failed}");
    let log = host.process.told("a call failed");
    is_harmless("the log", &log);
    assert!(log.contains(HARMLESS), "{log}");
}

#[test]
fn the_name_of_a_file_and_a_version_steer_no_terminal() {
    let host = TestHost::builder().start();
    let name = format!("{EVIL}.so");
    host.drop_in(&name, &Library(b"no library".to_vec()));
    host.until_refused(&name);
    let backwards = Library::chaos().with(
        r#""name":"chaos","version":"0.1.0""#,
        "\"name\":\"chaos\",\"version\":\"\u{202e}00\"",
    );
    host.drop_in("chaos.so", &backwards);
    host.until_live("chaos", 1);
    for arguments in [&["list"][..], &["list", "--json"], &["inspect", "chaos"], &["events"]] {
        is_harmless(&arguments.join(" "), &host.ksi(arguments).ok());
    }
    // So many are told together.
    let others: Vec<String> = (0..8).map(|number| format!("{EVIL}{number}.so")).collect();
    others.iter().for_each(|name| host.drop_in(name, &Library(b"no library".to_vec())));
    others.iter().for_each(|name| drop(host.until_refused(name)));
    let arguments: [&[&str]; 6] = [
        &["list"],
        &["list", "--all"],
        &["history"],
        &["history", "--json"],
        &["events", "--dead"],
        &["graph", "--format", "svg"],
    ];
    for arguments in arguments {
        is_harmless(&arguments.join(" "), &host.ksi(arguments).ok());
    }
    let file = host.file(&name);
    is_harmless("ksi load", &host.ksi(&["load", file.to_str().unwrap()]).fails(1));
    is_harmless("ksi inspect", &host.ksi(&["inspect", file.to_str().unwrap()]).fails(1));
    is_harmless("the log", &host.log_by_now());
    let listed = host.ksi(&["list", "--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let names = listed["modules"].as_array().unwrap().iter().map(|module| &module["name"]);
    assert!(names.into_iter().any(|it| *it == name), "JSON means what it meant: {listed:#}");
}

#[test]
fn log_lines_that_are_all_alike_are_written_once_with_their_number() {
    const TIMES: usize = 400;
    let host = TestHost::builder().start();
    let mut client = host.client();
    for _ in 0..TIMES {
        let reply = client.reply("module:load", json!({"path": "/nowhere/a.so"}));
        assert_eq!(reply["failed"], true, "{reply:#}");
    }
    let log = host.stop().stderr;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("/nowhere/a.so")).collect();
    let counted = lines.iter().filter_map(|line| {
        let (_, told) = line.rsplit_once(" (")?;
        told.strip_suffix(" more times within 5s)")?.parse::<usize>().ok()
    });
    let counted: Vec<usize> = counted.collect();
    assert_eq!(lines.len() - counted.len() + counted.iter().sum::<usize>(), TIMES, "{log}");
    assert!(lines.len() < TIMES / 10, "{log}");
}
