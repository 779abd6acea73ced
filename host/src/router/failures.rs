//! Calls that failed leave a trace, whatever their emitter makes of them: a line in the log and an event that others may
//! watch.
//!
//! A handler that fails ten thousand times a second is told of once, and then once an interval with how often it was:
//! lines that are all alike hide the one that is not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

use super::Router;
use crate::{
    dispatch::{call::HandlerInfo, ended::Ended},
    event::{NewEvent, Payload},
    report::OutcomeKind,
};

/// The event that is emitted for every line, if somebody handles or watches it.
pub(crate) const CALL_FAILED: &str = "module:call_failed";
/// How long failures of one handler with one code are counted after they were told of.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many handlers and codes are told apart at a time; of any further ones, nothing is told until one of these is
/// quiet. They count in the statistics all the same.
const KINDS: usize = 1_024;
/// How much of a message is told, in characters.
const SHOWN: usize = 1_000;

/// Which failures are alike: those of one handler, with one code.
type Kind = (u64, String);

/// What was told of lately.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Kind, Untold>>);

/// Failures of one kind since the last that was told of.
struct Untold {
    since: Instant,
    count: u64,
}

impl Failures {
    /// One more of this kind: whether it is to be told of now, or is counted. The first that is counted has somebody look
    /// again after the interval.
    fn one_more(&self, kind: &Kind) -> Verdict {
        let mut kinds = self.lock();
        if let Some(untold) = kinds.get_mut(kind) {
            if untold.count == 0 && untold.since.elapsed() >= INTERVAL {
                untold.since = Instant::now();
                return Verdict::Told;
            }
            untold.count += 1;
            return if untold.count == 1 { Verdict::FirstCounted } else { Verdict::Counted };
        }
        if kinds.len() >= KINDS {
            kinds.retain(|_, untold| untold.count > 0 || untold.since.elapsed() < INTERVAL);
            if kinds.len() >= KINDS {
                return Verdict::Counted;
            }
        }
        kinds.insert(kind.clone(), Untold { since: Instant::now(), count: 0 });
        Verdict::Told
    }

    /// After the interval: how many there were meanwhile. The next one is told of at once.
    fn over(&self, kind: &Kind) -> u64 {
        self.lock().remove(kind).map_or(0, |untold| untold.count)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Untold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Verdict {
    Told,
    FirstCounted,
    Counted,
}

/// A failure that is to be told of.
struct Failed {
    event: String,
    handler: Arc<HandlerInfo>,
    code: String,
    message: String,
}

impl Router {
    /// Leaves a trace of a call that its handler did not end well. What was not called, or not waited for, is no failure
    /// of a handler.
    #[inline]
    pub(crate) fn note(self: &Arc<Self>, event: &str, handler: &Arc<HandlerInfo>, ended: &Ended) {
        if !ended.is_ok() && !matches!(ended, Ended::Rejected { .. }) {
            self.note_failure(event, handler, ended);
        }
    }

    /// The same for all handlers of an event.
    pub(super) fn note_all(
        self: &Arc<Self>,
        event: &str,
        handlers: &[Arc<HandlerInfo>],
        ended: &[Ended],
    ) {
        for (handler, ended) in handlers.iter().zip(ended) {
            self.note(event, handler, ended);
        }
    }

    #[cold]
    fn note_failure(self: &Arc<Self>, event: &str, handler: &Arc<HandlerInfo>, ended: &Ended) {
        let Some(kind) = ended.failure() else { return };
        let (code, message) = (kind.code().to_owned(), shortened(&kind));
        let (event, handler) = (event.to_owned(), handler.clone());
        let alike = (handler.key, code.clone());
        let failed = Failed { event, handler, code, message };
        match self.failures.one_more(&alike) {
            Verdict::Told => self.tell(&failed, 1),
            Verdict::Counted => {}
            Verdict::FirstCounted => {
                let router = Arc::downgrade(self);
                self.site.runtime.spawn(async move {
                    tokio::time::sleep(INTERVAL).await;
                    let Some(router) = router.upgrade() else { return };
                    let count = router.failures.over(&alike);
                    router.tell(&failed, count);
                });
            }
        }
    }

    fn tell(self: &Arc<Self>, failed: &Failed, count: u64) {
        let Failed { event, handler, code, message } = failed;
        let (plugin, name) = (&*handler.plugin, &*handler.handler);
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
        let somebody =
            !self.table().targets(CALL_FAILED).is_empty() || self.is_watched(CALL_FAILED);
        if event == CALL_FAILED || !somebody {
            return;
        }
        let data = json!({
            "name": plugin, "handler": name, "event": event, "code": code, "message": message, "count": count,
        });
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
        let kind = (1, "broken".to_owned());
        assert!(matches!(failures.one_more(&kind), Verdict::Told));
        assert!(matches!(failures.one_more(&kind), Verdict::FirstCounted));
        for _ in 0..9 {
            assert!(matches!(failures.one_more(&kind), Verdict::Counted));
        }
        for other in [(1, "other".to_owned()), (2, "broken".to_owned())] {
            assert!(matches!(failures.one_more(&other), Verdict::Told));
        }
        assert_eq!(failures.over(&kind), 10);
        assert!(matches!(failures.one_more(&kind), Verdict::Told), "the interval is over");
    }

    #[test]
    fn no_more_kinds_are_remembered_than_there_is_room_for() {
        let failures = Failures::default();
        for handler in 0..2 * KINDS as u64 {
            failures.one_more(&(handler, String::new()));
        }
        assert_eq!(failures.lock().len(), KINDS);
    }
}
