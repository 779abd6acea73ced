//! What the plugin under test may ask of its host: what a generation may in a host, with a note of
//! what the test wants to know.

#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::{
    future::Future,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, HostApi, Refusal, ReplyEnd, ReplyForm,
    ReportHandle, Start, SubscribeOptions, To,
    host::{WaitEnd, WatchStep},
};
use ksi_kernel::{
    boundary::{self, Boundary},
    event::Event,
    router::{plugin_report::PluginReport, resolved::Resolved},
    session::{self, Emitting, Requesting, SessionWatch},
};

#[cfg(unix)]
use super::kept::of_trial;
use super::{
    generation::{Generation, nobody},
    world::Alarm,
};

/// What passes, for a generation.
pub(super) struct GenerationWatch {
    watch: Arc<SessionWatch>,
    trial: bool,
}

// The plugin is no library of its own here: its `tracing` is the test's.
impl HostApi for Generation {
    type Event = Event;
    type Route = Resolved;
    type Emitting = Emitting<Boundary>;
    type Requesting = Requesting<Boundary>;
    type Watch = GenerationWatch;

    fn resolve(self: &Arc<Self>, name: &str) -> Option<Resolved> {
        self.session.resolve(name, self.world.keeper()).ok()
    }

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting> {
        match self.reaches_somebody(name_of(&to)) {
            Ok(()) => self.session.emit::<Boundary>(parent, &to, content, options, cx),
            Err(refusal) => Start::Ready(ReportHandle::new(PluginReport::refused(&refusal))),
        }
    }

    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting> {
        match self.reaches_somebody(name_of(&to)) {
            Ok(()) => self.session.request::<Boundary>(parent, &to, content, options, form, cx),
            Err(refusal) => {
                let report = ReportHandle::new(PluginReport::refused(&refusal));
                Start::Ready(ReplyEnd::Report(report))
            }
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        self.reaches_somebody(name_of(&to))?;
        self.session.send(parent, &to, content, options)
    }

    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        let refused = self.trial.then(|| nobody(pattern));
        let waiting = refused
            .is_none()
            .then(|| (self.session.wait_for(pattern, timeout), Alarm::new(&self.world, timeout)));
        async move {
            match (waiting, refused) {
                (Some((waiting, alarm)), _) => {
                    noted(alarm, async move { boundary::waited(waiting.await) }).await
                }
                // No event passes where a plugin is tried out.
                (None, refused) => refused.map_or(WaitEnd::TimedOut, WaitEnd::Refused),
            }
        }
    }

    fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<GenerationWatch, Refusal> {
        let watch = Arc::new(self.session.watch(patterns, capacity)?);
        Ok(GenerationWatch { watch, trial: self.trial })
    }

    fn next(watch: &Arc<GenerationWatch>) -> impl Future<Output = WatchStep> + Send + 'static {
        let next = (!watch.trial).then(|| watch.watch.next());
        async move {
            match next {
                Some(next) => boundary::passed(next.await),
                // No event passes where a plugin is tried out.
                None => WatchStep::Ended,
            }
        }
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        options.check()?;
        let (timeout, &SubscribeOptions { priority, blocking, .. }) = (options.timeout(), options);
        let options = session::SubscribeOptions { priority, timeout, blocking };
        self.session.subscribe(pattern, handler, options, Some(&self.world.keeper()))
    }

    fn unsubscribe(&self, subscription: u64) -> bool {
        self.session.unsubscribe(subscription)
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let timer = self.session.sleep(duration);
        noted(Alarm::new(&self.world, duration), async move {
            timer.await;
            0
        })
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        if self.trial {
            // It never runs.
            drop(future);
            return Ok(self.world.number());
        }
        let world = Arc::downgrade(&self.world);
        let told = BoundaryFuture::of_plugin(async move {
            future.await.unwrap_or_else(|panic| {
                if let Some(world) = world.upgrade() {
                    world.state.lock().background_panics.push(panic.to_text());
                }
                0
            })
        });
        self.session.spawn(told, Some(self.world.keeper()))
    }

    fn cancel(&self, task: u64) {
        self.session.cancel(task);
    }

    fn now(&self) -> Duration {
        self.world.in_place.now()
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker
    }

    fn is_trial(&self) -> bool {
        self.trial
    }

    fn file(&self) -> Option<Vec<u8>> {
        let file = self.file.as_ref()?;
        Some(file.as_os_str().as_encoded_bytes().to_vec())
    }

    #[cfg(unix)]
    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        match self.trial {
            true => of_trial(address),
            false => self.kept.listener(address),
        }
    }

    #[cfg(unix)]
    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        match self.trial {
            true => Ok(()),
            false => self.kept.keep(name, descriptor),
        }
    }

    #[cfg(unix)]
    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        match self.trial {
            true => Ok(None),
            false => self.kept.kept(name),
        }
    }

    #[cfg(unix)]
    fn stop_keeping(&self, name: &str) -> bool {
        !self.trial && self.kept.stop_keeping(name)
    }
}

/// While this is awaited, the plugin waits for time.
async fn noted<T>(alarm: Alarm, waiting: impl Future<Output = T>) -> T {
    let _alarm = alarm;
    waiting.await
}

fn name_of<'a>(to: &'a To<'_, Resolved>) -> &'a str {
    match to {
        To::Route(resolved) => resolved.name(),
        To::Name(name) => name,
    }
}
