//! `ksi watch`: events as they happen, a line each, flushed at once.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use ksi_wire::line::Push;
use ksi_wire::monitor::{DROPPED, Subscribe, Subscribed, SubscriberDropped};
use owo_colors::OwoColorize;
use serde_json::value::RawValue;

use super::args::{Common, Watch};
use super::client::{Client, SOON};
use super::exit::CommandFailure;
use super::{output, signals};

pub(crate) fn watch(common: &Common, args: Watch) -> Result<(), CommandFailure> {
    for pattern in &args.patterns {
        let parsed = ksi_host::Pattern::parse(pattern);
        parsed.map_err(|error| CommandFailure::Usage(error.to_string()))?;
    }
    let mut client = common.client()?;
    let interrupted = end_on_signal(&client)?;
    let question = Subscribe {
        client_id: format!("ksi-watch-{}", std::process::id()),
        event_patterns: args.patterns.clone(),
    };
    client.ask::<Subscribed>("monitor:subscribe", &question, SOON)?;
    loop {
        let line = match client.next_push(None) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(_) if interrupted.load(Ordering::Acquire) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(missed) = missed(&line) {
            let patterns = args.patterns.join(" ");
            output::error(&format!(
                "too slow: the host ended this watch of {patterns} after {missed} events had to be left out"
            ));
            return Err(CommandFailure::Told);
        }
        match args.json {
            true => output::json(&line)?,
            false => output::text(&readable(&line))?,
        }
    }
}

/// Closes the connection at the first signal, which ends the loop above between two lines.
fn end_on_signal(client: &Client) -> Result<Arc<AtomicBool>, CommandFailure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let stream = client.stream().map_err(CommandFailure::host("cannot watch for signals"))?;
    let flag = interrupted.clone();
    signals::on_first(move || {
        flag.store(true, Ordering::Release);
        // A connection that is closed already needs no closing.
        let _ = stream.shutdown(Shutdown::Both);
    })
    .map_err(CommandFailure::host("cannot watch for signals"))?;
    Ok(interrupted)
}

/// The last line to a subscriber that was too slow says how many events it missed.
fn missed(line: &str) -> Option<u64> {
    let push: Push<'_> = serde_json::from_str(line).ok()?;
    // Only an event has a number: anybody may emit one of this name.
    let is_line = push.event.as_deref() == Some(DROPPED) && push.event_id.is_none();
    let dropped: SubscriberDropped =
        serde_json::from_str(push.data.filter(|_| is_line)?.get()).ok()?;
    Some(dropped.missed)
}

fn readable(line: &str) -> String {
    let Ok(push) = serde_json::from_str::<Push<'_>>(line) else {
        return output::plain(line).into_owned();
    };
    let event = push.event.unwrap_or_else(|| "-".into());
    let source = push.source.unwrap_or_else(|| "-".into());
    let data = push.data.map_or("{}", RawValue::get);
    format!(
        "{} {} {} {}",
        time(push.timestamp).dimmed(),
        output::plain(&event).bold(),
        output::plain(&source).cyan(),
        output::plain(data),
    )
}

/// A time in UTC with milliseconds, as far as the calendar has four digits for the year.
fn time(seconds: Option<f64>) -> String {
    const YEAR_10000: f64 = 253_402_300_800.0;
    let known = seconds.filter(|seconds| (0.0..YEAR_10000 - 1.0).contains(seconds));
    match known.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(since) => humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string(),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        anstream::adapter::strip_str(&readable(line)).to_string()
    }

    #[test]
    fn a_line_has_time_event_source_and_payload() {
        let line = r#"{"event":"a:b","event_name":"a:b","data":{"z":1,"a":2},"timestamp":1767323045.25,"_source":"hello"}"#;
        assert_eq!(shown(line), r#"2026-01-02T03:04:05.250Z a:b hello {"z":1,"a":2}"#);
    }

    #[test]
    fn what_is_missing_or_odd_is_a_dash() {
        assert_eq!(shown(r#"{"event":"a:b"}"#), "- a:b - {}");
        for timestamp in ["-1", "1e300", "253402300799.9"] {
            let line = format!(r#"{{"event":"a:b","timestamp":{timestamp}}}"#);
            assert_eq!(shown(&line), "- a:b - {}", "{timestamp}");
        }
        assert_eq!(shown("no JSON\u{7}"), "no JSON\\u{7}");
    }

    #[test]
    fn only_the_hosts_own_last_line_ends_a_watch() {
        assert_eq!(missed(r#"{"event":"monitor:dropped","data":{"missed":12}}"#), Some(12));
        assert_eq!(missed(r#"{"event":"a:b","data":{"missed":12}}"#), None);
        assert_eq!(missed("no JSON"), None);
        // Anybody may emit an event of this name.
        let event = r#"{"event":"monitor:dropped","data":{"missed":3},"_event_id":"evt_1"}"#;
        assert_eq!(missed(event), None);
    }
}
