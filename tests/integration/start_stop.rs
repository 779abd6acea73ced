//! A host from its start to its end.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
};

use rustix::process::Signal;
use serde_json::json;

use crate::kit::{Library, Running, TestHost, ksi, ksi_command, until};

#[test]
fn the_ready_line_names_the_socket_and_the_folders() {
    let host = TestHost::builder().start();
    let (socket, plugins) = (host.socket(), host.plugins());
    let ready = format!("ready on {}, with plugins from {}", socket.display(), plugins.display());
    assert_eq!(host.ready, ready);
    assert_eq!(host.modules(), [] as [serde_json::Value; 0]);
}

#[test]
fn a_host_that_is_told_nothing_takes_plugins_from_a_folder_that_it_makes() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ksi_command(&["run", "--socket", "s"]);
    command.current_dir(dir.path()).env("TMPDIR", dir.path()).env("XDG_STATE_HOME", dir.path());
    let host = Running::start(&mut command);
    assert!(host.line().ends_with("with plugins from ksi-plugins"));
    assert!(dir.path().join("ksi-plugins").is_dir());
}

#[test]
fn what_is_in_the_folder_at_the_start_is_live_when_the_host_is_ready() {
    let host = TestHost::builder()
        .plugin("b.so", &Library::chaos())
        .plugin("a.so", &Library::chaos().named("chao1"))
        .plugin(".hidden.so", &Library::chaos().named("chao2"))
        .plugin("c.txt", &Library::chaos().named("chao3"))
        .start();
    let names: Vec<_> =
        host.modules().into_iter().map(|it| (it["name"].clone(), it["state"].clone())).collect();
    assert_eq!(names, [(json!("chao1"), json!("live")), (json!("chaos"), json!("live"))]);
}

#[test]
fn sigterm_and_ksi_stop_shut_the_plugins_down_in_reverse_order_and_exit_with_0() {
    for by_signal in [true, false] {
        let mut host = TestHost::builder()
            .plugin("a.so", &Library::chaos())
            .plugin("b.so", &Library::chaos().named("chao1"))
            .config("[plugin.chaos]\nlast_words = 'words:chaos'\n[plugin.chao1]\nlast_words = 'words:chao1'")
            .start();
        let mut watcher = host.client();
        watcher.subscribe(&["words:*", "system:shutdown"]);
        if by_signal {
            host.process.signal(Signal::TERM);
        } else {
            host.ksi(&["stop"]).ok();
            assert!(!host.socket().exists(), "the socket is gone when `ksi stop` returns");
        }
        assert_eq!(
            watcher.pushes_until("words:chaos"),
            ["system:shutdown", "words:chao1", "words:chaos"]
        );
        assert_eq!(watcher.raw(), None, "the connection ends with the host");
        assert_eq!(host.process.ended().code, Some(0));
        assert!(!host.socket().exists());
        assert_eq!(
            fs::read_dir(host.dir().join("tmp")).unwrap().count(),
            0,
            "its private copies are gone"
        );
    }
}

#[test]
fn a_plugin_whose_shutdown_fails_does_not_keep_the_host_from_an_orderly_end() {
    for how in ["panic", "hang", "block"] {
        let host = TestHost::builder()
            .plugin("chaos.so", &Library::chaos())
            .config("[timeouts]\nshutdown = '100ms'\n[plugin.chaos]\nshutdown_millis = 300")
            .config(&format!("shutdown = '{how}'"))
            .start();
        let ran = host.stop();
        assert_eq!(ran.code, Some(0), "{how}: {ran:#?}");
    }
}

#[test]
fn a_second_host_on_a_live_socket_refuses_to_start() {
    let host = TestHost::chaos();
    let dir = tempfile::tempdir().unwrap();
    let mut second = ksi_command(&["run", "--plugins"]);
    second.arg(dir.path()).arg("--socket").arg(host.socket()).env("TMPDIR", dir.path());
    let refused = Running::start(&mut second).ended().fails(1);
    assert!(refused.contains(host.socket().to_str().unwrap()), "{refused}");
    let way_out = format!("ksi --socket {} stop", host.socket().display());
    assert!(refused.contains(&way_out), "it says what to do: {refused}");
    let process = format!("(process {})", host.process.id());
    assert!(refused.contains(&process), "and which process it is: {refused}");
    assert_eq!(host.client().emit("chaos:echo", json!(1)), 1, "the first one goes on");
}

#[test]
fn a_stale_socket_is_replaced() {
    let builder = TestHost::builder();
    drop(UnixListener::bind(builder.socket()).unwrap());
    assert!(builder.socket().exists());
    let host = builder.start();
    assert_eq!(host.client().emit("system:health", json!({}))["status"], "healthy");
}

#[test]
fn what_a_crashed_host_left_behind_does_not_hinder_the_next_one() {
    let crashed = TestHost::chaos();
    assert_eq!(crashed.resources().libraries.len(), 1);
    let setup = crashed.crash();
    assert!(setup.socket().exists(), "a crash leaves the socket");
    let temporary = setup.temporary();
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1, "and the private copies");
    let host = setup.start();
    host.until_live("chaos", 1);
    let left = || fs::read_dir(&temporary).unwrap().count();
    until("only the new host's are there", left, |left| *left == 1);
}

#[test]
fn the_socket_is_closed_to_other_users() {
    let host = TestHost::builder().start();
    let file = fs::symlink_metadata(host.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unknown_key_of_the_configuration_is_named_and_the_known_one_suggested() {
    let builder = TestHost::builder().config("[timeouts]\nhander = '5s'");
    let refused = Running::start(&mut builder.command()).ended().fails(2);
    for word in ["hander", "handler", "ksi.toml"] {
        assert!(refused.contains(word), "{word} is missing: {refused}");
    }
}

#[test]
fn a_plugin_gets_its_own_table_of_the_configuration() {
    let host = TestHost::builder()
        .plugin("a.so", &Library::chaos())
        .plugin("b.so", &Library::chaos().named("chao1"))
        .plugin("c.so", &Library::chaos().named("chao2"))
        .config("[plugin.chaos]\nlabel = 'one'\n[plugin.chao2]\nlable = 'misspelt'")
        .start();
    let answers = host.client().emit("chaos:version", json!({}));
    let labels: Vec<_> = answers.as_array().unwrap().iter().map(|it| it["label"].clone()).collect();
    assert_eq!(labels, ["", "one"], "in the order of the plugins' names");
    let reason = host.until_refused("c.so");
    assert!(reason.contains("chao2") && reason.contains("lable"), "{reason}");
}

#[test]
fn a_configuration_whose_plugin_was_refused_is_not_called_one_for_an_unknown_plugin() {
    let host = TestHost::builder()
        .plugin("libchaos.so", &Library::chaos())
        .config("[plugin.chaos]\ninit_crash = 'abort'\n[plugin.chaso]\nlabel = 'misspelt'")
        .start();
    let file = host.file("libchaos.so").display().to_string();
    let refused =
        format!("plugin \"chaos\" has its configuration, and is not live: {file} was refused");
    host.process.told(&refused);
    host.process.told("configuration for plugin \"chaso\", and no such plugin");
    // The message of its trial says what can be done, and whether it is tried again.
    for words in ["`Harness`", "trial = false", "it is not tried again until it changes"] {
        host.process.told(words);
    }
    let log = host.log_by_now();
    assert!(!log.contains("configuration for plugin \"chaos\""), "{log}");
    let list = host.ksi(&["list"]).ok();
    let again = format!("not tried again until it changes or `ksi load {file}`");
    assert!(list.split_whitespace().collect::<Vec<_>>().join(" ").contains(&again), "{list}");
}

#[test]
fn the_flag_comes_before_the_environment_in_naming_the_socket() {
    let (named, other) = (TestHost::chaos(), TestHost::builder().start());
    let socket = named.socket();
    let list = ksi(&other.socket(), &["--socket", socket.to_str().unwrap(), "list"], "").ok();
    assert!(list.contains("chaos"), "{list}");
    assert!(!ksi(&other.socket(), &["list"], "").ok().contains("chaos"));
}
