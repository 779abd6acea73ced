//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.
//!
//! Not by tokio's own signal handling: cargo would turn that feature on for plugins of the same build too, and in a
//! plugin it keeps two file descriptors of each generation.

use std::{io, thread};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::sync::oneshot;

use super::exit::SIGNALLED_TWICE;

/// Listens from now on. The receiver resolves at the first signal.
pub(crate) fn listen() -> io::Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (first, received) = oneshot::channel();
    let wait = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            // Nobody waits for it any more when the host is going down anyhow.
            let _ = first.send(());
        }
        if signals.next().is_some() {
            ksi_host::expect_exit();
            std::process::exit(SIGNALLED_TWICE);
        }
    };
    thread::Builder::new().name("ksi-signals".to_owned()).spawn(wait)?;
    Ok(received)
}

/// Runs `then` at the first signal, on a thread of its own, for a command that has no runtime.
pub(crate) fn on_first(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let received = listen()?;
    let run = move || {
        if received.blocking_recv().is_ok() {
            then();
        }
    };
    thread::Builder::new().name("ksi-signalled".to_owned()).spawn(run)?;
    Ok(())
}
