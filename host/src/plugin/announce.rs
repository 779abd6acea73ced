//! Announces what becomes of plugins, to everybody who subscribes to the events of their life
//! cycle, and has the [history](History) remember what somebody may ask for later.
//!
//! Each of these events has its name and its function here, and is announced by nothing else.
//!
//! Two names are not here: `module:shutdown` is sent to the generation that goes and to nobody else
//! ([`SHUTDOWN_EVENT`](super::instance::info::SHUTDOWN_EVENT)), and of a call that failed the
//! router tells.

use std::{path::Path, sync::Arc};

use ksi_kernel::{
    event::{self, Payload},
    router::Router,
};
use ksi_wire::module::{
    self, HistoryBy, HistoryEntry, HistoryKind, HistoryVersion, Lost,
    announced::{
        Announced, CALL_STUCK, CallStuck, LOAD_FAILED, LOADED, PINNED, QUARANTINED, RELOAD_FAILED,
        RELOADED, RETIRED, ROLLED_BACK, STATE_KEPT, STATE_NOT_KEPT, UNLOADED, WORKER_DOWN,
        WORKER_RESTARTED,
    },
};
use serde::Serialize;

use super::instance::info::{GenerationInfo, Timings};
use crate::history::{HOST, History};

/// Emits events of the life cycle. Nobody waits for their handlers: a listener must not hold up a
/// replacement.
#[derive(Clone)]
pub(crate) struct Announcer {
    router: Arc<Router>,
    history: Arc<History>,
}

/// A generation that is live from now on.
pub(crate) struct NowLive<'a> {
    pub(crate) info: &'a GenerationInfo,
    /// What it replaced.
    pub(crate) before: Option<&'a GenerationInfo>,
    /// Who had it done.
    pub(crate) by: &'a HistoryBy,
    pub(crate) reason: &'a str,
    /// The process that it has of its own.
    pub(crate) process: Option<u32>,
    /// It has one, and what it replaced had none.
    pub(crate) is_isolated: bool,
}

/// What is said of a generation that an earlier version went back to.
pub(crate) struct WentBack<'a> {
    /// Whether the host did it by itself.
    pub(crate) automatic: bool,
    /// What became of the state, in a word.
    pub(crate) state: &'a str,
    /// What was given up for it.
    pub(crate) lost: Option<LostState<'a>>,
}

/// What a later version had done to the state.
pub(crate) struct LostState<'a> {
    /// Calls that were answered since it took over.
    pub(crate) calls: u64,
    /// For so many seconds it was live.
    pub(crate) seconds: u64,
    /// Why the state as it was then cannot go on.
    pub(crate) because: &'a str,
    /// The name of the snapshot that has it still.
    pub(crate) kept_aside: Option<&'a str>,
}

impl Announcer {
    pub(crate) fn new(router: Arc<Router>, history: Arc<History>) -> Self {
        Announcer { router, history }
    }

    /// A plugin is there that was not; `state` says in a word what it began with.
    pub(crate) fn loaded(&self, live: &NowLive<'_>, state: &str) {
        self.is_live(live);
        let told = of(live.info, live.reason);
        self.emit(LOADED, &Announced { state: Some(state.to_owned()), ..told });
    }

    /// A file did not become a plugin, of bytes with this hash if they could be read.
    pub(crate) fn load_failed(
        &self,
        file: &Path,
        hash: Option<blake3::Hash>,
        by: &HistoryBy,
        reason: &str,
    ) {
        self.refused(file, hash, by, reason, None);
        let (file, reason) = (shown(file), reason.to_owned());
        self.emit(LOAD_FAILED, &Announced { file, reason, ..Announced::default() });
    }

    /// A new generation goes on where another was; `state` says in a word with what.
    pub(crate) fn reloaded(&self, live: &NowLive<'_>, state: &str) {
        self.is_live(live);
        let told = of(live.info, live.reason);
        self.emit(RELOADED, &Announced { state: Some(state.to_owned()), ..told });
    }

    /// A new generation goes on with a kept snapshot that somebody chose: `which`. What it began
    /// with instead is in the snapshot that is kept as `kept_aside`.
    pub(crate) fn restored(&self, live: &NowLive<'_>, which: &str, kept_aside: Option<&str>) {
        self.is_live(live);
        let restored = Announced {
            kept_aside: Some(kept_aside.map(str::to_owned)),
            state: Some("restored".to_owned()),
            which: Some(which.to_owned()),
            ..of(live.info, live.reason)
        };
        self.emit(RELOADED, &restored);
    }

    /// A generation that is live goes on, because what its file holds, of this hash, cannot replace
    /// it.
    pub(crate) fn reload_failed(
        &self,
        info: &GenerationInfo,
        hash: Option<blake3::Hash>,
        by: &HistoryBy,
        reason: &str,
    ) {
        self.refused(&info.file, hash, by, reason, Some(info));
        self.emit(RELOAD_FAILED, &of(info, reason));
    }

    /// A generation that should make way for the version before it stays, because that cannot be.
    pub(crate) fn not_rolled_back(&self, info: &GenerationInfo, by: &HistoryBy, reason: &str) {
        self.note(HistoryKind::NotRolledBack, info, by, reason);
        self.emit(RELOAD_FAILED, &of(info, reason));
    }

    /// An earlier version is live again.
    pub(crate) fn rolled_back(&self, live: &NowLive<'_>, back: &WentBack<'_>) {
        self.history.note(went_live(HistoryKind::RolledBack, live));
        let lost = back.lost.as_ref();
        let rolled_back = Announced {
            automatic: Some(back.automatic),
            from_generation: Some(live.before.map(|from| from.number)),
            from_version: Some(live.before.map(|from| from.manifest.version.clone())),
            kept_aside: lost.map(|lost| lost.kept_aside.map(str::to_owned)),
            lost: lost.map(|lost| Lost {
                because: lost.because.to_owned(),
                calls: lost.calls,
                seconds: lost.seconds,
            }),
            state: Some(back.state.to_owned()),
            ..of(live.info, live.reason)
        };
        self.emit(ROLLED_BACK, &rolled_back);
    }

    /// The file of a version is not tried again for now.
    pub(crate) fn quarantined(&self, info: &GenerationInfo, by: &HistoryBy, reason: &str) {
        self.note(HistoryKind::Quarantined, info, by, reason);
        let hash = info.hash.to_hex().to_string();
        self.emit(QUARANTINED, &Announced { hash: Some(hash), ..of(info, reason) });
    }

    /// A generation is no longer live, and no other takes its place.
    pub(crate) fn unloaded(&self, info: &GenerationInfo, by: &HistoryBy, reason: &str) {
        self.note(HistoryKind::Unloaded, info, by, reason);
        self.emit(UNLOADED, &of(info, reason));
    }

    /// The same of a host that stops, which the history has as that.
    pub(crate) fn unloaded_with_host(&self, info: &GenerationInfo) {
        self.emit(UNLOADED, &of(info, "the host is stopping"));
    }

    /// A generation has been let go. Its library stays where it was for the `cause`, if there is
    /// one.
    pub(crate) fn retired(&self, info: &GenerationInfo, cause: Option<&str>, timings: &Timings) {
        let retired = Announced {
            cause: Some(cause.map(str::to_owned)),
            timings_ms: Some(shown_timings(timings)),
            unmapped: Some(cause.is_none()),
            ..of(info, "retired")
        };
        self.emit(RETIRED, &retired);
    }

    /// The library of a generation stays in memory for now.
    pub(crate) fn pinned(&self, info: &GenerationInfo, cause: &str) {
        self.emit(PINNED, &of(info, cause));
    }

    /// The state of a generation is kept again, after so many failures.
    pub(crate) fn state_kept(&self, info: &GenerationInfo, failures: u64) {
        let kept = of(info, "its state is kept again");
        self.emit(STATE_KEPT, &Announced { failures: Some(failures), ..kept });
    }

    /// It is not kept; `last` says that there is no further attempt.
    pub(crate) fn state_not_kept(&self, info: &GenerationInfo, reason: &str, last: bool) {
        self.emit(STATE_NOT_KEPT, &Announced { last: Some(last), ..of(info, reason) });
    }

    /// The process of a live generation has ended.
    pub(crate) fn worker_down(&self, info: &GenerationInfo, reason: &str) {
        self.note(HistoryKind::Died, info, &HOST, reason);
        self.emit(WORKER_DOWN, &of(info, reason));
    }

    /// A generation has another process, for the so manieth time; `reason` is why.
    pub(crate) fn worker_restarted(
        &self,
        info: &GenerationInfo,
        process: Option<u32>,
        restarts: u64,
        reason: &str,
    ) {
        let noted = of_history(HistoryKind::Restarted, info, &HOST, reason);
        self.history.note(HistoryEntry { process, ..noted });
        let restarted = Announced { restarts: Some(restarts), ..of(info, reason) };
        self.emit(WORKER_RESTARTED, &restarted);
    }

    /// A call has not returned from one poll for so many seconds.
    pub(crate) fn call_stuck(&self, plugin: &str, handler: &str, event: &str, seconds: f64) {
        let (event_id, handler, name) = (event.to_owned(), handler.to_owned(), plugin.to_owned());
        self.emit(CALL_STUCK, &CallStuck { event_id, handler, name, seconds });
    }

    /// A file that changes with others did not go live, and nobody is told but whoever asked.
    pub(crate) fn refused_with_others(&self, file: &Path, by: &HistoryBy, reason: &str) {
        self.refused(file, None, by, reason, None);
    }

    fn is_live(&self, live: &NowLive<'_>) {
        self.history.note(went_live(HistoryKind::Live, live));
        if live.is_isolated {
            let isolated = went_live(HistoryKind::Isolated, live);
            let reason = "it has a process of its own, and had none before".to_owned();
            self.history.note(HistoryEntry { reason, ..isolated });
        }
    }

    fn refused(
        &self,
        file: &Path,
        hash: Option<blake3::Hash>,
        by: &HistoryBy,
        reason: &str,
        live: Option<&GenerationInfo>,
    ) {
        self.history.note(HistoryEntry {
            before: live.map(version_of),
            by: by.clone(),
            file: Some(shown(file)),
            hash: hash.map(|hash| hash.to_hex().to_string()),
            kind: HistoryKind::Refused,
            name: live.map(|live| live.plugin.to_string()),
            reason: reason.to_owned(),
            ..HistoryEntry::default()
        });
    }

    fn note(&self, kind: HistoryKind, info: &GenerationInfo, by: &HistoryBy, reason: &str) {
        self.history.note(of_history(kind, info, by, reason));
    }

    fn emit(&self, event: &str, data: &impl Serialize) {
        let payload = match Payload::encode(data) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%error, "the event {event} could not be encoded");
                return;
            }
        };
        let report = self.router.emit(event::of_host(event, payload), None);
        let event = event.to_owned();
        self.router.spawn_detached(async move {
            let report = report.await;
            for outcome in report.outcomes().iter().filter(|outcome| !outcome.result.is_ok()) {
                tracing::warn!(
                    plugin = %outcome.plugin, handler = %outcome.handler,
                    "a listener of {event} failed: {}", outcome.result.message()
                );
            }
        });
    }
}

/// A path as text. JSON has no place for a name that is no UTF-8.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How long steps took.
pub(crate) fn shown_timings(timings: &Timings) -> module::Timings {
    timings.millis().into_iter().map(|(step, took)| (step.to_owned(), Some(took))).collect()
}

/// What is said of every generation that something became of.
fn of(info: &GenerationInfo, reason: &str) -> Announced {
    Announced {
        file: shown(&info.file),
        generation: Some(info.number),
        name: Some(info.plugin.to_string()),
        reason: reason.to_owned(),
        version: Some(info.manifest.version.clone()),
        ..Announced::default()
    }
}

/// What is remembered of every generation that something became of.
fn of_history(
    kind: HistoryKind,
    info: &GenerationInfo,
    by: &HistoryBy,
    reason: &str,
) -> HistoryEntry {
    HistoryEntry {
        by: by.clone(),
        file: Some(shown(&info.file)),
        generation: Some(info.number),
        hash: Some(info.hash.to_hex().to_string()),
        kind,
        name: Some(info.plugin.to_string()),
        reason: reason.to_owned(),
        version: Some(info.manifest.version.clone()),
        ..HistoryEntry::default()
    }
}

fn went_live(kind: HistoryKind, live: &NowLive<'_>) -> HistoryEntry {
    let NowLive { info, before, by, reason, process, is_isolated: _ } = live;
    let before = before.map(version_of);
    HistoryEntry { before, process: *process, ..of_history(kind, info, by, reason) }
}

fn version_of(info: &GenerationInfo) -> HistoryVersion {
    HistoryVersion { generation: info.number, version: info.manifest.version.clone() }
}
