//! The thread that a library is opened on, which is there for as long as the library is.
//!
//! Whoever opens a library runs its constructors, and what is in it may take that thread for the
//! main thread of the process, which never ends: allocators do, and know threads by an address that
//! the next thread gets when one has ended. So each library has a thread of its own, asleep from
//! when it is open until it is about to be closed. Then it ends, and with it the thread-locals that
//! constructors left there.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

/// A thread that has opened something. It stays until this is dropped or [ended](Self::end).
pub(crate) struct LibraryThread {
    /// Nothing is sent; that it is dropped ends the thread.
    keep: Option<Sender<()>>,
    /// Until another thread waits for it.
    thread: Option<JoinHandle<()>>,
    /// Nothing comes; the other end is gone when the thread has ended. The lock is there to make
    /// this `Sync`.
    ended: Option<Mutex<Receiver<()>>>,
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
        Ok((opened, LibraryThread { keep: Some(keep), thread: Some(thread), ended: None }))
    }

    /// Ends the thread, which runs the destructors that constructors left there, and waits so long
    /// for it; whether it has ended. To be called again if not.
    pub(crate) fn end(&mut self, limit: Duration) -> bool {
        self.keep = None;
        if let Some(thread) = self.thread.take() {
            let (sender, ended) = channel::<()>();
            let (give, take) = channel::<JoinHandle<()>>();
            let joins = Builder::new().name("ksi-join".to_owned()).spawn(move || {
                let _sender = sender;
                if let Ok(thread) = take.recv() {
                    // It gives nothing; a destructor that panics there ends the process.
                    let _ = thread.join();
                }
            });
            if joins.is_err() {
                self.thread = Some(thread);
                return false;
            }
            // It takes it: nothing ends it before.
            let _ = give.send(thread);
            self.ended = Some(Mutex::new(ended));
        }
        let ended = self.ended.as_mut().map(|ended| {
            ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(limit)
        });
        ended != Some(Err(RecvTimeoutError::Timeout))
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

    struct TellsItsEnd(Arc<AtomicBool>);

    impl Drop for TellsItsEnd {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    thread_local! {
        static LEFT: RefCell<Option<TellsItsEnd>> = const { RefCell::new(None) };
    }

    #[tokio::test]
    async fn it_is_there_until_it_is_ended_and_then_all_of_it_has_ended() {
        let ended = Arc::new(AtomicBool::new(false));
        let left = TellsItsEnd(ended.clone());
        let started = LibraryThread::start(move || {
            LEFT.set(Some(left));
            thread::current().id()
        });
        let (opened, mut thread) = started.unwrap();
        assert_ne!(opened.await.unwrap(), thread::current().id());
        assert!(!ended.load(SeqCst));
        assert!(thread.end(Duration::from_secs(20)));
        assert!(ended.load(SeqCst), "the destructors of its thread-locals have run");
    }

    struct Waits(Receiver<()>);

    impl Drop for Waits {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    thread_local! {
        static STUCK: RefCell<Option<Waits>> = const { RefCell::new(None) };
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_not_waited_for_longer_than_that() {
        let (release, stuck) = channel();
        let started = LibraryThread::start(move || STUCK.set(Some(Waits(stuck))));
        let (opened, mut thread) = started.unwrap();
        opened.await.unwrap();
        assert!(!thread.end(Duration::from_millis(20)));
        assert!(!thread.end(Duration::from_millis(20)));
        drop(release);
        assert!(thread.end(Duration::from_secs(20)));
    }
}
