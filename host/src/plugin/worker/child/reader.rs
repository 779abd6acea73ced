//! Who reads what the host sends. One thread does, and runs what it has read up to its first await,
//! because another thread would cost each call more than all else together.
//!
//! That is plugin code, which may take its time. So a second thread looks on: when the work of the
//! one that reads goes on for longer than a moment, the second one reads from there on, sends what
//! the first one had ready, and there is another that looks on. Whoever comes back from such work
//! looks on in his turn, or ends. So a ping is answered and other calls go on whatever a handler
//! does, as long as no more than [`THREADS`] of them are stuck at a time.
//!
//! While nothing happens both threads sleep.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Arc, Condvar,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    thread::Builder,
    time::Duration,
};

use async_task::Runnable;
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{Inbox, ProtocolError, transport};

use super::{host::WorkerHost, job};

/// How often is looked whether the work of the one that reads goes on.
const TICK: Duration = Duration::from_millis(10);
/// After so many times at which nothing happened nobody looks any more.
const QUIET: u32 = 100;
/// Those that are in work that does not end, and one that reads, and one that looks on.
const THREADS: usize = 32;

thread_local! {
    /// The shift of the thread that reads.
    static SHIFT: RefCell<Option<Arc<Shift>>> = const { RefCell::new(None) };
}

/// The thread reads, or is about to.
const READS: u8 = 0;
/// It runs what it has read, and may be relieved.
const WORKS: u8 = 1;
/// It was relieved: another thread reads.
const OVER: u8 = 2;

/// The time for which one thread reads.
#[derive(Default)]
struct Shift {
    state: AtomicU8,
    /// Pieces of work that have begun.
    begun: AtomicU64,
}

impl Shift {
    fn is(&self, state: u8) -> bool {
        self.state.load(SeqCst) == state
    }

    /// Whether it was in this state, and is in that one now.
    fn goes(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// How it ends.
#[derive(Debug)]
pub(super) enum End {
    /// The host has closed the socket, or is gone.
    Closed,
    /// It sends what is nothing of the protocol.
    Protocol(ProtocolError),
}

pub(super) struct TurnReader {
    inbox: Lock<Inbox>,
    shift: Lock<Arc<Shift>>,
    /// What this thread has woken, and will run before it reads on.
    ready: Lock<VecDeque<Runnable>>,
    spares: Lock<Spares>,
    wake: Condvar,
    /// Somebody looks every moment.
    looks: AtomicBool,
}

#[derive(Default)]
struct Spares {
    /// Threads that there are.
    threads: usize,
    /// One that looks on.
    idle: bool,
    /// Nobody reads, and somebody is to.
    vacant: bool,
    over: bool,
}

impl TurnReader {
    pub(super) fn new(inbox: Inbox) -> Self {
        TurnReader {
            inbox: Lock::new(inbox),
            shift: Lock::default(),
            ready: Lock::default(),
            spares: Lock::default(),
            wake: Condvar::new(),
            looks: AtomicBool::new(false),
        }
    }

    /// Starts to read, on threads of its own.
    pub(super) fn start(host: &Arc<WorkerHost>) -> std::io::Result<()> {
        host.reader.spares.lock().vacant = true;
        Self::thread(host)
    }

    /// Whether this thread is the one that reads, in a piece of work.
    pub(super) fn reads_here(&self) -> bool {
        SHIFT.with_borrow(|shift| shift.as_ref().is_some_and(|it| !it.is(OVER)))
    }

    /// Runs something on this thread before it reads on.
    pub(super) fn run_next(&self, runnable: Runnable) {
        self.ready.lock().push_back(runnable);
    }

    /// This thread is about to wait for something that has to be read.
    pub(super) fn step_aside(host: &Arc<WorkerHost>) {
        let reader = &host.reader;
        if !SHIFT.with_borrow(|shift| shift.as_ref().is_some_and(|it| it.goes(WORKS, OVER))) {
            return;
        }
        let mut spares = reader.spares.lock();
        spares.vacant = true;
        if spares.idle {
            reader.wake.notify_all();
        } else {
            drop(spares);
            let _ = Self::thread(host);
        }
    }

    fn thread(host: &Arc<WorkerHost>) -> std::io::Result<()> {
        {
            let mut spares = host.reader.spares.lock();
            if spares.threads >= THREADS || spares.over {
                return Ok(());
            }
            spares.threads += 1;
        }
        let this = host.clone();
        let started = Builder::new().name("ksi-reader".to_owned()).spawn(move || {
            while let Some(shift) = this.reader.look_on(&this) {
                SHIFT.set(Some(shift.clone()));
                this.reader.read(&this, &shift);
                SHIFT.set(None);
            }
        });
        if started.is_err() {
            host.reader.spares.lock().threads -= 1;
        }
        started.map(drop)
    }

    /// Waits until this thread is to read; none if it is not needed.
    fn look_on(&self, host: &Arc<WorkerHost>) -> Option<Arc<Shift>> {
        let mut spares = self.spares.lock();
        if (spares.idle && !spares.vacant) || spares.over {
            spares.threads -= 1;
            return None;
        }
        let was_idle = std::mem::replace(&mut spares.idle, true);
        let (mut seen, mut quiet) = (u64::MAX, 0);
        let taken = loop {
            if spares.over {
                spares.threads -= 1;
                spares.idle = was_idle;
                return None;
            }
            if spares.vacant {
                spares.vacant = false;
                break self.next_shift();
            }
            if !self.looks.load(SeqCst) {
                spares = self.wake.wait(spares).unwrap_or_else(|it| it.into_inner());
                continue;
            }
            let waited = self.wake.wait_timeout(spares, TICK);
            spares = waited.unwrap_or_else(|it| it.into_inner()).0;
            let shift = self.shift.lock().clone();
            let begun = shift.begun.load(SeqCst);
            let same = begun == seen;
            if same && shift.goes(WORKS, OVER) {
                break self.next_shift();
            }
            quiet = if same { quiet + 1 } else { 0 };
            seen = begun;
            if quiet > QUIET {
                // Whoever begins work sees that nobody looks, or is seen here.
                self.looks.store(false, SeqCst);
                if shift.is(WORKS) {
                    self.looks.store(true, SeqCst);
                }
                quiet = 0;
            }
        };
        spares.idle = was_idle;
        let alone = !was_idle;
        drop(spares);
        if alone {
            let _ = Self::thread(host);
        }
        Some(taken)
    }

    fn next_shift(&self) -> Arc<Shift> {
        let next = Arc::<Shift>::default();
        *self.shift.lock() = next.clone();
        next
    }

    /// Reads and works until somebody else does, or until the end.
    fn read(&self, host: &Arc<WorkerHost>, shift: &Shift) {
        loop {
            // Also when somebody else reads by now: this thread may have woken it while it worked.
            while let Some(runnable) = { self.ready.lock().pop_front() } {
                self.work(shift, || {
                    runnable.run();
                });
            }
            let read = {
                let mut inbox = self.inbox.lock();
                if shift.is(OVER) {
                    return;
                }
                next(host, &mut inbox)
            };
            match read {
                Ok(Some((id, job))) => self.work(shift, || job.run(host, id)),
                Ok(None) => {}
                Err(end) => {
                    self.end();
                    return host.ends(end);
                }
            }
        }
    }

    fn work(&self, shift: &Shift, work: impl FnOnce()) {
        shift.begun.fetch_add(1, SeqCst);
        shift.goes(READS, WORKS);
        if !self.looks.load(SeqCst) {
            let _spares = self.spares.lock();
            self.looks.store(true, SeqCst);
            self.wake.notify_all();
        }
        work();
        shift.goes(WORKS, READS);
    }

    /// Nobody reads any more.
    pub(super) fn end(&self) {
        self.spares.lock().over = true;
        self.wake.notify_all();
    }
}

/// What is to be done next; none if it is not all there yet.
fn next(host: &WorkerHost, inbox: &mut Inbox) -> Result<Option<(u64, job::Job)>, End> {
    match inbox.next().map_err(End::Protocol)? {
        Some(frame) => {
            let id = frame.id;
            job::Job::of(frame).map(|job| Some((id, job))).map_err(End::Protocol)
        }
        None => {
            host.out.flush();
            match transport::receive(host.out.socket(), inbox) {
                Ok(1..) => Ok(None),
                Ok(0) | Err(_) => Err(End::Closed),
            }
        }
    }
}
