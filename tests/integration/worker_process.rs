//! The process of a plugin by itself: `ksi`, started as a host starts it, with a real library, and
//! a test at the other end of its socket.

use std::{
    io::Read,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use ksi_worker_protocol::{
    Attributes, Batch, Call, Event, FromHost, FromWorker, Inbox, Payload, ReplyForm, life::Open,
    transport,
};
use serde_json::{Value, json};

use crate::kit::{Library, PATIENCE, artifacts, until};

struct Worker {
    child: Child,
    socket: Option<OwnedFd>,
    inbox: Inbox,
    next: u64,
    handlers: Vec<String>,
    folder: tempfile::TempDir,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    fn start() -> Self {
        let (socket, theirs) = transport::pair().unwrap();
        let which = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&socket, which, Some(PATIENCE)).unwrap();
        let mut command = Command::new(artifacts().ksi());
        command
            .arg("__ksi-worker")
            .stdin(Stdio::from(theirs))
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn().unwrap();
        drop(command);
        let folder = tempfile::tempdir().unwrap();
        let (inbox, next, handlers) = (Inbox::new(), 0, Vec::new());
        let mut worker = Worker { child, socket: Some(socket), inbox, next, handlers, folder };
        assert!(worker.read().starts_with("Hello"));
        worker
    }

    /// With an instance of the plugin that misbehaves when it is told to.
    fn live(sandbox: Value) -> Self {
        let mut worker = Worker::start();
        let Library(bytes) = Library::chaos();
        let path: PathBuf = worker.folder.path().join("chaos.so");
        std::fs::write(&path, &bytes).unwrap();
        let open = Open {
            plugin: "chaos".to_owned(),
            path: path.into_os_string().into_encoded_bytes(),
            header: text_behind(&bytes, "\"header\":\""),
            file: b"/from/here.so".to_vec(),
            level: 3,
            sandbox,
            ..Open::default()
        };
        worker.send(FromHost::Open(Payload::Bytes(&open.to_json())));
        let opened = worker.read();
        let description = opened.strip_prefix("Opened ").unwrap_or_else(|| panic!("{opened}"));
        let description: Value = serde_json::from_str(description).unwrap();
        let handlers = description["handlers"].as_array().unwrap().iter();
        worker.handlers = handlers.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        worker.send(FromHost::Create(Payload::Bytes(b"{}")));
        assert_eq!(worker.read(), "Created");
        worker
    }

    fn send(&mut self, frame: FromHost<'_>) {
        self.next += 1;
        let mut batch = Batch::new();
        frame.put(self.next, &mut batch).unwrap();
        transport::send(self.socket.as_ref().unwrap(), &mut batch).unwrap();
    }

    fn call(&mut self, handler: &str, payload: &Value) {
        let number = self.handlers.iter().position(|it| it == handler).unwrap();
        let payload = payload.to_string();
        let event = Event {
            id: 1,
            parent: 0,
            root: 1,
            timestamp: 1,
            depth: 0,
            name: "chaos:any",
            source: "",
            attributes: Attributes::default(),
            payload: Payload::from(payload.as_str()),
        };
        let (handler, form, blocking) = (number as u64, ReplyForm::Json, false);
        self.send(FromHost::Call(Call { handler, form, blocking, nanoseconds_left: 0, event }));
    }

    /// What it says next, but for lines of its log.
    fn read(&mut self) -> String {
        loop {
            while let Some(frame) = self.inbox.next().unwrap() {
                let text = |it: Payload<'_>| it.into_text(u64::MAX).unwrap();
                return match FromWorker::read(frame).unwrap() {
                    FromWorker::Opened(it) => format!("Opened {}", text(it)),
                    FromWorker::Reply { reply, .. } => format!("Reply {}", text(reply)),
                    FromWorker::Failed { code, message, .. } => {
                        format!("Failed {code}: {}", text(message))
                    }
                    FromWorker::Log(_) | FromWorker::Stats(_) => continue,
                    other => format!("{other:?}"),
                };
            }
            let socket = self.socket.as_ref().unwrap();
            let count = transport::receive(socket, &mut self.inbox).expect("it says something");
            assert!(count > 0, "it has ended: {}", self.last_words());
        }
    }

    fn last_words(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn ended(&mut self) -> ExitStatus {
        let ended = || self.child.try_wait().unwrap();
        until("its process has ended", ended, Option::is_some).unwrap()
    }
}

fn text_behind(bytes: &[u8], mark: &str) -> String {
    let at = bytes.windows(mark.len()).position(|it| it == mark.as_bytes()).unwrap();
    let text = bytes[at + mark.len()..].iter().take_while(|it| **it != b'"');
    String::from_utf8(text.copied().collect()).unwrap()
}

#[test]
fn a_library_is_opened_described_and_called_in_a_process_of_its_own() {
    let mut worker = Worker::live(Value::Null);
    worker.call("echo", &json!({"a": [1, 2]}));
    assert_eq!(worker.read(), r#"Reply {"a":[1,2]}"#);
    worker.call("file", &json!({}));
    assert_eq!(worker.read(), r#"Reply {"at_start":"/from/here.so","now":"/from/here.so"}"#);
    worker.call("sleep", &json!({"millis": 1}));
    assert!(worker.read().starts_with("Reply \"chaos-version-"));
    worker.call("big", &json!({"count": 1_000_000}));
    assert!(worker.read().len() > 1_000_000);
    worker.send(FromHost::Shutdown);
    assert_eq!(worker.read(), "Bye");
    assert_eq!(worker.ended().code(), Some(0));
}

#[test]
fn a_process_that_is_limited_still_serves_its_plugin() {
    for profile in ["standard", "strict"] {
        let mut worker = Worker::live(json!({"profile": profile, "read": ["/tmp"]}));
        worker.call("sleep", &json!({"millis": 1}));
        assert!(worker.read().starts_with("Reply "), "{profile}");
        worker.call("big", &json!({"count": 1_000_000}));
        assert!(worker.read().len() > 1_000_000, "{profile}");
        worker.send(FromHost::Ping);
        assert_eq!(worker.read(), "Pong", "{profile}");
        worker.send(FromHost::Shutdown);
        assert_eq!(worker.read(), "Bye", "{profile}");
        assert_eq!(worker.ended().code(), Some(0), "{profile}");
    }
}

#[test]
fn it_ends_when_its_socket_does_whatever_its_plugin_is_doing() {
    let mut worker = Worker::live(Value::Null);
    worker.call("block", &json!({"millis": 60_000}));
    worker.send(FromHost::Ping);
    assert_eq!(worker.read(), "Pong");
    worker.socket = None;
    let status = worker.ended();
    assert!(!status.success());
}

#[test]
fn it_dies_of_what_its_plugin_does_and_of_nothing_else() {
    let mut worker = Worker::live(Value::Null);
    worker.call("panic", &json!({}));
    assert!(worker.read().starts_with("Panicked"));
    worker.call("crash", &json!({"how": "abort"}));
    assert_eq!(worker.ended().signal(), Some(6));
}

#[test]
fn what_cannot_be_opened_is_told_with_its_cause() {
    let mut worker = Worker::start();
    let open = Open {
        plugin: "none".to_owned(),
        path: b"/nowhere/none.so".to_vec(),
        header: "none".to_owned(),
        ..Open::default()
    };
    worker.send(FromHost::Open(Payload::Bytes(&open.to_json())));
    let failed = worker.read();
    assert!(failed.contains("/nowhere/none.so") && failed.contains("No such file"), "{failed}");
}
