//! A server on this machine that says what a test tells it to.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Nothing here takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(10);

/// What the server does once it has read the request.
pub(super) enum Then {
    /// Sends these parts, each by itself, and hangs up.
    Say(Vec<Vec<u8>>),
    /// Sends this, and then nothing until the client hangs up.
    Hang(&'static str),
}

/// A server for one request.
pub(super) struct Server {
    pub(super) base_url: String,
    requests: Mutex<Receiver<String>>,
    hang_ups: Mutex<Receiver<()>>,
}

impl Server {
    pub(super) fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let ((seen, requests), (gone, hang_ups)) = (channel(), channel());
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, then, &seen, &gone);
        });
        Server { base_url, requests: Mutex::new(requests), hang_ups: Mutex::new(hang_ups) }
    }

    /// The whole request, once it is there.
    pub(super) fn request(&self) -> String {
        self.requests.lock().unwrap().recv_timeout(LIMIT).expect("no request came")
    }

    /// Returns when the client has hung up.
    pub(super) fn hung_up(&self) {
        self.hang_ups.lock().unwrap().recv_timeout(LIMIT).expect("the client did not hang up");
    }
}

fn serve(mut stream: TcpStream, then: Then, seen: &Sender<String>, gone: &Sender<()>) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = read_request(&mut stream);
    // A test that does not look at the request has dropped the receiver.
    let _ = seen.send(request);
    match then {
        Then::Say(parts) => {
            for part in parts {
                // The client may have had enough.
                if stream.write_all(&part).is_err() {
                    return;
                }
            }
        }
        Then::Hang(head) => {
            stream.write_all(head.as_bytes()).unwrap();
            let ended = stream.read(&mut [0; 1]);
            assert!(!matches!(ended, Ok(1..)), "the client goes on talking");
            let _ = gone.send(());
        }
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lengths = head.lines().filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            if body.len() >= lengths.next().unwrap_or(0) {
                return text.into_owned();
            }
        }
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "half a request: {text}");
        bytes.extend_from_slice(&part[..count]);
    }
}

/// An answer of this status, type and body.
pub(super) fn answer(status: &str, kind: &str, body: &str) -> Then {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    Then::Say(vec![(head + body).into_bytes()])
}

/// A stream of events, sent in these parts; whole if it ends as HTTP says that it should.
pub(super) fn stream(parts: &[&[u8]], whole: bool) -> Then {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut sent = vec![head.as_bytes().to_vec()];
    sent.extend(
        parts
            .iter()
            .map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()),
    );
    if whole {
        sent.push(b"0\r\n\r\n".to_vec());
    }
    Then::Say(sent)
}
