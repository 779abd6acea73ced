//! What shells have of `ksi`: completions, and pages of the manual.

use std::{path::Path, process::Command, time::Instant};

use crate::kit::{Library, TestHost, ksi, ksi_command};

/// What the shell is told when somebody presses the key behind these words.
fn completed(words: &[&str], change: impl FnOnce(&mut Command)) -> Vec<String> {
    let mut command = ksi_command(&["--", "ksi"]);
    command.args(words).env("KSI_COMPLETE", "bash");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
    command.env("_CLAP_IFS", "\n");
    change(&mut command);
    let ran = command.output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    // What any command may have, its options, is completed as well.
    let completed = String::from_utf8(ran.stdout).unwrap();
    completed.lines().filter(|it| !it.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn plugins_events_and_keys_are_completed_as_the_running_host_has_them() {
    let host = TestHost::builder()
        .plugin("chaos.so", &Library::chaos())
        .plugin("counter.so", &Library::counter(1))
        .start();
    let socket = host.socket();
    let here = |words: &[&str]| {
        completed(words, |command| {
            command.env("KSI_SOCKET", &socket);
        })
    };
    assert_eq!(here(&["reload", ""]), ["chaos", "counter"]);
    assert_eq!(here(&["reload", "co"]), ["counter"]);
    assert_eq!(here(&["emit", "chaos:ver"]), ["chaos:version"]);
    assert!(here(&["config", "show", "limits.w"]).contains(&"limits.workers".to_owned()));
    // By the line itself, too.
    let named = completed(&["--socket", socket.to_str().unwrap(), "unload", "ch"], |_| ());
    assert_eq!(named, ["chaos"]);
    // What is not the host's needs none.
    assert!(completed(&["rel"], |_| ()).contains(&"reload".to_owned()));
}

#[test]
fn where_no_host_is_nothing_is_completed_and_nothing_said() {
    let start = Instant::now();
    let none = completed(&["reload", ""], |command| {
        command.env("KSI_SOCKET", "/none/s");
    });
    assert!(none.is_empty(), "{none:?}");
    // One that listens and says nothing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let none = completed(&["reload", ""], |command| {
        command.env("KSI_SOCKET", &path);
    });
    assert!(none.is_empty(), "{none:?}");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn every_shell_gets_a_script_that_asks_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ksi(Path::new("/none"), &["completions", shell], "").ok();
        assert!(script.contains("KSI_COMPLETE") && script.contains("ksi"), "{script}");
    }
    assert!(ksi(Path::new("/none"), &["completions", "csh"], "").fails(2).contains("csh"));
}

#[test]
fn in_bash_a_name_with_a_colon_is_completed_as_one_word() {
    let host = TestHost::chaos();
    let program = ksi_command(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().unwrap().to_owned();
    let script =
        "source <(ksi completions bash); COMP_WORDS=(ksi emit chaos : ver) COMP_CWORD=4 COMP_TYPE=9
                  _ksi ksi ver :; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).env("KSI_SOCKET", host.socket());
    bash.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    let ran = bash.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "version\n", "{ran:?}");
}
