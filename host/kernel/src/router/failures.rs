//! Calls that failed leave a trace, whatever their emitter makes of them: a line in the log and an
//! event that others may watch.
//!
//! A handler that fails ten thousand times a second is told of once, and then once an interval with
//! how often it was: lines that are all alike hide the one that is not.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::Router;
use crate::{
    call::{HandlerInfo, outcome::CallOutcome},
    event::{NewEvent, Payload},
    lock::Lock,
    report::OutcomeKind,
};

/// The event that is emitted for every line, if somebody handles or watches it.
pub(crate) const CALL_FAILED: &str = "module:call_failed";
/// How long failures of one handler with one code are counted after they were told of.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many codes of one handler are told apart; further ones count as one. A plugin may make them
/// up.
const CODES: usize = 16;
/// How many handlers are told apart at a time. Failures of any further ones are counted in the
/// statistics alone, until one of these is quiet.
const HANDLERS: usize = 1_024;
/// How much of a message is told, in characters.
const SHOWN: usize = 1_000;

/// What was told of lately, by the keys of handlers.
#[derive(Default)]
pub(crate) struct Failures(Lock<Told>);

#[derive(Default)]
struct Told {
    handlers: HashMap<u64, Vec<Untold>>,
    swept: Option<Instant>,
}

/// Failures of one handler with one code since the last that was told of.
struct Untold {
    /// `None` for all codes beyond those that are told apart.
    code: Option<String>,
    since: Instant,
    count: u64,
}

impl Untold {
    fn is_quiet(&self) -> bool {
        self.count == 0 && self.since.elapsed() >= INTERVAL
    }
}

impl Failures {
    /// One more of this handler with this code: whether it is to be told of now, or is counted. The
    /// first that is counted has somebody look again after the interval.
    fn one_more(&self, handler: u64, code: &str) -> Verdict {
        let mut told = self.0.lock();
        if !told.handlers.contains_key(&handler) && told.handlers.len() >= HANDLERS {
            // Not for each one more: it looks at all of them.
            if told.swept.is_some_and(|swept| swept.elapsed() < INTERVAL) {
                return Verdict::Counted;
            }
            told.swept = Some(Instant::now());
            told.handlers.retain(|_, kinds| !kinds.iter().all(Untold::is_quiet));
            if told.handlers.len() >= HANDLERS {
                return Verdict::Counted;
            }
        }
        let kinds = told.handlers.entry(handler).or_default();
        let is_known = kinds.iter().any(|kind| kind.code.as_deref() == Some(code));
        let code = Some(code).filter(|_| is_known || kinds.len() < CODES);
        let Some(kind) = kinds.iter_mut().find(|kind| kind.code.as_deref() == code) else {
            kinds.push(Untold { code: code.map(str::to_owned), since: Instant::now(), count: 0 });
            return Verdict::Told;
        };
        if kind.is_quiet() {
            kind.since = Instant::now();
            return Verdict::Told;
        }
        kind.count += 1;
        match kind.count {
            1 => Verdict::FirstCounted(kind.code.clone()),
            _ => Verdict::Counted,
        }
    }

    /// After the interval: how many there were meanwhile. The next one is told of at once.
    fn over(&self, handler: u64, code: Option<&str>) -> u64 {
        let mut told = self.0.lock();
        let Some(kinds) = told.handlers.get_mut(&handler) else { return 0 };
        let Some(at) = kinds.iter().position(|kind| kind.code.as_deref() == code) else { return 0 };
        let count = kinds.swap_remove(at).count;
        if kinds.is_empty() {
            told.handlers.remove(&handler);
        }
        count
    }
}

enum Verdict {
    Told,
    /// With what to look for it.
    FirstCounted(Option<String>),
    Counted,
}

/// What the event says. A host's clients read it as a type of their own, and a test of the host
/// holds the two to the same keys.
#[derive(Serialize)]
struct CallFailed<'a> {
    code: &'a str,
    count: u64,
    event: &'a str,
    handler: &'a str,
    message: &'a str,
    name: &'a str,
}

/// A failure that is to be told of.
struct Failed {
    event: String,
    handler: Arc<HandlerInfo>,
    code: String,
    message: String,
}

impl Router {
    /// Leaves a trace of a call that its handler did not end well. What was not called, or not
    /// waited for, is no failure of a handler.
    #[inline]
    pub(crate) fn note(
        self: &Arc<Self>,
        event: &str,
        handler: &Arc<HandlerInfo>,
        ended: &CallOutcome,
    ) {
        if !ended.is_ok() && !matches!(ended, CallOutcome::Rejected { .. }) {
            self.note_failure(event, handler, ended);
        }
    }

    /// The same for all handlers of an event.
    pub(super) fn note_all(
        self: &Arc<Self>,
        event: &str,
        handlers: &[Arc<HandlerInfo>],
        ended: &[CallOutcome],
    ) {
        for (handler, ended) in handlers.iter().zip(ended) {
            self.note(event, handler, ended);
        }
    }

    #[cold]
    fn note_failure(
        self: &Arc<Self>,
        event: &str,
        handler: &Arc<HandlerInfo>,
        ended: &CallOutcome,
    ) {
        let Some(failure) = ended.failure() else { return };
        if matches!(ended, CallOutcome::Failed(_)) && self.is_of_the_host(event, handler) {
            // It refuses what somebody asks for, and tells them why: nothing has failed.
            let (code, message) = (failure.code(), shortened(&failure));
            tracing::debug!(handler = &*handler.handler, code, "refused: {message}");
            return;
        }
        let verdict = self.failures.one_more(handler.key, failure.code());
        if let Verdict::Counted = verdict {
            return;
        }
        let failed = Failed {
            event: event.to_owned(),
            handler: handler.clone(),
            code: failure.code().to_owned(),
            message: shortened(&failure),
        };
        match verdict {
            Verdict::Counted => {}
            Verdict::Told => self.tell(&failed, 1),
            Verdict::FirstCounted(alike) => {
                let router = Arc::downgrade(self);
                self.site.runtime.spawn(async move {
                    tokio::time::sleep(INTERVAL).await;
                    let Some(router) = router.upgrade() else { return };
                    let count = router.failures.over(failed.handler.key, alike.as_deref());
                    router.tell(&failed, count);
                });
            }
        }
    }

    /// Whether this is a handler of the host itself, and not of a plugin or the program around it.
    fn is_of_the_host(&self, event: &str, handler: &HandlerInfo) -> bool {
        let table = self.table.load();
        let targets = table.targets(event);
        targets.iter().any(|target| target.answers_alone && target.info().key == handler.key)
    }

    fn tell(self: &Arc<Self>, failed: &Failed, count: u64) {
        let Failed { event, handler, code, message } = failed;
        let (plugin, name) = (handler.owner(), &*handler.handler);
        match count {
            1 => tracing::warn!(plugin, handler = name, event, code, "a call failed: {message}"),
            more => tracing::warn!(
                plugin,
                handler = name,
                event,
                code,
                "{more} more calls failed within {}, the first of them: {message}",
                humantime::format_duration(INTERVAL)
            ),
        }
        // Whoever fails over a failure is told of in the log alone, or it would go round for ever.
        let somebody = self.is_handled(CALL_FAILED) || self.is_watched(CALL_FAILED);
        if event == CALL_FAILED || !somebody {
            return;
        }
        let data = CallFailed { code, count, event, handler: name, message, name: plugin };
        if let Ok(payload) = Payload::encode(&data) {
            let report = self.emit(NewEvent::valid(CALL_FAILED, payload), None);
            self.spawn_detached(async move { drop(report.await) });
        }
    }
}

/// What went wrong, of any length, in one line that is none too long.
fn shortened(kind: &OutcomeKind) -> String {
    let message = kind.message();
    let mut shown: String = message.chars().take(SHOWN).collect();
    if shown.len() < message.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failures_that_are_alike_the_first_is_told_and_the_others_are_counted() {
        let failures = Failures::default();
        assert!(matches!(failures.one_more(1, "broken"), Verdict::Told));
        assert!(matches!(failures.one_more(1, "broken"), Verdict::FirstCounted(Some(_))));
        for _ in 0..9 {
            assert!(matches!(failures.one_more(1, "broken"), Verdict::Counted));
        }
        for (handler, code) in [(1, "other"), (2, "broken")] {
            assert!(matches!(failures.one_more(handler, code), Verdict::Told));
        }
        assert_eq!(failures.over(1, Some("broken")), 10);
        assert!(matches!(failures.one_more(1, "broken"), Verdict::Told), "the interval is over");
    }

    #[test]
    fn codes_that_a_plugin_makes_up_take_no_room_and_hide_no_other_plugin() {
        let failures = Failures::default();
        for number in 0..10_000 {
            failures.one_more(1, &format!("code {number}"));
        }
        assert_eq!(failures.0.lock().handlers[&1].len(), CODES + 1);
        assert_eq!(failures.over(1, None), (10_000 - CODES - 1) as u64);
        assert!(matches!(failures.one_more(2, "broken"), Verdict::Told));
    }

    #[test]
    fn no_more_handlers_are_remembered_than_there_is_room_for() {
        let failures = Failures::default();
        for handler in 0..2 * HANDLERS as u64 {
            failures.one_more(handler, "");
        }
        assert_eq!(failures.0.lock().handlers.len(), HANDLERS);
    }
}
