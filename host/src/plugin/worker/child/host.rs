//! The host as a plugin in a process of its own has it: all of it is asked for over the socket, but
//! what this process knows or bounds by itself.

use std::{
    collections::HashSet,
    future::Future,
    os::fd::OwnedFd,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, EventHandle, HostApi, Instance, LogRecord,
    Refusal, RefusalCode, ReplyEnd, ReplyForm, ReportHandle, SpanRecord, Start, SubscribeOptions,
    To,
    host::{SpanStep, WaitEnd, WatchStep},
    validate_event_name,
};
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{
    AttributesBuf, Emit, EmitHow, FromWorker, Inbox, Payload, ProtocolError,
    ReplyForm as WantedForm,
    life::{Limits, Open, Stats},
};
use tokio::runtime::Handle;

use super::{
    asked::{Asking, Awaited, WorkerEmitting, WorkerRequesting, refusal_of},
    calls::WorkerCalls,
    event::WorkerEvent,
    job::{HostAnswer, Life},
    log::SpanCounts,
    outbox::WayOut,
    reader::{End, TurnReader},
    report::WorkerReport,
    tasks::WorkerTasks,
    watches::{WorkerWatch, WorkerWatches},
};

/// The host, and all that this process has in hand; see the module.
pub(super) struct WorkerHost {
    this: Weak<WorkerHost>,
    pub(super) out: WayOut,
    pub(super) reader: TurnReader,
    /// Where pending calls and tasks go on, and timers are.
    pub(super) runtime: Handle,
    pub(super) limits: Limits,
    pub(super) plugin: String,
    pub(super) asked: Awaited,
    /// Events that were sent and are not handled.
    sent: Lock<HashSet<u64>>,
    pub(super) calls: WorkerCalls,
    pub(super) tasks: WorkerTasks,
    pub(super) watches: WorkerWatches,
    pub(super) spans: SpanCounts,
    instance: Lock<Option<Arc<Instance>>>,
    life: mpsc::Sender<Life>,
    on_end: fn(&End),
    file: Vec<u8>,
    trial: bool,
    clock_zero: u64,
    level: AtomicU8,
    next: AtomicU64,
    kept_contexts: AtomicU64,
}

impl WorkerHost {
    pub(super) fn new(
        open: Open,
        out: WayOut,
        inbox: Inbox,
        runtime: Handle,
        life: mpsc::Sender<Life>,
        on_end: fn(&End),
    ) -> Arc<Self> {
        let Open { plugin, file, trial, level, clock_zero, limits, .. } = open;
        out.set_limit(limits.frame);
        Arc::new_cyclic(|this| WorkerHost {
            this: this.clone(),
            out,
            reader: TurnReader::new(inbox),
            runtime,
            limits,
            plugin,
            asked: Awaited::default(),
            sent: Lock::default(),
            calls: WorkerCalls::default(),
            tasks: WorkerTasks::default(),
            watches: WorkerWatches::default(),
            spans: SpanCounts::default(),
            instance: Lock::default(),
            life,
            on_end,
            file,
            trial,
            clock_zero,
            level: AtomicU8::new(level),
            next: AtomicU64::new(1),
            kept_contexts: AtomicU64::new(0),
        })
    }

    /// Somebody has it as long as it is asked for something.
    pub(super) fn this(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// A number that was never used before.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Sends a frame: with the others of this turn if this thread is the one that reads, and at
    /// once otherwise.
    pub(super) fn try_put(&self, frame: FromWorker<'_>, id: u64) -> Result<(), ProtocolError> {
        match self.reader.reads_here() {
            true => self.out.put(frame, id),
            false => self.out.put_now(frame, id),
        }
    }

    /// The same for one that always fits.
    pub(super) fn put(&self, frame: FromWorker<'_>, id: u64) {
        let _ = self.try_put(frame, id);
    }

    pub(super) fn instance(&self) -> Option<Arc<Instance>> {
        self.instance.lock().clone()
    }

    /// The instance that is here from now on; the one that was.
    pub(super) fn set_instance(&self, instance: Option<Instance>) -> Option<Arc<Instance>> {
        std::mem::replace(&mut *self.instance.lock(), instance.map(Arc::new))
    }

    pub(super) fn level(&self) -> u8 {
        self.level.load(Relaxed)
    }

    pub(super) fn set_level(&self, level: u8) {
        self.level.store(level, Relaxed);
    }

    /// One context more is kept beyond its call, if that is allowed.
    pub(super) fn keeps_one_more(&self) -> bool {
        let limit = self.limits.kept_contexts;
        let more = |kept| (kept < limit).then_some(kept + 1);
        self.kept_contexts.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    pub(super) fn keeps_one_less(&self) {
        self.kept_contexts.fetch_sub(1, SeqCst);
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            memory: memory_in_use(),
            tasks: self.tasks.count() as u64,
            kept_contexts: self.kept_contexts.load(SeqCst),
            calls: self.calls.count() as u64,
        }
    }

    /// An answer of the host has come.
    pub(super) fn answered(&self, id: u64, answer: HostAnswer) {
        // What nobody awaits is the end of what was sent, or a refusal of what was accepted here.
        let Some(answer) = self.asked.answer(id, answer) else { return };
        self.sent.lock().remove(&id);
        if let HostAnswer::Refused { text, .. } = answer {
            let _ = self.watches.refused(id);
            self.say(2, &format!("the host refuses what was accepted here before: {text}"));
        }
    }

    /// A step of the instance's life is to be taken.
    pub(super) fn live(&self, life: Life) {
        let _ = self.life.send(life);
    }

    /// Nothing more comes from the host.
    pub(super) fn ends(&self, end: End) {
        (self.on_end)(&end);
        self.live(Life::Over(end));
    }

    /// Asks the host to emit an event, as far as it need not refuse that.
    fn put_emit(
        &self,
        how: EmitHow,
        id: u64,
        parent: Option<&Counted<WorkerEvent>>,
        to: &To<'_, Arc<str>>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        let name: &str = match to {
            To::Route(name) => name,
            To::Name(name) => {
                validate_event_name(name)
                    .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
                name
            }
        };
        let json = content
            .into_bytes()
            .map_err(|failure| Refusal::new(RefusalCode::NOT_ENCODABLE, failure.to_texts().1))?;
        let (bytes, limit) = (json.len() as u64, self.limits.payload);
        if bytes > limit {
            let text = format_args!(
                "the payload of {name} has {bytes} bytes, and {limit} are allowed \
                 (limits.payload_bytes)"
            );
            return Err(Refusal::new(RefusalCode::TOO_LARGE, text));
        }
        let parent = parent.map(|parent| &parent.0);
        let mut attributes = AttributesBuf::default();
        if let Some(options) = options {
            let none = ksi_abi::Attributes::new();
            let inherited = parent.map_or(&none, |parent| parent.attributes());
            let own = options.attached(name, inherited)?;
            own.iter().for_each(|(key, it)| attributes.push(key, it));
        }
        let depth = options.map_or(0, |options| options.depth);
        let before = parent.map_or(0, |parent| parent.depth().saturating_add(1));
        let before = before.saturating_add(depth);
        // Whoever waits for an answer is told by the host, which knows the chain.
        if how == EmitHow::Send && before >= self.limits.depth {
            let text = format_args!(
                "{name} is event number {} of a chain of events, and {} are allowed \
                 (limits.event_depth). Is it a loop?",
                u64::from(before) + 1,
                self.limits.depth
            );
            return Err(Refusal::new(RefusalCode::TOO_DEEP, text));
        }
        let emit = Emit {
            how,
            form: WantedForm::Json,
            call: parent.map_or(0, |parent| parent.call()),
            timeout: options.map_or(0, |options| options.timeout),
            depth,
            name,
            attributes: attributes.attributes(),
            payload: Payload::Bytes(&json),
        };
        self.try_put(FromWorker::Emit(emit), id)
            .map_err(|error| Refusal::new(RefusalCode::TOO_LARGE, error))
    }
}

/// Bytes of memory that this process has, or 0 where the system does not tell.
fn memory_in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0_u64) << 10
}

impl HostApi for WorkerHost {
    type Event = WorkerEvent;
    type Route = Arc<str>;
    type Emitting = WorkerEmitting;
    type Requesting = WorkerRequesting;
    type Watch = WorkerWatch;

    fn resolve(self: &Arc<Self>, name: &str) -> Option<Arc<str>> {
        validate_event_name(name).ok().map(|_| name.into())
    }

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<WorkerEvent>>,
        to: To<'_, Arc<str>>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, WorkerEmitting> {
        let asked =
            Asking::of(self, |id| self.put_emit(EmitHow::Emit, id, parent, &to, content, options));
        match asked {
            Ok(asking) => begun(WorkerEmitting(asking), cx),
            Err(refusal) => Start::Ready(WorkerReport::refused(&refusal).into_handle()),
        }
    }

    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<WorkerEvent>>,
        to: To<'_, Arc<str>>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        _: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, WorkerRequesting> {
        let asked = Asking::of(self, |id| {
            self.put_emit(EmitHow::Request, id, parent, &to, content, options)
        });
        match asked {
            Ok(asking) => begun(WorkerRequesting(asking), cx),
            Err(refusal) => Start::Ready(WorkerReport::refused(&refusal).into_reply()),
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<WorkerEvent>>,
        to: To<'_, Arc<str>>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        let id = self.number();
        {
            let (mut sent, limit) = (self.sent.lock(), self.limits.sends);
            if sent.len() as u64 >= limit {
                let name: &str = match &to {
                    To::Route(name) => name,
                    To::Name(name) => name,
                };
                let text = format_args!(
                    "{name} is not accepted: {limit} sent events are not handled yet; send fewer, \
                     or use emit, which waits"
                );
                return Err(Refusal::new(RefusalCode::QUEUE_FULL, text));
            }
            sent.insert(id);
        }
        let put = self.put_emit(EmitHow::Send, id, parent, &to, content, options);
        if put.is_err() {
            self.sent.lock().remove(&id);
        }
        put
    }

    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let asked = Asking::of(self, |id| {
            self.try_put(FromWorker::Wait { timeout, pattern }, id)
                .map_err(|error| Refusal::new(RefusalCode::TOO_LARGE, error))
        });
        async move {
            let mut asking = match asked {
                Ok(asking) => asking,
                Err(refusal) => return WaitEnd::Refused(refusal),
            };
            match std::future::poll_fn(|cx| asking.poll(cx)).await {
                Some(HostAnswer::Waited(Some(event))) => {
                    let event = WorkerEvent::counted(Arc::new(event));
                    WaitEnd::Event(EventHandle::new(event))
                }
                Some(HostAnswer::Waited(None)) => WaitEnd::TimedOut,
                answer => WaitEnd::Refused(refusal_of(answer)),
            }
        }
    }

    fn watch(self: &Arc<Self>, patterns: &[&str], capacity: usize) -> Result<WorkerWatch, Refusal> {
        self.start_watch(patterns, capacity)
    }

    fn next(watch: &Arc<WorkerWatch>) -> impl Future<Output = WatchStep> + Send + 'static {
        WorkerWatch::next(watch.clone())
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        self.start_subscription(pattern, handler, options)
    }

    fn unsubscribe(&self, number: u64) -> bool {
        self.end_subscription(number)
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let timer = {
            let _inside = self.runtime.enter();
            tokio::time::sleep(duration)
        };
        async move {
            timer.await;
            0
        }
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        self.run_task(future)
    }

    fn cancel(&self, number: u64) {
        self.tasks.cancel(number);
    }

    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(
            u64::try_from(now.tv_sec).unwrap_or(0),
            u32::try_from(now.tv_nsec).unwrap_or(0),
        );
        now.saturating_sub(Duration::from_nanos(self.clock_zero))
    }

    fn max_level(&self) -> u8 {
        self.level()
    }

    fn log(&self, record: &LogRecord<'_>) {
        self.write_line(record);
    }

    fn span(&self, record: &SpanRecord<'_>) -> u64 {
        self.open_span(record)
    }

    fn span_step(&self, number: u64, step: SpanStep) {
        self.move_span(number, step);
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        // The library stays until the process ends.
        waker
    }

    fn is_trial(&self) -> bool {
        self.trial
    }

    fn file(&self) -> Option<Vec<u8>> {
        Some(self.file.clone())
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        match self.ask_and_wait(FromWorker::Listen { address }) {
            Some(HostAnswer::Descriptor(descriptor)) => Ok(descriptor),
            answer => Err(refusal_of(answer)),
        }
    }

    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        match self.ask_and_wait(FromWorker::Keep { name, descriptor }) {
            Some(HostAnswer::Done) => Ok(()),
            answer => Err(refusal_of(answer)),
        }
    }

    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        match self.ask_and_wait(FromWorker::Kept { name }) {
            Some(HostAnswer::Descriptor(descriptor)) => Ok(Some(descriptor)),
            Some(HostAnswer::Nothing) => Ok(None),
            answer => Err(refusal_of(answer)),
        }
    }

    fn stop_keeping(&self, name: &str) -> bool {
        matches!(self.ask_and_wait(FromWorker::StopKeeping { name }), Some(HostAnswer::Done))
    }
}

/// The first poll, so that the waker that was given is registered.
fn begun<F: Future + Unpin>(mut future: F, cx: &mut Context<'_>) -> Start<F::Output, F> {
    match std::pin::Pin::new(&mut future).poll(cx) {
        Poll::Ready(end) => Start::Ready(end),
        Poll::Pending => Start::Pending(future),
    }
}
