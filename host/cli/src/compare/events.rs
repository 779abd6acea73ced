//! The events that both are given, from wherever they come, read on a thread of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ksi_wire::monitor::{Subscribe, Subscribed};
use tokio::sync::mpsc;

use super::recording::{self, Recorded};
use crate::args::{Common, Compare};
use crate::client::{Client, ClientError, SOON};
use crate::exit::CommandFailure;
use crate::output;
use crate::signals;

/// Events that were read and are not played yet.
const READ_AHEAD: usize = 256;
/// Bytes of a line of a recording.
const LONGEST_LINE: u64 = 64 << 20;

/// An event, or why there is none where one should be.
pub(super) type Next = Result<Recorded, String>;

/// Begins to read them.
pub(super) fn events(
    common: &Common,
    args: &Compare,
) -> Result<mpsc::Receiver<Next>, CommandFailure> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let run: Box<dyn FnOnce() + Send> = match (&args.recorded, args.live) {
        (Some(file), _) => {
            let input: Box<dyn Read + Send> = match file.as_os_str() == "-" {
                true => Box::new(std::io::stdin()),
                false => {
                    let opened = File::open(file).map_err(|error| CommandFailure::Host {
                        what: "the recording cannot be read",
                        source: format!("{}: {error}", file.display()).into(),
                    });
                    Box::new(opened?)
                }
            };
            Box::new(move || read_file(input, &sender))
        }
        (None, duration) => {
            let mut client = common.client()?;
            let event_patterns = match args.events.is_empty() {
                true => vec!["*".to_owned()],
                false => args.events.clone(),
            };
            let client_id = format!("ksi-compare-{}", std::process::id());
            let ask = Subscribe { client_id, event_patterns };
            client.ask::<Subscribed>("monitor:subscribe", &ask, SOON)?;
            let stream = client.stream();
            let stream = stream.map_err(CommandFailure::host("cannot watch for signals"))?;
            let interrupted = Arc::new(AtomicBool::new(false));
            let flag = interrupted.clone();
            // What was seen until then is told.
            signals::on_first(move || {
                flag.store(true, Ordering::Release);
                // A connection that is closed already needs no closing.
                let _ = stream.shutdown(Shutdown::Both);
            })
            .map_err(CommandFailure::host("cannot watch for signals"))?;
            let until = duration.map(|duration| Instant::now() + duration);
            Box::new(move || read_live(client, until, &interrupted, &sender))
        }
    };
    let thread = std::thread::Builder::new().name("ksi-compare".to_owned()).spawn(run);
    thread.map_err(CommandFailure::host("cannot start threads"))?;
    Ok(receiver)
}

fn read_file(input: impl Read, sender: &mpsc::Sender<Next>) {
    let mut input = BufReader::new(input);
    for number in 1_u64.. {
        let mut line = String::new();
        let failed = |reason: String| format!("line {number} of the recording: {reason}");
        let next = match (&mut input).take(LONGEST_LINE).read_line(&mut line) {
            Ok(0) => return,
            Ok(read) => match recording::read(&line) {
                // Whoever wrote it was ended in the middle of it.
                Err(_) if !line.ends_with('\n') && (read as u64) < LONGEST_LINE => {
                    output::remark(&format!(
                        "line {number} of the recording, its last one, is not whole, and left out"
                    ));
                    return;
                }
                read => read.map_err(failed),
            },
            Err(error) => Err(failed(error.to_string())),
        };
        if !hand_on(next, sender) {
            return;
        }
    }
}

fn read_live(
    mut client: Client,
    until: Option<Instant>,
    interrupted: &AtomicBool,
    sender: &mpsc::Sender<Next>,
) {
    loop {
        let next = match client.next_push(until) {
            Ok(Some(line)) => event_in(&line),
            // The connection is closed for the signal.
            _ if interrupted.load(Ordering::Acquire) => return,
            Err(ClientError::Receive { source, .. }) if source.kind() == ErrorKind::TimedOut => {
                return;
            }
            Ok(None) => Err(format!(
                "the host on {} closed the connection before the time of --live was over: what it \
                 did from then on was not compared",
                client.path().display()
            )),
            Err(error) => Err(error.to_string()),
        };
        if !hand_on(next, sender) {
            return;
        }
    }
}

/// Only what has a number is an event; the host's own last line has none.
fn event_in(line: &str) -> Result<Option<Recorded>, String> {
    match recording::read(line) {
        Ok(Some(recorded)) if recorded.id.is_some() => Ok(Some(recorded)),
        _ => Err("events came faster than they could be compared, and the host ended the watch: \
                  name fewer with --event"
            .to_owned()),
    }
}

/// Whether to go on.
fn hand_on(next: Result<Option<Recorded>, String>, sender: &mpsc::Sender<Next>) -> bool {
    match next {
        Ok(None) => true,
        Ok(Some(recorded)) => sender.blocking_send(Ok(recorded)).is_ok(),
        Err(failure) => {
            let _ = sender.blocking_send(Err(failure));
            false
        }
    }
}
