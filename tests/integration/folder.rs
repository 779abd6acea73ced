//! Files that come into the folder and go from it, and what is told of that.

use std::fs;

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use crate::kit::{Client, Library, States, TestHost, under_load, until};

#[track_caller]
fn version(client: &mut Client) -> Value {
    client.emit("chaos:version", json!({}))["version"].clone()
}

#[test]
fn a_file_that_is_removed_unloads_its_plugin_and_one_that_comes_back_loads() {
    let host = TestHost::chaos();
    let mut client = host.client();
    fs::remove_file(host.file("chaos.so")).unwrap();
    host.until_module("it is unloaded", "chaos", |module| module.state() == ModuleState::Unloaded);
    host.until_unmapped("chaos");
    assert_eq!(host.resources().libraries.len(), 0);
    assert_eq!(client.reply("chaos:echo", json!(1))["data"]["status"], "error");
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_module("it is live again", "chaos", |module| module.state() == ModuleState::Live);
    assert_eq!(version(&mut client), "chaos-version-0002");
}

#[test]
fn a_new_file_is_loaded_while_the_host_runs() {
    let host = TestHost::chaos();
    host.drop_in("new.so", &Library::chaos().named("chao1"));
    host.until_live("chao1", 1);
    assert_eq!(host.client().emit("chaos:echo", json!(1)), json!([1, 1]));
}

#[test]
fn the_first_of_two_files_is_the_plugin_and_nothing_of_the_other_stays_in_memory() {
    // Which of them is ready first does not matter: the larger one takes longer.
    let mut first = Library::chaos().version(1);
    first.0.resize(first.0.len() + (64 << 20), 0);
    let second = Library::chaos().version(2);
    let host = TestHost::builder().plugin("a.so", &first).plugin("b.so", &second).start();
    assert_eq!(host.module("chaos")["file"], host.file("a.so").to_str().unwrap());
    assert_eq!(version(&mut host.client()), "chaos-version-0001");
    assert!(host.until_refused("b.so").contains("a.so"));
    until("one library is mapped", || host.resources().libraries.len(), |mapped| *mapped == 1);
}

#[test]
fn life_cycle_events_tell_name_version_generation_and_reason() {
    let host = TestHost::builder().start();
    let mut watcher = host.client();
    watcher.subscribe(&["module:*"]);
    let expect = |watcher: &mut Client, event: &str, generation: u64| {
        let data = watcher.push_of(event);
        assert_eq!(data["name"], "chaos", "{event}: {data}");
        assert_eq!(
            (&data["version"], &data["generation"]),
            (&json!("0.1.0"), &json!(generation)),
            "{event}"
        );
        assert!(
            data["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "{event}: {data}"
        );
        assert_eq!(data["file"], host.file("chaos.so").to_str().unwrap());
        data
    };
    host.drop_in("chaos.so", &Library::chaos());
    expect(&mut watcher, "module:loaded", 1);
    host.drop_in("chaos.so", &Library::chaos().version(2));
    expect(&mut watcher, "module:reloaded", 2);
    let retired = expect(&mut watcher, "module:retired", 1);
    assert_eq!((&retired["unmapped"], &retired["cause"]), (&json!(true), &Value::Null));
    host.drop_in("chaos.so", &Library(b"bad".to_vec()));
    expect(&mut watcher, "module:reload_failed", 2);
    fs::remove_file(host.file("chaos.so")).unwrap();
    expect(&mut watcher, "module:unloaded", 2);
    expect(&mut watcher, "module:retired", 2);
}

#[test]
fn a_plugin_that_subscribes_hears_the_life_of_the_host() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("z.so", &Library::chaos().named("chao1"))
        .config("[plugin.chaos]\nsubscribe = ['system:*', 'module:loaded']")
        .start();
    let heard = || host.client().emit("chaos:heard", json!({}))[1].clone();
    let heard = until("the start is heard", heard, |heard| {
        heard.as_array().unwrap().contains(&json!("system:ready"))
    });
    let loaded = heard.as_array().unwrap().iter().filter(|it| *it == "module:loaded").count();
    assert!(loaded >= 1, "{heard}");
}

#[test]
fn a_file_that_is_renamed_stays_the_same_plugin() {
    let host = TestHost::chaos();
    fs::rename(host.file("chaos.so"), host.file("renamed.so")).unwrap();
    host.until_module("it is live under its new name", "chaos", |module| {
        module.state() == ModuleState::Live
            && module["file"] == host.file("renamed.so").to_str().unwrap()
    });
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1);
    host.until_unmapped("chaos");
    assert_eq!(host.modules().len(), 1, "nothing is left of the old name");
}

#[test]
fn a_file_that_becomes_another_plugin_takes_the_first_one_out() {
    let host = TestHost::chaos();
    host.drop_in("chaos.so", &Library::chaos().named("chao1"));
    host.until_live("chao1", 1);
    host.until_module("the first one is unloaded", "chaos", |module| {
        module.state() == ModuleState::Unloaded
    });
    host.until_unmapped("chaos");
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "one answers");
}

#[test]
fn of_two_files_with_one_plugin_name_the_second_is_refused_until_the_first_is_gone() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().version(2))
        .start();
    let reason = host.until_refused("b.so");
    for word in ["\"chaos\"", "a.so", "b.so"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    let mut client = host.client();
    assert_eq!(client.emit("chaos:version", json!({}))["version"], "chaos-version-0001");
    fs::remove_file(host.file("a.so")).unwrap();
    let answer = || client.reply("chaos:version", json!({}))["data"]["version"].clone();
    until("the second takes its place", answer, |version| version == "chaos-version-0002");
    host.until_module("it is refused no more", "b.so", Value::is_null);
}

#[test]
fn the_second_of_two_files_with_one_plugin_name_takes_over_with_the_state_when_the_first_goes() {
    let host = TestHost::counter();
    let ((), answered) = under_load(&host, 2, || {
        host.drop_in("other.so", &Library::counter(2));
        assert!(host.until_refused("other.so").contains("this one takes its place"));
        fs::remove_file(host.file("counter.so")).unwrap();
        host.until_version("counter", "2.0.0");
    });
    assert!(answered > 2, "{answered} answers");
    assert_eq!(host.module("counter")["file"], host.file("other.so").to_str().unwrap());
    assert_eq!(host.modules().len(), 1, "nothing is left of the first file");
}

#[test]
fn a_folder_that_vanishes_and_comes_back_is_watched_again() {
    let host = TestHost::chaos();
    let mut client = host.client();
    let aside = host.dir().join("aside");
    for round in 0_usize..2 {
        fs::rename(host.plugins(), &aside).unwrap();
        host.until_module("its plugins are unloaded", "chaos", |module| {
            module.state() == ModuleState::Unloaded
        });
        assert_eq!(client.emit("system:health", json!({}))["status"], "healthy");
        fs::rename(&aside, host.plugins()).unwrap();
        host.until_module("they are loaded again", "chaos", |module| {
            module.state() == ModuleState::Live
        });
        host.drop_in("chaos.so", &Library::chaos().version(round + 2));
        let version = || client.emit("chaos:version", json!({}))["version"].clone();
        until("a change is seen", version, |version| {
            *version == format!("chaos-version-{:04}", round + 2)
        });
    }
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let builder = TestHost::builder();
    fs::remove_dir(builder.plugins()).unwrap();
    let host = builder.start();
    host.process.told("is not there yet");
    fs::create_dir(host.plugins()).unwrap();
    host.drop_in("chaos.so", &Library::chaos());
    host.until_live("chaos", 1);
}

#[test]
fn a_file_in_the_place_of_a_plugin_folder_is_told_once_with_what_to_do() {
    let builder = TestHost::builder();
    fs::remove_dir(builder.plugins()).unwrap();
    fs::write(builder.plugins(), "a plugin").unwrap();
    let host = builder.start();
    host.process.told("it is a file: name the folder that it lies in");
    let told = host.log_by_now();
    let of_it = told.lines().filter(|line| line.contains(host.plugins().to_str().unwrap()));
    assert_eq!(of_it.count(), 1, "{told}");
}
