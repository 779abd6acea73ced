//! The texts of a log line, on one line and harmless: whatever a plugin says, a line of the log is
//! one event of it.
//!
//! Messages and values are made printable here, once each; what stands around them (time, level,
//! target, names of fields) comes from the host's own code.

use std::fmt;

use ksi_host::printable;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Formats the message and then each field as `name=value`.
pub(super) struct Harmless;

impl<'w> FormatFields<'w> for Harmless {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, begun: false, result: Ok(()) };
        fields.record(&mut line);
        line.finish()
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    begun: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        let space = if self.begun { " " } else { "" };
        let value = printable(value);
        let written = match field.name() {
            "message" => write!(self.writer, "{space}{value}"),
            // A name that is no word of Rust is written with this before it.
            name => write!(self.writer, "{space}{}={value}", name.trim_start_matches("r#")),
        };
        self.begun = true;
        self.result = self.result.and(written);
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put(field, value),
            _ => self.record_debug(field, &value),
        }
    }
}

impl VisitOutput<fmt::Result> for Line<'_> {
    fn finish(self) -> fmt::Result {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_text_makes_a_second_line_or_steers_a_terminal() {
        let (written, evil) = (Written::default(), "well\n2026 INFO all gone\u{1b}[8m\u{202e}");
        let lines = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(Harmless)
            .without_time()
            .with_ansi(true)
            .with_writer(move || lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _inside = tracing::info_span!("a span", evil).entered();
            tracing::info!(text = evil, shown = %evil, "{evil}");
        });
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = String::from_utf8(bytes).expect("text");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains("[8m\u{202e}") && !line.contains("\u{1b}[8m"), "{line}");
        assert_eq!(line.matches("well\\n2026 INFO all gone").count(), 4, "{line}");
    }
}
