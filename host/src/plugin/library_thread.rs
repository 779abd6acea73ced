//! The thread that a library is opened on, which is there for as long as the library is.
//!
//! Whoever opens a library runs its constructors, and what is in it may take that thread for the main thread of the process,
//! which never ends: allocators do, and know threads by an address that the next thread gets when one has ended. So each
//! library has a thread of its own, asleep from when it is open until it is about to be closed. Then it ends, and with it the
//! thread-locals that constructors left there.

use std::{
    io,
    sync::mpsc::{Sender, channel},
    thread::{Builder, JoinHandle},
};

use tokio::sync::oneshot;

/// A thread that has opened something. It stays until this is dropped or [ended](Self::end).
pub(crate) struct LibraryThread {
    /// Nothing is sent; that it is dropped ends the thread.
    keep: Sender<()>,
    thread: JoinHandle<()>,
}

impl LibraryThread {
    /// Has `open` run on a new thread, which stays; what it gives is received.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start<T: Send + 'static>(
        open: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<(oneshot::Receiver<T>, Self)> {
        let (sender, opened) = oneshot::channel();
        let (keep, kept) = channel();
        let thread = Builder::new().name("ksi-library".to_owned()).spawn(move || {
            // If nobody waits any more, what was opened is dropped: a library stays open then.
            let _ = sender.send(open());
            // An error is what it waits for: the other end is gone.
            let _ = kept.recv();
        })?;
        Ok((opened, LibraryThread { keep, thread }))
    }

    /// Ends the thread, which runs the destructors that constructors left there, and waits for it.
    pub(crate) fn end(self) {
        drop(self.keep);
        // It gives nothing; a destructor that panics there ends the process.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        thread,
    };

    use super::*;

    struct Ends(Arc<AtomicBool>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    thread_local! {
        static LEFT: RefCell<Option<Ends>> = const { RefCell::new(None) };
    }

    #[tokio::test]
    async fn it_is_there_until_it_is_ended_and_then_all_of_it_has_ended() {
        let ended = Arc::new(AtomicBool::new(false));
        let left = Ends(ended.clone());
        let started = LibraryThread::start(move || {
            LEFT.set(Some(left));
            thread::current().id()
        });
        let (opened, thread) = started.unwrap();
        assert_ne!(opened.await.unwrap(), thread::current().id());
        assert!(!ended.load(SeqCst));
        thread.end();
        assert!(ended.load(SeqCst), "the destructors of its thread-locals have run");
    }
}
