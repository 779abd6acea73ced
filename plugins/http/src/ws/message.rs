//! What is said over a WebSocket: a JSON object a message, with a `type`.

use std::collections::BTreeMap;

use ksi_plugin_api::{RawValue, Value, json};
use serde::Deserialize;

use crate::{answer::Refused, emit::Wait};

/// What a client says. Its `id`, which is any JSON, stands in all that is answered to it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Said {
    Emit {
        #[serde(default)]
        id: Value,
        event: String,
        /// Not borrowed: what has a tag is read twice.
        #[serde(default)]
        data: Value,
        #[serde(default)]
        attributes: BTreeMap<String, String>,
        #[serde(default)]
        wait: Wait,
    },
    Watch {
        #[serde(default)]
        id: Value,
        patterns: Vec<String>,
        #[serde(default)]
        after: Option<String>,
    },
    Unwatch {
        id: Value,
    },
}

/// An event that has passed.
pub(super) fn event(id: &Value, position: &str, passed: &str) -> String {
    #[derive(serde::Serialize)]
    struct Event<'a> {
        r#type: &'static str,
        id: &'a Value,
        position: &'a str,
        passed: &'a RawValue,
    }
    let passed = serde_json::from_str(passed).unwrap_or(RawValue::NULL);
    let told = Event { r#type: "event", id, position, passed };
    serde_json::to_string(&told).unwrap_or_default()
}

/// Events that were not told.
pub(super) fn missed(id: &Value, position: &str, count: Option<u64>) -> String {
    json!({"type": "missed", "id": id, "position": position, "count": count}).to_string()
}

/// What a client has asked for begins, or has ended.
pub(super) fn done(kind: &str, id: &Value, position: Option<String>) -> String {
    let mut told = json!({"type": kind, "id": id});
    if let Some(position) = position {
        told["position"] = position.into();
    }
    told.to_string()
}

/// What became of an event, with the status that HTTP has for it.
pub(super) fn report(id: &Value, code: u16, mut report: Value) -> String {
    report["type"] = "report".into();
    report["id"] = id.clone();
    report["code"] = code.into();
    report.to_string()
}

pub(super) fn error(id: &Value, refused: &Refused) -> String {
    let Refused { status, code, message } = refused;
    let error = json!({"code": code, "message": message});
    json!({"type": "error", "id": id, "code": status.as_u16(), "error": error}).to_string()
}

pub(super) fn reconnect() -> String {
    json!({"type": "reconnect"}).to_string()
}
