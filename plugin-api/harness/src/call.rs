//! A call in progress, and what the plugin emitted.

use std::{fmt, sync::Arc};

use ksi_abi::{Encoding, OutcomeCode, OutcomeView, ReportHandle, ReportObject, Value as AbiValue};
use ksi_kernel::{
    event::{NewEvent, Payload},
    executor::workers::Task,
    lock::Lock,
    router::{plugin_report::PluginReport, progress::Progress},
};
use ksi_plugin_api::{__private::testing, EmitOptions, Report};

use super::world::World;

/// An event that the test has emitted and whose handlers may still run; see
/// [`Harness::begin`](super::Harness::begin).
///
/// Dropping it does not end them; [`cancel`](Self::cancel) does.
pub struct Call {
    world: Arc<World>,
    event: String,
    progress: Arc<Progress>,
    end: Arc<Lock<Option<Told>>>,
    task: Lock<Option<Task<()>>>,
}

impl Call {
    /// Emits it. Its handlers run when the tasks do.
    pub(super) fn new(world: Arc<World>, event: &str, payload: Payload, said: &Said) -> Self {
        let (progress, end) = (Arc::new(Progress::default()), Arc::<Lock<Option<Told>>>::default());
        let task = match NewEvent::new(event, payload) {
            Ok(new) => {
                let new = said.beside(new, &world.state.lock().attributes);
                // Accepted where deadlines go by the clock of the harness.
                let accept = || world.router().emit_as_plugin(new, progress.clone());
                let emitting = world.in_place.as_worker(accept);
                let ended = end.clone();
                let task = world.router().workers().spawn(async move {
                    let report = emitting.await;
                    ended.lock().get_or_insert_with(|| Told::of(report));
                });
                Some(task)
            }
            Err(error) => {
                let refusal = ksi_abi::Refusal::new(ksi_abi::RefusalCode::INVALID_NAME, error);
                *end.lock() = Some(Told::of(PluginReport::refused(&refusal)));
                None
            }
        };
        Call { world, event: event.to_owned(), progress, end, task: Lock::new(task) }
    }

    pub(super) fn event(&self) -> &str {
        &self.event
    }

    /// The report, as far as the tasks have run.
    pub(super) fn report(&self) -> Option<Report> {
        let told = self.end.lock().clone();
        told.map(|told| testing::report(ReportHandle::new(told), &self.event))
    }

    /// The report, once every handler has ended. It does not wait.
    pub fn finished(&self) -> Option<Report> {
        // What woke a task from another thread is seen to first. A loop is reported by whatever
        // drives next.
        let _ = self.world.settle();
        self.report()
    }

    /// Gives the event up, as an emitter does that stops waiting: its handlers end at their next
    /// await, and are reported as rejected.
    pub fn cancel(&self) {
        self.give_up("the test gave it up");
    }

    pub(super) fn give_up(&self, reason: &str) {
        // Before it is ended, which is an end that nobody reports.
        self.end.lock().get_or_insert_with(|| Told::of(self.progress.rejected(reason)));
        let task = self.task.lock().take();
        drop(task);
        let _ = self.world.settle();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.detach();
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finished = self.end.lock().is_some();
        f.debug_struct("Call").field("event", &self.event).field("finished", &finished).finish()
    }
}

/// What is said beside an event that the test emits, and who is said to emit it.
#[derive(Default)]
pub(super) struct Said {
    pub(super) options: EmitOptions,
    pub(super) source: String,
}

impl Said {
    /// The event with it, and with what the test attaches to all of its events.
    fn beside(&self, event: NewEvent, always: &[(String, String)]) -> NewEvent {
        let (own, timeout, depth) = testing::said(&self.options);
        let attributes = always.iter().chain(own);
        let attach = |event: NewEvent, (key, value): &(String, String)| event.attribute(key, value);
        let event = attributes.fold(event.source(&self.source).depth(depth), attach);
        match timeout {
            Some(timeout) => event.timeout(timeout),
            None => event,
        }
    }
}

/// A report that may be looked at more than once.
#[derive(Clone)]
struct Told(Arc<PluginReport>);

impl Told {
    fn of(report: PluginReport) -> Self {
        Told(Arc::new(report))
    }
}

impl ReportObject for Told {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn code(&self, index: usize) -> OutcomeCode {
        self.0.code(index)
    }

    fn reply(&self, index: usize) -> Result<Encoding<'_>, (&str, &str)> {
        self.0.reply(index)
    }

    fn outcome(&self, index: usize) -> OutcomeView<'_> {
        self.0.outcome(index)
    }

    fn value(&self, index: usize) -> Option<&AbiValue> {
        self.0.value(index)
    }
}
