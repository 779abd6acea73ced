//! The writing end of a connection: one task's work, one bounded queue.
//!
//! Whoever has a line for the client puts it into the queue and waits while it is full; that is how a
//! client that does not read comes to hold up its own requests and nothing else.

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::yield_now;

/// Lines that wait for the writer.
pub(super) const QUEUE: usize = 32;

/// Lines are gathered up to about this many bytes before they are written.
const BATCH: usize = 64 * 1024;

/// So many batches are written before others have their turn.
const TURN: usize = 16;

/// A line for the client, with its line end.
pub(super) enum Line {
    /// One among others, or several at once.
    Next(Vec<u8>),
    /// After this one the connection is closed.
    Last(Vec<u8>),
}

/// Replies that go to the writer together.
#[derive(Default)]
pub(super) struct Batch(Vec<u8>);

impl Batch {
    /// Lines are appended here.
    pub(super) fn lines(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Takes them out, for somebody who hands them over before a reply of their own.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Whether it should be handed over before there is more.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= BATCH
    }

    /// Hands them to the writer. They are still here when this future is dropped before it is done.
    pub(super) async fn hand_over(&mut self, queue: &mpsc::Sender<Line>) {
        if self.0.is_empty() {
            return;
        }
        let room = queue.reserve().await;
        let next = Vec::with_capacity(self.0.len().min(BATCH));
        let lines = std::mem::replace(&mut self.0, next);
        // To a client that is gone nothing needs to be sent; its events had their outcomes all the same.
        if let Ok(room) = room {
            room.send(Line::Next(lines));
        }
    }
}

/// Writes until every sender is gone or the last line was written; then the client sees the end.
///
/// When the client stops to listen, lines go on being taken and are dropped: what it still sends is
/// served, as it is for a client that listens.
pub(super) async fn run(mut socket: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Line>) {
    let mut listening = true;
    let mut last = false;
    let mut written = 0_usize;
    while !last && let Some(line) = queue.recv().await {
        let mut batch = Vec::new();
        last = gather(&mut batch, line);
        while !last
            && batch.len() < BATCH
            && let Ok(line) = queue.try_recv()
        {
            last = gather(&mut batch, line);
        }
        if listening {
            listening = socket.write_all(&batch).await.is_ok();
        }
        written += 1;
        if written.is_multiple_of(TURN) {
            yield_now().await;
        }
    }
    // A client that is gone already needs no end.
    let _ = socket.shutdown().await;
}

/// Adds `line` to `batch`, without a copy when it is the first. Whether it is the last one.
fn gather(batch: &mut Vec<u8>, line: Line) -> bool {
    let (bytes, last) = match line {
        Line::Next(bytes) => (bytes, false),
        Line::Last(bytes) => (bytes, true),
    };
    if batch.is_empty() {
        *batch = bytes;
    } else {
        batch.extend_from_slice(&bytes);
    }
    last
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn lines_are_written_in_order_up_to_the_last() {
        let (mut client, socket) = tokio::io::duplex(8);
        let (lines, queue) = mpsc::channel(8);
        for line in [Line::Next(b"one\n".into()), Line::Next(b"two\n".into())] {
            assert!(lines.try_send(line).is_ok());
        }
        assert!(lines.try_send(Line::Last(b"end\n".into())).is_ok());
        assert!(lines.try_send(Line::Next(b"late\n".into())).is_ok());
        let mut seen = String::new();
        tokio::join!(run(socket, queue), async {
            client.read_to_string(&mut seen).await.unwrap();
        });
        assert_eq!(seen, "one\ntwo\nend\n");
        assert!(lines.is_closed());
    }

    #[tokio::test]
    async fn replies_that_found_no_room_in_the_queue_are_kept() {
        let (lines, mut queue) = mpsc::channel(1);
        assert!(lines.try_send(Line::Next(b"first\n".into())).is_ok());
        let mut batch = Batch::default();
        batch.lines().extend_from_slice(b"one\n");
        assert!(batch.hand_over(&lines).now_or_never().is_none());
        batch.lines().extend_from_slice(b"two\n");
        assert!(queue.try_recv().is_ok());
        assert!(batch.hand_over(&lines).now_or_never().is_some());
        assert!(matches!(queue.try_recv(), Ok(Line::Next(bytes)) if bytes == b"one\ntwo\n"));
        assert!(batch.lines().is_empty());
    }

    #[tokio::test]
    async fn lines_for_a_client_that_is_gone_are_dropped() {
        let (client, socket) = tokio::io::duplex(8);
        drop(client);
        let (lines, queue) = mpsc::channel(1);
        tokio::join!(run(socket, queue), async {
            for _ in 0..10 {
                assert!(lines.send(Line::Next(b"line\n".into())).await.is_ok());
            }
            drop(lines);
        });
    }
}
