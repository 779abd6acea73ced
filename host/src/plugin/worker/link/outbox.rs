//! What goes to a worker: frames that wait until its socket takes them.
//!
//! Whoever has a frame writes it in place if nothing else is on its way, which saves a hand-over;
//! otherwise a task writes all that has gathered at once. Nobody waits for a worker that does not
//! read, save who asks for [room](Outbox::room) first: what is on its way is bounded by those.

use std::{
    io,
    sync::{
        MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{Batch, ProtocolError, transport};
use tokio::{io::Interest, net::UnixStream, sync::Notify};

/// Bytes that wait at the most before whoever can wait does.
const FULL: u64 = 4 << 20;

/// What may wait in all, when nobody can wait.
const MOST_BYTES: u64 = 64 << 20;
const MOST_FRAMES: usize = 16_384;
const FEW: usize = 256;

/// The frames, and the socket that they go to.
pub(super) struct Outbox {
    socket: UnixStream,
    waiting: Lock<Waiting>,
    /// There is something to write for the task that writes.
    more: Notify,
    /// Something was written.
    written: Notify,
    /// Nothing is taken any more.
    closed: AtomicBool,
}

struct Waiting {
    frames: Batch,
    /// Bytes of all frames that were put here so far.
    put: u64,
    /// Frames that were put here since all were written.
    frames_waiting: usize,
    /// Nothing can be written any more: up to where all was.
    failed: Option<Position>,
}

impl Waiting {
    /// Up to where all was written.
    fn written(&self) -> Position {
        self.failed.unwrap_or_else(|| self.put - self.frames.waiting())
    }
}

/// How many bytes there were, of all frames so far, up to the end of one.
pub(super) type Position = u64;

impl Outbox {
    pub(super) fn new(socket: UnixStream, frame_limit: u32) -> Self {
        let waiting = Waiting {
            frames: Batch::with_limit(frame_limit),
            put: 0,
            frames_waiting: 0,
            failed: None,
        };
        let waiting = Lock::new(waiting);
        let (more, written, closed) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        Outbox { socket, waiting, more, written, closed }
    }

    /// The socket, for whoever reads from it.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Puts a frame behind those that wait. With `at_once` it is written in place, if it is the
    /// only one. Where it ends.
    ///
    /// # Errors
    /// It is no frame that can be sent.
    pub(super) fn put(
        &self,
        at_once: bool,
        frame: impl FnOnce(&mut Batch) -> Result<(), ProtocolError>,
    ) -> Result<Position, ProtocolError> {
        let mut waiting = self.waiting();
        let before = waiting.frames.waiting();
        frame(&mut waiting.frames)?;
        waiting.put += waiting.frames.waiting() - before;
        waiting.frames_waiting = if before == 0 { 1 } else { waiting.frames_waiting + 1 };
        let end = waiting.put;
        if self.closed.load(Ordering::Acquire) || waiting.failed.is_some() {
            waiting.frames.clear();
        } else if before == 0 {
            if at_once {
                // Whatever is wrong with the socket, the task that writes finds out.
                let _ = self.write(&mut waiting.frames);
            }
            if !waiting.frames.is_empty() {
                self.more.notify_one();
            }
        }
        Ok(end)
    }

    /// Waits until more may wait.
    pub(super) async fn room(&self) {
        loop {
            let written = self.written.notified();
            if self.has_room() {
                return;
            }
            written.await;
        }
    }

    /// Whether more waits than a worker that reads what it has asked for ever lets wait.
    pub(super) fn is_overfull(&self) -> bool {
        let waiting = self.waiting();
        let frames = !waiting.frames.is_empty() && waiting.frames_waiting > MOST_FRAMES;
        frames || waiting.frames.waiting() > MOST_BYTES
    }

    /// Whether so little waits that each of it may have a descriptor of the host's.
    pub(super) fn has_few(&self) -> bool {
        let waiting = self.waiting();
        waiting.frames.is_empty() || waiting.frames_waiting < FEW
    }

    /// Whether there is room.
    pub(super) fn has_room(&self) -> bool {
        self.waiting().frames.waiting() < FULL
    }

    /// Writes what nobody has written in place, until the socket takes nothing any more. What is
    /// left then is dropped.
    pub(super) async fn run(&self) -> io::Result<()> {
        loop {
            self.more.notified().await;
            while !self.waiting().frames.is_empty() {
                let written = self.write(&mut self.waiting().frames);
                match written {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.socket.writable().await?;
                    }
                    Err(error) => {
                        self.fails();
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes nothing any more, and drops what waits. Up to where all was written.
    pub(super) fn close(&self) -> Position {
        let mut waiting = self.waiting();
        self.closed.store(true, Ordering::Release);
        let written = waiting.written();
        waiting.frames.clear();
        drop(waiting);
        self.written.notify_waiters();
        written
    }

    /// Nothing goes out any more, and nothing is kept for it.
    fn fails(&self) {
        let mut waiting = self.waiting();
        waiting.failed = Some(waiting.written());
        waiting.frames.clear();
        drop(waiting);
        self.written.notify_waiters();
    }

    fn write(&self, frames: &mut Batch) -> io::Result<()> {
        let send = || transport::send(&self.socket, frames);
        let sent = self.socket.try_io(Interest::WRITABLE, send);
        self.written.notify_waiters();
        sent
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }
}
