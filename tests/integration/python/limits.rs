//! What the process of a module may have and reach.

use super::*;

const PROBING: &str = r#"
import os
from ksi.events import event_handler


@event_handler("try:read")
async def read(data):
    with open(data["path"]) as file:
        return len(file.read())


@event_handler("try:fill")
async def fill(data):
    return len(bytearray(data["bytes"]))


@event_handler("try:run")
def run(data):
    return os.system("true")


@event_handler("try:fork")
def fork(data):
    return os.fork()
"#;

fn probing(limits: &str) -> TestHost {
    let config = format!("[isolation.plugins.probing]\n{limits}\n");
    module(TestHost::builder().config(&config), "probing.py", PROBING).start()
}

#[test]
fn memory_is_bounded_and_the_process_lives_on() {
    if !is_there() {
        return;
    }
    let host = probing("memory = '512 MiB'");
    let mut client = host.client();
    assert_eq!(client.emit("try:fill", json!({"bytes": 1000})), 1000);
    let pid = pid_of(&host, "probing");
    let reply = client.reply("try:fill", json!({"bytes": 1u64 << 30}));
    assert!(reply.to_string().contains("MemoryError"), "{reply}");
    assert_eq!(client.emit("try:fill", json!({"bytes": 1000})), 1000);
    assert_eq!(pid_of(&host, "probing"), pid);
}

#[test]
fn an_interpreter_of_a_virtual_environment_runs_under_a_profile() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut made = Command::new("python3");
    made.args(["-m", "venv", "--without-pip"]).arg(folder.path());
    assert!(made.status().unwrap().success());
    let python = folder.path().join("bin/python");
    let limits = format!("profile = 'strict'\n[python]\ninterpreter = '{}'", python.display());
    let host = probing(&limits);
    assert_eq!(host.client().emit("try:fill", json!({"bytes": 1000})), 1000);
}

#[test]
fn a_module_with_a_profile_reaches_what_it_was_given_and_runs_nothing() {
    if !is_there() {
        return;
    }
    for profile in ["standard", "strict"] {
        let given = tempfile::tempdir().unwrap();
        let (mine, other) = (given.path().join("mine"), given.path().join("other"));
        fs::write(&mine, "12345").unwrap();
        fs::write(&other, "12345").unwrap();
        let host = probing(&format!("profile = '{profile}'\nread = ['{}']", mine.display()));
        let mut client = host.client();
        assert_eq!(client.emit("try:read", json!({"path": mine})), 5, "{profile}");
        let reply = client.reply("try:read", json!({"path": other}));
        assert!(reply.to_string().contains("PermissionError"), "{profile}: {reply}");
        let reply = client.reply("try:fork", json!({}));
        assert!(reply.to_string().contains("PermissionError"), "{profile}: {reply}");
        assert_ne!(client.emit("try:run", json!({})), 0, "{profile}");
    }
}
