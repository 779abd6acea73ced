//! What modules need beside themselves.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::*;

/// Makes a wheel in a folder.
const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/tiny_words-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny_words.py", "WORD = 'installed'\n")
    info = "tiny_words-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "")
"#;

fn python(arguments: &[&str]) -> bool {
    let mut command = Command::new("python3");
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A module that needs this package, and says a word of it.
fn needing(event: &str, package: &str, name: &str) -> String {
    format!(
        "# /// script\n# dependencies = [{package:?}]\n# ///\n\
         from ksi.events import event_handler\nimport {name}\n\
         @event_handler('{event}')\nasync def say(data):\n    return {name}.WORD\n"
    )
}

#[test]
fn packages_that_are_not_there_are_told_with_the_command_and_used_once_they_are() {
    if !is_there() {
        return;
    }
    let text = needing("needy:say", "no-such-ksi-package", "no_such_ksi_package");
    let host = module(TestHost::builder(), "needy.py", &text).start();
    let error = host.until_refused("needy.py");
    assert!(error.contains("it needs no-such-ksi-package"), "{error}");
    let target = error.split("--target ").nth(1).unwrap().split(' ').next().unwrap();
    fs::create_dir_all(target).unwrap();
    fs::write(Path::new(target).join("no_such_ksi_package.py"), "WORD = 'here'\n").unwrap();
    // Whoever has begun it has not said that it is complete.
    let load = || host.ksi(&["load", host.file("needy.py").to_str().unwrap()]);
    load().fails(1);
    let last = error.split(" && ").nth(1).unwrap().split('`').next().unwrap();
    assert!(last.starts_with("touch "), "{error}");
    fs::write(last.trim_start_matches("touch "), "").unwrap();
    load().ok();
    assert_eq!(host.client().emit("needy:say", json!({})), "here");
}

/// In place of `uv`: waits until there is the file `go` beside it, and installs `slow_words`. The
/// test's folder of programs, which is `PATH` with those of the system. Its process's number is in
/// the file `pid`.
fn slow_installer(folder: &Path) -> String {
    let installer = folder.join("uv");
    let text = "#!/bin/sh\n\
        while [ \"$1\" != --target ]; do shift; done\n\
        echo $$ > \"$(dirname \"$0\")/pid\"\n\
        until [ -e \"$(dirname \"$0\")/go\" ]; do sleep 0.05; done\n\
        mkdir -p \"$2\" && echo \"WORD = 'late'\" > \"$2/slow_words.py\"\n";
    fs::write(&installer, text).unwrap();
    fs::set_permissions(&installer, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn installing_holds_up_neither_the_start_nor_other_plugins() {
    if !is_there() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let path = slow_installer(programs.path());
    // Twice as many as are copied at a time, each with a set of its own.
    let slow: Vec<_> = (0..4 * std::thread::available_parallelism().unwrap().get())
        .map(|number| (format!("a{number}.py"), format!("slow-words>={number}"), number))
        .collect();
    let mut builder = TestHost::builder().config("[python]\ninstall = 'uv'\n");
    for (file, package, number) in &slow {
        let text = needing(&format!("slow:say{number}"), package, "slow_words");
        builder = module(builder, file, &text);
    }
    let builder = module(builder, "store.py", &store(1));
    let mut command = builder.command();
    let host = builder.start_by(command.env("PATH", path));
    set(&host, "a", 7);
    save(&host, "store.py", &store(2));
    host.until_version("store", "2");
    assert_eq!(get(&host, "a"), json!({"value": 7, "of": "2"}));
    assert_eq!(host.modules().len(), 1);
    fs::write(programs.path().join("go"), "").unwrap();
    for (file, _, number) in &slow {
        host.until_live(file.trim_end_matches(".py"), 1);
        assert_eq!(host.client().emit(&format!("slow:say{number}"), json!({})), "late");
    }
}

#[test]
fn a_host_that_stops_waits_for_no_installer() {
    if !is_there() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let path = slow_installer(programs.path());
    let builder = TestHost::builder().config("[python]\ninstall = 'uv'\n");
    let text = needing("slow:say", "slow-words", "slow_words");
    let builder = module(module(builder, "slow.py", &text), "store.py", &store(1));
    let mut command = builder.command();
    let host = builder.start_by(command.env("PATH", path));
    set(&host, "a", 7);
    let told = host.stop();
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(!told.stderr.contains("was not installed"), "{}", told.stderr);
}

#[test]
fn an_installer_ends_with_its_host_and_the_next_one_installs_anew() {
    if !is_there() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let path = slow_installer(programs.path());
    let builder = TestHost::builder().config("[python]\ninstall = 'uv'\n");
    let builder = module(builder, "slow.py", &needing("slow:say", "slow-words", "slow_words"));
    let mut command = builder.command();
    let host = builder.start_by(command.env("PATH", &path));
    let pid = || fs::read_to_string(programs.path().join("pid")).unwrap_or_default();
    let pid = until("it installs", pid, |pid| pid.ends_with('\n'));
    let builder = host.crash();
    // Of one that nobody has waited for, nothing but its number is there.
    let line = || fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    let runs = || !line().is_empty();
    until("the installer has ended", runs, |runs| !runs);
    fs::write(programs.path().join("go"), "").unwrap();
    let mut command = builder.command();
    let host = builder.start_by(command.env("PATH", &path));
    host.until_live("slow", 1);
    assert_eq!(host.client().emit("slow:say", json!({})), "late");
}

#[test]
fn packages_are_installed_once_for_all_that_need_the_same_and_what_fails_is_told() {
    if is_there() && python(&["-m", "pip", "--version"]) {
        are_installed_once("pip", &std::env::var("PATH").unwrap());
    }
}

/// Where uv is: that of the folder in which CI has it, or one of `PATH`. With
/// `KSI_TEST_PYTHON=required` it is a failure that there is none.
fn uv() -> Option<PathBuf> {
    let own = workspace().join("target/python/bin/uv");
    let paths = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("uv"))
        .collect::<Vec<_>>();
    let is_uv = |program: &PathBuf| {
        let asked = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = [own].into_iter().chain(paths).find(is_uv);
    if found.is_none() {
        const MISSING: &str = "there is no uv: python3 -m venv target/python && \
                               target/python/bin/python -m pip install uv";
        assert!(std::env::var_os("KSI_TEST_PYTHON").is_none_or(|it| it != "required"), "{MISSING}");
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr().lock(), "a test was left out: {MISSING}");
    }
    found
}

#[test]
fn uv_installs_the_same() {
    if !is_there() {
        return;
    }
    let Some(uv) = uv() else { return };
    // Nothing else of the folder that it lies in.
    let programs = tempfile::tempdir().unwrap();
    symlink(uv, programs.path().join("uv")).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    are_installed_once("uv", &path);
}

#[track_caller]
fn are_installed_once(installer: &str, programs: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(python(&["-c", WHEEL, path]));
    let package = format!("tiny-words @ file://{path}/tiny_words-1.0-py3-none-any.whl");
    let builder = TestHost::builder().config(&format!("[python]\ninstall = '{installer}'\n"));
    let builder = module(builder, "a.py", &needing("a:say", &package, "tiny_words"));
    let builder = module(builder, "b.py", &needing("b:say", &package, "tiny_words"));
    let mut command = builder.command();
    let host = builder.start_by(command.env("PATH", programs));
    let mut client = host.client();
    // The host was ready without them.
    for name in ["a", "b"] {
        host.until_live(name, 1);
    }
    assert_eq!(client.emit("a:say", json!({})), "installed");
    assert_eq!(client.emit("b:say", json!({})), "installed");
    let missing = format!("gone @ file://{path}/gone-1.0-py3-none-any.whl");
    save(&host, "a.py", &needing("a:say", &missing, "gone"));
    let module = host.until_module("it is refused", "a", |module| !module["last_error"].is_null());
    let error = module["last_error"].as_str().unwrap();
    assert!(error.contains("was not installed by") && error.contains("exit status"), "{error}");
    assert_eq!(client.emit("a:say", json!({})), "installed");
    let told = host.stop().stderr;
    assert_eq!(told.matches("installing what it needs: ").count(), 2, "{told}");
}
