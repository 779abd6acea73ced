//! The plugin that routes events by YAML files, in a real host.

use std::{collections::BTreeSet, fs, thread};

use serde_json::{Value, json};

use crate::kit::{Client, Library, TestHost};

/// A host whose transformers are those of these files.
fn host_with(files: &[(&str, &str)]) -> TestHost {
    let builder = TestHost::builder()
        .plugin("transformers.so", &Library::of("ksi-plugin-transformers"))
        .plugin("state.so", &Library::of("ksi-plugin-state"))
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.transformers]\npaths = ['../rules']")
        // Whoever watches may be slow on a busy machine.
        .config("[limits]\nsubscriber_queue = 100000");
    for (name, yaml) in files {
        let path = builder.dir().join("rules").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, yaml).unwrap();
    }
    builder.start()
}

/// In the form of the files that come with KSI.
const AGENTS: &str = r#"# What follows when an agent comes or goes
transformers:
  # It is noted
  - name: "agent_spawned_note"
    source: "agent:spawned"
    target: "state:set"
    mapping:
      namespace: "agents"
      key: "{{agent_id}}"
      value:
        profile: "{{profile|default}}"
        status: "active"
        since: "{{timestamp_utc()}}"
        by: "{{_ksi_context._agent_id|system}}"
    description: "Notes every agent"

  - name: "agent_failed_note"
    source: "agent:status"
    target: "state:set"
    condition: "status in ['failed', 'lost'] and retry_count >= 3"
    mapping:
      namespace: "agents"
      key: "{{agent_id}}"
      value: "{{status}}"

  # Everybody hears of it
  - name: "agent_broadcast"
    source: "agent:*"
    target: "monitor:heard"
    async: true
    mapping:
      event_name: "{{_ksi_context.event}}"
      event_data: "{{$}}"
"#;

#[test]
fn clients_and_plugins_cause_what_the_files_say() {
    let host = host_with(&[("services/agents.yaml", AGENTS)]);
    let mut watcher = host.client();
    watcher.subscribe(&["monitor:heard"]);
    let mut client = host.client();
    client.emit("agent:spawned", json!({"agent_id": "a1", "profile": "judge"}));
    let get = json!({"namespace": "agents", "key": "a1"});
    let noted = client.emit("state:get", get.clone())["value"].take();
    assert_eq!((&noted["profile"], &noted["by"]), (&json!("judge"), &json!("system")));
    let heard = watcher.push_of("monitor:heard");
    assert_eq!(heard["event_name"], "agent:spawned");
    let data = &heard["event_data"];
    assert_eq!((&data["agent_id"], &data["profile"]), (&json!("a1"), &json!("judge")));
    // A plugin's event is one like any other.
    let status =
        |retries: u32| json!({"agent_id": "a1", "status": "failed", "retry_count": retries});
    client.emit("chaos:emit", json!({"event": "agent:status", "data": status(1)}));
    assert_eq!(client.emit("state:get", get.clone())["value"]["status"], "active");
    client.emit("chaos:emit", json!({"event": "agent:status", "data": status(3)}));
    assert_eq!(client.emit("state:get", get)["value"], "failed");
}

#[test]
fn a_mistake_in_a_file_is_a_line_of_the_log_and_of_the_list_and_the_others_are_live() {
    let bad = "transformers:\n  - name: bad\n    source: a:b\n    target: c:d\n    condition: status exists\n";
    let host = host_with(&[("agents.yaml", AGENTS), ("bad.yaml", bad)]);
    let listed = host.client().emit("transformer:list", json!({}));
    assert_eq!(listed["count"], 3);
    let problem = &listed["problems"][0];
    assert_eq!((&problem["name"], &problem["line"]), (&json!("bad"), &json!(5)));
    let file = host.dir().join("plugins/../rules/bad.yaml");
    let said = format!(
        "{}:5: transformer \"bad\": condition: \"status exists\" is no expression",
        file.display()
    );
    host.process.told(&said);
    // It is corrected while the host runs.
    fs::write(&file, bad.replace("status exists", "status is defined")).unwrap();
    let reloaded = host.ksi(&["emit", "transformer:reload"]).ok();
    let reloaded: Value = serde_json::from_str(&reloaded).unwrap();
    let expected = json!({"added": 1, "changed": 0, "removed": 0, "kept": 3, "problems": []});
    assert_eq!(reloaded, expected);
}

#[test]
fn transformers_that_cause_one_another_end_at_the_limit_of_the_host() {
    let loops = "\
- {name: there, source: ping:a, target: ping:b}
- {name: back, source: ping:b, target: ping:a}
";
    let host = host_with(&[("loop.yaml", loops)]);
    let mut client = host.client();
    let reply = client.reply("ping:a", json!({}));
    assert_eq!(reply["count"], 0, "{reply}");
    let listed = client.emit("transformer:list", json!({}));
    let of = |key: &str| {
        let all = listed["transformers"].as_array().unwrap().iter();
        all.map(|shown| shown[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((of("events"), of("emitted"), of("failed")), (64, 63, 1));
    let error = &listed["transformers"][1]["last_error"];
    assert!(error.as_str().unwrap().contains("limits.event_depth"), "{error}");
}

#[test]
fn no_transformation_is_lost_while_the_plugin_is_replaced() {
    const REPLACEMENTS: usize = 20;
    let rules = r#"
- {name: waits, source: in:event, target: out:waited, mapping: {n: "{{n}}"}, values: native}
- {name: goes, source: in:event, target: out:sent, mapping: {n: "{{n}}"}, values: native, async: true}
"#;
    let host = host_with(&[("rules.yaml", rules)]);
    let registered = json!({"transformer": {
        "name": "by_event", "source": "in:event", "target": "out:registered",
        "mapping": {"n": "{{n}}"}, "values": "native",
    }});
    host.client().emit("router:register_transformer", registered);
    let mut watcher = host.client();
    watcher.subscribe(&["out:*", "test:end"]);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let emitting = {
        let mut client = host.client();
        thread::spawn(move || emit_until(&mut client, || is_done.try_recv().is_ok()))
    };
    let reading = thread::spawn(move || seen(&mut watcher));
    let mut client = host.client();
    for generation in 1..=REPLACEMENTS {
        let reloaded = client.emit("module:reload", json!({"module_name": "transformers"}));
        assert_eq!(reloaded["generation"], generation + 1);
    }
    done.send(()).unwrap();
    let emitted = emitting.join().unwrap();
    assert!(emitted > 100, "{emitted}");
    // What was sent is behind nothing any more when nothing waits.
    client.reply("test:end", json!({"emitted": emitted}));
    let seen = reading.join().unwrap();
    let expected: BTreeSet<u64> = (0..emitted).collect();
    for (event, numbers) in ["out:waited", "out:sent", "out:registered"].iter().zip(seen) {
        assert_eq!(numbers.len() as u64, emitted, "{event}: each once");
        assert_eq!(BTreeSet::from_iter(numbers), expected, "{event}");
    }
}

/// One whose answers come `from` somewhere, and so many beside it.
fn awaiting(from: &str, beside: usize) -> String {
    let of = |name: &str, source: &str| {
        format!(
            "- {{name: {name}, source: '{source}', target: out:sent, async: true, values: native, \
             mapping: {{n: '{{{{n}}}}'}}, response_route: {{from: '{from}', to: out:answered}}}}\n"
        )
    };
    let others = (0..beside).map(|number| of(&format!("other_{number}"), "other:event"));
    of("first", "in:event") + &others.collect::<String>()
}

#[test]
fn no_event_is_taken_twice_while_it_is_read_anew_where_the_answers_come_from() {
    let host = host_with(&[("rules.yaml", &awaiting("answers:a", 60))]);
    let mut watcher = host.client();
    watcher.subscribe(&["out:sent", "test:end"]);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let emitting = {
        let mut client = host.client();
        thread::spawn(move || emit_until(&mut client, || is_done.try_recv().is_ok()))
    };
    let reading = thread::spawn(move || sent(&mut watcher));
    for from in ["answers:b", "answers:a"].into_iter().cycle().take(10) {
        fs::write(host.dir().join("rules/rules.yaml"), awaiting(from, 60)).unwrap();
        let reloaded = host.client().emit("transformer:reload", json!({}));
        assert_eq!((&reloaded["changed"], &reloaded["removed"]), (&json!(61), &json!(0)));
    }
    done.send(()).unwrap();
    let emitted = emitting.join().unwrap();
    host.client().reply("test:end", json!({"emitted": emitted}));
    let sent = reading.join().unwrap();
    assert_eq!(sent.len() as u64, emitted, "each once");
    assert_eq!(BTreeSet::from_iter(sent), BTreeSet::from_iter(0..emitted));
}

/// The numbers in `out:sent`, until as many as were emitted have come.
fn sent(watcher: &mut Client) -> Vec<u64> {
    let (mut numbers, mut emitted) = (vec![], None);
    while emitted.is_none_or(|emitted| (numbers.len() as u64) < emitted) {
        let push = watcher.push();
        match push["data"]["emitted"].as_u64() {
            None => numbers.push(push["data"]["n"].as_u64().unwrap()),
            end => emitted = end,
        }
    }
    numbers
}

#[test]
fn a_transformer_whose_successor_may_not_subscribe_goes_on() {
    let other = "- {name: other, source: x:y, target: y:z}\n";
    let builder = host_with(&[("rules.yaml", &(awaiting("answers:a", 0) + other))]).stopped();
    let host = builder.config("subscriptions = 3").start();
    let mut watcher = host.client();
    watcher.subscribe(&["out:sent"]);
    let rules = host.dir().join("rules/rules.yaml");
    let moved = awaiting("answers:a", 0).replace("in:event", "in:other");
    for (number, changed) in [awaiting("answers:b", 0), moved].into_iter().enumerate() {
        fs::write(&rules, changed + other).unwrap();
        let reloaded = host.client().emit("transformer:reload", json!({}));
        let counts = ["kept", "changed", "added", "removed"].map(|key| &reloaded[key]);
        assert_eq!(counts, [2, 0, 0, 0], "{reloaded:#}");
        let problem = &reloaded["problems"][0];
        assert_eq!(problem["name"], "first", "{reloaded:#}");
        assert!(problem["message"].as_str().unwrap().contains("subscriptions"), "{problem}");
        host.client().emit("in:event", json!({"n": number}));
        assert_eq!(watcher.push_of("out:sent"), json!({"n": number}));
    }
    // Where there is room, it is what the file says.
    fs::write(&rules, awaiting("answers:b", 0)).unwrap();
    host.client().emit("transformer:reload", json!({}));
    fs::write(&rules, awaiting("answers:c", 0)).unwrap();
    let reloaded = host.client().emit("transformer:reload", json!({}));
    assert_eq!((&reloaded["changed"], &reloaded["problems"]), (&json!(1), &json!([])));
}

/// Emits one event after the other, and gives how many.
fn emit_until(client: &mut Client, is_done: impl Fn() -> bool) -> u64 {
    let mut number = 0;
    while !is_done() {
        let reply = client.reply("in:event", json!({"n": number}));
        assert!(reply.get("errors").is_none() && reply.get("failed").is_none(), "{reply}");
        number += 1;
    }
    number
}

/// The numbers in `out:waited`, `out:sent` and `out:registered`, until all of what was emitted has
/// come, or too much.
fn seen(watcher: &mut Client) -> [Vec<u64>; 3] {
    let mut seen = [vec![], vec![], vec![]];
    let mut emitted = None;
    while emitted.is_none_or(|emitted: u64| seen.iter().any(|it| (it.len() as u64) < emitted)) {
        let push = watcher.push();
        let number = || push["data"]["n"].as_u64().unwrap();
        match push["event"].as_str().unwrap() {
            "out:waited" => seen[0].push(number()),
            "out:sent" => seen[1].push(number()),
            "out:registered" => seen[2].push(number()),
            "test:end" => emitted = push["data"]["emitted"].as_u64(),
            other => panic!("{other}"),
        }
    }
    seen
}
