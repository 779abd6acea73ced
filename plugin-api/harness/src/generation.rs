//! One generation of a plugin in a harness: what it may ask of its host, the instance that is
//! called, and how that is made and let go.

use std::{
    future::{Future, poll_fn},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ksi_abi::{CallEnd, Refusal, RefusalCode, ReplyForm, Start, local::Local, validate_event_name};
use ksi_kernel::{
    event::{Payload, of_host},
    session::{HandlerSpec, Session, SessionLimits},
};
use ksi_plugin_api::{__private::testing::InProcess, Error, Plugin, Result};
use tokio::sync::oneshot;

use super::{
    handlers::{Declared, Instance, Only, Routed, SHUTDOWN_EVENT, declared},
    state::reply,
    world::World,
};

/// What an initialization may take, on the clock of the harness. As in a host.
pub(super) const INITIALIZE_LIMIT: Duration = Duration::from_secs(10);
/// What each handler of `module:shutdown` may take. As in a host.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// What calls in flight get once another generation has taken over. As in a host.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// What one generation has of its host. It comes before the instance.
pub(super) struct Generation {
    pub(super) world: Arc<World>,
    pub(super) session: Arc<Session>,
    /// The plugin is only tried out, and reaches nobody.
    pub(super) trial: bool,
    /// Where the plugin is said to be.
    pub(super) file: Option<PathBuf>,
    /// What the host keeps for the plugin.
    #[cfg(unix)]
    pub(super) kept: ksi_kept::PluginResources,
}

/// The generation that events are led to.
pub(super) struct Live {
    pub(super) of: PluginType,
    pub(super) generation: Arc<Generation>,
    /// What it was made with.
    pub(super) config: Vec<u8>,
    pub(super) instance: Arc<Instance>,
    /// Gets the instance when no call uses it any more.
    pub(super) unused: oneshot::Receiver<Local<Generation>>,
}

type Created = Pin<Box<dyn Future<Output = Result<Local<Generation>, CallEnd>> + Send>>;

/// What there is to know of a plugin's type, for those who do not know the type.
#[derive(Clone, Copy)]
pub(super) struct PluginType {
    pub(super) name: &'static str,
    pub(super) runtime: bool,
    pub(super) exclusive: bool,
    pub(super) emits: &'static [&'static str],
    writes: fn() -> Vec<u32>,
    restores: fn() -> Vec<u32>,
    pub(super) handlers: fn(Declared) -> Result<Vec<HandlerSpec>>,
    create: fn(Arc<Generation>, Vec<u8>) -> Created,
}

impl PluginType {
    pub(super) fn of<P: Plugin>() -> Self {
        PluginType {
            name: P::NAME,
            runtime: P::RUNTIME,
            exclusive: P::EXCLUSIVE,
            emits: P::EMITS,
            writes: || P::SNAPSHOTS.iter().map(|known| known.version).collect(),
            restores: || P::RESTORES.iter().map(|known| known.version).collect(),
            handlers: declared::<P>,
            create: |host, config| Box::pin(Local::create::<InProcess<P>>(host, &config)),
        }
    }

    /// The versions of snapshots that it writes, highest first.
    pub(super) fn writes(&self) -> Vec<u32> {
        (self.writes)()
    }

    /// The versions of snapshots that it restores, highest first.
    pub(super) fn restores(&self) -> Vec<u32> {
        (self.restores)()
    }

    pub(super) fn keeps_state(&self) -> bool {
        !self.writes().is_empty()
    }

    /// Whether its events are held when it is replaced.
    pub(super) fn is_gated(&self) -> bool {
        self.keeps_state() || self.exclusive
    }
}

/// What a generation is made with.
pub(super) struct Origin {
    pub(super) trial: bool,
    pub(super) file: Option<PathBuf>,
}

impl Generation {
    /// A further generation of a plugin of this name; its events can be held if it is `gated`.
    pub(super) fn new(world: &Arc<World>, plugin: &str, gated: bool, origin: Origin) -> Arc<Self> {
        let (number, router) = (world.number(), world.router().clone());
        let limits = SessionLimits::default();
        let session = Session::new(plugin.into(), number, router, limits, gated);
        let Origin { trial, file } = origin;
        #[cfg(unix)]
        let kept = world.kept.of(session.plugin().clone());
        Arc::new(Generation {
            world: world.clone(),
            session,
            trial,
            file,
            #[cfg(unix)]
            kept,
        })
    }

    /// Makes an instance, which has its time for that.
    pub(super) async fn create(
        self: &Arc<Self>,
        of: &PluginType,
        config: Vec<u8>,
    ) -> Result<Local<Generation>> {
        let create = (of.create)(self.clone(), config);
        let Some(created) = self.world.within(INITIALIZE_LIMIT, create).await else {
            let text = format!("the initialisation did not end within {INITIALIZE_LIMIT:?}");
            return Err(Error::new("timed_out", text));
        };
        let gave_nothing = || Error::new("failed", "the initialisation gave no plugin");
        created.map_err(|end| reply(end).err().unwrap_or_else(gave_nothing))
    }

    /// Leads the events of the plugin to an instance: the commit point of a start and of every
    /// replacement. Gives the one that was live before.
    pub(super) fn attach(
        self: &Arc<Self>,
        of: PluginType,
        config: Vec<u8>,
        instance: Local<Generation>,
    ) -> Result<Option<Live>> {
        let live = self.go_live(of, config, instance)?;
        Ok(self.world.state.lock().live.replace(live))
    }

    /// The same for a plugin that is not the one under test.
    pub(super) fn go_live(
        self: &Arc<Self>,
        of: PluginType,
        config: Vec<u8>,
        instance: Local<Generation>,
    ) -> Result<Live> {
        let (instance, unused) = Instance::new(instance);
        let handlers = (of.handlers)(Routed)?;
        let keeper = self.world.keeper();
        let declared = self.session.declared(handlers, instance.clone(), Some(&keeper));
        self.session.attach(declared, instance.clone(), Some(&keeper));
        #[cfg(unix)]
        self.kept.is_live();
        Ok(Live { of, generation: self.clone(), config, instance, unused })
    }

    /// Nothing leads to it any more, or ever will.
    pub(super) fn detach(&self) {
        self.session.detach();
        #[cfg(unix)]
        self.kept.leaves();
    }

    /// It was made for nothing.
    pub(super) fn give_up(&self, instance: Option<Local<Generation>>) {
        self.detach();
        self.session.end_tasks();
        drop(instance);
    }

    /// Refuses what a plugin emits that is only tried out.
    pub(super) fn reaches_somebody(&self, event: &str) -> Result<(), Refusal> {
        if !self.trial {
            return Ok(());
        }
        validate_event_name(event)
            .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
        Err(nobody(event))
    }
}

/// What is refused to somebody who is only tried out.
pub(super) fn nobody(event: &str) -> Refusal {
    let text = format_args!("{event} reaches nobody: the plugin is only tried out");
    Refusal::new(RefusalCode::TRIAL, text)
}

impl Live {
    /// Lets it go, once another one has taken over: its calls in flight end, or are cancelled at
    /// their deadline, its tasks are dropped, its handlers of `module:shutdown` run, and it is
    /// dropped.
    pub(super) async fn retire(self) {
        let Live { of, generation, instance, mut unused, .. } = self;
        drop(instance);
        let world = generation.world.clone();
        let instance = match world.within(DRAIN_LIMIT, &mut unused).await {
            Some(instance) => instance,
            None => {
                generation.session.cancel_calls();
                unused.await
            }
        };
        if let Ok(instance) = instance {
            release(&of, &generation, instance).await;
        }
    }
}

/// Ends the tasks of an instance that no call uses, runs its handlers of `module:shutdown`, and
/// drops it.
pub(super) async fn release(of: &PluginType, generation: &Generation, instance: Local<Generation>) {
    let session = &generation.session;
    session.end_tasks();
    for (number, handler) in (0..).zip((of.handlers)(Only(SHUTDOWN_EVENT)).unwrap_or_default()) {
        if !handler.patterns.is_empty() {
            shut_down(generation, &instance, number).await;
        }
    }
    session.end_tasks();
    drop(instance);
}

/// Runs one handler of `module:shutdown` of an instance that is not live any more. How it ends
/// changes nothing.
async fn shut_down(generation: &Generation, instance: &Local<Generation>, handler: u64) {
    let nothing = Payload::from_json_bytes(b"{}".to_vec());
    let event = generation.session.router().directed(of_host(SHUTDOWN_EVENT, nothing));
    let start = |cx: &mut std::task::Context<'_>| {
        Poll::Ready(instance.call(handler, event.clone(), &ReplyForm::Json, cx))
    };
    if let Start::Pending(going_on) = poll_fn(start).await {
        let _ = generation.world.within(SHUTDOWN_LIMIT, going_on).await;
    }
}
