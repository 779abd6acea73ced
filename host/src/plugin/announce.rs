//! Announces what becomes of plugins, to everybody who subscribes to the events of their life
//! cycle.
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
use serde::Serialize;
use serde_json::{Value, json};

use super::instance::info::GenerationInfo;

const LOADED: &str = "module:loaded";
const LOAD_FAILED: &str = "module:load_failed";
const RELOADED: &str = "module:reloaded";
const RELOAD_FAILED: &str = "module:reload_failed";
const ROLLED_BACK: &str = "module:rolled_back";
const QUARANTINED: &str = "module:quarantined";
const UNLOADED: &str = "module:unloaded";
const RETIRED: &str = "module:retired";
const PINNED: &str = "module:pinned";
const STATE_KEPT: &str = "module:state_kept";
const STATE_NOT_KEPT: &str = "module:state_not_kept";
const CALL_STUCK: &str = "module:call_stuck";

/// Emits events of the life cycle. Nobody waits for their handlers: a listener must not hold up a
/// replacement.
pub(crate) struct Announcer {
    router: Arc<Router>,
}

/// What is said of a generation that an earlier version went back to.
pub(crate) struct WentBack<'a, L> {
    /// What was live before, if anything was.
    pub(crate) from: Option<&'a GenerationInfo>,
    /// Whether the host did it by itself.
    pub(crate) automatic: bool,
    /// What became of the state, in a word.
    pub(crate) state: &'a str,
    /// What was given up for it, and the name of the snapshot that has it still.
    pub(crate) lost: Option<(L, Option<&'a str>)>,
}

impl Announcer {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        Announcer { router }
    }

    /// A plugin is there that was not; `state` says in a word what it began with.
    pub(crate) fn loaded(&self, info: &GenerationInfo, reason: &str, state: &str) {
        self.generation(LOADED, info, reason, json!({ "state": state }));
    }

    /// A file did not become a plugin.
    pub(crate) fn load_failed(&self, file: &Path, reason: &str) {
        self.emit(LOAD_FAILED, &json!({ "file": shown(file), "reason": reason }));
    }

    /// A new generation goes on where another was; `state` says in a word with what.
    pub(crate) fn reloaded(&self, info: &GenerationInfo, reason: &str, state: &str) {
        self.generation(RELOADED, info, reason, json!({ "state": state }));
    }

    /// A new generation goes on with a kept snapshot that somebody chose: `which`. What it began
    /// with instead is in the snapshot that is kept as `kept_aside`.
    pub(crate) fn restored(
        &self,
        info: &GenerationInfo,
        reason: &str,
        which: impl Serialize,
        kept_aside: Option<&str>,
    ) {
        let more = json!({ "state": "restored", "which": which, "kept_aside": kept_aside });
        self.generation(RELOADED, info, reason, more);
    }

    /// A generation that is live goes on, because what should replace it cannot.
    pub(crate) fn reload_failed(&self, info: &GenerationInfo, reason: &str) {
        self.generation(RELOAD_FAILED, info, reason, json!({}));
    }

    /// An earlier version is live again.
    pub(crate) fn rolled_back<L: Serialize>(
        &self,
        info: &GenerationInfo,
        reason: &str,
        back: &WentBack<'_, L>,
    ) {
        let mut more = json!({
            "from_version": back.from.map(|from| &from.manifest.version),
            "from_generation": back.from.map(|from| from.number),
            "automatic": back.automatic,
            "state": back.state,
        });
        if let Some((lost, kept_aside)) = &back.lost {
            more["lost"] = json!(lost);
            more["kept_aside"] = json!(kept_aside);
        }
        self.generation(ROLLED_BACK, info, reason, more);
    }

    /// The file of a version is not tried again for now.
    pub(crate) fn quarantined(&self, info: &GenerationInfo, reason: &str) {
        let hash = info.hash.to_hex();
        self.generation(QUARANTINED, info, reason, json!({ "hash": hash.as_str() }));
    }

    /// A generation is no longer live, and no other takes its place.
    pub(crate) fn unloaded(&self, info: &GenerationInfo, reason: &str) {
        self.generation(UNLOADED, info, reason, json!({}));
    }

    /// A generation has been let go. Its library stays where it was for the `cause`, if there is
    /// one.
    pub(crate) fn retired(
        &self,
        info: &GenerationInfo,
        cause: Option<&str>,
        timings_ms: impl Serialize,
    ) {
        let unmapped = cause.is_none();
        let more = json!({ "unmapped": unmapped, "cause": cause, "timings_ms": timings_ms });
        self.generation(RETIRED, info, "retired", more);
    }

    /// The library of a generation stays in memory for now.
    pub(crate) fn pinned(&self, info: &GenerationInfo, cause: &str) {
        self.generation(PINNED, info, cause, json!({}));
    }

    /// The state of a generation is kept again, after so many failures.
    pub(crate) fn state_kept(&self, info: &GenerationInfo, failures: u64) {
        let more = json!({ "failures": failures });
        self.generation(STATE_KEPT, info, "its state is kept again", more);
    }

    /// It is not kept; `last` says that there is no further attempt.
    pub(crate) fn state_not_kept(&self, info: &GenerationInfo, reason: &str, last: bool) {
        self.generation(STATE_NOT_KEPT, info, reason, json!({ "last": last }));
    }

    /// A call has not returned from one poll for so many seconds.
    pub(crate) fn call_stuck(&self, plugin: &str, handler: &str, event: &str, seconds: f64) {
        let data =
            json!({ "name": plugin, "handler": handler, "event_id": event, "seconds": seconds });
        self.emit(CALL_STUCK, &data);
    }

    /// Something became of a generation; `more` is added to what is said of every one.
    fn generation(&self, event: &str, info: &GenerationInfo, reason: &str, more: Value) {
        let mut data = json!({
            "name": *info.plugin,
            "version": info.manifest.version,
            "generation": info.number,
            "reason": reason,
            "file": shown(&info.file),
        });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        self.emit(event, &data);
    }

    fn emit(&self, event: &str, data: &Value) {
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
