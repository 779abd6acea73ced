//! In which form lines are written, as it is known when they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ksi_host::LogFormat;

/// The form of lines from here on. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Form {
    is_json: Arc<AtomicBool>,
    /// Of lines for people.
    pub(super) colours: bool,
}

impl Form {
    pub(super) fn new(format: LogFormat, colours: bool) -> Self {
        let form = Form { is_json: Arc::default(), colours };
        form.set(format);
        form
    }

    pub(super) fn set(&self, format: LogFormat) {
        self.is_json.store(format == LogFormat::Json, Ordering::Relaxed);
    }

    pub(super) fn format(&self) -> LogFormat {
        match self.is_json.load(Ordering::Relaxed) {
            true => LogFormat::Json,
            false => LogFormat::Human,
        }
    }
}
