//! An event as clients are told of it.

use ksi_plugin_api::{RawValue, Received};
use serde::Serialize;

use super::channel::What;

/// With the names that the control socket has for the same.
#[derive(Serialize)]
struct Told<'a> {
    event: &'a str,
    event_id: String,
    root_event_id: String,
    source: &'a str,
    timestamp: f64,
    data: &'a RawValue,
}

/// With the host's number for it.
pub(super) fn told(event: &Received) -> (u64, What) {
    let info = event.info();
    let text = event.data::<Box<RawValue>>().ok().and_then(|data| {
        serde_json::to_string(&Told {
            event: info.name(),
            event_id: format!("evt_{:x}", info.id()),
            root_event_id: format!("evt_{:x}", info.root()),
            source: info.source(),
            timestamp: info.timestamp().as_secs_f64(),
            data: &data,
        })
        .ok()
    });
    let what = match text {
        Some(text) => What::Event(in_one_line(text).into()),
        // A value that cannot become JSON.
        None => What::Missed(1),
    };
    (info.id(), what)
}

/// Within texts, JSON has line breaks as escapes alone: those that are there mean nothing.
fn in_one_line(text: String) -> String {
    match text.contains(['\n', '\r']) {
        true => text.replace(['\n', '\r'], " "),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::in_one_line;

    #[test]
    fn what_is_written_over_several_lines_stands_on_one_and_means_the_same() {
        let text = "{\r\n\t\"a\": \"x\\ny\",\n\"b\": [1,\r2]}";
        let line = in_one_line(text.to_owned());
        assert!(!line.contains(['\n', '\r']));
        let parsed = |text: &str| text.parse::<serde_json::Value>().unwrap();
        assert_eq!(parsed(&line), parsed(text));
    }
}
