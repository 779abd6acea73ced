//! What a plugin may ask of the host.

#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::{
    future::Future,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use abi_stable::StableAbi;

use super::{
    BoundaryFuture, Buffer, Content, Counted, EmitOptions, EventHandle, EventObject, Fingerprint,
    LogRecord, Pattern, Refusal, RefusalCode, ReportHandle, SpanRecord, SubscribeOptions, Value,
};
pub use super::{
    host_ref::{HostRef, RouteRef, WatchRef},
    host_table::HostTable,
};

#[cfg(unix)]
const KEEPS_NOTHING: &str = "this host keeps no resources";

/// What becomes of an open span, which is all that can.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanStep {
    /// This thread enters it.
    Enter,
    /// This thread leaves it.
    Exit,
    /// One more reference to it.
    Clone,
    /// One reference less.
    Close,
}

/// How a `wait_for` ended.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum WaitEnd {
    /// The event came.
    Event(EventHandle),
    /// It did not come in time.
    TimedOut,
    /// The host refused to wait, and why.
    Refused(Refusal),
}

/// What a watcher is shown.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum WatchStep {
    /// An event that passed.
    Event(EventHandle),
    /// So many events did not fit, and nothing more comes.
    Missed(u64),
    /// Nothing more comes: the plugin is retired.
    Ended,
}

/// Patterns that one watch may have, as a subscription of a client.
const WATCH_PATTERNS: usize = 64;

/// The patterns of a watch, as every host takes them.
///
/// # Errors
/// There are none or too many, or one of them is none.
pub fn watch_patterns(patterns: &[&str]) -> Result<Vec<Pattern>, Refusal> {
    if patterns.is_empty() || patterns.len() > WATCH_PATTERNS {
        let text = format_args!(
            "a watch has from 1 to {WATCH_PATTERNS} patterns, and {} were given",
            patterns.len()
        );
        return Err(Refusal::new(RefusalCode::INVALID_PATTERN, text));
    }
    patterns.iter().map(|it| pattern(it)).collect()
}

/// The pattern of a subscription, as every host takes it.
///
/// # Errors
/// It is none.
pub fn pattern(text: &str) -> Result<Pattern, Refusal> {
    Pattern::parse(text).map_err(|error| Refusal::new(RefusalCode::INVALID_PATTERN, error))
}

/// Which event is emitted.
pub enum To<'a, R> {
    /// One whose name was resolved.
    Route(&'a R),
    /// One of this name.
    Name(&'a str),
}

/// How something that may take time began.
pub enum Start<T, F> {
    /// It is done already.
    Ready(T),
    /// It goes on; the waker that was given is registered.
    Pending(F),
}

/// In which form an emitter takes replies.
#[repr(C, u64)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// As they come: it shows them to whoever asks, in any form.
    Any,
    /// As JSON.
    Json,
    /// As a value of this layout, or else as JSON.
    Layout(Fingerprint),
}

impl ReplyForm {
    /// One reply of a type with this fingerprint, if it has one.
    #[inline]
    pub fn of(print: Option<Fingerprint>) -> Self {
        print.map_or(ReplyForm::Json, ReplyForm::Layout)
    }

    /// Whether a value of a type with this fingerprint is of use; otherwise it would only be made
    /// to become JSON.
    #[inline]
    pub fn takes(&self, print: Option<Fingerprint>) -> bool {
        match (self, print) {
            (_, None) | (ReplyForm::Json, _) => false,
            (ReplyForm::Any, Some(_)) => true,
            (ReplyForm::Layout(wanted), Some(print)) => *wanted == print,
        }
    }
}

/// What became of a request.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum ReplyEnd {
    /// There is one reply, of the layout that was wanted. It is plain data, which needs nothing of
    /// its maker.
    Value(Value),
    /// There is one reply, encoded.
    Bytes(Buffer),
    /// Anything else.
    Report(ReportHandle),
}

/// The host, as one generation of a plugin sees it.
pub trait HostApi: Send + Sync + 'static {
    /// The events that this host gives to plugins. A handle that a plugin passes back is always one
    /// of these.
    type Event: EventObject;

    /// What stands for an event name that a plugin emits often.
    type Route: Send + Sync + 'static;
    /// The rest of an emit.
    type Emitting: Future<Output = ReportHandle> + Send + 'static;
    /// The rest of a request.
    type Requesting: Future<Output = ReplyEnd> + Send + 'static;
    /// Events that somebody looks on at.
    type Watch: Send + Sync + 'static;

    /// Finds out once what an emit of this name would find out each time. None when it would be
    /// refused.
    fn resolve(self: &Arc<Self>, name: &str) -> Option<Self::Route>;

    /// Runs every handler of an event, all up to their first await before this returns.
    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting>;

    /// The same for an emitter that wants one reply.
    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        wants: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting>;

    /// Accepts an event into the queue, or refuses it.
    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal>;

    /// Awaits the next event that matches.
    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static;

    /// Shows events that match one of these patterns to somebody who does not handle them, as long
    /// as the watch is there.
    fn watch(self: &Arc<Self>, patterns: &[&str], capacity: usize) -> Result<Self::Watch, Refusal>;

    /// Awaits what a watch shows next. If this is dropped before it is ready, nothing is lost.
    fn next(watch: &Arc<Self::Watch>) -> impl Future<Output = WatchStep> + Send + 'static;

    /// Calls `handler` of this plugin for every event that matches; the subscription's number.
    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal>;

    /// Ends a subscription; whether there was one.
    fn unsubscribe(&self, subscription: u64) -> bool;

    /// Waits.
    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static;

    /// Runs a background task until it ends or the plugin is retired; its number.
    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal>;

    /// Drops a background task.
    fn cancel(&self, task: u64);

    /// The host's monotonic clock.
    fn now(&self) -> Duration;

    /// The most detailed level that anybody listens to, as in [`LogRecord`]; 0 for none.
    fn max_level(&self) -> u8 {
        0
    }

    /// Writes a line of the log.
    fn log(&self, _record: &LogRecord<'_>) {}

    /// Opens a span; its number, or 0 when nobody listens.
    fn span(&self, _record: &SpanRecord<'_>) -> u64 {
        0
    }

    /// Moves an open span on.
    fn span_step(&self, _span: u64, _step: SpanStep) {}

    /// Wraps a waker whose code lies in the plugin, so that the host may keep it: it holds the
    /// library, and is woken and dropped where plugin code may run.
    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker;

    /// Whether the plugin is only tried out: it reaches nobody, and is dropped again.
    fn is_trial(&self) -> bool {
        false
    }

    /// Where the plugin was loaded from, in the system's bytes, and not the copy of it that is
    /// mapped.
    fn file(&self) -> Option<Vec<u8>> {
        None
    }

    /// A duplicate of the socket that is kept for this plugin and listens at this address; bound at
    /// the first time.
    #[cfg(unix)]
    fn listener(&self, _address: &str) -> Result<OwnedFd, Refusal> {
        Err(Refusal::new(RefusalCode::UNSUPPORTED, KEEPS_NOTHING))
    }

    /// Keeps a descriptor for this plugin, in place of one that was kept by the same name.
    #[cfg(unix)]
    fn keep(&self, _name: &str, _descriptor: OwnedFd) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalCode::UNSUPPORTED, KEEPS_NOTHING))
    }

    /// A duplicate of the descriptor that is kept by this name.
    #[cfg(unix)]
    fn kept(&self, _name: &str) -> Result<Option<OwnedFd>, Refusal> {
        Ok(None)
    }

    /// Keeps a descriptor no longer; whether there was one.
    #[cfg(unix)]
    fn stop_keeping(&self, _name: &str) -> bool {
        false
    }
}
