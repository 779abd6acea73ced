use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Config, ConfigError};

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new("/etc/ksi"))
}

fn message(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn no_text_is_the_default() {
    assert_eq!(read("").expect("an empty file"), Config::default());
}

#[test]
fn every_kind_of_value_is_read() {
    let config = read(
        r#"
        [host]
        plugin_dirs = ["plugins", "/opt/ksi"]
        socket = "ksi.sock"
        [timeouts]
        handler = "1m 30s"
        stuck = "250ms"
        [limits]
        workers = 3
        [plugin.hello]
        greeting = "Hi"
        since = 2026-01-02T03:04:05Z
        [plugin.hello.inner]
        list = [1, 2.5, true]
        "#,
    )
    .expect("a good file");
    assert_eq!(config.plugin_dirs, [Path::new("/etc/ksi/plugins"), Path::new("/opt/ksi")]);
    assert_eq!(config.socket.as_deref(), Some(Path::new("/etc/ksi/ksi.sock")));
    assert_eq!(config.timeouts.handler, Duration::from_secs(90));
    assert_eq!(config.timeouts.stuck, Duration::from_millis(250));
    assert_eq!(config.timeouts.probe, Duration::from_secs(5));
    assert_eq!(config.limits.workers, 3);
    assert_eq!(
        config.plugins["hello"],
        json!({"greeting": "Hi", "since": "2026-01-02T03:04:05Z", "inner": {"list": [1, 2.5, true]}})
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_key_it_looks_like() {
    let text = message("[timeouts]\nhandlr = \"5s\"\n");
    assert!(text.contains("unknown field `handlr`"), "{text}");
    assert!(text.contains("line 2"), "{text}");
    assert!(text.ends_with("did you mean `handler`?"), "{text}");

    for text in ["[hosts]\n", "[host]\nplugins = []\n", "[limits]\nworker = 1\n", "port = 1\n"] {
        assert!(message(text).contains("unknown field"), "{text}");
    }
}

#[test]
fn a_key_that_looks_like_none_gets_no_suggestion() {
    let text = message("[limits]\nzzz = 1\n");
    assert!(!text.contains("did you mean"), "{text}");
}

#[test]
fn values_of_the_wrong_type_or_shape_are_refused_with_their_line() {
    let text = message("[timeouts]\n\nprobe = \"soon\"\n");
    assert!(text.contains("line 3") && text.contains("`soon` is no duration"), "{text}");
    for text in ["[limits]\nworkers = -1\n", "[timeouts]\nprobe = 5\n", "[plugin]\nx = 1\n", "a = "]
    {
        assert!(message(text).contains("line"), "{text}");
    }
}

#[test]
fn values_out_of_range_are_refused_with_key_and_range() {
    let text = message("[limits]\nconnections = 0\n");
    assert!(text.contains("`limits.connections` is 0, and must be from 1 to"), "{text}");
    let text = message("[timeouts]\ndrain = \"0s\"\n");
    assert!(text.contains("`timeouts.drain` is 0s, and must be above zero"), "{text}");
    assert!(message("[timeouts]\ninit = \"40 days\"\n").contains("timeouts.init"));
    assert!(message("[limits]\nqueued_events = 9000000000\n").contains("limits.queued_events"));
    read("[limits]\nworkers = 0\n").expect("the host chooses");
}

#[test]
fn an_empty_path_is_refused_and_not_taken_for_the_files_folder() {
    assert!(message("[host]\nsocket = \"\"\n").contains("`host.socket` is \"\""));
    assert!(message("[host]\nplugin_dirs = [\"a\", \"\"]\n").contains("host.plugin_dirs"));
}

#[test]
fn a_number_that_json_cannot_hold_is_refused_with_its_way() {
    let text = message("[plugin.a]\nb.c = [nan]\n");
    assert!(text.contains("`plugin.a.b.c` is NaN"), "{text}");
}

#[test]
fn a_program_cannot_hand_a_plugin_something_other_than_an_object() {
    let mut config = Config::default();
    config.plugins.insert("hello".into(), json!([1]));
    assert!(config.check().expect_err("a list").to_string().contains("hello"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.toml");
    let text = Config::from_file(&missing).expect_err("no file").to_string();
    assert!(text.contains(&missing.display().to_string()), "{text}");

    let long = folder.path().join("long.toml");
    std::fs::write(&long, "#".repeat((1 << 20) + 1)).expect("a file");
    assert!(matches!(Config::from_file(&long), Err(ConfigError::TooLong { .. })));
}

#[test]
fn paths_in_a_file_are_relative_to_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ksi.toml");
    std::fs::write(&path, "[host]\nsocket = \"s\"\n").expect("a file");
    let config = Config::from_file(&path).expect("a good file");
    assert_eq!(config.socket, Some(folder.path().join("s")));
}
