//! What this thread runs for the first time, and the note of it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

use ksi_kernel::label::Label;
use serde::{Deserialize, Serialize};

use super::journal::{Journal, RecordPlace};

thread_local! {
    /// Without a destructor, so that a signal handler can look at any time.
    static NOW: Cell<Now> = const { Cell::new(Now { label: 0, place: None, call: None }) };
}

/// Whose code runs here, and where that is noted.
#[derive(Clone, Copy)]
pub(super) struct Now {
    /// The number of a text; zero for nothing.
    pub(super) label: u64,
    pub(super) place: Option<RecordPlace>,
    /// The call that it is, by handler and event; none for another step.
    pub(super) call: Option<(u64, u64)>,
}

impl Now {
    /// What this thread is at. For signal handlers.
    #[cfg(target_os = "linux")]
    pub(super) fn here() -> Option<Now> {
        NOW.try_with(Cell::get).ok()
    }
}

/// What is run for the first time, and of which file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// Of the file's bytes, in hexadecimal.
    pub(crate) hash: String,
    /// Its path, as text.
    pub(crate) file: String,
    pub(crate) plugin: String,
    pub(crate) version: String,
    /// For people: `initializing`.
    pub(crate) step: String,
}

/// A note that code is about to run for the first time, until this is dropped.
pub(crate) struct Noted {
    label: Label,
    kept: Option<KeptRecord>,
}

struct KeptRecord {
    journal: Arc<Journal>,
    place: RecordPlace,
}

/// Notes it: in the journal, if there is one and it has room.
pub(crate) fn note(journal: Option<&Arc<Journal>>, about: &About) -> Noted {
    let About { plugin, version, step, file, .. } = about;
    let label = Label::new(&format!("plugin {plugin} {version}, {step}, of {file}"));
    let kept = journal.and_then(|journal| {
        let place = journal.write(about)?;
        Some(KeptRecord { journal: journal.clone(), place })
    });
    Noted { label, kept }
}

impl Noted {
    /// Runs a piece of that code on this thread.
    pub(crate) fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        self.run(None, run)
    }

    /// The same for a call: a handler's key and an event's number. What is called from inside it is
    /// not meant.
    pub(crate) fn during_call<T>(&self, call: (u64, u64), run: impl FnOnce() -> T) -> T {
        self.run(Some(call), run)
    }

    fn run<T>(&self, call: Option<(u64, u64)>, run: impl FnOnce() -> T) -> T {
        let place = self.kept.as_ref().map(|kept| kept.place);
        let _restored = RestoresNow(NOW.replace(Now { label: self.label.key(), place, call }));
        run()
    }

    /// Polls a future that runs it, and keeps the note until it is done.
    pub(crate) async fn through<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.during(|| future.as_mut().poll(cx))).await
    }
}

/// Says in the end what was said before, also when what was run unwinds.
struct RestoresNow(Now);

impl Drop for RestoresNow {
    fn drop(&mut self) {
        NOW.set(self.0);
    }
}

impl Drop for KeptRecord {
    fn drop(&mut self) {
        self.journal.clear(self.place);
    }
}
