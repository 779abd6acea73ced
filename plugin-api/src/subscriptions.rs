//! Handlers that a plugin subscribes at run time. The host knows them by number, like the declared
//! ones.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ksi_abi::{
    CallEnd, CallStart, Encoding, Failure, OutcomeCode, OutcomeView, RefusalCode, ReportHandle,
    ReportObject,
    export::FirstPoll,
    probe::{Give, Probe, Taker},
};
use serde::Serialize;

use crate::{
    context::Context,
    error::{Error, Result},
    payload, runtime,
    types::{HandlerReply, SubscribedPayload, SubscribedReply},
};

/// Numbers from here on are handlers of this table; below are the declared ones.
pub(crate) const FIRST_DYNAMIC: u64 = 1 << 32;

type HandlerFn = Arc<dyn Fn(&Context, FirstPoll<'_>) -> CallStart + Send + Sync>;

/// How a handler is called that is subscribed [with](Context::subscribe_with) it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct SubscribeOptions {
    priority: i32,
    timeout: Option<Duration>,
    blocking: bool,
}

impl SubscribeOptions {
    /// As [`Context::subscribe`] has it.
    pub fn new() -> Self {
        SubscribeOptions::default()
    }

    /// Handlers of an event are called, and reported, from the highest to the lowest. Default: 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// What a call may take, of at least a millisecond. Default: as the host has it,
    /// `timeouts.handler`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The handler is called on a thread that it may block.
    pub fn blocking(mut self) -> Self {
        self.blocking = true;
        self
    }

    pub(crate) fn crossing(self) -> ksi_abi::SubscribeOptions<'static> {
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
        ksi_abi::SubscribeOptions {
            priority: self.priority,
            timeout: self.timeout.map_or(0, |it| nanos(it.max(Duration::from_millis(1)))),
            blocking: self.blocking,
            ..ksi_abi::SubscribeOptions::default()
        }
    }
}

struct Entry {
    handler: HandlerFn,
    /// The host's number of the subscription, once it is known.
    subscription: Option<u64>,
}

/// The table of one instance. Its size is bounded by the host, which refuses subscriptions beyond
/// its limit. Every call looks here, and to hash a number takes longer than to find it among some
/// hundreds.
#[derive(Default)]
pub(crate) struct Subscriptions {
    next: AtomicU64,
    entries: Mutex<BTreeMap<u64, Entry>>,
}

impl Subscriptions {
    /// Adds a handler, under a number that was never used before.
    pub(crate) fn add<D, R, F, Fut>(&self, handler: F) -> u64
    where
        D: SubscribedPayload,
        R: SubscribedReply,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let number = FIRST_DYNAMIC + self.next.fetch_add(1, Ordering::Relaxed);
        let take: Taker<D> = |event| event.value::<D>().cloned();
        let handler: HandlerFn = Arc::new(move |ctx, first| match ctx.take_payload(Some(take)) {
            Ok(data) => {
                // A clone, because the handler takes it by value and may keep it: it must count.
                let future = handler(Context::clone(ctx), data);
                let give = Probe::<R>::giver(first.form());
                let runtime = ctx.scope().runtime.of_call();
                runtime::start(runtime, first, || async move { call_end(future.await, give) })
            }
            Err(error) => failed(error).into(),
        });
        self.lock().insert(number, Entry { handler, subscription: None });
        number
    }

    pub(crate) fn name(&self, number: u64, subscription: u64) {
        if let Some(entry) = self.lock().get_mut(&number) {
            entry.subscription = Some(subscription);
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<HandlerFn> {
        self.lock().get(&number).map(|entry| entry.handler.clone())
    }

    pub(crate) fn remove(&self, number: u64) {
        // The handler is dropped after the lock is released: its captures may hold anything.
        let _entry = self.lock().remove(&number);
    }

    /// Drops every handler.
    pub(crate) fn clear(&self) {
        let _entries = std::mem::take(&mut *self.lock());
    }

    pub(crate) fn remove_named(&self, subscription: u64) {
        let number = {
            let entries = self.lock();
            let found = entries.iter().find(|(_, entry)| entry.subscription == Some(subscription));
            found.map(|(&number, _)| number)
        };
        if let Some(number) = number {
            self.remove(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the result of a declared handler crosses the boundary.
#[inline]
pub fn handler_end<R: HandlerReply>(result: Result<R>, give: Give<R>) -> CallEnd {
    call_end(result, give)
}

/// The same for a handler whose reply need have no schema. Inlined, so that a reply that goes as a
/// value is not moved.
#[inline(always)]
pub fn call_end<R: Serialize>(result: Result<R>, give: Give<R>) -> CallEnd {
    let result = match (result, give) {
        (Ok(reply), Some(give)) => match give(reply) {
            Ok(value) => return CallEnd::Value(value),
            Err(reply) => Ok(reply),
        },
        (result, _) => result,
    };
    encoded_end(result)
}

/// The end of a call whose reply, if it has one, goes as bytes.
fn encoded_end<R: Serialize>(result: Result<R>) -> CallEnd {
    match result.and_then(|reply| payload::encode(&reply)) {
        Ok(reply) if payload::is_nothing(&reply) => CallEnd::NoReply,
        Ok(reply) => CallEnd::Reply(reply),
        Err(error) => failed(error),
    }
}

/// An error as the end of a call.
pub fn failed(error: Error) -> CallEnd {
    let (code, message) = error.into_parts();
    CallEnd::Failed(Failure::new(&code, &message))
}

/// The report of an event that never reached the host.
pub(crate) fn refused(error: Error) -> ReportHandle {
    struct Refused(String, String);
    impl ReportObject for Refused {
        fn len(&self) -> usize {
            1
        }

        fn code(&self, _: usize) -> OutcomeCode {
            OutcomeCode::FAILED
        }

        fn reply(&self, _: usize) -> Result<Encoding<'_>, (&str, &str)> {
            Ok(Encoding::Text("null"))
        }

        fn outcome(&self, _: usize) -> OutcomeView<'_> {
            OutcomeView {
                kind: OutcomeCode::FAILED,
                plugin: "".into(),
                handler: "".into(),
                code: self.0.as_str().into(),
                refusal: RefusalCode::NONE,
                message: self.1.as_str().into(),
            }
        }
    }
    let (code, message) = error.into_parts();
    ReportHandle::new(Refused(code, message))
}
