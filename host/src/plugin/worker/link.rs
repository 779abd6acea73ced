//! The host's end of the socket to a plugin's process: calls go out, their ends come back, and what
//! the plugin asks of the host is done in its name.
//!
//! One task on the dispatch workers reads; nobody is woken in between. The worker never says who an
//! event's parent is: it names the call in which it emits, and the host has the event of that.
//!
//! Promises that every call ends in one outcome whatever happens to the process, that nothing is
//! sent twice, and that a worker that says what cannot be understood is ended with that text. Does
//! not know how the process was started, nor what follows its end.

mod asks;
mod calls;
mod confined;
mod events;
mod health;
mod outbox;
mod reading;
mod services;

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};

use ksi_abi::{Counted, EventObject, Failure, ReplyForm};
use ksi_kernel::{
    call::{
        Undelivered,
        outcome::{CallOutcome, CallReply},
    },
    event::Event,
    lock::Lock,
    report::OutcomeKind,
    router::Router,
};
use ksi_worker_protocol::{
    Batch, Call, FromHost, Payload, ProtocolError, ReplyForm as FrameForm, life,
};
use tokio::{net::UnixStream, sync::watch};

pub(crate) use self::health::Health;
use self::{
    asks::Asks,
    calls::{Begun, Calls, Ending},
    outbox::Outbox,
};
pub(crate) use self::{confined::Confined, services::WorkerHost};
use super::process::{Death, NewProcess, WorkerProcess};
use crate::log_levels::Follower;

/// Where a call goes that its process was not there for any more.
#[derive(Clone)]
pub(super) enum Next {
    /// That is not known yet.
    Unknown,
    /// To the plugin's gate, where its events wait for another process or another version.
    Gate,
    /// Nowhere, for this reason.
    Nowhere(Arc<str>),
}

impl Next {
    pub(super) fn is_nowhere(&self) -> bool {
        matches!(self, Next::Nowhere(_))
    }
}

/// Why a process has not opened its file.
#[derive(Debug)]
pub(crate) struct NotOpened {
    /// For people.
    pub(crate) reason: String,
    /// Whether it may be opened at another time: the plugin has not said what is wrong.
    pub(crate) may_pass: bool,
}

/// Bounds of what goes over a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkLimits {
    /// Bytes of a frame's body.
    pub(crate) frame: u32,
    /// Bytes of what an event carries.
    pub(crate) payload: u64,
    /// Bytes of a reply, which may be a snapshot.
    pub(crate) state: u64,
    /// What the worker may have asked for at a time.
    pub(crate) asks: usize,
}

/// The host's end; see the module.
pub(crate) struct Link {
    process: Arc<WorkerProcess>,
    router: Arc<Router>,
    outbox: Outbox,
    calls: Calls,
    asks: Arc<Asks>,
    /// Of the generation whose instance is made there.
    host: OnceLock<WorkerHost>,
    limits: LinkLimits,
    /// It has said what it speaks.
    greeted: AtomicBool,
    /// It has said so, and knows LIVE.
    knows_live: AtomicBool,
    began: Instant,
    /// What it has said is being done: then it is not silent.
    at_work: AtomicBool,
    /// When it was heard last, in milliseconds since it began.
    heard: AtomicU64,
    dead: OnceLock<Arc<Death>>,
    /// Handlers of subscriptions that may block their thread, with how many there are of each.
    blocking: Lock<HashMap<u64, usize>>,
    next: watch::Sender<Next>,
    /// The level of the log that it was told last.
    log_level: AtomicU8,
}

/// In place of a level that was told to a process which has not opened its file: it is told then.
const NOT_OPENED: u8 = u8::MAX;

/// Tells a process of the level of the log.
struct Listens(Weak<Link>);

impl Follower for Listens {
    fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn levels_changed(&self) {
        if let Some(link) = self.0.upgrade() {
            link.tell_log_level();
        }
    }
}

impl Link {
    /// Takes over the socket of a process, and reads from it until it ends.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub(crate) fn start(
        new: NewProcess,
        router: &Arc<Router>,
        limits: LinkLimits,
    ) -> io::Result<Arc<Self>> {
        let NewProcess { process, socket } = new;
        socket.set_nonblocking(true)?;
        let link = Arc::new(Link {
            process,
            router: router.clone(),
            outbox: Outbox::new(registered(socket, router)?, limits.frame),
            calls: Calls::default(),
            asks: Arc::new(Asks::new(limits.asks)),
            host: OnceLock::new(),
            limits,
            greeted: AtomicBool::new(false),
            knows_live: AtomicBool::new(false),
            began: Instant::now(),
            at_work: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            dead: OnceLock::new(),
            blocking: Lock::default(),
            next: watch::Sender::new(Next::Unknown),
            log_level: AtomicU8::new(NOT_OPENED),
        });
        let (reading, writing) = (link.clone(), link.clone());
        let written = router.workers().spawn(async move {
            let Err(error) = writing.outbox.run().await else { return };
            writing.cannot_write(&error).await;
        });
        router.spawn_detached(async move {
            let fault = reading.read().await;
            drop(written);
            reading.ended(fault).await;
        });
        Ok(link)
    }

    /// The process.
    pub(crate) fn process(&self) -> &Arc<WorkerProcess> {
        &self.process
    }

    /// How the process ended, if it has and all of its calls have.
    pub(crate) fn death(&self) -> Option<&Arc<Death>> {
        self.dead.get()
    }

    /// Calls that have ended although nobody waited for them any more.
    pub(crate) fn late(&self) -> u64 {
        self.calls.late()
    }

    /// Waits until no call goes on that nobody waits for any more: such a one was told to end, and
    /// may still hold its thread and change what the plugin knows.
    pub(super) async fn late_calls_end(&self) {
        self.calls.late_ones_end().await;
    }

    /// Whether a handler of a subscription may block its thread.
    pub(super) fn may_block(&self, handler: u64) -> bool {
        self.blocking.lock().contains_key(&handler)
    }

    /// One more subscription has this handler, which may block its thread.
    fn blocks(&self, handler: u64) {
        *self.blocking.lock().entry(handler).or_default() += 1;
    }

    /// One of those is no more.
    fn blocks_no_more(&self, handler: u64) {
        if let Entry::Occupied(mut entry) = self.blocking.lock().entry(handler) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// Has the file opened; the description of it.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn open(&self, open: &life::Open) -> Result<Vec<u8>, NotOpened> {
        self.log_level.store(open.level, Ordering::Relaxed);
        let open = open.to_json();
        let opened = self.ask(|id, to| FromHost::Open(Payload::Bytes(&open)).put(id, to)).await;
        match opened {
            CallOutcome::Replied(CallReply::Bytes(description)) => Ok(description.to_vec()),
            other => {
                let may_pass = matches!(other, CallOutcome::Crashed { .. });
                Err(NotOpened { reason: reason_of(other), may_pass })
            }
        }
    }

    /// Has an instance made, which has this of the host.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn create(
        self: &Arc<Self>,
        host: WorkerHost,
        config: &[u8],
    ) -> Result<(), String> {
        let services = host.services.clone();
        if self.host.set(host).is_err() {
            return Err("an instance was made in this process already".to_owned());
        }
        let listens = Listens(Arc::downgrade(self));
        services.levels().follow(services.session().plugin().clone(), Arc::new(listens));
        // They may have changed since it was opened.
        self.tell_log_level();
        match self.ask(|id, to| FromHost::Create(Payload::Bytes(config)).put(id, to)).await {
            CallOutcome::NoReply => Ok(()),
            other => Err(reason_of(other)),
        }
    }

    /// Asks for what is no call of a handler, and waits for the end of that.
    pub(crate) async fn ask(
        &self,
        frame: impl FnOnce(u64, &mut Batch) -> Result<(), ProtocolError>,
    ) -> CallOutcome {
        let Some(begun) = self.calls.begin(None) else { return self.crashed() };
        let call = OnItsWay { link: self, number: begun.number };
        if let Err(error) = self.outbox.put(true, |to| frame(call.number, to)) {
            self.calls.is_not_put(call.number);
            return not_sent(&error);
        }
        match begun.ending.await {
            Ok(Ending::Ended(outcome)) => outcome,
            Ok(Ending::Undelivered) | Err(_) => self.crashed(),
        }
    }

    /// Tells it something that has no answer.
    pub(crate) fn tell(&self, frame: FromHost<'_>) {
        // Those that are told have no payload, so they are never too long.
        let _ = self.outbox.put(true, |to| frame.put(0, to));
    }

    /// Tells it the level of the log that the host listens to, if that is another one by now.
    pub(super) fn tell_log_level(&self) {
        let Some(host) = self.host.get() else { return };
        let level = host.services.levels().most_of_plugin(host.services.session().plugin());
        let told = self.log_level.load(Ordering::Relaxed);
        if told != NOT_OPENED && told != level {
            self.log_level.store(level, Ordering::Relaxed);
            self.tell(FromHost::Level(level));
        }
    }

    /// Tells it that events come to its instance from here on.
    pub(super) fn goes_live(&self) {
        if self.knows_live.load(Ordering::Relaxed) {
            self.tell(FromHost::Live);
        }
    }

    /// Calls a handler. What could not be sent before the process was gone waits at the plugin's
    /// gate, so that it holds up no other version that is to take its place.
    pub(super) async fn call(
        self: Arc<Self>,
        handler: u64,
        blocking: bool,
        event: Counted<Event>,
        form: ReplyForm,
    ) -> Result<CallOutcome, Undelivered> {
        if let Some(ended) = self.deliver(handler, blocking, &event, form).await {
            return Ok(ended);
        }
        let next = {
            let mut followed = self.next.subscribe();
            let next = followed.wait_for(|next| !matches!(next, Next::Unknown)).await;
            next.map_or(Next::Unknown, |next| next.clone())
        };
        let rejected = |reason: &str| Ok(CallOutcome::Rejected { reason: reason.into() });
        match next {
            // One that is open again leads here, or to somebody who says why not.
            Next::Gate if self.events_wait() => {
                let router = self.router.clone();
                drop(self);
                Err(Undelivered::new(move |call| router.call_again(event, form, call)))
            }
            Next::Nowhere(reason) => rejected(&reason),
            Next::Gate | Next::Unknown => rejected("the plugin is gone"),
        }
    }

    /// Whether its plugin's gate is closed, or leads elsewhere by now.
    fn events_wait(&self) -> bool {
        let gate = self.host.get().and_then(|host| host.services.session().gate());
        gate.is_some_and(|gate| !gate.is_open())
    }

    /// Sends a call and waits for its end; nothing if it was not sent.
    async fn deliver(
        &self,
        handler: u64,
        blocking: bool,
        event: &Counted<Event>,
        form: ReplyForm,
    ) -> Option<CallOutcome> {
        if !self.outbox.has_room() {
            self.outbox.room().await;
        }
        let Begun { number, ending, alone } =
            self.calls.begin(Some(EventObject::to_keep(event)))?;
        let _on_its_way = OnItsWay { link: self, number };
        let put = events::with_frame(event, |event| {
            let form = match form {
                ReplyForm::Any => FrameForm::Any,
                _ => FrameForm::Json,
            };
            let call = Call { handler, form, blocking, nanoseconds_left: 0, event };
            self.outbox.put(alone, |to| FromHost::Call(call).put(number, to))
        });
        match put {
            Ok(Ok(end)) => self.calls.is_put(number, end),
            Ok(Err(error)) => {
                self.calls.is_not_put(number);
                return Some(not_sent(&error));
            }
            Err((code, message)) => {
                self.calls.is_not_put(number);
                return Some(CallOutcome::Failed(Failure::new(&code, &message)));
            }
        }
        match ending.await {
            Ok(Ending::Ended(outcome)) => Some(outcome),
            Ok(Ending::Undelivered) => None,
            Err(_) => Some(self.crashed()),
        }
    }

    /// Where calls go that this process was not there for.
    pub(super) fn is_followed_by(&self, next: Next) {
        self.next.send_if_modified(|now| {
            let unknown = matches!(now, Next::Unknown);
            if unknown {
                *now = next;
            }
            unknown
        });
    }

    fn crashed(&self) -> CallOutcome {
        let how =
            self.dead.get().map_or_else(|| "its process ended".to_owned(), |it| it.to_string());
        CallOutcome::Crashed { message: how.into() }
    }
}

/// A call that is told to be given up if it has not ended when this is dropped.
struct OnItsWay<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if self.link.calls.give_up(self.number) {
            let cancel = |to: &mut Batch| FromHost::Cancel.put(self.number, to);
            let _ = self.link.outbox.put(true, cancel);
        }
    }
}

fn registered(socket: StdUnixStream, router: &Router) -> io::Result<UnixStream> {
    let _inside = router.workers().io().enter();
    UnixStream::from_std(socket)
}

fn not_sent(error: &ProtocolError) -> CallOutcome {
    CallOutcome::Failed(Failure::new("too_large", &error.to_string()))
}

/// Why something was not done that has no reply.
pub(super) fn reason_of(outcome: CallOutcome) -> String {
    match OutcomeKind::from(outcome) {
        OutcomeKind::Failed { message, .. } => message,
        OutcomeKind::Panicked { message } => format!("it panicked: {message}"),
        OutcomeKind::Replied(_) | OutcomeKind::NoReply => "its answer is another one".to_owned(),
        other => other.message(),
    }
}
