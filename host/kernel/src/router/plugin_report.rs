//! A report as a plugin sees it that emitted the event.

use std::sync::OnceLock;

use ksi_abi::{Encoding, OutcomeCode, OutcomeView, Refusal, RefusalCode, ReportObject, Value};
use smallvec::SmallVec;

use super::outcomes::{Handlers, Outcomes};
use crate::{
    call::outcome::{CallOutcome, CallReply},
    value::Encoded,
};

/// How each handler ended, with the texts that the view lends out.
pub struct PluginReport {
    handlers: Handlers,
    ended: SmallVec<[CallOutcome; 1]>,
    /// Why the event was not accepted, if it was not.
    refusal: RefusalCode,
    /// What is made when it is asked for: texts of failures, and replies that are values as JSON.
    made: OnceLock<Box<[Made]>>,
}

#[derive(Default)]
struct Made {
    failure: Option<(String, String)>,
    reply: OnceLock<Encoded>,
}

impl From<Outcomes> for PluginReport {
    fn from(Outcomes { handlers, ended }: Outcomes) -> Self {
        let (handlers, refusal) = (handlers.without_generation(), RefusalCode::NONE);
        PluginReport { handlers, ended, refusal, made: OnceLock::new() }
    }
}

impl PluginReport {
    /// Of an event that was not accepted.
    #[cold]
    pub fn refused(refusal: &Refusal) -> Self {
        let report = PluginReport::from(Outcomes::refused(refusal.text()));
        PluginReport { refusal: refusal.code, ..report }
    }

    fn made(&self, index: usize) -> &Made {
        let all = self.ended.iter().map(|ended| Made {
            failure: ended.failure().map(|kind| (kind.code().to_owned(), kind.message())),
            reply: OnceLock::new(),
        });
        &self.made.get_or_init(|| all.collect())[index]
    }
}

impl ReportObject for PluginReport {
    fn len(&self) -> usize {
        self.ended.len()
    }

    fn code(&self, index: usize) -> OutcomeCode {
        self.ended[index].code()
    }

    fn outcome(&self, index: usize) -> OutcomeView<'_> {
        let (handler, ended) = (&self.handlers.infos()[index], &self.ended[index]);
        let (code, message) = match ended.is_ok() {
            true => ("", ""),
            false => match &self.made(index).failure {
                Some((code, message)) => (code.as_str(), message.as_str()),
                None => ("", ""),
            },
        };
        OutcomeView {
            kind: ended.code(),
            plugin: (*handler.plugin).into(),
            handler: (*handler.handler).into(),
            code: code.into(),
            refusal: self.refusal,
            message: message.into(),
        }
    }

    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        let encode = || match &self.ended[index] {
            CallOutcome::Replied(CallReply::Shared(shared)) => shared.encode().into(),
            // What lies there without its library is read as the value that was wanted, and nobody
            // can encode it.
            _ => Encoded::from(Ok("null".into())),
        };
        match &self.ended[index] {
            CallOutcome::Replied(CallReply::Bytes(bytes)) => Ok(Encoding::of(bytes)),
            CallOutcome::Replied(_) => match Encoded::once(&self.made(index).reply, encode).get() {
                Ok(json) => Ok(Encoding::of(json)),
                Err(failure) => Err(failure.texts()),
            },
            _ => Ok(Encoding::Text("null")),
        }
    }

    fn value(&self, index: usize) -> Option<&Value> {
        match &self.ended[index] {
            CallOutcome::Replied(CallReply::Shared(shared)) => shared.value(),
            CallOutcome::Replied(CallReply::Loose(value)) => Some(value),
            _ => None,
        }
    }
}
