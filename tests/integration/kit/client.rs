//! A client of the control socket in plain std: lines out, lines in.

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead, BufReader, ErrorKind, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
};

use ksi_wire::{
    line::Request,
    monitor::{Subscribe, Subscribed},
};
use serde::Deserialize;
use serde_json::Value;

use super::PATIENCE;

/// One connection.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    pub(crate) stream: UnixStream,
    pushes: VecDeque<Value>,
    /// Replies that came while another one was awaited, by correlation id.
    replies: HashMap<String, Value>,
    requests: u64,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Client { reader, stream, pushes: VecDeque::new(), replies: HashMap::new(), requests: 0 }
    }

    /// Sends a line as it is.
    pub(crate) fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line as it is; `None` at the end of the connection.
    #[track_caller]
    pub(crate) fn raw(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line came: {error}"),
        }
    }

    /// The next line.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Value {
        serde_json::from_str(&self.raw().expect("a line, not the end")).unwrap()
    }

    /// Sends a line, and gives the next one that comes.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.read()
    }

    /// Sends an event, and gives the whole reply line. Pushes that come first are kept for
    /// [`push`](Self::push).
    #[track_caller]
    pub(crate) fn reply(&mut self, event: &str, data: Value) -> Value {
        let id = self.begin(event, data);
        self.end(&id)
    }

    /// Sends an event without waiting for the reply; [`end`](Self::end) does.
    pub(crate) fn begin(&mut self, event: &str, data: Value) -> String {
        self.requests += 1;
        let id = format!("request {}", self.requests);
        let request = Request { event, data, correlation_id: &*id };
        self.send(&serde_json::to_string(&request).unwrap());
        id
    }

    /// The reply to an event that was sent with this id.
    #[track_caller]
    pub(crate) fn end(&mut self, id: &str) -> Value {
        loop {
            if let Some(reply) = self.replies.remove(id) {
                return reply;
            }
            let line = self.read();
            match line["correlation_id"].as_str() {
                Some(id) => drop(self.replies.insert(id.to_owned(), line)),
                None => self.pushes.push_back(line),
            }
        }
    }

    /// Whether a reply came while another one was awaited, and was not asked for since.
    pub(crate) fn came(&self, id: &str) -> bool {
        self.replies.contains_key(id)
    }

    /// Sends an event that must succeed, and gives the data of its reply.
    #[track_caller]
    pub(crate) fn emit(&mut self, event: &str, data: Value) -> Value {
        let mut reply = self.reply(event, data);
        let well = reply.get("failed").is_none() && reply.get("errors").is_none();
        assert!(well, "{event} failed: {reply:#}");
        reply["data"].take()
    }

    /// Subscribes this connection.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, patterns: &[&str]) {
        let event_patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let asked = Subscribe { client_id: "test".to_owned(), event_patterns };
        let reply = self.emit("monitor:subscribe", serde_json::to_value(asked).unwrap());
        assert_eq!(Subscribed::deserialize(&reply).unwrap().status, "subscribed", "{reply}");
    }

    /// The next event that is pushed.
    #[track_caller]
    pub(crate) fn push(&mut self) -> Value {
        self.pushes.pop_front().unwrap_or_else(|| self.read())
    }

    /// The data of the next event of this name that is pushed; those before it are passed over.
    #[track_caller]
    pub(crate) fn push_of(&mut self, event: &str) -> Value {
        loop {
            let mut push = self.push();
            if push["event"] == event {
                return push["data"].take();
            }
        }
    }

    /// What is pushed until an event of this name came, by name.
    #[track_caller]
    pub(crate) fn pushes_until(&mut self, event: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|last| last != event) {
            names.push(self.push()["event"].as_str().expect("an event").to_owned());
        }
        names
    }

    /// Sends nothing more.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// The error of a reply line, wherever it stands.
#[track_caller]
pub(crate) fn error_of(reply: &Value) -> &str {
    let inside = reply["data"]["error"].as_str();
    inside.or(reply["error"].as_str()).unwrap_or_else(|| panic!("no error in {reply:#}"))
}
