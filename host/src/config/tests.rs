use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{AfterDrain, Config, ConfigError, ReloadOf, ReloadPolicy};

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

#[test]
fn what_a_replacement_keeps_and_retries_is_read_with_the_defaults_around_it() {
    let config = read(
        r#"
        [timeouts]
        hold = "2s"
        [limits]
        held_events = 10
        [reload]
        after_drain = "keep"
        margin = 1
        kept_versions = 0
        [reload.plugins.billing-2]
        drain = "2m"
        probation = "0s"
        [state]
        persist = false
        interval = "1m"
        [recovery]
        attempts = 0
        longest = "1s"
        [metrics]
        interval = "500ms"
        "#,
    )
    .expect("a good file");
    assert_eq!(config.timeouts.hold, Duration::from_secs(2));
    assert_eq!(config.limits.held_events, 10);
    assert_eq!(config.reload.after_drain, AfterDrain::Keep);
    assert_eq!((config.reload.margin, config.reload.min_calls), (1.0, 10));
    assert_eq!(config.reload.kept_versions, 0);
    let of_billing = ReloadOf {
        drain: Some(Duration::from_secs(120)),
        probation: Some(Duration::ZERO),
        ..ReloadOf::default()
    };
    assert_eq!(config.reload.plugins["billing-2"], of_billing);
    assert_eq!((config.state.persist, config.state.dir), (false, None));
    assert_eq!(config.state.interval, Duration::from_secs(60));
    assert_eq!((config.recovery.attempts, config.recovery.first), (0, Duration::from_secs(1)));
    assert_eq!(config.metrics.interval, Duration::from_millis(500));
}

#[test]
fn a_plugin_is_replaced_as_all_are_save_for_what_its_own_table_says() {
    let config = read(
        r#"
        [timeouts]
        drain = "7s"
        [reload]
        margin = 0.2
        [reload.plugins.slow]
        drain = "2m"
        hold = "1s"
        after_drain = "keep"
        probation = "1h"
        margin = 0.5
        min_calls = 3
        exclusive = true
        trial = false
        [reload.plugins.strict]
        margin = 0.0
        "#,
    )
    .expect("a good file");
    let usual = ReloadPolicy {
        drain: Duration::from_secs(7),
        hold: Duration::from_secs(5),
        after_drain: AfterDrain::Cancel,
        probation: Duration::from_secs(30),
        margin: 0.2,
        min_calls: 10,
        exclusive: false,
        trial: true,
    };
    let slow = ReloadPolicy {
        drain: Duration::from_secs(120),
        hold: Duration::from_secs(1),
        after_drain: AfterDrain::Keep,
        probation: Duration::from_secs(3600),
        margin: 0.5,
        min_calls: 3,
        exclusive: true,
        trial: false,
    };
    assert_eq!(config.reload_policy("anybody"), usual);
    assert_eq!(config.reload_policy("slow"), slow);
    assert_eq!(config.reload_policy("strict"), ReloadPolicy { margin: 0.0, ..usual });
}

#[test]
fn each_key_of_the_newer_tables_is_named_when_it_is_out_of_range() {
    for (table, line, key) in [
        ("timeouts", "hold = \"0s\"", "timeouts.hold"),
        ("limits", "held_events = 0", "limits.held_events"),
        ("limits", "held_events = 1048577", "limits.held_events"),
        ("reload", "probation = \"31 days\"", "reload.probation"),
        ("reload", "margin = 1.1", "reload.margin"),
        ("reload", "margin = -0.1", "reload.margin"),
        ("reload", "margin = nan", "reload.margin"),
        ("reload", "min_calls = 0", "reload.min_calls"),
        ("reload", "kept_versions = 17", "reload.kept_versions"),
        ("reload.plugins.a", "drain = \"0s\"", "reload.plugins.a.drain"),
        ("reload.plugins.a", "hold = \"31 days\"", "reload.plugins.a.hold"),
        ("reload.plugins.a", "probation = \"31 days\"", "reload.plugins.a.probation"),
        ("reload.plugins.a", "margin = inf", "reload.plugins.a.margin"),
        ("reload.plugins.a", "min_calls = 0", "reload.plugins.a.min_calls"),
        ("state", "interval = \"0s\"", "state.interval"),
        ("recovery", "first = \"0s\"", "recovery.first"),
        ("recovery", "longest = \"31 days\"", "recovery.longest"),
        ("recovery", "attempts = 4000000000", "recovery.attempts"),
        ("recovery", "after_rollback = \"0s\"", "recovery.after_rollback"),
        ("metrics", "interval = \"0s\"", "metrics.interval"),
        ("recorder", "slow = \"0s\"", "recorder.slow"),
        ("recorder", "calls = 4000000", "recorder.calls"),
    ] {
        let text = message(&format!("[{table}]\n{line}\n"));
        assert!(text.contains(&format!("`{key}` is ")), "{line}: {text}");
        assert!(text.contains("must be"), "{text}");
    }
    let text = message("[recovery]\nfirst = \"10m\"\n");
    assert!(
        text.contains("`recovery.first` is 10m, and must be at most recovery.longest"),
        "{text}"
    );
}

#[test]
fn an_unknown_key_of_the_newer_tables_is_named() {
    for (text, key) in [
        ("[reload]\nmargins = 1\n", "margins"),
        ("[reload.plugins.a]\nkept_versions = 1\n", "kept_versions"),
        ("[state]\ndirs = \"x\"\n", "dirs"),
        ("[recovery]\nattempt = 1\n", "attempt"),
        ("[metrics]\nevery = \"1s\"\n", "every"),
        ("[recorder]\ncall = 1\n", "call"),
    ] {
        let text = message(text);
        assert!(text.contains(&format!("unknown field `{key}`")), "{text}");
    }
    let text = message("[reload]\nafter_drain = \"wait\"\n");
    assert!(text.contains("`wait`") && text.contains("`cancel` or `keep`"), "{text}");
}

#[test]
fn a_table_for_a_name_that_no_plugin_can_have_is_refused() {
    for name in ["\"a b\"", "\"\"", "\"-a\"", "\"a.b\"", &"x".repeat(65)] {
        let text = message(&format!("[reload.plugins.{name}]\n"));
        assert!(text.contains("names no plugin"), "{text}");
    }
    read("[reload.plugins.9-of_Ten]\n").expect("a plugin's name");
}

#[test]
fn the_folder_of_the_state_is_relative_to_the_file_and_never_empty() {
    let dir = |text: &str| read(text).expect("a good file").state.dir;
    assert_eq!(dir("[state]\ndir = \"s\"\n").as_deref(), Some(Path::new("/etc/ksi/s")));
    assert_eq!(dir("[state]\ndir = \"/var/s\"\n").as_deref(), Some(Path::new("/var/s")));
    assert!(message("[state]\ndir = \"\"\n").contains("`state.dir` is \"\""));
    let mut config = Config::default();
    config.state.dir = Some("".into());
    assert!(config.check().expect_err("no path").to_string().contains("state.dir"));
}
