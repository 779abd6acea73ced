//! What goes to the host: frames of one turn together, or one at once.

use std::os::fd::{AsFd, OwnedFd};

use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{Batch, FromWorker, ProtocolError, transport};

/// Bytes that wait for the end of a turn.
const WAITING: u64 = 64 << 10;

/// The way to the host. It may wait: the host takes what comes, whatever it is doing.
pub(super) struct WayOut {
    socket: OwnedFd,
    batch: Lock<Batch>,
}

impl WayOut {
    pub(super) fn new(socket: OwnedFd) -> Self {
        WayOut { socket, batch: Lock::default() }
    }

    pub(super) fn socket(&self) -> impl AsFd + '_ {
        &self.socket
    }

    pub(super) fn set_limit(&self, limit: u32) {
        self.batch.lock().set_limit(limit);
    }

    /// Adds a frame, which goes when somebody says so.
    pub(super) fn put(&self, frame: FromWorker<'_>, id: u64) -> Result<(), ProtocolError> {
        let mut batch = self.batch.lock();
        frame.put(id, &mut batch)?;
        if batch.waiting() > WAITING {
            self.send(&mut batch);
        }
        Ok(())
    }

    /// Sends it, behind all that waits.
    pub(super) fn put_now(&self, frame: FromWorker<'_>, id: u64) -> Result<(), ProtocolError> {
        let mut batch = self.batch.lock();
        frame.put(id, &mut batch)?;
        self.send(&mut batch);
        Ok(())
    }

    /// Sends what waits.
    pub(super) fn flush(&self) {
        let mut batch = self.batch.lock();
        if !batch.is_empty() {
            self.send(&mut batch);
        }
    }

    /// A host that takes no more is gone, which whoever reads finds out.
    fn send(&self, batch: &mut Batch) {
        if transport::send(&self.socket, batch).is_err() {
            batch.clear();
        }
    }
}
