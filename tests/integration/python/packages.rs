//! What modules need beside themselves.

use std::path::Path;

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
    host.ksi(&["load", host.file("needy.py").to_str().unwrap()]).ok();
    assert_eq!(host.client().emit("needy:say", json!({})), "here");
}

#[test]
fn packages_are_installed_once_for_all_that_need_the_same_and_what_fails_is_told() {
    if !is_there() || !python(&["-m", "pip", "--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(python(&["-c", WHEEL, path]));
    let package = format!("tiny-words @ file://{path}/tiny_words-1.0-py3-none-any.whl");
    let builder = TestHost::builder().config("[python]\ninstall = 'pip'\n");
    let builder = module(builder, "a.py", &needing("a:say", &package, "tiny_words"));
    let host = module(builder, "b.py", &needing("b:say", &package, "tiny_words")).start();
    let mut client = host.client();
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
