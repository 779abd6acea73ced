//! A client of the control socket: one connection, one request at a time, and the events the host
//! pushes.
//!
//! Blocking, because a command has one thing to wait for and should start at once. Knows the wire,
//! and no event's meaning.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ksi_host::{SocketPath, SocketPathError};
use ksi_wire::line::Request;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lines::Lines;
use super::progress::Progress;
use super::reply::{NoReply, Reply};

/// How long a question that the host answers by itself may take.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// How long replacing or stopping plugins may take: probe, init and drain, with the limits a
/// configuration may set.
pub(crate) const PATIENT: Duration = Duration::from_secs(300);

pub(crate) struct Client {
    stream: UnixStream,
    lines: Lines,
    path: PathBuf,
    requests: u64,
    /// Pushes that came while a reply was awaited.
    pushes: VecDeque<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no host is listening on {} ({source}): start one with `ksi run`, or say where it is with --socket or KSI_SOCKET, or with the --config that it was started with", path.display())]
    NoHost { path: PathBuf, source: io::Error },
    #[error("cannot connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot send to the host on {}: {source}", path.display())]
    Send { path: PathBuf, source: io::Error },
    #[error("cannot read from the host on {}: {source}", path.display())]
    Receive { path: PathBuf, source: io::Error },
    #[error("the host on {} did not answer within {}; what was asked of it may still happen", path.display(), humantime::format_duration(*after))]
    TimedOut { path: PathBuf, after: Duration },
    #[error("the host on {} closed the connection before it answered", path.display())]
    HungUp { path: PathBuf },
    #[error(transparent)]
    Reply(#[from] NoReply),
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// What was asked has failed, or has no one answer that is understood: a line for each reason.
    #[error("{}", .0.join("\n"))]
    Answer(Vec<String>),
}

impl Client {
    pub(crate) fn connect(socket: &SocketPath) -> Result<Self, ClientError> {
        socket.check()?;
        let path = socket.path().to_owned();
        match UnixStream::connect(&path).and_then(|stream| Self::over(stream, &path)) {
            Ok(client) => Ok(client),
            Err(source) => Err(match source.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                    ClientError::NoHost { path, source }
                }
                _ => ClientError::Connect { path, source },
            }),
        }
    }

    fn over(stream: UnixStream, path: &Path) -> io::Result<Self> {
        let lines = Lines::new(stream.try_clone()?);
        Ok(Self { stream, lines, path: path.to_owned(), requests: 0, pushes: VecDeque::new() })
    }

    /// Sends one event and waits for what its handlers answer.
    pub(crate) fn request(
        &mut self,
        event: &str,
        data: &RawValue,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + timeout;
        let _told = (timeout > SOON).then(|| Progress::of(&format!("waiting for {event}")));
        self.requests += 1;
        let id = format!("ksi-{}", self.requests);
        // A payload may be spread over lines, which would end the request early; outside of
        // strings, where JSON has no line breaks, a space means the same.
        let request = Request { event, data, correlation_id: &*id };
        let text = serde_json::to_string(&request).map_err(|error| self.unsent(error.into()))?;
        let mut line = text.replace(['\n', '\r'], " ");
        line.push('\n');
        let sent = self
            .stream
            .set_write_timeout(Some(timeout))
            .and_then(|()| self.stream.write_all(line.as_bytes()));
        match sent {
            // A host that refuses a request half-way hangs up, and has said why before.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(self.late(timeout)),
            sent => sent.map_err(|error| self.unsent(error))?,
        }
        loop {
            let line = match self.lines.next(Some(deadline)) {
                Ok(Some(line)) => line,
                Ok(None) => return Err(ClientError::HungUp { path: self.path.clone() }),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(self.late(timeout)),
                Err(error) => return Err(self.unread(error)),
            };
            if answers(&line, &id) {
                return Ok(Reply::parse(&line)?);
            }
            self.pushes.push_back(line);
        }
    }

    /// Asks the host a question of its own, whose answer is one value of `T`.
    pub(crate) fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        event: &str,
        data: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let data =
            serde_json::value::to_raw_value(data).map_err(|error| self.unsent(error.into()))?;
        let reply = self.request(event, &data, timeout)?;
        reply.one().map_err(ClientError::Answer)
    }

    /// The next line that answers no request, or `None` when the host has closed the connection.
    pub(crate) fn next_push(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<String>, ClientError> {
        match self.pushes.pop_front() {
            Some(push) => Ok(Some(push)),
            None => self.lines.next(deadline).map_err(|error| self.unread(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle to the connection, by which another thread can end it.
    pub(crate) fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    fn late(&self, after: Duration) -> ClientError {
        ClientError::TimedOut { path: self.path.clone(), after }
    }

    fn unsent(&self, source: io::Error) -> ClientError {
        ClientError::Send { path: self.path.clone(), source }
    }

    fn unread(&self, source: io::Error) -> ClientError {
        ClientError::Receive { path: self.path.clone(), source }
    }
}

/// Whether a line answers the request of that id. A host that could not read a request says so
/// without an id, and there is but one request at a time that it can mean.
fn answers(line: &str, id: &str) -> bool {
    #[derive(Deserialize)]
    struct Ids {
        #[serde(default)]
        correlation_id: Option<String>,
        #[serde(default)]
        error: Option<serde_json::Value>,
    }
    match serde_json::from_str::<Ids>(line) {
        Ok(Ids { correlation_id: Some(found), .. }) => found == id,
        Ok(Ids { correlation_id: None, error }) => error.is_some(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Client::over(ours, Path::new("/s")).expect("a client"), theirs)
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).expect(text)
    }

    #[test]
    fn a_request_is_one_line_and_its_reply_is_found_among_pushes() {
        let (mut client, mut host) = pair();
        host.write_all(
            b"{\"event\":\"a:x\",\"data\":{}}\n{\"data\":1,\"count\":1,\"correlation_id\":\"other\"}\n\
              {\"data\":2,\"count\":1,\"correlation_id\":\"ksi-1\"}\n",
        )
        .expect("written");
        let reply = client.request("a:b", &raw("{\n\"k\":\r\n\"v\"}"), SOON).expect("a reply");
        assert_eq!(reply.results, ["2"]);
        assert!(client.next_push(None).expect("a push").expect("a push").contains("a:x"));

        let mut sent = String::new();
        BufReader::new(host).read_line(&mut sent).expect("a request");
        let sent: serde_json::Value = serde_json::from_str(&sent).expect("one line of JSON");
        assert_eq!(sent["event"], "a:b");
        assert_eq!(sent["data"], serde_json::json!({"k": "v"}));
        assert_eq!(sent["correlation_id"], "ksi-1");
    }

    #[test]
    fn an_error_without_an_id_is_the_answer() {
        let (mut client, mut host) = pair();
        host.write_all(b"{\"error\":\"Invalid JSON: x\"}\n").expect("written");
        let reply = client.request("a:b", &raw("{}"), SOON).expect("a reply");
        assert_eq!(reply.failures, ["Invalid JSON: x"]);
    }

    #[test]
    fn silence_and_hanging_up_are_told_apart() {
        let (mut client, host) = pair();
        let error =
            client.request("a:b", &raw("{}"), Duration::from_millis(5)).expect_err("silence");
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        drop(host);
        let error = client.request("a:b", &raw("{}"), SOON).expect_err("hung up");
        assert!(matches!(error, ClientError::HungUp { .. }), "{error}");
    }

    #[test]
    fn a_host_that_refuses_half_way_is_still_heard() {
        let (mut client, mut host) = pair();
        host.write_all(b"{\"error\":\"line too long\"}\n").expect("written");
        drop(host);
        let reply = client.request("a:b", &raw("{}"), SOON).expect("a reply");
        assert_eq!(reply.failures, ["line too long"]);
    }

    #[test]
    fn where_nobody_listens_there_is_no_host() {
        let folder = tempfile::tempdir().expect("a folder");
        let environment = ksi_host::Environment::of_process();
        let try_at = |path: &Path| {
            let socket = SocketPath::choose(Some(path), None, &environment);
            Client::connect(&socket).err().expect("no host")
        };
        let missing = folder.path().join("none.sock");
        let stale = folder.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
        for path in [missing, stale] {
            let failure = try_at(&path);
            assert!(matches!(failure, ClientError::NoHost { .. }), "{failure}");
        }
    }
}
