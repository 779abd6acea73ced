//! A client of HTTP/1.1 in plain std.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use ksi_harness::Harness;
use ksi_plugin_api::Value;

/// What a request was answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        self.body.parse().unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&start))
    }

    /// As soon as all of it is there.
    fn of(read: &[u8]) -> Option<Answer> {
        let text = String::from_utf8_lossy(read);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let answer = Answer { status, head, body: body.to_owned() };
        let length: usize = answer.header("content-length").map_or(0, |it| it.parse().unwrap());
        (body.len() >= length).then_some(answer)
    }
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// A request with headers, each ended by a line break, and a body.
pub(super) fn ask(stream: &mut TcpStream, line: &str, headers: &str, body: &str) {
    let length = body.len();
    let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
    let text = format!("{line} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
}

/// The answer. The host of a harness does its work on this thread, between reads.
#[track_caller]
pub(super) fn answer(http: &Harness, stream: &mut TcpStream) -> Answer {
    let mut read = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let found = loop {
        http.emitted();
        let mut some = [0; 4_096];
        match stream.read(&mut some) {
            Ok(0) => panic!("it is closed behind {:?}", String::from_utf8_lossy(&read)),
            Ok(count) => read.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        if let Some(answer) = Answer::of(&read) {
            break answer;
        }
    };
    stream.set_nonblocking(false).unwrap();
    found
}

#[track_caller]
pub(super) fn asked(
    http: &Harness,
    stream: &mut TcpStream,
    line: &str,
    headers: &str,
    body: &str,
) -> Answer {
    ask(stream, line, headers, body);
    answer(http, stream)
}

/// Asks for nothing that there is, which needs nothing of the host's.
#[track_caller]
pub(super) fn not_found(stream: &mut (impl Read + Write)) -> std::io::Result<Answer> {
    stream.write_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut read = Vec::new();
    loop {
        let mut some = [0; 4_096];
        match stream.read(&mut some)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&some[..count]),
        }
        if let Some(answer) = Answer::of(&read) {
            assert_eq!(answer.status, 404, "{answer:?}");
            return Ok(answer);
        }
    }
}

/// Reads on until there is such a text; all that was read since the last time.
#[track_caller]
pub(super) fn read_until(http: &Harness, stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let all = loop {
        http.emitted();
        let mut some = [0; 4_096];
        match stream.read(&mut some) {
            Ok(0) => panic!("it is closed behind {:?}", String::from_utf8_lossy(&read)),
            Ok(count) => read.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        let all = String::from_utf8_lossy(&read);
        if all.contains(text) {
            break all.into_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no {text} in {all}");
    };
    stream.set_nonblocking(false).unwrap();
    all
}
