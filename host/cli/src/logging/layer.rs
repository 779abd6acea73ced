//! From an event of `tracing` to a line in the queue.

use ksi_host::{LogLevel, LogLevels};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::form::Form;
use super::line::{self, Fields, Line};
use super::queue::Queue;

/// How many spans are told of a line, the innermost ones, and the bytes of each.
const SPANS: usize = 16;
const SPAN_BYTES: usize = 512;

/// Writes every event that gets here.
pub(super) struct Lines {
    pub(super) queue: Queue,
    pub(super) form: Form,
    pub(super) levels: LogLevels,
}

/// A span as a line has it, kept with it.
struct SpanText(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    // Asked for once of each place that logs, and again when levels change.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.levels.writes(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.levels.writes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.levels.most() {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut text = line::span(attributes.metadata(), &fields);
        if text.len() > SPAN_BYTES {
            text.truncate(text.floor_char_boundary(SPAN_BYTES));
            text.push('…');
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(SpanText(text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::new(event.metadata());
        event.record(line.fields_mut());
        let innermost = context.event_scope(event).into_iter().flatten().take(SPANS);
        for span in innermost.collect::<Vec<_>>().into_iter().rev() {
            if let Some(SpanText(text)) = span.extensions().get() {
                line.within(text);
            }
        }
        self.queue.put_line(&line, &self.form);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use ksi_host::LogFormat;
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what is logged meanwhile.
    fn written(format: LogFormat, colours: bool, log: impl FnOnce()) -> String {
        let (written, form) = (Written::default(), Form::new(format, colours));
        let queue = Queue::to(written.clone(), 1 << 20, form.clone()).unwrap();
        let levels = LogLevels::new(LogLevel::Info);
        let lines = Lines { queue: queue.clone(), form, levels };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
        queue.flush(Duration::from_secs(20));
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const EVIL: &str = "well\n2026 INFO all gone\u{1b}[8m\u{202e}";

    #[test]
    fn no_text_makes_a_second_line_or_steers_a_terminal() {
        let log = || {
            let _inside = tracing::info_span!("a span", EVIL).entered();
            tracing::info!(text = EVIL, shown = %EVIL, "{EVIL}");
        };
        let line = written(LogFormat::Human, true, log);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains("[8m\u{202e}") && !line.contains("\u{1b}[8m"), "{line}");
        assert_eq!(line.matches("well\\n2026 INFO all gone").count(), 4, "{line}");
        let line = written(LogFormat::Json, true, log);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains(['\u{202e}', '\u{1b}']), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["message"], &read["text"]), (&json!(EVIL), &json!(EVIL)));
    }

    #[test]
    fn a_line_for_people_is_as_it_always_was() {
        let line = written(LogFormat::Human, false, || {
            tracing::warn!(plugin = "a", generation = 2, took = ?Duration::from_secs(1), "slow");
        });
        let (time, rest) = line.split_once("Z  ").unwrap();
        assert_eq!(time.len(), "2026-11-27T19:47:47.350445".len());
        let here = module_path!();
        assert_eq!(rest, format!("WARN {here}: slow plugin=\"a\" generation=2 took=1s\n"));
    }

    #[test]
    fn a_line_of_json_is_one_flat_object_in_which_no_field_hides_another() {
        let line = written(LogFormat::Json, true, || {
            let _outer = tracing::info_span!("outer", order = 7).entered();
            let _inner = tracing::info_span!("inner").entered();
            tracing::error!(live = true, count = 3, level = "mine", r#type = ?Some(1), "it failed");
        });
        let mut read: Value = serde_json::from_str(&line).unwrap();
        assert!(line.starts_with("{\"time\":\"2"), "{line}");
        read.as_object_mut().unwrap().remove("time").unwrap();
        assert_eq!(
            read,
            json!({"level": "ERROR", "target": module_path!(), "spans": "outer{order=7}:inner",
            "message": "it failed", "live": true, "count": 3, "level_": "mine", "type": "Some(1)"})
        );
    }

    #[test]
    fn a_count_of_lines_that_are_alike_is_a_line_of_the_same_form() {
        let log = || {
            for number in 0..4 {
                let event_id = format!("evt_{number:x}");
                tracing::warn!(target: "ksi_plugin", plugin = "a", event_id, "sold out");
            }
        };
        let told = written(LogFormat::Human, false, log);
        let lines: Vec<&str> = told.lines().collect();
        let of = |event| format!("ksi_plugin: sold out plugin=\"a\" event_id=\"evt_{event}\"");
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines[0].ends_with(&of(0)), "{told}");
        assert!(lines[1].ends_with(&(of(3) + " (3 more times within 5s)")), "{told}");
        let told = written(LogFormat::Json, false, log);
        let read = |line| serde_json::from_str::<Value>(line).unwrap();
        let lines: Vec<Value> = told.lines().map(read).collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert_eq!((&lines[0]["event_id"], &lines[0]["repeated"]), (&json!("evt_0"), &Value::Null));
        assert_eq!((&lines[1]["event_id"], &lines[1]["repeated"]), (&json!("evt_3"), &json!(3)));
        assert_eq!(lines[1]["within"], "5s");
    }

    #[test]
    fn spans_are_told_in_bounded_bytes() {
        let line = written(LogFormat::Human, false, || {
            let long = "x".repeat(10_000);
            let spans: Vec<_> =
                (0..100).map(|_| tracing::info_span!("s", long).entered()).collect();
            tracing::info!("deep");
            // In the order in which they are to end.
            spans.into_iter().rev().for_each(drop);
        });
        assert!(line.len() < SPANS * (SPAN_BYTES + 10) + 200, "{}", line.len());
    }
}
