//! Lines of the plugin's log, and its spans, which the host writes.
//!
//! Which span a thread is in is known here: the host hears that one is opened and closed, and of
//! each line in which it is written.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use ksi_abi::{LogRecord, SpanRecord, host::SpanStep};
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{FromWorker, Log, Span};

use super::{calls, host::WorkerHost};

/// SpanCounts that may be open at a time. Further ones are not followed.
const OPEN_SPANS: usize = 4_096;
/// Bytes of a line's message, and of its fields, that are sent.
const LONGEST: usize = 64 << 10;
/// Where lines of this process come from that are not the plugin's.
const HERE: &str = "ksi_host::worker";

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// How many references there are to each span.
#[derive(Default)]
pub(super) struct SpanCounts(Lock<HashMap<u64, usize>>);

fn innermost() -> u64 {
    ENTERED.with_borrow(|entered| entered.last().copied().unwrap_or(0))
}

impl WorkerHost {
    /// A line at once, so that it is out if this process dies of what comes next.
    pub(super) fn write_line(&self, record: &LogRecord<'_>) {
        if record.level > self.level() {
            return;
        }
        let _ = self.out.put_now(
            FromWorker::Log(Log {
                call: calls::current(),
                span: innermost(),
                level: record.level,
                target: &cut(record.target.as_str()),
                fields: &cut(record.fields.as_str()),
                message: &cut(record.message.as_str()),
            }),
            0,
        );
    }

    /// A line of this process.
    pub(super) fn say(&self, level: u8, message: &str) {
        let (target, fields) = (HERE, "");
        let log = Log { call: 0, span: 0, level, target, fields, message: &cut(message) };
        let _ = self.out.put_now(FromWorker::Log(log), 0);
    }

    pub(super) fn open_span(&self, record: &SpanRecord<'_>) -> u64 {
        if record.level > self.level() {
            return 0;
        }
        let number = self.number();
        {
            let mut open = self.spans.0.lock();
            if open.len() >= OPEN_SPANS {
                return 0;
            }
            open.insert(number, 1);
        }
        let span = Span {
            call: calls::current(),
            parent: innermost(),
            level: record.level,
            target: &cut(record.target.as_str()),
            name: &cut(record.name.as_str()),
            fields: &cut(record.fields.as_str()),
        };
        self.put(FromWorker::Span(span), number);
        number
    }

    pub(super) fn move_span(&self, number: u64, step: SpanStep) {
        if number == 0 {
            return;
        }
        match step {
            SpanStep::Enter => ENTERED.with_borrow_mut(|entered| entered.push(number)),
            SpanStep::Exit => ENTERED.with_borrow_mut(|entered| {
                if let Some(at) = entered.iter().rposition(|it| *it == number) {
                    entered.remove(at);
                }
            }),
            SpanStep::Clone => {
                self.spans.0.lock().entry(number).and_modify(|references| *references += 1);
            }
            SpanStep::Close => {
                let closed = match self.spans.0.lock().entry(number) {
                    Entry::Occupied(mut entry) => {
                        *entry.get_mut() -= 1;
                        *entry.get() == 0 && entry.remove() == 0
                    }
                    Entry::Vacant(_) => false,
                };
                if closed {
                    self.put(FromWorker::SpanEnd, number);
                }
            }
        }
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.len().checked_sub(LONGEST) {
        None | Some(0) => Cow::Borrowed(text),
        Some(_) => {
            let kept = &text[..text.floor_char_boundary(LONGEST)];
            Cow::Owned(format!("{kept}… ({} bytes more)", text.len() - kept.len()))
        }
    }
}
