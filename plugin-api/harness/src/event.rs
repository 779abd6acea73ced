//! Events and reports of a harness, as the plugin sees them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksi_abi::{
    Buffer, CallEnd, Counted, EmitOptions, Encoding, EventObject, EventView, OutcomeCode,
    OutcomeView, Refusal, RefusalCode, ReportHandle, ReportObject,
};
use ksi_plugin_api::{__private::testing, Report};

/// What the test attaches to events, and their children inherit.
pub(super) use ksi_abi::Attributes;

/// An accepted event.
pub(super) struct HarnessEvent {
    pub(super) name: String,
    pub(super) payload: Buffer,
    pub(super) source: &'static str,
    pub(super) parent: Option<Counted<HarnessEvent>>,
    pub(super) id: u64,
    pub(super) depth: u32,
    pub(super) attributes: Arc<Attributes>,
    pub(super) timestamp: u64,
    /// When its handlers must be done at the latest, on the clock of the harness.
    pub(super) deadline: Option<Duration>,
}

impl HarnessEvent {
    /// The same with what its emitter says beside it, at `now`.
    pub(super) fn said(self, options: &EmitOptions<'_>, now: Duration) -> Result<Self, Refusal> {
        let own = options.timeout().map(|timeout| now.saturating_add(timeout));
        let mut attributes = (*self.attributes).clone();
        attributes.extend(options.attached(&self.name, &self.attributes)?);
        Ok(HarnessEvent {
            depth: self.depth.saturating_add(options.depth),
            deadline: own.into_iter().chain(self.deadline).min(),
            attributes: Arc::new(attributes),
            ..self
        })
    }

    fn root(&self) -> u64 {
        self.ancestors().last().map_or(self.id, |first| first.id)
    }

    fn ancestors(&self) -> impl Iterator<Item = &HarnessEvent> {
        std::iter::successors(self.parent.as_deref(), |event| event.parent.as_deref())
    }

    /// The names from the first event to this one.
    pub(super) fn chain(&self) -> String {
        let mut names: Vec<&str> = self.ancestors().map(|event| &*event.name).collect();
        names.reverse();
        names.push(&self.name);
        names.join(" -> ")
    }
}

/// In nanoseconds since the Unix epoch.
pub(super) fn timestamp() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl EventObject for HarnessEvent {
    fn view(&self) -> EventView<'_> {
        EventView {
            name: self.name.as_str().into(),
            source: self.source.into(),
            id: self.id,
            parent: self.parent.as_ref().map_or(0, |parent| parent.id),
            root: self.root(),
            depth: self.depth,
            timestamp: self.timestamp,
        }
    }

    fn payload(&self) -> Result<Encoding<'_>, (&str, &str)> {
        Ok(Encoding::of(&self.payload))
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }
}

/// How the call of one handler ended.
#[derive(Clone)]
pub(super) struct Ended {
    plugin: &'static str,
    handler: String,
    kind: OutcomeCode,
    reply: Vec<u8>,
    code: String,
    message: String,
    refusal: RefusalCode,
}

impl Ended {
    fn new(plugin: &'static str, handler: &str, kind: OutcomeCode, message: String) -> Self {
        let handler = handler.to_owned();
        let (reply, code, refusal) = (Vec::new(), String::new(), RefusalCode::NONE);
        Ended { plugin, handler, kind, reply, code, message, refusal }
    }

    pub(super) fn of_call(plugin: &'static str, handler: &str, end: CallEnd) -> Self {
        let ended = |kind, message| Ended::new(plugin, handler, kind, message);
        match end {
            end @ CallEnd::Value(_) => Ended::of_call(plugin, handler, end.encoded()),
            CallEnd::Reply(reply) => {
                Ended { reply: reply.to_vec(), ..ended(OutcomeCode::REPLIED, String::new()) }
            }
            CallEnd::NoReply => ended(OutcomeCode::NO_REPLY, String::new()),
            CallEnd::Failed(failure) => {
                let (code, message) = failure.to_texts();
                Ended { code, ..ended(OutcomeCode::FAILED, message) }
            }
            CallEnd::Panicked(message) => {
                let text = format!("the handler panicked: {}", message.to_text());
                ended(OutcomeCode::PANICKED, text)
            }
        }
    }

    pub(super) fn timed_out(plugin: &'static str, handler: &str, after: Duration) -> Self {
        let text = format!("the handler did not finish within {after:?}");
        Ended::new(plugin, handler, OutcomeCode::TIMED_OUT, text)
    }

    pub(super) fn rejected(plugin: &'static str, handler: &str, reason: &str) -> Self {
        Ended::new(plugin, handler, OutcomeCode::REJECTED, reason.to_owned())
    }
}

/// The outcomes of one event, in the router's order.
#[derive(Clone)]
pub(super) struct Outcomes(pub(super) Arc<[Ended]>);

impl Outcomes {
    /// Of an event that was not accepted.
    pub(super) fn refused(refusal: Refusal) -> Self {
        let rejected = Ended::rejected("", "", &refusal.text());
        Outcomes(Arc::new([Ended { refusal: refusal.code, ..rejected }]))
    }

    /// Of an event whose handlers are waited for no more.
    pub(super) fn rejected(reason: &str) -> Self {
        Outcomes(Arc::new([Ended::rejected("", "", reason)]))
    }

    pub(super) fn into_report(self, event: &str) -> Report {
        testing::report(ReportHandle::new(self), event)
    }
}

impl ReportObject for Outcomes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn code(&self, index: usize) -> OutcomeCode {
        self.0[index].kind
    }

    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        Ok(Encoding::Bytes(&self.0[index].reply))
    }

    fn outcome(&self, index: usize) -> OutcomeView<'_> {
        let ended = &self.0[index];
        OutcomeView {
            kind: ended.kind,
            plugin: ended.plugin.into(),
            handler: ended.handler.as_str().into(),
            code: ended.code.as_str().into(),
            refusal: ended.refusal,
            message: ended.message.as_str().into(),
        }
    }
}
