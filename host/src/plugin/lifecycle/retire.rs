//! How a generation goes: its calls end, it is shut down, and its library leaves memory.
//!
//! In this order, because each step relies on the one before: no route leads to it any more (the
//! swap saw to that); the calls in flight end; its tasks are dropped, its shutdown handlers run and
//! its instance is dropped, all on dispatch workers; its signal handlers are taken out; the workers
//! are exchanged and the old threads joined, because their thread-locals may hold the library;
//! nothing of the plugin refers to the host any more; nothing else in the process needs the library
//! ([`leftovers`](crate::plugin::instance::leftovers)); dlclose; and a look into the memory map.

use std::{
    future::poll_fn,
    io,
    sync::{Arc, mpsc},
    task::Poll,
    time::{Duration, Instant},
};

use async_task::Task;
use ksi_abi::ReplyForm;
use ksi_kernel::{
    call::{Started, outcome::CallOutcome},
    event::{self, Payload},
    executor::slot::Unreturned,
    report::OutcomeKind,
    router::Router,
};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, sleep_until, timeout},
};

use super::{
    policy::Policies,
    retired::{Retired, RetiredState},
};
use crate::{
    plugin::{
        announce::Announcer,
        instance::{
            body::{Body, Unused},
            generation::Generation,
            info::{GenerationInfo, SHUTDOWN_EVENT},
            residence::{Residence, Vacated},
            services::HostServices,
        },
        state::persistence::Persistence,
    },
    sync::task_tracker::Tracked,
    system::resident::resident_kib,
};

/// After this long in one step of its end, a generation counts as pinned, with what it waits for as
/// the cause.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the last snapshot gets, and the file that it goes to.
const LAST_SNAPSHOT: Duration = Duration::from_secs(15);
/// What something that needs a library is waited for before the second look, and, growing, before
/// each further one.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// What a library that is still mapped after dlclose waits before each further attempt; after the
/// last one it stays.
const RETRIES: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// How many stuck calls are named.
const CALLS_TOLD: usize = 8;

/// Lets generations go.
pub(crate) struct Retirer {
    announcer: Announcer,
    router: Arc<Router>,
    policies: Policies,
    shutdown: Duration,
    persistence: Option<Arc<Persistence>>,
    /// Set when the host stops: until when calls are waited for then.
    ending: watch::Sender<Option<Instant>>,
    /// Makes retirements that run at the same time share one exchange of the workers.
    turn: tokio::sync::Mutex<()>,
}

/// What becomes of the state of a generation at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalState {
    /// It is kept for the next start.
    Keep,
    /// Another generation has it, or there never was any.
    HandedOver,
}

/// A generation whose instance is gone.
pub(crate) struct Quiet(Generation);

/// What has become of a residence that nothing needed any more.
enum Left {
    Gone,
    /// It is there all the same.
    Not {
        cause: String,
        residence: Box<dyn Residence>,
    },
}

impl Retirer {
    /// `shutdown` is what each shutdown handler gets.
    pub(crate) fn new(
        router: Arc<Router>,
        policies: Policies,
        shutdown: Duration,
        persistence: Option<Arc<Persistence>>,
    ) -> Self {
        Retirer {
            announcer: Announcer::new(router.clone()),
            router,
            policies,
            shutdown,
            persistence,
            ending: watch::Sender::new(None),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The host stops: no call is waited for beyond `until`, and those that were let go on beyond
    /// their own drain timeout are not any more. Otherwise the host would have ended before the
    /// state of their plugin is kept. It may be said once more, with an earlier moment.
    pub(crate) fn end_all(&self, until: Instant) {
        self.ending.send_replace(Some(until));
    }

    /// Waits until the host stops.
    async fn ending(&self) {
        // The sender lives in `self`, so there is no other end.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until the host stops and waits for no call any more.
    async fn ended(&self) {
        let mut ending = self.ending.subscribe();
        loop {
            let until = *ending.borrow_and_update();
            let ended = async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ended => return,
                _ = ending.changed() => {}
            }
        }
    }

    /// A generation stays in memory for now.
    fn pin(&self, info: &GenerationInfo, retired: &Retired, cause: String) {
        tracing::warn!(
            plugin = %info.plugin, generation = info.number,
            "its library stays in memory for now: {cause}"
        );
        self.announcer.pinned(info, &cause);
        retired.set(RetiredState::Pinned(cause));
    }

    fn no_thread(&self, info: &GenerationInfo, retired: &Retired, error: &io::Error) {
        let cause = format!("no thread can be started to close it, which is tried again: {error}");
        self.pin(info, retired, cause);
    }

    /// The first half: until the instance is dropped. No route may lead to the generation any more.
    /// With a `final_state`, its state is kept for the next start, which waits for that to be
    /// dropped. One that never was live is not told that it goes: it might write its empty state
    /// where the live generation has its own.
    pub(crate) async fn quiesce(
        &self,
        mut generation: Generation,
        retired: &Retired,
        final_state: Option<Tracked>,
        was_live: bool,
    ) -> Quiet {
        let (info, began) = (generation.info.clone(), Instant::now());
        let mut instance = match generation.unused.take() {
            Some(unused) => self.drained(&info, &generation, unused, retired).await,
            // Its `initialize` did not succeed; tasks that it started may be there all the same.
            None => None,
        };
        retired.note("drain", began);
        if let (Some(_), Some(persistence)) = (&final_state, &self.persistence)
            && let Some(last) = instance.take()
        {
            let mut keeping = std::pin::pin!(persistence.keep_last(&self.router, &info, last));
            instance = match timeout(LAST_SNAPSHOT, &mut keeping).await {
                Ok(instance) => Some(instance),
                Err(_) => {
                    let cause = "its snapshot does not return, and cannot be ended from outside";
                    self.pin(&info, retired, cause.to_owned());
                    Some(keeping.await)
                }
            };
        }
        // Whoever starts next need not wait for its shutdown, which may never return.
        drop(final_state);
        self.shut_down(&info, &generation, instance, retired, was_live).await;
        Quiet(generation)
    }

    /// Waits for the calls in flight. What becomes of those that outlast the drain timeout is the
    /// policy's.
    async fn drained(
        &self,
        info: &GenerationInfo,
        generation: &Generation,
        mut unused: Unused,
        retired: &Retired,
    ) -> Option<Box<dyn Body>> {
        let policy = (self.policies)(&info.plugin);
        tokio::select! {
            biased;
            instance = &mut unused => return instance.ok(),
            () = sleep(policy.drain) => {}
            () = self.ended() => {}
        }
        if policy.keep_calls && self.ending.borrow().is_none() {
            let cause = format!("calls in flight are let go on: {}", info.running());
            self.pin(info, retired, cause);
            tokio::select! {
                instance = &mut unused => return instance.ok(),
                () = self.ending() => {}
            }
        }
        tracing::warn!(
            plugin = %info.plugin, generation = info.number,
            "cancelling calls that have not ended within the drain timeout: {}", info.running()
        );
        generation.services.session().cancel_calls();
        if let Ok(instance) = timeout(PATIENCE, &mut unused).await {
            return instance.ok();
        }
        let cause =
            format!("a call does not return, and cannot be ended from outside: {}", info.running());
        self.pin(info, retired, cause);
        unused.await.ok()
    }

    /// Ends the tasks, runs the shutdown handlers if it was live, and drops the instance.
    pub(crate) fn release(
        &self,
        info: &Arc<GenerationInfo>,
        services: &Arc<HostServices>,
        instance: Option<Box<dyn Body>>,
        was_live: bool,
    ) -> Task<()> {
        let (info, services) = (info.clone(), services.clone());
        let (router, limit) = (self.router.clone(), self.shutdown);
        // On threads that may block: a plugin's own runtime waits for its tasks when it is dropped.
        self.router.workers().spawn_life_cycle(async move {
            services.session().end_tasks();
            let Some(instance) = instance else { return };
            for handler in info.at_shutdown().filter(|_| was_live) {
                let result = shutdown_handler(&*instance, handler, limit, &router).await;
                if !result.is_ok() {
                    tracing::warn!(
                        plugin = %info.plugin, generation = info.number,
                        "its handler of {SHUTDOWN_EVENT} did not end well: {}", result.message()
                    );
                }
            }
            services.session().end_tasks();
            drop(instance);
        })
    }

    /// How long a [`release`](Self::release) takes at the most, if it returns.
    pub(crate) fn release_limit(&self, info: &GenerationInfo) -> Duration {
        let handlers = u32::try_from(info.at_shutdown().count()).unwrap_or(u32::MAX);
        self.shutdown.saturating_mul(handlers.max(1)) + PATIENCE
    }

    async fn shut_down(
        &self,
        info: &Arc<GenerationInfo>,
        generation: &Generation,
        instance: Option<Box<dyn Body>>,
        retired: &Retired,
        was_live: bool,
    ) {
        let mut task = self.release(info, &generation.services, instance, was_live);
        if timeout(self.release_limit(info), &mut task).await.is_err() {
            self.pin(
                info,
                retired,
                "its shutdown does not return, and cannot be ended from outside".into(),
            );
            task.await;
        }
    }

    /// The second half: until nothing is left of its residence, or that is given up on.
    pub(crate) async fn close(&self, quiet: Quiet, retired: &Retired) {
        let Quiet(generation) = quiet;
        let (info, began) = (generation.info.clone(), Instant::now());
        // Before anything that may take long: nobody is to be called whose instance is gone.
        generation.residence.withdraw();
        // Looked at first: what is let go of while threads end may run code of the plugin on those
        // that follow.
        let held = generation.residence.references() > 0;
        let here = generation.residence.is_here();
        if here {
            self.threads_gone(&info, retired).await;
        }
        self.references_gone(&generation, retired).await;
        let Generation { services, residence, copy, .. } = generation;
        drop(services);
        if held && here {
            // Whatever let go of the last reference may have run code of the plugin on the new
            // threads.
            self.threads_gone(&info, retired).await;
        }
        let mut left = self.vacated(residence, &info, retired).await;
        for retry in RETRIES {
            let Some(Left::Not { cause, residence }) = left else { break };
            self.pin(&info, retired, cause);
            sleep(retry).await;
            if here {
                self.threads_gone(&info, retired).await;
            }
            // Whatever kept it has run its code since.
            left = self.vacated(residence, &info, retired).await;
        }
        match left {
            Some(Left::Gone) => {
                drop(copy);
                retired.note("unmap", began);
                if let Some(kib) = resident_kib() {
                    retired.resident_kib.get_or_init(|| kib);
                }
                retired.set(RetiredState::Unmapped);
            }
            Some(Left::Not { cause, .. }) => {
                // Debuggers and backtraces need the file as long as it is mapped.
                std::mem::forget(copy);
                self.pin(&info, retired, cause);
            }
            None => {
                std::mem::forget(copy);
                self.pin(&info, retired, "the host panicked while it closed it".to_owned());
            }
        }
    }

    /// Waits until the plugin has no reference to the host any more, and nobody a value of it.
    async fn references_gone(&self, generation: &Generation, retired: &Retired) {
        let (mut wait, mut waited) = (Duration::from_micros(100), Duration::ZERO);
        loop {
            let held = generation.residence.references();
            if held == 0 {
                return;
            }
            if waited < PATIENCE && waited + wait >= PATIENCE {
                let mut cause = format!(
                    "{held} reference(s) still need it: a thread or a static of its own keeps a Context or a Watch, or another plugin works on a value that it gave"
                );
                let watched = generation.services.session().watched();
                if !watched.is_empty() {
                    cause += &format!(". It watches, and has not dropped: {}", watched.join("; "));
                }
                self.pin(&generation.info, retired, cause);
            }
            sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(250));
        }
    }

    /// Vacates a residence as soon as nothing needs it. `None` if that has panicked.
    async fn vacated(
        &self,
        mut residence: Box<dyn Residence>,
        info: &GenerationInfo,
        retired: &Retired,
    ) -> Option<Left> {
        let (began, mut wait) = (Instant::now(), FIRST_LOOK);
        let mut told = Vec::new();
        loop {
            let attempt = on_own_thread(
                move || residence.vacate(),
                |error| self.no_thread(info, retired, &error),
            );
            let by = match attempt.await? {
                Vacated::Gone => return Some(Left::Gone),
                Vacated::Stays { cause, residence } => return Some(Left::Not { cause, residence }),
                Vacated::Needed { by, residence: back } => {
                    residence = back;
                    by
                }
            };
            if began.elapsed() >= PATIENCE && by != told {
                let cause = by.join("; ");
                match told.is_empty() {
                    true => self.pin(info, retired, cause),
                    // Said once; what changes is for whoever asks.
                    false => retired.set(RetiredState::Pinned(cause)),
                }
                told = by;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LAST_LOOK);
        }
    }

    /// Waits until every thread that may have run the generation has ended.
    async fn threads_gone(&self, info: &GenerationInfo, retired: &Retired) {
        let workers = self.router.workers();
        let last = workers.current_set();
        {
            let _turn = self.turn.lock().await;
            while workers.current_set() == last {
                if let Err(error) = workers.exchange() {
                    self.pin(
                        info,
                        retired,
                        format!("no new dispatch workers can be started: {error}"),
                    );
                    sleep(PATIENCE).await;
                }
            }
        }
        let mut told = None;
        while timeout(PATIENCE, workers.joined(last)).await.is_err() {
            let cause = self.stuck(workers.unreturned(last));
            match &told {
                None => self.pin(info, retired, cause.clone()),
                // Said once; what changes is for whoever asks.
                Some(told) if *told != cause => retired.set(RetiredState::Pinned(cause.clone())),
                Some(_) => (),
            }
            told = Some(cause);
        }
    }

    /// What the threads that are waited for have not returned from, by name.
    fn stuck(&self, unreturned: Vec<Unreturned>) -> String {
        let named = |poll: &Unreturned| match self.router.info(poll.handler) {
            Some(at) => format!("{}.{} with evt_{:x}", at.plugin, at.handler, poll.event),
            None => format!("a task on a thread {}", poll.thread),
        };
        let mut names: Vec<String> = unreturned.iter().map(named).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(CALLS_TOLD);
        names.truncate(CALLS_TOLD);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        match names.is_empty() {
            true => "a thread that may have run it does not end: a destructor of a thread-local \
                     keeps it"
                .to_owned(),
            false => format!(
                "a thread that may have run it is stuck in a call, which cannot be ended from \
                 outside: {}",
                names.join(", ")
            ),
        }
    }
}

async fn shutdown_handler(
    instance: &dyn Body,
    handler: u64,
    limit: Duration,
    router: &Router,
) -> OutcomeKind {
    let event = event::of_host(SHUTDOWN_EVENT, Payload::from_json_bytes(b"{}".to_vec()));
    let event = router.directed(event);
    let started =
        poll_fn(|cx| Poll::Ready(instance.start(handler, event.clone(), &ReplyForm::Json, cx)));
    let ended = async {
        match started.await {
            Started::Ready(ended) => ended.into(),
            Started::Host(future) => future.await.into(),
            Started::Plugin(future) => match future.await {
                Ok(end) => CallOutcome::from(end).into(),
                Err(message) => OutcomeKind::Panicked { message: message.to_text() },
            },
        }
    };
    let timed = {
        let _inside = router.runtime().enter();
        timeout(limit, ended)
    };
    timed.await.unwrap_or(OutcomeKind::TimedOut { after: limit })
}

/// Runs something that may run a library's destructors, on a thread that ends right after. As long
/// as there is no thread it is tried again, which `no_thread` is told of once. `None` if it has
/// panicked.
async fn on_own_thread<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
    no_thread: impl FnOnce(io::Error),
) -> Option<T> {
    let mut no_thread = Some(no_thread);
    loop {
        let (sender, receiver) = oneshot::channel();
        // What is given to a thread that is not started would be lost.
        let (give, take) = mpsc::channel::<W>();
        let thread = std::thread::Builder::new().name("ksi-close".to_owned());
        let started = thread.spawn(move || {
            if let Ok(work) = take.recv() {
                // The other end waits for as long as this takes.
                let _ = sender.send(work());
            }
        });
        match started {
            Ok(_) => {
                let _ = give.send(work);
                return receiver.await.ok();
            }
            Err(error) => {
                if let Some(no_thread) = no_thread.take() {
                    no_thread(error);
                }
                sleep(PATIENCE).await;
            }
        }
    }
}
