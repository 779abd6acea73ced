//! What events carry, shown and written as files that other tools read.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    contracts,
    kit::{Library, TestHost, error_of, until, workspace},
};

#[test]
fn who_emits_handles_and_requires_an_event_is_shown_with_what_they_say_of_it() {
    let host = contracts::host("");
    let told = host.ksi(&["schema", "order:placed"]).ok();
    for part in ["emitted by shop 1.0.0", "handled by stock 1.0.0 in `note`", "\"total\"", "reply:"]
    {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    let told = host.ksi(&["schema", "shop:buy"]).ok();
    for part in ["handled by shop 1.0.0 in `buy`", "required by stock 1.0.0", "reads of the reply:"]
    {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    let read: Value =
        serde_json::from_str(&host.ksi(&["schema", "shop:buy", "--json"]).ok()).unwrap();
    let buy = &read["events"]["shop:buy"];
    assert_eq!(buy["handles"][0]["reply_schema"]["required"], json!(["number", "total"]));
    assert_eq!(buy["requires"][0]["reply_schema"]["required"], json!(["number"]));
    let of_host = host.ksi(&["schema", "module:list"]).ok();
    assert!(of_host.contains("handled by host in `module:list`"), "{of_host}");
    let unknown = host.ksi(&["schema", "shop:sell"]).fails(1);
    assert!(unknown.contains("shop:sell") && unknown.contains("ksi events"), "{unknown}");
    for wrong in [&["schema"][..], &["schema", "a:b", "--export", "x"]] {
        host.ksi(wrong).fails(2);
    }
}

#[test]
fn what_a_handler_of_a_pattern_says_is_shown_with_the_events_that_it_gets() {
    let everything = "[plugin.chaos]\nsubscribe = ['paid:*', '**']";
    let host = TestHost::builder().plugin("chaos.so", &Library::chaos()).config(everything).start();
    let asked = host.client().emit("module:schemas", json!({"event": "paid:now"}));
    let subscriptions: Vec<&Value> = asked["events"]["paid:now"]["handles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|handled| &handled["subscription"])
        .collect();
    assert_eq!(subscriptions, ["paid:*"], "whoever listens to everything is left out");
    let all = host.client().emit("module:schemas", json!({}));
    let names: BTreeSet<&str> =
        all["events"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(names.contains("paid:*") && !names.contains("**") && !names.contains("module:list"));
}

/// A host with many kinds of types, and a folder that its schemas are exported to.
fn exported() -> (TestHost, PathBuf) {
    let host = contracts::host("");
    for (file, library) in [
        ("chaos.so", Library::chaos()),
        ("counter.so", Library::counter(1)),
        ("asks.so", Library::of("ksi-fixture-asks")),
        ("lanes.so", Library::of("ksi-fixture-lanes")),
        ("state.so", Library::of("ksi-plugin-state")),
        ("completion.so", Library::of("ksi-plugin-completion")),
        ("hello.so", Library::of("hello")),
    ] {
        host.drop_in(file, &library);
    }
    until(
        "all are live",
        || host.modules(),
        |all| all.len() == 9 && all.iter().all(|module| module["state"] == "live"),
    );
    let folder = host.dir().join("schemas");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "somebody's").unwrap();
    fs::write(folder.join("asyncapi.json"), "an older one").unwrap();
    let told = host.ksi(&["schema", "--export", folder.to_str().unwrap()]).ok();
    assert!(told.contains(" files in "), "{told}");
    (host, folder)
}

#[test]
fn the_schemas_of_all_events_are_written_as_files_by_which_values_are_judged() {
    let (host, folder) = exported();
    assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "somebody's");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let judge = |name: &str| {
        let schema = read(name);
        jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "a draft is left: {name}");
        if name.ends_with(".json") && name != "asyncapi.json" {
            judge(&name);
            count += 1;
            assert!(ids.insert(read(&name)["$id"].as_str().unwrap().to_owned()), "{name}");
        }
    }
    assert!(count > 30, "{count}");
    let taken = judge("order~placed.taken.json");
    assert!(taken.is_valid(&json!({"number": 1, "total": 7})));
    assert!(!taken.is_valid(&json!({"number": 1})));
    assert_eq!(read("order~placed.sent.json")["$id"], "urn:ksi:order:placed:sent");
    assert!(judge("shop~buy.replied.json").is_valid(&json!({"number": 1, "total": 7})));
    assert!(judge("shop~buy.read.json").is_valid(&json!({"number": 1})));
    let replied = read("order~placed.replied.json").to_string();
    assert!(replied.contains("chaos") && !replied.contains("stock.note"), "`note` never replies");

    // The same host says the same, in the same files.
    let before = fs::read(folder.join("asyncapi.json")).unwrap();
    host.ksi(&["schema", "--export", folder.to_str().unwrap()]).ok();
    assert_eq!(fs::read(folder.join("asyncapi.json")).unwrap(), before);
    let blocked = host.dir().join("blocked");
    fs::create_dir_all(blocked.join("shop~buy.read.json")).unwrap();
    let failed = host.ksi(&["schema", "--export", blocked.to_str().unwrap()]).fails(1);
    assert!(failed.contains("shop~buy.read.json"), "{failed}");
    assert_eq!(fs::read_dir(&blocked).unwrap().count(), 1, "nothing else is written");
}

#[test]
fn a_payload_of_a_client_that_a_handler_does_not_take_is_refused_before_any_handler_runs() {
    let host = contracts::host("[contracts]\nvalidate = 'clients'");
    let mut client = host.client();
    let reply = client.reply("order:placed", json!({"number": -1}));
    assert_eq!((&reply["failed"], &reply["count"]), (&json!(true), &json!(1)), "{reply}");
    assert_eq!(reply["data"]["code"], "invalid_payload");
    let error = error_of(&reply);
    for part in ["order:placed", "stock.note: /number: ", "total", "contracts.validate"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    let told = host.ksi(&["emit", "order:placed", r#"{"total": "x"}"#]).fails(1);
    assert!(told.starts_with("error: host: no handler of order:placed was called"), "{told}");
    assert_eq!(client.emit("stock:noted", json!({})), 0);
    let counts = &host.module("stock")["counts"];
    assert_eq!((&counts["accepted"], &counts["failed"]), (&json!(1), &json!(0)), "{counts}");
    // What is taken gets there, and so does what nobody says anything of.
    client.reply("order:placed", json!({"number": 1, "total": 2, "more": 3}));
    assert_eq!(client.emit("stock:noted", json!({"any": ["thing"]})), 1);
    client.emit("module:list", json!({}));
    // Each version is asked for itself.
    host.drop_in("stock.so", &contracts::built().stock[1]);
    host.until_version("stock", "2.0.0");
    let taken = client.reply("order:placed", json!({"number": 1}));
    assert_ne!(taken["failed"], true, "{taken}");
    // What plugins send is not looked at, and neither is anything once the configuration says so.
    client.emit("shop:buy", json!({"number": 1}));
    fs::write(host.dir().join("ksi.toml"), "").unwrap();
    let told = host.ksi(&["config", "reload"]).ok();
    assert!(told.contains("contracts.validate"), "{told}");
    let reply = client.reply("order:placed", json!({"number": -1}));
    assert_eq!(reply["data"]["module"], "stock", "{reply}");
}

#[test]
fn without_validation_a_handler_says_itself_what_it_does_not_take() {
    let host = contracts::host("");
    let reply = host.client().reply("order:placed", json!({"number": -1}));
    assert_eq!(
        (&reply["data"]["module"], &reply["data"]["handler"]),
        (&json!("stock"), &json!("note"))
    );
    assert_eq!(host.module("stock")["counts"]["failed"], 1);
}

/// Prints what AsyncAPI's own parser finds wrong, then each operation with its reply.
const PARSED: &str = r"
const { Parser } = require('@asyncapi/parser');
const text = require('fs').readFileSync(0, 'utf8');
new Parser().parse(text).then(({ document, diagnostics }) => {
    // 0 is an error and 1 a warning; what is beyond that is advice.
    const wrong = diagnostics.filter((it) => it.severity < 2);
    const operations = document ? document.operations().all() : [];
    console.log(JSON.stringify({
        wrong: wrong.map((it) => `${it.path.join('/')}: ${it.message}`),
        operations: operations.map((it) => [it.id(), it.action(), it.reply() ? it.reply().messages().length : 0]),
    }));
});
";

/// Where `.ci/run` has put AsyncAPI's parser. Where it is not, the test is left out and says so;
/// with `KSI_TEST_ASYNCAPI=required` that is a failure.
fn parser() -> Option<PathBuf> {
    let modules = workspace().join("target/asyncapi/node_modules");
    let mut node = Command::new("node");
    node.args(["-e", "require('@asyncapi/parser')"]).env("NODE_PATH", &modules);
    let there = node.stdin(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Some(modules);
    }
    const MISSING: &str = "there is no AsyncAPI parser: npm install --prefix target/asyncapi \
                           --ignore-scripts @asyncapi/parser@3.6";
    assert!(std::env::var_os("KSI_TEST_ASYNCAPI").is_none_or(|it| it != "required"), "{MISSING}");
    // Past the capture of the test's output.
    let _ = writeln!(std::io::stderr().lock(), "a test was left out: {MISSING}");
    None
}

fn parsed(modules: &Path, document: &Path) -> Value {
    let mut node = Command::new("node");
    node.args(["-e", PARSED]).env("NODE_PATH", modules).stdin(fs::File::open(document).unwrap());
    let output = node.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn asyncapis_own_parser_has_nothing_against_the_document_of_all_events() {
    let Some(modules) = parser() else { return };
    let (host, folder) = exported();
    let found = parsed(&modules, &folder.join("asyncapi.json"));
    assert_eq!(found["wrong"], json!([]));
    let operations = found["operations"].as_array().unwrap();
    for expected in [
        json!(["shop@order:placed", "send", 0]),
        json!(["stock.note@order:placed", "receive", 0]),
        json!(["shop.buy@shop:buy", "receive", 1]),
        json!(["stock.requires@shop:buy", "send", 1]),
    ] {
        assert!(operations.contains(&expected), "{expected} is missing: {operations:#?}");
    }
    // The check sees what is wrong.
    let mut document: Value =
        serde_json::from_slice(&fs::read(folder.join("asyncapi.json")).unwrap()).unwrap();
    document["operations"]["shop@order:placed"]["channel"]["$ref"] = "#/channels/none".into();
    let broken = host.dir().join("broken.json");
    fs::write(&broken, document.to_string()).unwrap();
    assert_ne!(parsed(&modules, &broken)["wrong"], json!([]));
}
