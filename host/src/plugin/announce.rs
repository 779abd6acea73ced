//! Announces what becomes of plugins, to everybody who subscribes to the events of their life cycle.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::instance::info::Facts;
use crate::{
    event::{self, Payload},
    router::Router,
};

/// Emits events of the life cycle. Nobody waits for their handlers: a listener must not hold up a replacement.
pub(crate) struct Announcer {
    router: Arc<Router>,
}

impl Announcer {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        Announcer { router }
    }

    /// Something became of a generation; `more` is added to what is said of every one.
    pub(crate) fn generation(&self, event: &str, facts: &Facts, reason: &str, more: Value) {
        let mut data = json!({
            "name": *facts.plugin,
            "version": facts.manifest.version,
            "generation": facts.number,
            "reason": reason,
            "file": shown(&facts.file),
        });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        self.emit(event, &data);
    }

    /// A file did not become a plugin.
    pub(crate) fn refused(&self, file: &Path, reason: &str) {
        self.emit("module:load_failed", &json!({ "file": shown(file), "reason": reason }));
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
