//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::io;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::exit::SIGNALLED_TWICE;

/// Listens from now on; within a runtime. The receiver resolves at the first signal.
pub(crate) fn listen() -> io::Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new()?;
    let (first, received) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        // Nobody waits for it any more when the host is going down anyhow.
        let _ = first.send(());
        signals.next().await;
        std::process::exit(SIGNALLED_TWICE);
    });
    Ok(received)
}

/// Runs `then` at the first signal, on a thread of its own, for a command that has no runtime.
pub(crate) fn on_first(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let received = {
        let _entered = runtime.enter();
        listen()?
    };
    let run = move || {
        runtime.block_on(async {
            if received.await.is_ok() {
                then();
            }
            std::future::pending::<()>().await;
        })
    };
    std::thread::Builder::new().name("signals".into()).spawn(run)?;
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}
