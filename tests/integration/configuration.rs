//! A configuration that changes while the host runs: what takes it, and what says that it does not.

use std::{collections::BTreeSet, fs};

use serde_json::json;

use crate::kit::{Library, TestHost, error_of, ksi, until};

/// Writes the configuration file of a host anew.
fn configure(host: &TestHost, toml: &str) {
    fs::write(host.dir().join("ksi.toml"), toml).unwrap();
}

fn label(host: &TestHost) -> String {
    let answer = host.client().emit("chaos:version", json!({}));
    answer["label"].as_str().expect("a label").to_owned()
}

fn labelled() -> TestHost {
    TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[plugin.chaos]\nlabel = 'before'")
        .start()
}

#[test]
fn a_plugin_that_is_reloaded_gets_its_configuration_as_the_file_has_it_now() {
    let host = labelled();
    assert_eq!(label(&host), "before");
    configure(&host, "[plugin.chaos]\nlabel = 'after'");
    let said = host.ksi(&["reload", "chaos"]).ok();
    assert_eq!(said, "reloaded chaos 0.1.0, generation 2, with its changed configuration\n");
    assert_eq!(label(&host), "after");
    let said = host.ksi(&["reload", "chaos"]).ok();
    assert_eq!(said, "reloaded chaos 0.1.0, generation 3\n");
}

#[test]
fn a_reload_says_why_it_did_not_take_the_changed_configuration() {
    let host = labelled();
    configure(&host, "[plugin.chaos]\nlabel = ");
    let said = host.ksi(&["reload", "chaos"]).ok();
    assert!(
        said.starts_with(
            "reloaded chaos 0.1.0, generation 2, with the configuration as it was before: "
        ),
        "{said}"
    );
    assert!(said.contains("ksi.toml"), "{said}");
    assert_eq!(label(&host), "before");
}

#[test]
fn a_configuration_that_a_plugin_does_not_start_with_changes_nothing() {
    let host = labelled();
    let bad = "[plugin.chaos]\nlabel = 'bad'\ninit = 'fail'";
    configure(&host, bad);
    let refused = host.ksi(&["reload", "chaos"]).fails(1);
    assert!(refused.contains("init fails on purpose"), "{refused}");
    let refused = host.ksi(&["config", "reload"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stdout.contains("chaos goes on with the configuration before: "),
        "{refused:?}"
    );
    assert_eq!(label(&host), "before");
    // A new version is not to fail for what the old one was not given.
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let version = || host.client().emit("chaos:version", json!({}))["version"].clone();
    until("the new version is live", version, |version| *version == "chaos-version-0002");
    assert_eq!(label(&host), "before");
}

#[test]
fn an_exclusive_plugin_that_its_new_configuration_fails_is_made_again_with_the_old_one() {
    let exclusive = "[reload.plugins.chaos]\nexclusive = true\n[plugin.chaos]\n";
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config(&format!("{exclusive}label = 'before'"))
        .start();
    configure(&host, &format!("{exclusive}label = 'bad'\ninit = 'fail'"));
    let refused = host.ksi(&["reload", "chaos"]).fails(1);
    assert!(refused.contains("was made again"), "{refused}");
    assert_eq!(label(&host), "before");
}

#[test]
fn config_reload_reloads_the_plugins_that_have_changed_and_names_what_needs_a_restart() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("other.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nlabel = 'before'\n[plugin.chao1]\nlabel = 'same'")
        .start();
    let changed = "[plugin.chaos]\nlabel = 'after'\n[plugin.chao1]\nlabel = 'same'\n[plugin.absent]\n\
                   [reload]\nmargin = 0.5\n[limits]\nconnections = 7";
    configure(&host, changed);
    let said = host.ksi(&["config", "reload"]).ok();
    let lines: Vec<&str> = said.lines().skip(1).collect();
    let expected = [
        "from now on: reload.margin",
        "absent is not live; it gets its changed configuration when it is loaded",
        "reloaded chaos, generation 2, with its changed configuration",
        "after a restart of the host alone: limits.connections",
    ];
    assert_eq!(lines, expected);
    assert_eq!(host.module("chaos")["generation"], 2);
    assert_eq!(host.module("chao1")["generation"], 1);
    // What needs a restart still does; the rest is done.
    let said = host.ksi(&["config", "reload"]).ok();
    assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), [expected[3]]);
}

#[test]
fn a_plugin_that_failed_for_its_configuration_is_tried_again_when_that_changes() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .config("[recovery]\nattempts = 0\n[plugin.chaos]\ninit = 'fail'")
        .start();
    assert!(host.until_refused("chaos.so").contains("init fails on purpose"));
    configure(&host, "[recovery]\nattempts = 0\n[plugin.chaos]\nlabel = 'well'");
    host.ksi(&["config", "reload"]).ok();
    assert_eq!(label(&host), "well");
}

#[test]
fn a_configuration_that_is_not_valid_is_refused_whole() {
    let host = labelled();
    configure(&host, "[plugin.chaos]\nlabel = 'after'\n[limits]\nconections = 7");
    let reply = host.client().reply("config:reload", json!({}));
    let error = error_of(&reply);
    assert!(error.starts_with("nothing has changed: "), "{error}");
    assert!(error.contains("conections") && error.contains("did you mean"), "{error}");
    assert_eq!(label(&host), "before");
    assert_eq!(host.module("chaos")["generation"], 1);
}

#[test]
fn what_the_operator_asks_of_the_host_is_not_cut_off_by_the_timeout_of_handlers() {
    let host = TestHost::builder()
        .config("[timeouts]\nhandler = '100ms'\n[plugin.chaos]\ninit = 'sleep'\ninit_millis = 700")
        .start();
    let file = host.dir().join("chaos.so");
    fs::write(&file, &Library::chaos().0).unwrap();
    let reply = host.client().reply("module:load", json!({"path": file}));
    assert_eq!(reply["data"]["status"], "loaded", "{reply:#}");
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_plugin_that_takes_its_time_to_start_holds_up_no_reload_of_another_one() {
    let builder = TestHost::builder();
    let file = builder.dir().join("go");
    fs::write(&file, "").unwrap();
    let waits = format!(
        "[timeouts]\ninit = '10m'\n[plugin.chaos]\ninit = 'file'\ninit_file = '{}'\n\
         init_in_earnest = true",
        file.display()
    );
    let host = builder
        .plugin("chaos.so", &Library::chaos())
        .plugin("other.so", &Library::chaos().named("chao1"))
        .config(&waits)
        .start();
    fs::remove_file(&file).unwrap();
    std::thread::scope(|scope| {
        // Also if this fails: nobody is left waiting for it.
        let go = OnDrop(|| fs::write(&file, "").unwrap());
        let slow = scope.spawn(|| host.ksi(&["reload", "chaos"]).ok());
        let copies = || {
            let mapped = host.resources().libraries.into_iter();
            let names = mapped.filter_map(|it| it.rsplit('/').next().map(str::to_owned));
            names.filter(|name| name.starts_with("chaos-")).collect::<BTreeSet<_>>().len()
        };
        until("the next generation is on its way", copies, |copies| *copies == 2);
        let quick = scope.spawn(|| {
            let reloaded = host.ksi(&["reload", "chao1"]).ok();
            configure(&host, &format!("{waits}\n[plugin.chao1]\nlabel = 'after'"));
            (reloaded, host.ksi(&["config", "reload"]).ok())
        });
        let other = || host.module("chao1")["generation"].clone();
        until("the other one is reloaded and configured", other, |generation| *generation == 3);
        drop(go);
        let (reloaded, config) = quick.join().unwrap();
        assert_eq!(reloaded, "reloaded chao1 0.1.0, generation 2\n");
        assert!(config.contains("reloaded chao1, generation 3"), "{config}");
        assert_eq!(slow.join().unwrap(), "reloaded chaos 0.1.0, generation 2\n");
    });
}

#[test]
fn a_refused_configuration_is_taken_back_though_the_call_that_asked_for_it_was_cancelled() {
    let builder = TestHost::builder();
    let never = builder.dir().join("never");
    let well = "[timeouts]\nhandler = '300ms'\ninit = '2s'\n[plugin.chaos]\n";
    let host = builder
        .plugin("chaos.so", &Library::chaos())
        .config(&format!("{well}label = 'before'"))
        .start();
    let waits = format!("init = 'file'\ninit_file = '{}'\ninit_in_earnest = true", never.display());
    configure(&host, &format!("{well}label = 'bad'\n{waits}"));
    let ask = json!({"event": "module:reload", "data": {"module_name": "chaos"}});
    let reply = host.client().reply("chaos:request", ask);
    assert!(!error_of(&reply).is_empty(), "its call was cancelled");
    host.until_module("the configuration is refused", "chaos", |module| {
        module["last_error"].is_string()
    });
    host.drop_in("chaos.so", &Library::chaos().version(2));
    let version = || host.client().emit("chaos:version", json!({}))["version"].clone();
    until("the new version is live", version, |version| *version == "chaos-version-0002");
    assert_eq!(label(&host), "before");
}

#[test]
fn who_is_to_be_isolated_on_the_command_line_has_to_be_the_name_of_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let (plugins, socket) = (folder.path().to_str().unwrap(), folder.path().join("ksi.sock"));
    let arguments = ["run", "--no-state", "--plugins", plugins, "--isolate", "a b"];
    let no_name = ksi(&socket, &arguments, "").fails(2);
    assert!(no_name.contains("--isolate a b") && no_name.contains("names no plugin"), "{no_name}");
}

#[test]
fn isolation_is_shown_as_the_file_has_it_without_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let (config, socket) = (folder.path().join("ksi.toml"), folder.path().join("ksi.sock"));
    let toml = "[isolation.plugins.chaos]\nmode = 'process'\nmemory = '64 MiB'";
    fs::write(&config, toml).unwrap();
    let show = ["--config", config.to_str().unwrap(), "config", "isolation"];
    let said = ksi(&socket, &show, "").ok();
    assert!(said.starts_with("chaos: in a process of its own\n"), "{said}");
    assert!(said.contains("memory 64 MiB"), "{said}");
    assert!(said.contains("\nall others: in a process of its own if asked for"), "{said}");
    fs::write(&config, "[isolation]\nmemory = '64 MB'").unwrap();
    let said = ksi(&socket, &show, "").fails(2);
    assert!(said.contains("line 2") && said.contains("no size such as"), "{said}");
}
