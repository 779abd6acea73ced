//! The writing end of a connection: one task's work, one queue that is bounded by a count and in
//! bytes.
//!
//! Whoever has a line for the client puts it into the queue and waits while it is full; that is how
//! a client that does not read comes to hold up its own requests and nothing else.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ksi_kernel::lock::Lock;
use ksi_kernel::memory::{Account, Charge};
use smallvec::SmallVec;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::yield_now;

use super::push_lines::Bytes;

/// Lines that wait for the writer.
pub(super) const QUEUE: usize = 32;

/// Lines are gathered up to about this many bytes before they are written.
const BATCH: usize = 64 * 1024;

/// So many batches are written before others have their turn.
const TURN: usize = 16;

/// The unit in which a client's unread bytes are bounded.
const UNIT: usize = 1024;

/// What is written at once, with its line ends.
pub(super) struct OutgoingLine {
    bytes: Bytes,
    /// After this one the connection is closed.
    last: bool,
    waits: LineCharge,
}

/// What a line takes until it is written.
struct LineCharge {
    _charge: Charge,
    _room: OwnedSemaphorePermit,
}

/// Where lines for a client are put. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<OutgoingLine>,
    room: Arc<Semaphore>,
    most: u32,
    account: Arc<Account>,
}

/// An outbox that does not keep the writer from ending.
pub(super) struct WeakOutbox {
    queue: mpsc::WeakSender<OutgoingLine>,
    room: Arc<Semaphore>,
    most: u32,
    account: Arc<Account>,
}

impl WeakOutbox {
    /// The outbox, if somebody else has it too.
    pub(super) fn upgrade(&self) -> Option<Outbox> {
        let (room, account) = (self.room.clone(), self.account.clone());
        Some(Outbox { queue: self.queue.upgrade()?, room, most: self.most, account })
    }
}

/// There is room for a line.
pub(super) struct LinePermit<'a> {
    place: mpsc::Permit<'a, OutgoingLine>,
    waits: LineCharge,
}

/// The client is gone, or was told its last line.
#[derive(Debug)]
pub(super) struct OutboxClosed;

/// An outbox for so many bytes, and what the writer takes out of it.
pub(super) fn outbox(
    bytes: usize,
    account: Arc<Account>,
) -> (Outbox, mpsc::Receiver<OutgoingLine>) {
    let (queue, lines) = mpsc::channel(QUEUE);
    let most = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
    let room = Arc::new(Semaphore::new(most as usize));
    (Outbox { queue, room, most, account }, lines)
}

impl Outbox {
    /// Puts a line in once there is room for it. It is charged to the client from here on.
    pub(super) async fn send(&self, line: impl Into<Bytes>) -> Result<(), OutboxClosed> {
        let line = line.into();
        self.room_for(line.len()).await?.send(line);
        Ok(())
    }

    /// Waits for room for a line of so many bytes. A line that is larger than all there may be has
    /// it when nothing else waits.
    pub(super) async fn room_for(&self, bytes: usize) -> Result<LinePermit<'_>, OutboxClosed> {
        let charge = self.account.charge(bytes);
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX).min(self.most);
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| OutboxClosed)?;
        let place = self.queue.reserve().await.map_err(|_| OutboxClosed)?;
        Ok(LinePermit { place, waits: LineCharge { _charge: charge, _room: room } })
    }

    /// Whether more bytes may wait.
    pub(super) fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// Waits until more bytes may wait, behind those who wait for the same.
    pub(super) async fn until_room(&self) {
        let _ = self.room.acquire().await;
    }

    pub(super) fn downgrade(&self) -> WeakOutbox {
        let (room, account) = (self.room.clone(), self.account.clone());
        WeakOutbox { queue: self.queue.downgrade(), room, most: self.most, account }
    }

    /// Resolves when no more lines are taken.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl LinePermit<'_> {
    pub(super) fn send(self, bytes: impl Into<Bytes>) {
        self.put(bytes.into(), false);
    }

    /// Puts in the last line, after which the connection is closed.
    pub(super) fn send_last(self, bytes: Vec<u8>) {
        self.put(bytes.into(), true);
    }

    fn put(self, bytes: Bytes, last: bool) {
        self.place.send(OutgoingLine { bytes, last, waits: self.waits });
    }
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
    pub(super) async fn hand_over(&mut self, outbox: &Outbox) {
        if self.0.is_empty() {
            return;
        }
        let room = outbox.room_for(self.0.len()).await;
        let next = Vec::with_capacity(self.0.len().min(BATCH));
        let lines = std::mem::replace(&mut self.0, next);
        // To a client that is gone nothing needs to be sent; its events had their outcomes all the
        // same.
        if let Ok(room) = room {
            room.send(lines);
        }
    }
}

/// The writing end, which is polled in the connection's own task until somebody takes it over.
#[derive(Clone)]
pub(super) struct Writer(Arc<Lock<Option<Writing>>>);

pub(super) type Writing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Writer {
    pub(super) fn new(
        socket: impl AsyncWrite + Unpin + Send + 'static,
        queue: mpsc::Receiver<OutgoingLine>,
        account: Arc<Account>,
    ) -> Writer {
        Writer(Arc::new(Lock::new(Some(Box::pin(run(socket, queue, account))))))
    }

    /// Writes until there is no more to write, or until somebody else does.
    pub(super) async fn run(self) {
        poll_fn(|cx| {
            let mut writing = self.0.lock();
            let polled = writing.as_mut().map_or(Poll::Ready(()), |it| it.as_mut().poll(cx));
            if polled.is_ready() {
                *writing = None;
            }
            polled
        })
        .await;
    }

    /// What is to be polled instead; nothing if all is written.
    pub(super) fn take_over(&self) -> Option<Writing> {
        self.0.lock().take()
    }
}

/// Writes until every sender is gone or the last line was written; then the client sees the end.
///
/// When the client stops to listen, lines go on being taken and are dropped: what it still sends is
/// served, as it is for a client that listens.
async fn run(
    mut socket: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<OutgoingLine>,
    account: Arc<Account>,
) {
    let mut listening = true;
    let mut last = false;
    let mut written = 0_usize;
    while !last && let Some(line) = queue.recv().await {
        let (mut batch, mut waiting) = (line.bytes, SmallVec::<[LineCharge; QUEUE]>::new());
        waiting.push(line.waits);
        last = line.last;
        while !last
            && batch.len() < BATCH
            && let Ok(line) = queue.try_recv()
        {
            batch.append(&line.bytes);
            waiting.push(line.waits);
            last = line.last;
        }
        if listening {
            listening = write(&mut socket, &batch, &account).await.is_ok();
        }
        drop((batch, waiting));
        written += 1;
        if written.is_multiple_of(TURN) {
            yield_now().await;
        }
    }
    // A client that is gone already needs no end.
    let _ = socket.shutdown().await;
}

/// A client that takes a large line in parts makes progress with each.
async fn write(
    socket: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    account: &Account,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = socket.write(bytes).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        if !bytes.is_empty() {
            account.progressed();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;
    use ksi_kernel::memory::Budget;

    /// An outbox for so many bytes, with what it is charged to.
    fn boxed(bytes: usize) -> (Outbox, mpsc::Receiver<OutgoingLine>, Arc<Budget>) {
        let budget = Budget::new(1 << 20);
        let (outbox, queue) = outbox(bytes, budget.account(|| {}));
        (outbox, queue, budget)
    }

    fn fits(outbox: &Outbox, line: &[u8]) -> bool {
        outbox.send(line.to_vec()).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    #[tokio::test]
    async fn lines_are_written_in_order_up_to_the_last() {
        let (mut client, socket) = tokio::io::duplex(8);
        let (outbox, queue, budget) = boxed(1 << 20);
        assert!(fits(&outbox, b"one\n") && fits(&outbox, b"two\n"));
        outbox.room_for(4).await.unwrap().send_last(b"end\n".into());
        assert!(fits(&outbox, b"late\n"));
        let mut seen = String::new();
        tokio::join!(run(socket, queue, budget.account(|| {})), async {
            client.read_to_string(&mut seen).await.unwrap();
        });
        assert_eq!(seen, "one\ntwo\nend\n");
        assert!(outbox.send(b"no more\n".to_vec()).await.is_err());
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn replies_that_found_no_room_in_the_queue_are_kept() {
        let (outbox, mut queue, _) = boxed(UNIT);
        assert!(fits(&outbox, b"first\n"));
        let mut batch = Batch::default();
        batch.lines().extend_from_slice(b"one\n");
        assert!(batch.hand_over(&outbox).now_or_never().is_none());
        batch.lines().extend_from_slice(b"two\n");
        assert!(queue.try_recv().is_ok());
        assert!(batch.hand_over(&outbox).now_or_never().is_some());
        assert!(queue.try_recv().is_ok_and(|line| *line.bytes == *b"one\ntwo\n"));
        assert!(batch.lines().is_empty());
    }

    #[tokio::test]
    async fn a_client_that_reads_a_large_line_slowly_is_given_up_after_one_that_reads_nothing() {
        let budget = Budget::new(4000);
        let told = Arc::new(std::sync::atomic::AtomicU8::new(0));
        let account = |who: u8| {
            let told = told.clone();
            budget.account(move || {
                told.fetch_or(who, std::sync::atomic::Ordering::Relaxed);
            })
        };
        let (slow, idle) = (account(1), account(2));
        let (outbox, queue) = super::outbox(1 << 20, slow.clone());
        let (mut client, socket) = tokio::io::duplex(8);
        assert!(fits(&outbox, &[b'x'; 2000]));
        let _held = idle.charge(1000);
        let mut read = [0; 8];
        let reading = async {
            let begin = std::time::Instant::now();
            while begin.elapsed() < std::time::Duration::from_millis(100) {
                client.read_exact(&mut read).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let mut writing = std::pin::pin!(run(socket, queue, slow.clone()));
        tokio::select! {
            () = &mut writing => panic!("it is not written by now"),
            () = reading => {}
        }
        let _more = idle.charge(1001);
        assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn few_large_lines_fill_the_queue_and_one_fits_always() {
        let (outbox, mut queue, budget) = boxed(8 * UNIT);
        let large = vec![b'x'; 3 * UNIT];
        assert!(fits(&outbox, &large) && fits(&outbox, &large));
        assert!(!fits(&outbox, &large), "a third one is too much");
        assert_eq!(budget.used(), 2 * large.len());
        while queue.try_recv().is_ok() {}
        assert_eq!(budget.used(), 0);
        assert!(fits(&outbox, &vec![b'x'; 100 * UNIT]));
        assert!(!fits(&outbox, b"small\n"));
    }

    #[tokio::test]
    async fn lines_for_a_client_that_is_gone_are_dropped() {
        let (client, socket) = tokio::io::duplex(8);
        drop(client);
        let (outbox, queue, budget) = boxed(UNIT);
        tokio::join!(run(socket, queue, budget.account(|| {})), async {
            for _ in 0..10 {
                assert!(outbox.send(b"line\n".to_vec()).await.is_ok());
            }
            drop(outbox);
        });
        assert_eq!(budget.used(), 0);
    }
}
