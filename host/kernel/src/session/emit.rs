//! What a generation emits.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ksi_abi::{
    Buffer, Content, Counted, NameError, Refusal, RefusalCode, ReplyForm, Start, To, Value,
};

use super::Session;
use crate::{
    call::outcome::{CallOutcome, CallReply},
    event::{EmitOptions, Event, NewEvent, Payload, Said},
    router::{
        fan_out::How,
        outcomes::Outcomes,
        pending::{FanOutStart, PendingFanOut},
        plugin_report::PluginReport,
        resolved::Resolved,
    },
    value::Keeper,
};

/// The way between a generation and its session: in which form what is emitted comes, and in which
/// form it is told what became of that. Each is made where it is needed, so that it costs what the
/// form itself does.
pub trait Link: 'static {
    /// What an emitter says beside its event.
    type Options<'a>: EmitOptions;
    /// What became of an event.
    type Report;
    /// What became of a request.
    type Reply;

    /// A report.
    fn report(report: PluginReport) -> Self::Report;

    /// The only reply there is, as plain data, which needs nothing of its maker.
    fn value(value: Value) -> Self::Reply;

    /// The only reply there is, encoded.
    fn bytes(bytes: Buffer) -> Self::Reply;

    /// Anything else that became of a request.
    fn other(report: Self::Report) -> Self::Reply;
}

impl Session {
    /// Finds out once what an emit of this name would find out each time. `keeper` keeps the
    /// library of the values that are emitted.
    pub fn resolve(&self, name: &str, keeper: Arc<dyn Keeper>) -> Result<Resolved, NameError> {
        self.router.resolve(name, &self.plugin, keeper)
    }

    /// Runs every handler of an event, all up to their first await before this returns.
    #[inline]
    pub fn emit<L: Link>(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<L::Options<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<L::Report, Emitting<L>> {
        match self.accept(parent, to, content, options) {
            Err(refusal) => Start::Ready(refused::<L>(&refusal)),
            Ok(event) => match self.router.begin(event, None, &how(&ReplyForm::Any, to), cx) {
                FanOutStart::One(entry, ended) => {
                    self.router.note(name_of(to), &entry.info, &ended);
                    Start::Ready(report::<L>(Outcomes::one(entry, ended)))
                }
                FanOutStart::Done(outcomes) => Start::Ready(report::<L>(outcomes)),
                FanOutStart::GoesOn(pending) => Start::Pending(Emitting(pending, PhantomData)),
            },
        }
    }

    /// The same for an emitter that wants one reply.
    #[inline]
    pub fn request<L: Link>(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<L::Options<'_>>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<L::Reply, Requesting<L>> {
        match self.accept(parent, to, content, options) {
            Err(refusal) => Start::Ready(L::other(refused::<L>(&refusal))),
            Ok(event) => match self.router.begin(event, None, &how(form, to), cx) {
                FanOutStart::One(_, CallOutcome::Replied(CallReply::Loose(value))) => {
                    Start::Ready(L::value(value))
                }
                FanOutStart::One(_, CallOutcome::Replied(CallReply::Bytes(bytes))) => {
                    Start::Ready(L::bytes(bytes))
                }
                FanOutStart::One(entry, ended) => {
                    self.router.note(name_of(to), &entry.info, &ended);
                    Start::Ready(L::other(report::<L>(Outcomes::one(entry, ended))))
                }
                FanOutStart::Done(outcomes) => Start::Ready(reply::<L>(outcomes)),
                FanOutStart::GoesOn(pending) => Start::Pending(Requesting(pending, PhantomData)),
            },
        }
    }

    /// Accepts an event into the queue, or refuses it.
    pub fn send(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<impl EmitOptions>,
    ) -> Result<(), Refusal> {
        self.send_and_tell(parent, to, content, options, || ())
    }

    /// The same, and tells when the event has been handled, unless it is refused.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_and_tell(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<impl EmitOptions>,
        handled: impl FnOnce() + Send + 'static,
    ) -> Result<(), Refusal> {
        // What a value keeps beside itself is memory of its plugin's own, and how much that is
        // nobody knows.
        let json = match &content {
            Content::Bytes(json) => json.len(),
            Content::Value(_) => 0,
        };
        let own = options.iter().flat_map(EmitOptions::attributes);
        let own: usize = own.map(|(key, value)| key.len() + value.len()).sum();
        let bytes = json + own + parent.map_or(0, |parent| parent.attribute_bytes());
        let accept = || self.accept(parent, to, content, options);
        self.router.send_and_tell(name_of(to), bytes, accept, handled).map_err(Into::into)
    }

    /// Accepts an event of this generation.
    #[inline]
    fn accept(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<impl EmitOptions>,
    ) -> Result<Counted<Event>, Refusal> {
        let parent = parent.map(Event::to_keep);
        match (to, options) {
            (To::Route(resolved), None) => self.router.accept_resolved(resolved, content, parent),
            (To::Route(resolved), Some(options)) => {
                self.router.accept_said(resolved, content, parent, &options)
            }
            (To::Name(name), options) => self.accept_by_name(parent, name, content, options),
        }
    }

    /// The same for an event whose name is not resolved. Out of line, for the sake of those whose
    /// name is.
    #[inline(never)]
    fn accept_by_name(
        &self,
        parent: Option<Counted<Event>>,
        name: &str,
        content: Content,
        options: Option<impl EmitOptions>,
    ) -> Result<Counted<Event>, Refusal> {
        let json = content
            .into_bytes()
            .map_err(|failure| Refusal::new(RefusalCode::NOT_ENCODABLE, failure.to_texts().1))?;
        let mut event = NewEvent::new(name, Payload::of_buffer(json))
            .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
        event.source = self.plugin.clone();
        event.of_plugin = true;
        if let Some(options) = options {
            let said = Said::of(&options, name, parent.as_deref())?;
            event.attributes = said.attributes;
            event.timeout = said.timeout;
            event.depth = said.depth;
        }
        self.router.accept(event, parent)
    }
}

/// The rest of an emit. It moves to the dispatch workers wherever else it is polled.
pub struct Emitting<L>(PendingFanOut, PhantomData<fn() -> L>);

impl<L: Link> Future for Emitting<L> {
    type Output = L::Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<L::Report> {
        Pin::new(&mut self.0).poll(cx).map(report::<L>)
    }
}

/// The rest of a request. It moves to the dispatch workers wherever else it is polled.
pub struct Requesting<L>(PendingFanOut, PhantomData<fn() -> L>);

impl<L: Link> Future for Requesting<L> {
    type Output = L::Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<L::Reply> {
        Pin::new(&mut self.0).poll(cx).map(reply::<L>)
    }
}

#[inline]
fn how<'a>(form: &'a ReplyForm, to: &To<'a, Resolved>) -> How<'a> {
    let held = match to {
        To::Route(resolved) => Some(&*resolved.held),
        To::Name(_) => None,
    };
    How { form, held, progress: None }
}

fn name_of<'a>(to: &'a To<'_, Resolved>) -> &'a str {
    match to {
        To::Route(resolved) => resolved.name(),
        To::Name(name) => name,
    }
}

fn report<L: Link>(outcomes: Outcomes) -> L::Report {
    L::report(PluginReport::from(outcomes))
}

#[cold]
fn refused<L: Link>(refusal: &Refusal) -> L::Report {
    L::report(PluginReport::refused(refusal))
}

/// The only handler's reply, if it may go without its library.
fn reply<L: Link>(mut outcomes: Outcomes) -> L::Reply {
    if outcomes.ended.len() == 1 {
        match outcomes.ended.pop() {
            Some(CallOutcome::Replied(CallReply::Loose(value))) => return L::value(value),
            Some(CallOutcome::Replied(CallReply::Bytes(bytes))) => return L::bytes(bytes),
            other => outcomes.ended.extend(other),
        }
    }
    L::other(report::<L>(outcomes))
}
