//! What the process of a plugin may have and reach, as a user without rights sees it.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use ksi_wire::module::ModuleState;
use serde_json::{Value, json};

use super::{process, until_restarted};
use crate::kit::{HostBuilder, Library, States, TestHost, artifacts, error_of};

const NOBODY: u32 = 65534;

/// A host of a user without rights, whose chaos plugin has a process with these limits; none where
/// the tests cannot be somebody else.
fn limited(limits: &str) -> Option<HostBuilder> {
    let toml = format!("[isolation.plugins.chaos]\nmode = \"process\"\n{limits}");
    let builder = TestHost::builder().config(&toml).plugin("chaos.so", &Library::chaos());
    if !rustix::process::geteuid().is_root() {
        return Some(builder);
    }
    if let Err(error) = Command::new(artifacts().ksi()).arg("--version").uid(NOBODY).output() {
        eprintln!("SKIPPED: another user cannot run what was built here ({error})");
        return None;
    }
    Some(builder.user(NOBODY))
}

/// A file that everybody may read.
fn readable(at: &Path, text: &str) -> PathBuf {
    fs::write(at, text).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(0o644)).unwrap();
    at.to_owned()
}

/// What the plugin says of one try: what it found, or the error that it got.
fn reach(host: &TestHost, what: Value) -> Result<String, String> {
    let reply = host.client().reply("chaos:reach", what);
    match reply["data"].as_str() {
        Some(found) => Ok(found.to_owned()),
        None => Err(error_of(&reply).to_owned()),
    }
}

#[track_caller]
fn assert_refused(host: &TestHost, what: Value) {
    let error = reach(host, what.clone()).expect_err("it is refused");
    let words = ["Permission denied", "Operation not permitted"];
    assert!(words.iter().any(|word| error.contains(word)), "{what}: {error}");
}

fn echoes(host: &TestHost) {
    // What is longer goes in a file without a name.
    let long = "x".repeat(1_000_000);
    assert_eq!(host.client().emit("chaos:echo", json!(long)), json!(long));
}

#[test]
fn a_plugin_without_rights_reaches_what_is_listed_and_is_refused_the_rest_as_its_own_error() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [allowed, other] = listeners.each_ref().map(|it| it.local_addr().unwrap().port());
    let Some(builder) = limited(&format!(
        "profile = \"standard\"\nread = [\"given\"]\nwrite = [\"tmp/own\"]\nconnect = [{allowed}]\n\
         exec = [\"/usr/bin/id\"]\n"
    )) else {
        return;
    };
    let (given, outside) = (builder.dir().join("given"), builder.dir().join("outside"));
    readable(&given, "given");
    readable(&outside, "outside");
    let own = builder.temporary().join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    let host = builder.start();
    host.until_live("chaos", 1);
    echoes(&host);
    assert_eq!(reach(&host, json!({"read": given})), Ok("given".to_owned()));
    assert_refused(&host, json!({"read": outside}));
    assert_refused(&host, json!({"read": host.file("chaos.so")}));
    assert_eq!(reach(&host, json!({"write": own.join("a")})), Ok("written".to_owned()));
    assert_refused(&host, json!({"write": given}));
    assert_eq!(reach(&host, json!({"connect": allowed})), Ok("connected".to_owned()));
    assert_refused(&host, json!({"connect": other}));
    let said = reach(&host, json!({"run": "/usr/bin/id"})).unwrap();
    assert!(said.starts_with("uid="), "{said}");
    assert_refused(&host, json!({"run": "/usr/bin/env"}));
    let module = host.module("chaos");
    assert_eq!(module["residence"]["restarts"], 0, "nothing has ended it: {module}");
    assert_eq!(module["counts"]["failed"], 5, "{module}");
}

#[test]
fn a_plugin_in_a_strict_process_works_and_reaches_nothing_that_was_not_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(builder) = limited("profile = \"strict\"\nread = [\"given\"]\n") else { return };
    let (given, outside) = (builder.dir().join("given"), builder.dir().join("outside"));
    readable(&given, "given");
    readable(&outside, "outside");
    let host = builder.start();
    host.until_live("chaos", 1);
    echoes(&host);
    assert_eq!(reach(&host, json!({"read": given})), Ok("given".to_owned()));
    assert_refused(&host, json!({"read": outside}));
    assert_refused(&host, json!({"read": "/etc/hosts"}));
    assert_refused(&host, json!({"connect": listener.local_addr().unwrap().port()}));
    assert_refused(&host, json!({"run": "/usr/bin/id"}));
    let before = process(&host, "chaos");
    let mut client = host.client();
    let slept = client.emit("chaos:sleep", json!({"millis": 5}));
    assert_eq!(slept, "chaos-version-0001");
    assert_eq!(client.reply("chaos:crash", json!({"how": "abort"}))["data"]["code"], "crashed");
    until_restarted(&host, "chaos", 1);
    assert_ne!(process(&host, "chaos"), before);
    assert_refused(&host, json!({"read": outside}));
    host.drop_in("chaos.so", &Library::chaos().version(2));
    host.until_live("chaos", 2);
    assert_refused(&host, json!({"read": outside}));
}

#[test]
fn an_endless_allocation_ends_the_process_that_is_bounded_and_the_plugin_is_back() {
    let Some(builder) = limited("memory = \"512 MiB\"\n") else { return };
    let host = builder.start();
    let mut client = host.client();
    for restarts in 1..=2 {
        let reply = client.reply("chaos:crash", json!({"how": "memory"}));
        assert_eq!(reply["data"]["code"], "crashed", "{reply}");
        let error = error_of(&reply);
        assert!(error.contains("SIGABRT") && error.contains("memory allocation of"), "{error}");
        until_restarted(&host, "chaos", restarts);
        assert_eq!(client.emit("chaos:echo", json!(restarts)), restarts);
    }
}

#[test]
fn a_process_opens_no_more_files_than_it_may_and_goes_on() {
    let Some(builder) = limited("open_files = 64\n") else { return };
    let host = builder.start();
    host.until_live("chaos", 1);
    assert_eq!(reach(&host, json!({"open": 32})), Ok("32 open".to_owned()));
    let error = reach(&host, json!({"open": 64})).expect_err("those that it has count too");
    assert!(error.contains("Too many open files"), "{error}");
    assert_eq!(reach(&host, json!({"open": 32})), Ok("32 open".to_owned()));
    assert_eq!(host.module("chaos")["residence"]["restarts"], 0);
}

#[test]
fn what_the_kernel_lacks_is_told_and_keeps_a_plugin_from_starting_where_it_is_required() {
    // Which Unix sockets, the kernel tells apart since Linux 7.1.
    let limits = "profile = \"standard\"\nconnect = [\"./s2\"]\n";
    let Some(builder) = limited(&format!("{limits}require = true\n")) else { return };
    let _listener = UnixListener::bind(builder.dir().join("s2")).unwrap();
    let host = builder.start();
    if host.module("chaos").state() == ModuleState::Live {
        eprintln!("SKIPPED: this kernel lacks nothing that could be asked for");
        return;
    }
    let reason = host.until_refused("chaos.so");
    for words in ["which Unix sockets is not limited", "found landlock", "run a later kernel"] {
        assert!(reason.contains(words), "{words} is missing: {reason}");
    }
    drop(host);
    let Some(builder) = limited(limits) else { return };
    let _listener = UnixListener::bind(builder.dir().join("s2")).unwrap();
    let host = builder.start();
    host.until_live("chaos", 1);
    let told = host.process.told("which Unix sockets");
    let lacking = told.lines().find(|line| line.contains("which Unix sockets")).unwrap();
    assert!(lacking.contains("WARN") && lacking.contains("landlock 9 (Linux 7.1)"), "{lacking}");
}

#[test]
fn a_path_that_is_not_there_keeps_a_plugin_from_starting_with_its_name() {
    let Some(builder) = limited("profile = \"standard\"\nread = [\"nowhere\"]\n") else { return };
    let host = builder.start();
    let reason = host.until_refused("chaos.so");
    assert!(reason.contains("nowhere") && reason.contains("No such file"), "{reason}");
}

#[test]
fn the_host_does_nothing_in_the_name_of_a_limited_plugin_that_would_be_a_way_around() {
    let Some(builder) = limited("profile = \"strict\"\n") else { return };
    let host = builder.start();
    host.until_live("chaos", 1);
    let mut client = host.client();
    let of_chaos = json!({"module_name": "chaos"});
    for (event, data) in [
        ("module:unload", of_chaos.clone()),
        ("module:load", json!({"path": host.file("chaos.so")})),
        ("module:reload", of_chaos.clone()),
        ("module:rollback", of_chaos.clone()),
        ("module:state_restore", of_chaos.clone()),
        ("module:state_drop", of_chaos.clone()),
        ("config:reload", json!({})),
        ("system:disconnect", json!({"id": 1})),
        ("system:log", json!({"set": {"*": "off"}})),
        ("system:shutdown_request", json!({})),
    ] {
        let reply = client.reply("chaos:request", json!({"event": event, "data": data}));
        assert!(error_of(&reply).contains("changes what runs in the host"), "{event}: {reply}");
    }
    let asked = json!({"event": "module:inspect", "data": of_chaos});
    assert_eq!(client.emit("chaos:request", asked)["state"], "live");
}

#[test]
fn a_limited_plugin_that_runs_no_programs_starts_no_process_that_could_outlive_it() {
    for profile in ["standard", "strict"] {
        let Some(builder) = limited(&format!("profile = \"{profile}\"\n")) else { return };
        let host = builder.start();
        host.until_live("chaos", 1);
        let forked = host.client().emit("chaos:fork", json!({"session": true}));
        assert_eq!(forked["process"], -1, "{profile}");
        assert_eq!(host.client().emit("chaos:echo", json!(profile)), profile);
    }
}
