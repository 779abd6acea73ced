//! `tracing` and `log` in a plugin: events, spans and lines go to the host's subscriber.
//!
//! A library has a `tracing` and a `log` of its own, so it gets a subscriber and a logger of its
//! own, which keep nothing and forward everything. The host attaches plugin and event. Both stay
//! for the life of the library, because neither can be taken back; between two instances they
//! forward to nobody.

use std::{
    fmt::{Debug, Write},
    io::{self, Write as _},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
};

use ksi_abi::{HostRef, host::SpanStep};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// Where to, while the plugin is live.
static HOST: RwLock<Option<HostRef>> = RwLock::new(None);
/// The most detailed level that the host listens to.
static MAX_LEVEL: AtomicU8 = AtomicU8::new(0);

/// Stands for a span that the host does not follow: tracing has no number for "none".
const NO_SPAN: u64 = u64::MAX;

/// From now on this library's `tracing` goes to `host`.
pub(crate) fn forward_to(host: &HostRef) {
    {
        let mut forwards_to = HOST.write().unwrap_or_else(PoisonError::into_inner);
        *forwards_to = Some(host.clone());
        listen_as(host);
    }
    // Fails when the library was entered before, and then it is set already.
    let _ = tracing::dispatcher::set_global_default(Dispatch::new(Forward));
    tracing::callsite::rebuild_interest_cache();
    // As above. The author may have set another one before, which then stays.
    let _ = ::log::set_logger(&Forward);
}

/// The host listens to another level.
pub(crate) fn level_changed() {
    {
        // Whoever changes it twice is asked twice, and the last one asks last.
        let forwards_to = HOST.write().unwrap_or_else(PoisonError::into_inner);
        let Some(host) = &*forwards_to else { return };
        listen_as(host);
    }
    // What was decided of each line is decided anew.
    tracing::callsite::rebuild_interest_cache();
}

/// Lines that the host does not listen to cost a look at a number from here on.
fn listen_as(host: &HostRef) {
    let level = host.max_level();
    MAX_LEVEL.store(level, Ordering::Relaxed);
    ::log::set_max_level(filter(level));
}

/// Gives up the host.
pub(crate) fn stop_forwarding() {
    MAX_LEVEL.store(0, Ordering::Relaxed);
    ::log::set_max_level(::log::LevelFilter::Off);
    let _last = HOST.write().unwrap_or_else(PoisonError::into_inner).take();
}

/// Tells the host of a panic that nobody catches. Once the plugin has ended there is none to be
/// told.
pub(crate) fn uncaught_panic(message: &str) {
    if with_host(|host| host.log(1, "panic", message, "")).is_none() {
        let _ = writeln!(io::stderr(), "a plugin that has ended panicked: {message}");
    }
}

fn with_host<T>(use_it: impl FnOnce(&HostRef) -> T) -> Option<T> {
    HOST.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(use_it)
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// What `log` calls the levels up to this one.
fn filter(level: u8) -> ::log::LevelFilter {
    use ::log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
    *[Off, Error, Warn, Info, Debug].get(usize::from(level)).unwrap_or(&Trace)
}

struct Forward;

impl ::log::Log for Forward {
    fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
        metadata.level() as usize <= usize::from(MAX_LEVEL.load(Ordering::Relaxed))
    }

    fn log(&self, record: &::log::Record<'_>) {
        if !::log::Log::enabled(self, record.metadata()) {
            return;
        }
        // Before the host is looked for: what is formatted may log itself, and the lock does not
        // let it in twice.
        let message = record.args().to_string();
        let level = u8::try_from(record.level() as usize).unwrap_or(u8::MAX);
        with_host(|host| host.log(level, record.target(), &message, ""));
    }

    fn flush(&self) {}
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(metadata.level()) <= MAX_LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match MAX_LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut text = Text::default();
        attributes.record(&mut text);
        let metadata = attributes.metadata();
        let opened = with_host(|host| {
            host.span(number(metadata.level()), metadata.target(), metadata.name(), &text.fields)
        });
        span::Id::from_u64(opened.filter(|&id| id != 0).unwrap_or(NO_SPAN))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        with_host(|host| {
            host.log(number(metadata.level()), metadata.target(), &text.message, &text.fields)
        });
    }

    fn enter(&self, id: &span::Id) {
        step(id, SpanStep::Enter);
    }

    fn exit(&self, id: &span::Id) {
        step(id, SpanStep::Exit);
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        step(id, SpanStep::Clone);
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        step(&id, SpanStep::Close);
        true
    }
}

fn step(id: &span::Id, step: SpanStep) {
    if id.into_u64() != NO_SPAN {
        with_host(|host| host.span_step(id.into_u64(), step));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a string cannot fail, but a `Debug` of the author's may say that it does.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                let space = if self.fields.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value:?}")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_listens_to_is_not_formatted() {
        struct Formatted;
        impl std::fmt::Display for Formatted {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("it is formatted")
            }
        }
        // No host has said that it listens to anything.
        tracing::dispatcher::with_default(&Dispatch::new(Forward), || {
            tracing::error!("{Formatted}");
            let _span = tracing::error_span!("a span", field = %Formatted).entered();
        });
        ::log::Log::log(
            &Forward,
            &::log::Record::builder().args(format_args!("{Formatted}")).build(),
        );
    }

    #[test]
    fn the_levels_of_both_crates_are_the_same_numbers() {
        for (level, of_log) in [
            (Level::ERROR, ::log::Level::Error),
            (Level::WARN, ::log::Level::Warn),
            (Level::INFO, ::log::Level::Info),
            (Level::DEBUG, ::log::Level::Debug),
            (Level::TRACE, ::log::Level::Trace),
        ] {
            assert_eq!(usize::from(number(&level)), of_log as usize);
            assert_eq!(filter(number(&level)), of_log.to_level_filter());
        }
        assert_eq!(filter(0), ::log::LevelFilter::Off);
    }
}
