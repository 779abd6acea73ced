//! The limit: a server that sends each line back, in a runtime and on threads of its own like the
//! host.

use std::{path::Path, sync::Arc, thread};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Notify,
};

use crate::error::BenchError;

/// One echo under way.
pub(super) struct Echo {
    over: Arc<Notify>,
    thread: thread::JoinHandle<()>,
}

impl Echo {
    /// Serves a socket. A bare echo writes line by line; one that answers in batches writes once
    /// for all lines that have come.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub(super) fn start(socket: &Path, batches: bool) -> Result<Self, BenchError> {
        let runtime = crate::runtime()?;
        let listener = {
            let _there = runtime.enter();
            UnixListener::bind(socket).map_err(BenchError::Socket)?
        };
        let over = Arc::new(Notify::new());
        let ended = over.clone();
        let thread = thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, batches) => {}
                    () = ended.notified() => {}
                }
            });
        });
        Ok(Echo { over, thread })
    }

    /// # Errors
    /// It panicked.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        self.over.notify_one();
        self.thread.join().map_err(|_| BenchError::Wrong("an echo".to_owned()))
    }
}

async fn serve(listener: UnixListener, batches: bool) {
    // A task that accepts, as in the host, on one of the runtime's threads.
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream, batches));
        }
    });
    // It ends when the listener fails; the clients notice.
    let _ = accepting.await;
}

async fn echo(stream: UnixStream, batches: bool) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::with_capacity(1 << 14, read);
    let mut lines = Vec::new();
    while read.read_until(b'\n', &mut lines).await.is_ok_and(|count| count > 0) {
        if batches && read.buffer().contains(&b'\n') {
            continue;
        }
        if write.write_all(&lines).await.is_err() {
            return;
        }
        lines.clear();
    }
}
