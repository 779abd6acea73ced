//! A plugin's log lines and spans, on their way into the host's subscriber.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::MutexGuard,
};

use ksi_abi::{LogRecord, SpanRecord, host::SpanStep};
use ksi_kernel::executor::slot::current_event;
use ksi_kernel::lock::Lock;
use tracing::{Level, Span, level_filters::LevelFilter};

/// How many spans of one plugin may be open at a time. Further ones are not followed.
const OPEN_SPANS: usize = 4_096;
/// Bytes of a line's message, and of its fields, that are logged.
const LONGEST: usize = 64 << 10;

/// The most detailed level that anybody listens to, as a number that crosses.
pub(crate) fn max_level() -> u8 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}

/// Writes a line, with the plugin and the event that this worker handles at the moment.
pub(crate) fn line(plugin: &str, record: &LogRecord<'_>) {
    line_of(plugin, current_event(), record);
}

/// The same with the event that it belongs to.
pub(crate) fn line_of(plugin: &str, event: Option<u64>, record: &LogRecord<'_>) {
    let event = event.map(|event| format!("evt_{event:x}"));
    let (event, at) = (event.as_deref(), record.target.as_str());
    let (message, fields) = (cut(record.message.as_str()), cut(record.fields.as_str()));
    let space = if fields.is_empty() { "" } else { " " };
    // The level of a callsite is fixed, so there is one for each.
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(target: "ksi_plugin", $level, plugin, event, at, "{message}{space}{fields}")
        };
    }
    match record.level {
        1 => write!(Level::ERROR),
        2 => write!(Level::WARN),
        3 => write!(Level::INFO),
        4 => write!(Level::DEBUG),
        _ => write!(Level::TRACE),
    }
}

/// A text of bounded length: what formats a line keeps as much memory as its longest one took, on
/// each thread.
fn cut(text: &str) -> Cow<'_, str> {
    match text.len().checked_sub(LONGEST) {
        None | Some(0) => Cow::Borrowed(text),
        Some(_) => {
            let kept = &text[..text.floor_char_boundary(LONGEST)];
            Cow::Owned(format!("{kept}… ({} bytes more)", text.len() - kept.len()))
        }
    }
}

/// The spans that one plugin has open.
#[derive(Default)]
pub(crate) struct Spans(Lock<OpenSpans>);

#[derive(Default)]
struct OpenSpans {
    next: u64,
    open: HashMap<u64, OpenSpan>,
}

struct OpenSpan {
    span: Span,
    references: usize,
}

impl Spans {
    /// Opens one; its number, or 0 when nobody listens.
    pub(crate) fn open(&self, plugin: &str, record: &SpanRecord<'_>) -> u64 {
        let (name, fields) = (record.name.as_str(), record.fields.as_str());
        let at = record.target.as_str();
        macro_rules! open {
            ($level:expr) => {
                tracing::span!(target: "ksi_plugin", $level, "plugin", name, plugin, at, fields)
            };
        }
        let span = match record.level {
            1 => open!(Level::ERROR),
            2 => open!(Level::WARN),
            3 => open!(Level::INFO),
            4 => open!(Level::DEBUG),
            _ => open!(Level::TRACE),
        };
        let mut state = self.lock();
        if span.is_disabled() || state.open.len() >= OPEN_SPANS {
            return 0;
        }
        state.next += 1;
        let number = state.next;
        state.open.insert(number, OpenSpan { span, references: 1 });
        number
    }

    /// Moves one on.
    pub(crate) fn step(&self, number: u64, step: SpanStep) {
        let mut state = self.lock();
        let Entry::Occupied(mut entry) = state.open.entry(number) else { return };
        let span = entry.get().span.clone();
        let ended = match step {
            SpanStep::Enter | SpanStep::Exit => None,
            SpanStep::Clone => {
                entry.get_mut().references += 1;
                None
            }
            SpanStep::Close => {
                entry.get_mut().references -= 1;
                (entry.get().references == 0).then(|| entry.remove())
            }
        };
        // The subscriber is foreign code: it runs, and the span is closed, without the lock.
        drop(state);
        span.with_subscriber(|(id, subscriber)| match step {
            SpanStep::Enter => subscriber.enter(id),
            SpanStep::Exit => subscriber.exit(id),
            SpanStep::Clone | SpanStep::Close => {}
        });
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, OpenSpans> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters_and_says_so() {
        assert!(matches!(cut("short"), Cow::Borrowed("short")));
        let long = format!("{}ä{}", "x".repeat(LONGEST - 1), "y".repeat(100));
        let text = cut(&long);
        assert!(text.starts_with("xxx") && text.ends_with("x… (102 bytes more)"), "{}", text.len());
    }
}
