//! One client: its requests in, its replies out.
//!
//! All of it is one task on the dispatch workers: what a read has brought is served, and answered
//! with one write. Requests with a correlation id are served at once, beside one another. Those
//! without are served one after another, in order, since their client can tell replies apart by
//! order alone; lines that are no requests are answered in that order too. How a request is served
//! is in [`serving`](super::serving).
//!
//! Each request takes one of the connection's slots until its reply is handed to the writer. That
//! bounds what runs, what waits and what memory a client takes, and it makes a client that does not
//! read its replies wait with its own next request. A large request takes several slots.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use ksi_kernel::memory::Charge;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::lines::{Lines, Read};
use super::push_lines::PushLines;
use super::reply_room::ReplyRoom;
use super::request::{self, Reason};
use super::serving::Client;
use super::turn::Turn;
use super::work::Work;
use super::writer::{self, Batch, Writer};
use super::{SocketLimits, reply, unix_now};
use crate::clients::{Ended, Peer};
use crate::core::{Core, OnLate};

/// What the line takes that tells a client why it is ended, in bytes.
pub(super) const LAST: usize = 256;
/// How long a client has to take it.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How often a subscriber that sends no more is looked at: has it hung up?
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// What all clients of a socket share.
pub(super) struct Shared {
    pub(super) limits: SocketLimits,
    pub(super) stopping: watch::Receiver<bool>,
    /// The runtime whose timers are used.
    pub(super) timers: Handle,
    /// Patterns that may be subscribed to.
    pub(super) patterns: Arc<Semaphore>,
    /// What is pushed to several clients.
    pub(super) push_lines: Arc<PushLines>,
}

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Any,
    /// The host's own events alone: all other places are taken.
    Management,
}

/// Serves a client until it hangs up, is dropped as a subscriber or ended, or the socket closes. On
/// a dispatch worker.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    place: Access,
    core: Arc<Core>,
    shared: Shared,
) {
    let Shared { limits, stopping, timers, patterns, push_lines } = shared;
    let (read, write) = stream.into_split();
    let free = Arc::new(Semaphore::new(limits.requests_per_connection));
    let entry = core.clients().enter(peer, unix_now(), free.clone(), |entry| {
        core.budget().account(move || {
            if let Some(entry) = entry.upgrade() {
                entry.end(Ended::Greedy);
            }
        })
    });
    let account = entry.account();
    let (lines, queue) = writer::outbox(limits.unread_bytes, account.clone());
    let reader = Reader {
        socket: read,
        lines: Lines::new(limits.line_bytes),
        held: account.charge(0),
        replies: Batch::default(),
    };
    let last = lines.downgrade();
    let writer = Writer::new(write, queue, account.clone());
    let client = Client::new(
        core,
        (lines, writer.clone()),
        entry.clone(),
        (free, ReplyRoom::new(limits.unread_bytes, timers.clone())),
        &limits,
        (patterns, push_lines),
        place,
    );
    let on_late = {
        let client = Arc::downgrade(&client);
        OnLate::new(move |late| {
            if let Some(client) = client.upgrade() {
                client.is_late(late);
            }
        })
    };
    // In this order, so that what is served in a poll is written at the end of it.
    let served = pin!(async {
        tokio::join!(
            biased;
            converse(client, reader, stopping, timers.clone()),
            writer.run(),
        );
    });
    let mut served = on_late.while_polled(served);
    let why = tokio::select! {
        biased;
        () = &mut served => return,
        why = entry.ended() => why,
    };
    tracing::info!(client = entry.number(), bytes = account.bytes(), "ending a client: {why}");
    // Whoever reads learns why. Others are cut off.
    let told = last.upgrade().is_some_and(|lines| match lines.room_for(LAST).now_or_never() {
        Some(Ok(room)) => {
            room.send_last(reply::ended(why));
            true
        }
        _ => false,
    });
    if told {
        let wait = {
            let _inside = timers.enter();
            sleep(LAST_WAIT)
        };
        tokio::select! {
            () = &mut served => {}
            () = wait => {}
        }
    }
}

/// Reads and serves until there is no more to do for this client.
///
/// The writer ends when the last holder of `client` is gone, or by itself after its last line; the
/// latter closes the queue, which is how it is noticed here.
async fn converse(
    client: Arc<Client>,
    mut reader: Reader,
    mut stopping: watch::Receiver<bool>,
    timers: Handle,
) {
    let hung_up = tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => false,
        () = client.lines.closed() => return,
        () = reader.serve_all(&client) => true,
    };
    let rest = async {
        reader.replies.hand_over(&client.lines).await;
        // With every slot free again, every reply is in the writer's queue.
        client.all_served().await;
        if hung_up && client.monitor.is_in_use().await {
            tokio::select! {
                () = reader.gone(&timers) => return,
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

/// The reading end of a connection.
struct Reader {
    socket: OwnedReadHalf,
    lines: Lines,
    /// What it has of lines, beyond a little.
    held: Charge,
    /// Of requests that were served in place.
    replies: Batch,
}

impl Reader {
    /// Serves requests until the client hangs up. Dropping this loses no event that was emitted and
    /// no reply; all that is cut short is a request that still waits for its slots, or an answer
    /// about a subscription.
    async fn serve_all(&mut self, client: &Arc<Client>) {
        let Reader { socket, lines, held, replies } = self;
        let limit = lines.limit();
        let mut turn = Turn::begin();
        loop {
            let mut served = 0;
            while let Some(read) = lines.next() {
                served += 1;
                let (bytes, work) = match read {
                    Read::Line(line) if request::is_blank(line) => continue,
                    Read::Line(line) => (line.len(), request::parse(line).into()),
                    Read::TooLong => (0, Work::Malformed(Reason::TooLong { limit }.into())),
                };
                client.serve(work, bytes, replies, &mut turn).await;
                if turn.is_over() || replies.is_full() {
                    replies.hand_over(&client.lines).await;
                    yield_now().await;
                    turn = Turn::begin();
                }
            }
            client.entry.heard(turn.unix(), served);
            lines.tidy();
            held.set(lines.bytes());
            replies.hand_over(&client.lines).await;
            let filled = {
                let mut fill = pin!(lines.fill(socket));
                match poll_fn(|cx| Poll::Ready(fill.as_mut().poll(cx))).await {
                    Poll::Ready(filled) => filled,
                    Poll::Pending => {
                        let filled = fill.await;
                        turn = Turn::begin();
                        filled
                    }
                }
            };
            held.set(lines.bytes());
            // An error is a hang-up too: a client that left with replies unread resets the
            // connection.
            if !filled.unwrap_or(false) {
                return;
            }
            // Also a client that sends nothing but blank lines has its turn.
            turn.lap();
            if turn.is_over() {
                yield_now().await;
                turn = Turn::begin();
            }
        }
    }

    /// Resolves when a client that sends no more does not listen either.
    ///
    /// Reading has told the first; the second shows only in the state of the socket, which is
    /// looked at now and then because a push, which would find out, may be long in coming.
    async fn gone(&self, timers: &Handle) {
        while let Ok(ready) = self.socket.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            let wait = {
                let _inside = timers.enter();
                sleep(HANG_UP_CHECK)
            };
            wait.await;
        }
    }
}
