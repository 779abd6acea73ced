//! One client: its requests in, its replies out.
//!
//! Requests with a correlation id are served at once, beside one another. Those without are served one
//! after another, in order, since their client can tell replies apart by order alone; lines that are no
//! requests are answered in that order too.
//!
//! Each request takes one of the connection's slots from the moment it is read until its reply is handed
//! to the writer. That bounds what runs, what waits and what memory a client takes, and it makes a client
//! that does not read its replies wait with its own next request. A large request takes several slots.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::SocketLimits;
use super::lines::{Lines, Read};
use super::monitor::{EVENTS, Monitor};
use super::reply::{self, Reply};
use super::request::{self, Malformed, Reason, Request};
use super::writer::{self, Line};
use crate::{Host, NewEvent, Payload};

const READ_BUFFER: usize = 16 * 1024;
/// What one slot holds of a request, in bytes.
const SLOT: usize = 64 * 1024;
/// How often a subscriber that sends no more is looked at: has it hung up?
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

type Source = Lines<BufReader<OwnedReadHalf>>;

/// Serves a client until it hangs up, is dropped as a subscriber, or the socket closes.
pub(super) async fn serve(
    stream: UnixStream,
    host: Host,
    limits: SocketLimits,
    stopping: watch::Receiver<bool>,
) {
    let (read, write) = stream.into_split();
    let (lines, queue) = mpsc::channel(writer::QUEUE);
    let source = Lines::new(BufReader::with_capacity(READ_BUFFER, read), limits.line_bytes);
    let slots = limits.requests_per_connection;
    let monitor = Monitor::new(host.clone(), lines.clone(), limits.subscriber_queue);
    let client = Arc::new(Client { host, lines, monitor });
    tokio::join!(writer::run(write, queue), converse(client, source, slots, stopping));
}

/// What every request of a connection shares.
struct Client {
    host: Host,
    lines: mpsc::Sender<Line>,
    monitor: Monitor,
}

/// What is served in order, with its slots.
struct Ordered {
    work: Work,
    slot: OwnedSemaphorePermit,
}

enum Work {
    Request(Request),
    Malformed(Malformed),
}

/// Reads and serves until there is no more to do for this client.
///
/// The writer ends when the last holder of `client` is gone, or by itself after its last line; the
/// latter closes the queue, which is how it is noticed here.
async fn converse(
    client: Arc<Client>,
    mut source: Source,
    slots: usize,
    mut stopping: watch::Receiver<bool>,
) {
    let free = Arc::new(Semaphore::new(slots));
    let hung_up = tokio::select! {
        () = read_requests(&client, &mut source, &free, slots) => true,
        _ = stopping.wait_for(|stop| *stop) => false,
        () = client.lines.closed() => return,
    };
    let rest = async {
        // With every slot free again, every reply is in the writer's queue.
        let _ = free.acquire_many(u32::try_from(slots).unwrap_or(u32::MAX)).await;
        if hung_up && client.monitor.is_in_use().await {
            tokio::select! {
                () = gone(&source) => return,
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
        client.monitor.finish().await;
    };
    tokio::select! {
        () = rest => {}
        () = client.lines.closed() => {}
    }
}

/// Reads requests until the client hangs up. Dropping this loses no event that was emitted; all that is
/// cut short is a request that still waits for its slots, or an answer about a subscription.
async fn read_requests(
    client: &Arc<Client>,
    source: &mut Source,
    free: &Arc<Semaphore>,
    slots: usize,
) {
    // Unbounded in type only: all that is in it holds a slot.
    let (ordered, in_order) = mpsc::unbounded_channel();
    // A task of its own, so that what is in line is served even when the connection is cut off.
    tokio::spawn(serve_in_order(client.clone(), in_order));
    let limit = source.limit();
    while let Ok(mut slot) = free.clone().acquire_owned().await {
        let (bytes, parsed) = match source.next().await {
            Ok(Read::Line(line)) if request::is_blank(line) => continue,
            Ok(Read::Line(line)) => (line.len(), request::parse(line)),
            Ok(Read::TooLong) => (0, Err(Reason::TooLong { limit }.into())),
            // An error is a hang-up too: a client that left with replies unread resets the connection.
            Ok(Read::End) | Err(_) => return,
        };
        let further = u32::try_from((bytes / SLOT).min(slots - 1)).unwrap_or(u32::MAX);
        if further > 0 {
            match free.clone().acquire_many_owned(further).await {
                Ok(further) => slot.merge(further),
                Err(_) => return,
            }
        }
        let work = match parsed {
            Ok(request) => Work::Request(request),
            Err(malformed) => Work::Malformed(malformed),
        };
        if !work.is_correlated() {
            if ordered.send(Ordered { work, slot }).is_err() {
                return;
            }
        } else if work.is_quick() {
            // Here and now: a subscription and its end must not overtake one another.
            client.serve(work).await;
        } else {
            let client = client.clone();
            tokio::spawn(async move {
                client.serve(work).await;
                drop(slot);
            });
        }
    }
}

async fn serve_in_order(client: Arc<Client>, mut in_order: mpsc::UnboundedReceiver<Ordered>) {
    while let Some(Ordered { work, slot }) = in_order.recv().await {
        client.serve(work).await;
        drop(slot);
    }
}

/// Resolves when a client that sends no more does not listen either.
///
/// Reading has told the first; the second shows only in the state of the socket, which is looked at
/// now and then because a push, which would find out, may be long in coming.
async fn gone(source: &Source) {
    let socket = source.source().get_ref();
    while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        sleep(HANG_UP_CHECK).await;
    }
}

impl Work {
    fn is_correlated(&self) -> bool {
        match self {
            Work::Request(request) => request.correlation_id.is_given(),
            Work::Malformed(malformed) => malformed.correlation_id.is_given(),
        }
    }

    /// Whether it is over as soon as the client reads.
    fn is_quick(&self) -> bool {
        match self {
            Work::Request(request) => Monitor::is_for(request),
            Work::Malformed(_) => true,
        }
    }
}

impl Client {
    async fn serve(&self, work: Work) {
        let line = match work {
            Work::Malformed(malformed) => reply::malformed(&malformed),
            Work::Request(request) if Monitor::is_for(&request) => {
                return self.monitor.answer(&request).await;
            }
            Work::Request(request) => self.emit(request).await,
        };
        // A client that is gone misses its reply; the event had its outcome all the same.
        let _ = self.lines.send(Line::Next(line)).await;
    }

    async fn emit(&self, request: Request) -> Vec<u8> {
        let Request { event, data, correlation_id, attributes } = request;
        let reply = Reply { event: &event, correlation_id: &correlation_id };
        match NewEvent::new(&event, Payload::from_json_bytes(data)) {
            Ok(new) => {
                let new = attributes
                    .into_iter()
                    .fold(new.source("socket"), |new, (key, value)| new.attribute(key, &value));
                reply.report(&self.host.emit(new).await, || self.event_names())
            }
            Err(error) => reply.no_such_event(&error.to_string(), &self.event_names()),
        }
    }

    fn event_names(&self) -> Vec<String> {
        let mut names = self.host.event_names();
        names.extend(EVENTS.iter().map(|own| own.event.to_owned()));
        names.sort_unstable();
        names.dedup();
        names
    }
}
