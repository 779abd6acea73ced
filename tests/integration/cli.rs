//! The commands that speak to a host.

use serde_json::{Value, json};

use crate::kit::{ABI, Library, Running, TestHost, ksi, ksi_command};

/// A host on which `chaos:answer` is answered by one plugin and fails in the other.
fn half_broken() -> TestHost {
    TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'well'\n[plugin.chao1]\nlabel = 'unwell'\nanswer = 'fail'")
        .start()
}

#[test]
fn emit_prints_each_reply_as_a_line_of_json() {
    let host = TestHost::chaos();
    assert_eq!(host.ksi(&["emit", "chaos:echo", r#"{"a": [1, 2.50]}"#]).ok(), "{\"a\":[1,2.5]}\n");
    assert_eq!(host.ksi(&["emit", "chaos:count"]).ok(), "{\"count\":1}\n");
    assert_eq!(host.ksi(&["emit", "chaos:quiet"]).ok(), "", "no reply is no line");
    let replies = host.ksi(&["emit", "order:all"]).ok();
    assert_eq!(replies, "\" high\"\n\" first\"\n\" second\"\n\" low\"\n");
}

#[test]
fn emit_takes_its_payload_from_standard_input_and_over_several_lines() {
    let host = TestHost::chaos();
    let spread = "{\n  \"text\": \"a\\nb\",\n  \"list\": [1,\n 2]\n}\n";
    for (arguments, input) in
        [(["emit", "chaos:echo", "-"], spread), (["emit", "chaos:echo", spread], "")]
    {
        let reply = ksi(&host.socket(), &arguments, input).ok();
        assert_eq!(reply.lines().count(), 1);
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply, json!({"text": "a\nb", "list": [1, 2]}));
    }
}

#[test]
fn emit_prints_the_answers_and_exits_with_1_when_one_of_the_handlers_failed() {
    let host = half_broken();
    let ran = host.ksi(&["emit", "chaos:answer"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "{\"label\":\"well\"}\n"));
    assert!(ran.stderr.contains("chao1.answer: unwell broke [broken]"), "{}", ran.stderr);
}

#[test]
fn emit_exits_with_1_and_names_similar_events_when_nobody_handles_the_event() {
    let host = TestHost::chaos();
    let ran = host.ksi(&["emit", "chaos:ecko"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    for words in ["chaos:ecko", "chaos:echo", "`ksi events` lists"] {
        assert!(ran.stderr.contains(words), "{words} is missing: {}", ran.stderr);
    }
}

#[test]
fn emit_exits_with_2_when_it_is_not_used_as_it_should_be() {
    let host = TestHost::chaos();
    let refused = host.ksi(&["emit", "chaos:echo", "{not json"]).fails(2);
    assert!(refused.contains("not valid JSON"), "{refused}");
    host.ksi(&["emit"]).fails(2);
    host.ksi(&["emit", "chaos:echo", "{}", "--loud"]).fails(2);
}

#[test]
fn commands_exit_with_3_when_no_host_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    for arguments in
        [&["emit", "a:b"][..], &["list"], &["watch"], &["stop"], &["graph"], &["reload", "x"]]
    {
        let refused = ksi(&socket, arguments, "").fails(3);
        assert!(
            refused.contains("nobody.sock") && refused.contains("ksi run"),
            "{arguments:?}: {refused}"
        );
    }
}

#[test]
fn a_timeout_of_the_command_is_said() {
    let host = TestHost::chaos();
    let refused = host.ksi(&["emit", "chaos:hang", "{}", "--timeout", "100ms"]).fails(1);
    assert!(refused.contains("100ms"), "{refused}");
}

#[test]
fn list_shows_generation_2_the_old_one_as_unmapped_and_the_reason_of_a_refusal() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("letter.so", &Library(b"Dear host,\n".to_vec()))
        .start();
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    host.until_unmapped("chaos");
    let list = host.ksi(&["list"]).ok();
    let row = |name: &str| -> Vec<String> {
        let line = list.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("chaos")[..4], ["chaos", "0.1.0", "2", "live"]);
    assert!(
        list.lines().any(|line| line.starts_with("chaos") && line.contains("1 unmapped")),
        "{list}"
    );
    assert_eq!(row("letter.so")[3], "refused");
    assert!(list.contains("no ELF shared library"), "{list}");
    assert!(!list.contains('\u{1b}'), "no colours in a pipe");

    let json: Value = serde_json::from_str(&host.ksi(&["list", "--json"]).ok()).unwrap();
    assert_eq!(json["count"], 2);
    assert_eq!(json["modules"].as_array().unwrap().len(), 2);
}

#[test]
fn inspect_describes_a_file_from_its_bytes_without_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chaos.so");
    std::fs::write(&file, Library::chaos().0).unwrap();
    let socket = dir.path().join("nobody.sock");
    let file = file.to_str().unwrap();
    let text = ksi(&socket, &["inspect", file], "").ok();
    for word in ["chaos 0.1.0", "chaos:echo", "unwind", "block_well (blocking)", "chaos:flooded"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let json: Value =
        serde_json::from_str(&ksi(&socket, &["inspect", file, "--json"], "").ok()).unwrap();
    assert_eq!(
        (&json["name"], &json["abi"], &json["runtime"]),
        (&json!("chaos"), &json!(ABI), &json!(false))
    );

    let letter = dir.path().join("letter.so");
    std::fs::write(&letter, "Dear host").unwrap();
    let refused = ksi(&socket, &["inspect", letter.to_str().unwrap()], "").fails(1);
    assert!(refused.contains("letter.so") && refused.contains("ELF"), "{refused}");
}

#[test]
fn inspect_describes_a_running_plugin() {
    let host = TestHost::chaos();
    host.client().emit("chaos:echo", json!(1));
    host.client().reply("chaos:fail", json!({"code": "c", "message": "m"}));
    let text = host.ksi(&["inspect", "chaos"]).ok();
    for word in [
        "live",
        "chaos.so",
        "2 accepted = 1 replied",
        "1 failed",
        "Counts the calls of one generation",
        "probe",
    ] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let refused = host.ksi(&["inspect", "nobody"]).fails(1);
    assert!(refused.contains("nobody"), "{refused}");
}

#[test]
fn events_lists_who_handles_what() {
    let host = TestHost::chaos();
    let text = host.ksi(&["events"]).ok();
    assert!(
        text.lines().any(|line| line.contains("chaos:echo") && line.contains("chaos")),
        "{text}"
    );
    assert!(text.contains("module:list"), "the host's own are there too: {text}");
    let json: Value = serde_json::from_str(&host.ksi(&["events", "--json"]).ok()).unwrap();
    assert_eq!(
        json["events"]["chaos:echo"],
        json!([{"module": "chaos", "handler": "echo", "priority": 0}])
    );
}

#[test]
fn watch_prints_events_as_they_happen_and_ends_with_the_host() {
    let host = TestHost::chaos();
    let mut command = ksi_command(&["watch", "chaos:*", "system:shutdown", "--json"]);
    let mut watch = Running::start(command.env("KSI_SOCKET", host.socket()));
    let mut readable = ksi_command(&["watch", "chaos:quiet"]);
    let readable = Running::start(readable.env("KSI_SOCKET", host.socket()));
    // Emitted again until it is seen: nothing tells from outside when a watch has begun.
    let mut client = host.client();
    let mut number = 0;
    let (seen, text) = loop {
        number += 1;
        client.emit("chaos:quiet", json!({"number": number}));
        if let (Some(seen), Some(text)) = (watch.line_soon(), readable.line_soon()) {
            break (seen, text);
        }
        assert!(number < 300, "nothing is seen");
    };
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(
        (&seen["event"], &seen["event_name"]),
        (&json!("chaos:quiet"), &json!("chaos:quiet"))
    );
    assert!(seen["data"]["number"].as_u64().unwrap() <= number);
    assert!(text.contains(" chaos:quiet ") && text.contains("{\"number\":"), "{text}");
    assert_eq!(host.stop().code, Some(0));
    let ran = watch.ended();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.lines().last().unwrap().contains("system:shutdown"), "{}", ran.stdout);
}

#[test]
fn load_reload_and_unload_say_what_they_did() {
    let host = TestHost::builder().start();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("chaos.so"), Library::chaos().0).unwrap();
    let mut load = ksi_command(&["load", "./chaos.so"]);
    load.current_dir(elsewhere.path()).env("KSI_SOCKET", host.socket());
    assert_eq!(Running::start(&mut load).ended().ok(), "loaded chaos 0.1.0, generation 1\n");
    assert_eq!(host.ksi(&["reload", "chaos"]).ok(), "reloaded chaos 0.1.0, generation 2\n");
    assert_eq!(host.client().emit("chaos:echo", json!(5)), 5);
    assert_eq!(host.ksi(&["unload", "chaos"]).ok(), "unloaded chaos 0.1.0, generation 2\n");
    assert_eq!(host.client().reply("chaos:echo", json!(5))["data"]["status"], "error");
    let json: Value = serde_json::from_str(&host.ksi(&["reload", "chaos", "--json"]).ok()).unwrap();
    assert_eq!((&json["name"], &json["generation"]), (&json!("chaos"), &json!(3)));
}

#[test]
fn a_failed_load_reload_or_unload_exits_with_1_and_says_why() {
    let host = TestHost::chaos();
    for arguments in [["reload", "nobody"], ["unload", "nobody"]] {
        let refused = host.ksi(&arguments).fails(1);
        assert!(refused.contains("nobody"), "{refused}");
    }
    let refused = host.ksi(&["load", "/nowhere/x.so"]).fails(1);
    assert!(refused.contains("/nowhere/x.so"), "{refused}");
    std::fs::write(host.file("chaos.so"), "no library").unwrap();
    let refused = host.ksi(&["reload", "chaos"]).fails(1);
    assert!(refused.contains("chaos.so") && refused.contains("ELF"), "{refused}");
    assert_eq!(host.client().emit("chaos:echo", json!(5)), 5, "the live one goes on");
}

#[test]
fn events_that_lead_nowhere_and_what_nobody_emits_are_told() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nsubscribe = ['nobody:emits', 'module:loaded', 'chaos:*']")
        .start();
    // Whoever asks is told that nobody answers.
    host.client().reply("chaos:request", json!({"event": "lost:letter", "data": 1}));
    let dead: Value =
        serde_json::from_str(&host.ksi(&["events", "--dead", "--json"]).ok()).unwrap();
    let told = |list: &str| -> Vec<String> {
        let all = dead[list].as_array().unwrap().iter();
        all.map(|it| it["event"].as_str().unwrap().to_owned()).collect()
    };
    let unhandled = told("unhandled");
    assert!(unhandled.contains(&"lost:letter".to_owned()), "{dead:#}");
    // The first of them is taken by a pattern, and the second is the host's.
    for not in ["chaos:flooded", "module:retired", "chaos:request"] {
        assert!(!unhandled.contains(&not.to_owned()), "{not}: {dead:#}");
    }
    let unfed = told("unfed");
    assert!(
        unfed.contains(&"nobody:emits".to_owned()) && unfed.contains(&"chaos:count".to_owned())
    );
    for not in ["chaos:request", "module:loaded", "module:list", "chaos:*"] {
        assert!(!unfed.contains(&not.to_owned()), "{not}: {dead:#}");
    }
    let text = host.ksi(&["events", "--dead"]).ok();
    let lost = text.lines().find(|line| line.starts_with("lost:letter ")).expect("a line");
    assert_eq!(lost.split_whitespace().collect::<Vec<_>>(), ["lost:letter", "chaos", "1"]);
    assert!(text.contains("NOBODY HANDLES") && text.contains("NOBODY EMITS"), "{text}");
}

#[test]
fn graph_draws_what_was_emitted_and_what_is_declared() {
    let host = TestHost::chaos();
    host.client().emit("chaos:request", json!({"event": "chaos:echo", "data": 1}));
    let mermaid = host.ksi(&["graph"]).ok();
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    let dot = host.ksi(&["graph", "--format", "dot"]).ok();
    assert!(dot.starts_with("digraph ksi {\n") && dot.ends_with("}\n"), "{dot}");
    for drawing in [&mermaid, &dot] {
        for word in ["chaos:echo", "chaos:flooded", "emits 1", "handles 1", "nobody handles it"] {
            assert!(drawing.contains(word), "{word} is missing:\n{drawing}");
        }
        assert!(!drawing.contains("system:health") && !drawing.contains("module:loaded"));
    }
    let graph: Value =
        serde_json::from_str(&host.ksi(&["graph", "--format", "json"]).ok()).unwrap();
    let edge = |from: &str, to: &str, kind: &str| {
        let edges = graph["edges"].as_array().unwrap();
        let found =
            edges.iter().find(|it| it["from"] == from && it["to"] == to && it["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} from {from} to {to}: {graph:#}")).clone()
    };
    assert_eq!(edge("chaos", "chaos:echo", "emits")["count"], 1);
    assert_eq!(edge("chaos", "chaos:echo", "emits")["declared"], false);
    assert_eq!(edge("chaos:echo", "chaos", "handles")["count"], 1);
    let declared = edge("chaos", "chaos:flooded", "emits");
    assert_eq!((&declared["count"], &declared["declared"]), (&json!(0), &json!(true)));
}

#[test]
fn the_drawing_of_a_graph_says_what_failed_leads_nowhere_and_goes_round() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nlabel = 'x'\nanswer = 'fail'")
        .start();
    let mut client = host.client();
    client.reply("chaos:request", json!({"event": "lost:letter", "data": 1}));
    client.reply("chaos:answer", json!({}));
    client.emit("chaos:request", json!({"event": "chaos:echo", "data": 1}));
    let file = host.dir().join("flow.svg");
    assert_eq!(host.ksi(&["graph", "--output", file.to_str().unwrap()]).ok(), "");
    let svg = std::fs::read_to_string(&file).unwrap();
    assert_eq!(host.ksi(&["graph", "--format", "svg"]).ok(), svg);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    let has = |title: &str, words: &[&str]| {
        let of = svg.lines().filter(|line| line.contains(&format!("<title>{title}")));
        let all = of.collect::<Vec<_>>().join("\n");
        words.iter().for_each(|word| assert!(all.contains(word), "{title}: {word}:\n{all}"));
    };
    has("lost:letter", &["node dead", "nobody handles it"]);
    has("chaos:answer \u{2192} chaos", &["1 so far, 1 failed", "line failed"]);
    has("chaos<", &["2 failed", "node cycle failed"]);
    has("chaos \u{2192} chaos:flooded", &["line unseen"]);
    has("chaos:echo \u{2192} chaos", &["part of a cycle", "line cycle"]);
    assert!(!svg.contains("system:health"), "the host's own are left out");
    assert!(host.ksi(&["graph", "--format", "svg", "--all"]).ok().contains("system:health"));
    host.ksi(&["graph", "--output", "flow.png"]).fails(2);
    host.ksi(&["graph", "--output", "/nowhere/flow.svg"]).fails(1);
}

#[test]
fn help_and_version_need_no_host() {
    let dir = tempfile::tempdir().unwrap();
    let help = ksi(dir.path(), &["--help"], "").ok();
    for command in [
        "run", "dev", "emit", "list", "inspect", "events", "watch", "load", "reload", "rollback",
        "unload", "graph", "history", "stop",
    ] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}: {help}"
        );
    }
    assert!(ksi(dir.path(), &["--version"], "").ok().starts_with("ksi "));
}
