//! A plugin's log lines and spans, on their way into the host's subscriber.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::{
        MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use ksi_abi::{LogRecord, SpanRecord, host::SpanStep};
use ksi_kernel::{
    executor::slot::{EventNumbers, current_event},
    lock::Lock,
};
use tracing::{Level, Span};

use super::services::HostServices;

/// How many spans of one plugin may be open at a time. Further ones are not followed.
const OPEN_SPANS: usize = 4_096;
/// Bytes of a line's message, and of its fields, that are logged.
const LONGEST: usize = 64 << 10;

/// Writes a line, with the plugin and the event that this worker handles at the moment.
pub(crate) fn line(of: &HostServices, record: &LogRecord<'_>) {
    line_of(of, current_event(), record);
}

/// The same with the event that it belongs to.
pub(crate) fn line_of(of: &HostServices, event: Option<EventNumbers>, record: &LogRecord<'_>) {
    let plugin = &**of.session().plugin();
    if !of.levels().writes_of_plugin(plugin, record.target.as_str(), record.level) {
        return;
    }
    let shown = |number: u64| format!("evt_{number:x}");
    let event_id = event.map(|event| shown(event.number));
    let root_id = event.map(|event| shown(event.root));
    let (event_id, root_id) = (event_id.as_deref(), root_id.as_deref());
    let at = record.target.as_str();
    let (message, fields) = (cut(record.message.as_str()), cut(record.fields.as_str()));
    let fields = (!fields.is_empty()).then(|| tracing::field::display(&*fields));
    // The level of a callsite is fixed, so there is one for each.
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(target: "ksi_plugin", $level, fields, plugin, event_id, root_id, at, "{message}")
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

/// How many spans of plugins are open in this process: while there are none, nobody looks for the
/// one that he is in.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Whether there is a span that somebody may be in.
pub(crate) fn is_any_span_open() -> bool {
    OPEN.load(Ordering::Relaxed) > 0
}

/// The span that whoever emits here is in, for what handles the event elsewhere.
pub(crate) fn span_of_emitter() -> Option<Box<Span>> {
    if !is_any_span_open() {
        return None;
    }
    let span = Span::current();
    (!span.is_disabled()).then(|| Box::new(span))
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

impl OpenSpan {
    fn new(span: Span) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        OpenSpan { span, references: 1 }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Spans {
    /// Opens one; its number, or 0 when nobody listens.
    pub(crate) fn open(&self, of: &HostServices, record: &SpanRecord<'_>) -> u64 {
        let (name, fields) = (record.name.as_str(), record.fields.as_str());
        let (plugin, at) = (&**of.session().plugin(), record.target.as_str());
        if !of.levels().writes_of_plugin(plugin, at, record.level) {
            return 0;
        }
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
        state.open.insert(number, OpenSpan::new(span));
        number
    }

    /// The one of this number.
    pub(crate) fn get(&self, number: u64) -> Option<Span> {
        self.lock().open.get(&number).map(|open| open.span.clone())
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
