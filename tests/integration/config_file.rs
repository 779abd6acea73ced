//! What an operator is told of the configuration: what is wrong in the file, and what is in effect.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::kit::{Library, Ran, TestHost, error_of, ksi, until};

fn check(folder: &Path, toml: &str, further: &[&str]) -> Ran {
    let file = folder.join("ksi.toml");
    fs::write(&file, toml).unwrap();
    let arguments = [&["config", "check", file.to_str().unwrap()], further].concat();
    ksi(&folder.join("no-host"), &arguments, "")
}

#[test]
fn all_that_is_wrong_in_a_configuration_file_is_told_with_its_lines_and_without_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ksi.toml").display().to_string();
    let good = "[limits]\nworkers = 3\n[plugin.hello]\nanything = true\n";
    assert_eq!(check(folder.path(), good, &[]).ok(), format!("{file} is valid\n"));
    let bad = "[limits]\nconections = 7\nworkers = 5000\n[timeouts]\nprobe = 5\n";
    let ran = check(folder.path(), bad, &[]);
    assert_eq!((ran.code, &*ran.stderr), (Some(1), ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("{file}:2:1: unknown field `conections`")), "{lines:#?}");
    assert!(lines[0].ends_with("did you mean `connections`?"), "{lines:#?}");
    let range = format!("{file}:3:1: `limits.workers` is 5000, and must be from 0 to 1024");
    assert_eq!(lines[1], range);
    assert!(lines[2].starts_with(&format!("{file}:5:9: invalid type: integer `5`")), "{lines:#?}");
    assert_eq!(lines.len(), 3);
    let told: Value = serde_json::from_str(&check(folder.path(), bad, &["--json"]).stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert_eq!(told["problems"][1]["key"], "limits.workers");
    assert_eq!(told["problems"][1]["line"], 3);
    let gone = ksi(Path::new("/none"), &["config", "check", "/none.toml"], "").fails(2);
    assert!(gone.contains("/none.toml"), "{gone}");
    let none = ksi(Path::new("/none"), &["config", "check"], "").fails(2);
    assert!(none.contains("no file was named"), "{none}");
}

#[test]
fn what_is_in_effect_is_shown_with_where_it_comes_from_and_without_secrets() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[limits]\nworkers = 3\n[plugin.chaos]\nlabel = 'before'\n[plugin.absent]\n")
        .config("api_key = 'hunter2'\n[timeouts]\nhandler = '20s'")
        .start();
    let file = host.dir().join("ksi.toml");
    let said = host.ksi(&["config", "show"]).ok();
    let line = |key: &str| {
        let found = said.lines().find(|line| line.starts_with(&format!("{key} ")));
        found.expect(key).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(said.lines().next(), Some(&*format!("configured by {}", file.display())));
    assert_eq!(line("limits.workers"), "3 ksi.toml:2");
    assert_eq!(line("limits.connections"), "256 default");
    assert_eq!(line("timeouts.handler"), "\"20s\" ksi.toml:9");
    assert_eq!(line("plugin.chaos.label"), "\"before\" ksi.toml:4");
    assert_eq!(line("plugin.absent.api_key"), "(masked) ksi.toml:7");
    assert!(line("host.plugin_dirs").ends_with(" --plugins"), "{said}");
    assert!(line("host.socket").ends_with(" --socket"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    // What the file says by now, and what that takes.
    let changed = fs::read_to_string(&file).unwrap().replace("workers = 3", "# none\nworkers = 4");
    fs::write(&file, changed.replace("20s", "21s")).unwrap();
    host.ksi(&["config", "reload"]).ok();
    let said = host.ksi(&["config", "show", "--changed", "limits", "timeouts.handler"]).ok();
    let lines: Vec<&str> = said.lines().skip(2).collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(lines[0]), "timeouts.handler \"20s\" ksi.toml, as it was", "{said}");
    assert_eq!(words(lines[1]), "limits.workers 3 ksi.toml, as it was", "{said}");
    let after = "in effect after a restart of the host";
    assert_eq!(lines[2], format!("the file says timeouts.handler = \"21s\": {after}"));
    assert_eq!(lines[3], format!("the file says limits.workers = 4: {after}"));
    assert_eq!(lines.len(), 4);
    let answer = host.client().emit("config:show", json!({})).to_string();
    assert!(answer.contains("plugin.chaos.label") && !answer.contains("hunter2"), "{answer}");
    let none = host.ksi(&["config", "show", "limit"]).fails(2);
    assert!(none.contains("there is no key"), "{none}");
}

#[test]
fn a_configuration_file_that_changes_is_taken_without_anybody_asking() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nlabel = 'before'")
        .follow_config()
        .start();
    let file = host.dir().join("ksi.toml");
    let label = || host.client().emit("chaos:version", json!({}))["label"].clone();
    assert_eq!(label(), "before");
    fs::write(&file, "[plugin.chaos]\nlabel = 'after'\n[limits]\nworkers = 7").unwrap();
    until("the plugin has it", label, |label| *label == "after");
    // What it cannot change, it names.
    host.process.told("in effect after a restart of the host alone: limits.workers");

    // One that cannot be used changes nothing, is told of once, and shown for as long as it is so.
    fs::write(&file, "[plugin.chaos]\nlabel = 'bad'\n[limits]\nworker = 7").unwrap();
    host.process.told("the configuration stays as it is");
    let said = host.ksi(&["config", "show", "plugin.chaos"]).ok();
    assert!(said.contains("as it is now it cannot be used: ") && said.contains("worker"), "{said}");
    assert_eq!(label(), "after");

    // As editors and configuration management put it there: by another file of that name.
    let new = host.dir().join("new.toml");
    fs::write(&new, "[plugin.chaos]\nlabel = 'last'").unwrap();
    fs::rename(&new, &file).unwrap();
    until("the plugin has the last one", label, |label| *label == "last");
    let said = host.ksi(&["config", "show", "plugin.chaos"]).ok();
    assert!(said.contains("ksi.toml:2") && !said.contains("cannot be used"), "{said}");
    assert_eq!(host.log_by_now().matches("the configuration stays as it is").count(), 1);
}

/// A host with a plugin that takes another configuration as it is.
fn configurable(table: &str) -> TestHost {
    let asks = Library::of("ksi-fixture-asks");
    TestHost::builder().plugin("asks.so", &asks).config(&format!("[plugin.asks]\n{table}")).start()
}

fn configure(host: &TestHost, table: &str) -> Ran {
    fs::write(host.dir().join("ksi.toml"), format!("[plugin.asks]\n{table}")).unwrap();
    host.ksi(&["config", "reload"])
}

fn configured(host: &TestHost) -> Value {
    host.client().emit("asks:configured", json!({}))
}

#[test]
fn a_plugin_takes_another_configuration_as_it_is() {
    let host = configurable("word = 'one'\nnumber = 1");
    let said = configure(&host, "word = 'two'").ok();
    assert_eq!(said.lines().last(), Some("asks has taken its changed configuration"));
    assert_eq!(configured(&host), json!({"word": "two", "number": 0}));
    assert_eq!(host.module("asks")["generation"], 1);
    // It is what later generations begin with.
    host.ksi(&["reload", "asks"]).ok();
    assert_eq!(configured(&host)["word"], "two");
    // Whoever reloads a plugin gets a new generation of it.
    fs::write(host.dir().join("ksi.toml"), "[plugin.asks]\nword = 'three'").unwrap();
    let said = host.ksi(&["reload", "asks"]).ok();
    assert!(said.contains("generation 3, with its changed configuration"), "{said}");
    // Without a table, it has what it has without one.
    fs::write(host.dir().join("ksi.toml"), "").unwrap();
    host.ksi(&["config", "reload"]).ok();
    assert_eq!(configured(&host), json!({"word": "", "number": 0}));
    // Nobody else can do that.
    let reply = host.client().reply("module:configure", json!({"word": "mine"}));
    assert!(error_of(&reply).starts_with("Unknown event"), "{reply}");
}

#[test]
fn a_configuration_that_a_plugin_refuses_is_shown_for_as_long_as_it_is_not_settled() {
    let host = configurable("word = 'one'");
    let refused =
        "goes on with the configuration before: asks does not take it: it is a bad one [bad_word]";
    let ran = configure(&host, "word = 'bad'");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains(&format!("asks {refused}")), "{ran:?}");
    assert_eq!(configured(&host)["word"], "one");
    let answer = host.client().emit("config:reload", json!({}));
    assert_eq!(answer["plugins"][0]["code"], "bad_word", "{answer}");
    let shown = |command: &[&str]| host.ksi(command).ok();
    assert!(shown(&["list"]).contains(&format!("asks: {refused}")), "{}", shown(&["list"]));
    assert!(shown(&["inspect", "asks"]).contains(refused));
    let said = shown(&["config", "show", "plugin.asks"]);
    assert!(said.contains("the file says plugin.asks.word = \"bad\", and the plugin"), "{said}");
    assert!(said.contains(&format!("asks {refused}")), "{said}");
    // Also by a version that comes later, which gets the one before.
    host.ksi(&["reload", "asks"]).fails(1);
    assert!(shown(&["list"]).contains("goes on with the configuration before: "));
    assert_eq!(configured(&host)["word"], "one");
    // One that does not decode, and one that is not taken in time, are refused as well.
    assert!(configure(&host, "number = 70000").stdout.contains("[invalid_config]"));
    configure(&host, "word = 'one'").ok();
    assert!(!shown(&["list"]).contains("configuration"), "{}", shown(&["list"]));
    assert!(host.module("asks").get("config_refused").is_none());
}

#[test]
fn a_configuration_that_is_not_taken_in_time_is_refused() {
    let host = configurable("word = 'one'\n[timeouts]\ninit = '300ms'");
    let ran = configure(&host, "word = 'late'\n[timeouts]\ninit = '300ms'");
    assert!(ran.stdout.contains("[timed_out]"), "{ran:?}");
    assert_eq!(configured(&host)["word"], "one");
}

#[test]
fn a_plugin_that_did_not_start_with_its_new_configuration_is_not_replaced_by_itself_again() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[recovery]\nfirst = '1ms'\n[plugin.chaos]\nlabel = 'before'")
        .start();
    let bad = "[recovery]\nfirst = '1ms'\n[plugin.chaos]\nlabel = 'bad'\ninit = 'fail'";
    fs::write(host.dir().join("ksi.toml"), bad).unwrap();
    assert_eq!(host.ksi(&["config", "reload"]).code, Some(1));
    // A retry would have come by now, and would have been told: nothing else is tried in its place.
    fs::remove_file(host.file("chaos.so")).unwrap();
    host.until_module("it is unloaded", "chaos", |module| module["state"] != "live");
    let log = host.log_by_now();
    assert!(!log.contains("trying again"), "{log}");
    host.drop_in("chaos.so", &Library::chaos());
    let module = host.until_module("it is live", "chaos", |module| module["state"] == "live");
    assert_eq!(module["config_refused"]["code"], "init_failed", "{module:#}");
}

/// As `[plugin.asks]` has it.
fn secret(place: &str, at: impl std::fmt::Display) -> String {
    format!("{{ \"$secret\" = {{ {place} = '{at}' }} }}")
}

#[test]
fn a_secret_gets_to_the_plugin_and_to_nobody_else() {
    let setup = TestHost::builder().plugin("asks.so", &Library::of("ksi-fixture-asks"));
    let file = setup.dir().join("key");
    fs::write(&file, "hunter2\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(setup.dir().join("db"), "sesame9").unwrap();
    // Relative to the file.
    let setup = setup.config(&format!("[plugin.asks]\nword = {}", secret("file", "key")));
    let mut command = setup.command();
    command.env("KSI_TEST_WORD", "opensaid").env("CREDENTIALS_DIRECTORY", setup.dir());
    let host = setup.start_by(&mut command);
    assert_eq!(configured(&host)["word"], "hunter2");
    host.process.told("may be read by every user (its mode is 644)");
    for (place, at, word) in [("env", "KSI_TEST_WORD", "opensaid"), ("credential", "db", "sesame9")]
    {
        configure(&host, &format!("word = {}", secret(place, at))).ok();
        assert_eq!(configured(&host)["word"], word);
    }
    // A plugin that tells of what it was given, as serde does.
    let answers = configure(&host, &format!("number = {}", secret("env", "KSI_TEST_WORD")));
    assert!(answers.stdout.contains("string \"(secret)\", expected u16"), "{answers:?}");
    let reloaded = host.ksi(&["reload", "asks"]).fails(1);
    assert!(reloaded.contains("(secret)"), "{reloaded}");
    let shown = host.ksi(&["config", "show", "plugin"]).ok();
    let number = "the file says plugin.asks.number = (secret) {\"env\":\"KSI_TEST_WORD\"}";
    assert!(
        shown.contains("(secret) {\"credential\":\"db\"}") && shown.contains(number),
        "{shown}"
    );
    let said = [
        answers.stdout,
        reloaded,
        shown,
        host.ksi(&["list", "--json"]).ok(),
        host.ksi(&["inspect", "asks", "--json"]).ok(),
        host.ksi(&["config", "show", "--json"]).ok(),
        host.log_by_now(),
    ];
    for said in said {
        for word in ["hunter2", "opensaid", "sesame9"] {
            assert!(!said.contains(word), "{word} in {said}");
        }
    }
}

#[test]
fn a_secret_that_is_not_there_keeps_what_is_live_and_is_told_with_what_to_do() {
    let host = configurable("word = 'one'");
    let ran = configure(&host, &format!("word = {}", secret("file", "/none/key")));
    let told = "asks is not given `plugin.asks.word`: /none/key cannot be read";
    assert!(ran.stdout.contains(told) && ran.stdout.contains("[no_secret]"), "{ran:?}");
    assert_eq!(configured(&host)["word"], "one");
    assert_eq!(host.module("asks")["generation"], 1);
    // One that is another one by now is given anew, although the file says the same.
    let key = host.dir().join("key");
    fs::write(&key, "first").unwrap();
    configure(&host, &format!("word = {}", secret("file", key.display()))).ok();
    fs::write(&key, "second").unwrap();
    let said = host.ksi(&["config", "reload"]).ok();
    assert!(said.contains("asks has taken its changed configuration"), "{said}");
    assert_eq!(configured(&host)["word"], "second");
    let said = host.ksi(&["config", "reload"]).ok();
    assert!(said.contains("nothing in it has changed"), "{said}");
    // What is no reference is found before anybody gets it.
    let bad = "[plugin.asks]\nword = { '$secret' = { vault = 'x' } }\n";
    let ran = check(host.dir(), bad, &[]);
    assert!(
        ran.stdout.contains(":2:1: `plugin.asks.word` `vault` is no place of a secret"),
        "{ran:?}"
    );
    let ran = check(host.dir(), &format!("[plugin.asks]\nword = {}", secret("file", "gone")), &[]);
    assert!(ran.stderr.contains("the secret plugin.asks.word: "), "{ran:?}");
    assert_eq!(ran.code, Some(0));
}
