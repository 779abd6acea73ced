//! Replacing the plugin under test by another version of it, in the order in which a host does.
//!
//! The state goes over by the gate of a host's own kernel: new events wait before it, calls inside
//! end, the old version gives a snapshot, the new one restores it, and what has waited goes on to
//! the new one. Whatever fails before the swap, the gate opens again, and nothing has happened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ksi_abi::local::Local;
use ksi_kernel::{
    call::gate::{GateHold, Overfull},
    lock::Lock,
};
use ksi_plugin_api::{Error, Plugin, Result};
use serde_json::Value;

use super::{
    Harness, Setup,
    generation::{Generation, Live, Origin, PluginType},
    handlers::Instance,
    state::{common_version, restore_bytes, restore_in, snapshot_of},
    world::World,
};

mod exclusive;

/// How long events wait for calls in flight before those are cancelled. As in a host.
const HOLD_LIMIT: Duration = Duration::from_secs(5);
/// What cancelled calls get to end. As in a host.
const PATIENCE: Duration = Duration::from_secs(2);

/// A replacement that goes on; see [`Harness::begin_replace`]. Dropping this does not end it.
#[must_use = "how it ends is told by `finished`"]
pub struct Replacement {
    world: Arc<World>,
    ended: Arc<Lock<Option<Result<()>>>>,
}

impl Harness {
    /// Replaces the plugin by another version of it, as a host does: with the same configuration,
    /// the state and what the host keeps for it. Time passes as it needs it.
    ///
    /// `P` is a type with the plugin's name: another version of it, which a test may have in a
    /// module of its own, or the same one. An error leaves the version before live, with its state
    /// and all events that have waited.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Counter(AtomicU32);
    ///
    /// #[plugin]
    /// impl Counter {
    ///     #[event_handler("counter:add")]
    ///     async fn add(&self, _: &Context, by: u32) -> Result<u32> {
    ///         Ok(self.0.fetch_add(by, Relaxed) + by)
    ///     }
    ///
    ///     #[snapshot]
    ///     async fn snapshot(&self, _: &Context) -> Result<u32> {
    ///         Ok(self.0.load(Relaxed))
    ///     }
    ///
    ///     #[restore]
    ///     async fn restore(&self, _: &Context, count: u32) -> Result<()> {
    ///         self.0.store(count, Relaxed);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Counter>();
    /// assert_eq!(plugin.emit("counter:add", 2).results(), [json!(2)]);
    /// plugin.replace::<Counter>().unwrap();
    /// assert_eq!(plugin.emit("counter:add", 3).results(), [json!(5)]);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Setup::start`]; `no_state` and `no_common_version` where the state would be lost,
    /// `busy` when calls do not end or another replacement goes on, `too_many_held` when more
    /// events wait than may, `other_plugin` when the name is another one, `down` when neither
    /// version of an exclusive plugin starts.
    pub fn replace<P: Plugin>(&self) -> Result<()> {
        self.replace_with(Self::setup::<P>())
    }

    /// The same with a configuration, a file or stand-ins of the new version's own. A snapshot to
    /// [restore](Setup::restore) takes the place of the state that the old version has, as when a
    /// host goes back to a version with the state of that time.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn replace_with<P: Plugin>(&self, setup: Setup<P>) -> Result<()> {
        let replacing = self.plan(setup);
        self.run_life_cycle(async move { replacing?.run().await })
    }

    /// Begins a replacement, and goes as far as it does without time passing: for a test of what
    /// happens to traffic meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// const SECOND: Duration = Duration::from_secs(1);
    ///
    /// #[derive(Default)]
    /// struct Slow;
    ///
    /// #[plugin(exclusive)]
    /// impl Slow {
    ///     #[event_handler("slow:request")]
    ///     async fn slow(&self, ctx: &Context, _: Value) -> Result<u64> {
    ///         ctx.sleep(SECOND).await;
    ///         Ok(ctx.now().as_secs())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Slow>();
    /// let before = plugin.begin("slow:request", ());
    /// let replacement = plugin.begin_replace(Harness::setup::<Slow>());
    /// // The call in flight is waited for, and what comes meanwhile is held.
    /// let meanwhile = plugin.begin("slow:request", ());
    /// assert_eq!((replacement.finished(), plugin.held()), (None, 1));
    ///
    /// plugin.advance(SECOND);
    /// assert_eq!(before.finished().unwrap().results(), [json!(1)]);
    /// assert_eq!((replacement.finished(), plugin.held()), (Some(Ok(())), 0));
    /// plugin.advance(SECOND);
    /// assert_eq!(meanwhile.finished().unwrap().results(), [json!(2)]);
    /// # }
    /// ```
    #[track_caller]
    pub fn begin_replace<P: Plugin>(&self, setup: Setup<P>) -> Replacement {
        let (replacing, ended) = (self.plan(setup), Arc::new(Lock::new(None)));
        let told = ended.clone();
        let task = self.world.router().workers().spawn(async move {
            let end = match replacing {
                Ok(replacing) => replacing.run().await,
                Err(error) => Err(error),
            };
            *told.lock() = Some(end);
        });
        task.detach();
        self.settle();
        Replacement { world: self.world.clone(), ended }
    }

    /// The version that is live, once more.
    pub(super) fn reload_live(&self) -> Result<()> {
        let live = self.world.state.lock().live.as_ref().map(|live| live.of);
        let of = live.ok_or_else(gone)?;
        let replacing = Replacing::begin(&self.world, of, None, None, None);
        self.run_life_cycle(async move { replacing?.run().await })
    }

    /// How many events wait for a replacement.
    pub fn held(&self) -> usize {
        let live = self.world.state.lock().live.as_ref().map(|live| live.generation.clone());
        live.and_then(|live| live.session.gate().map(|gate| gate.waiting())).unwrap_or(0)
    }

    /// What is known before it begins.
    fn plan<P: Plugin>(&self, setup: Setup<P>) -> Result<Replacing> {
        let of = PluginType::of::<P>();
        (of.handlers)(super::handlers::Routed)?;
        if setup.trial {
            return Err(Error::new("trial", "whoever is only tried out replaces nobody"));
        }
        let config = setup.config.map(|config| serde_json::to_vec(&config)).transpose()?;
        let stand_ins = setup.stand_ins.into_iter().collect::<Result<Vec<_>>>()?;
        // From here on it is the only one, and nothing refuses it but the others that it brings.
        let replacing = Replacing::begin(&self.world, of, config, setup.file, setup.snapshot)?;
        self.load_all(setup.beside)?;
        for stand_in in stand_ins {
            self.world.stand_in(stand_in);
        }
        #[cfg(unix)]
        replacing.generation.inherit(setup.kept);
        if of.runtime {
            *self.runtime.lock() = true;
        }
        Ok(replacing)
    }
}

impl Replacement {
    /// How it ended, once the new version is live or is not going to be. It does not wait.
    pub fn finished(&self) -> Option<Result<()>> {
        // A loop is reported by whatever drives next.
        let _ = self.world.settle();
        self.ended.lock().clone()
    }
}

/// One replacement, on its way.
struct Replacing {
    world: Arc<World>,
    old: Old,
    of: PluginType,
    config: Vec<u8>,
    generation: Arc<Generation>,
    state: State,
}

/// The version that is live.
struct Old {
    of: PluginType,
    generation: Arc<Generation>,
    config: Vec<u8>,
    instance: Option<Arc<Instance>>,
}

/// What the new version is to restore.
enum State {
    Nothing,
    /// What the old one has, as a snapshot of this version.
    OfOld(u32),
    Given(u32, Value),
}

impl Drop for Replacing {
    fn drop(&mut self) {
        self.world.state.lock().replacing = false;
    }
}

impl Replacing {
    fn begin(
        world: &Arc<World>,
        of: PluginType,
        config: Option<Vec<u8>>,
        file: Option<PathBuf>,
        snapshot: Option<(u32, Value)>,
    ) -> Result<Self> {
        let mut inside = world.state.lock();
        if inside.replacing {
            return Err(Error::new("busy", "another replacement of the plugin goes on"));
        }
        let live = inside.live.as_ref().filter(|_| !inside.retired).ok_or_else(gone)?;
        let Live { of: old, generation, config: before, instance, .. } = live;
        if old.name != of.name {
            let text = format_args!(
                "{} is another plugin than {}: give both types one name, #[plugin(name = \"{}\")]",
                of.name, old.name, old.name
            );
            return Err(Error::new("other_plugin", text));
        }
        let state = match snapshot {
            Some((version, snapshot)) => State::Given(version, snapshot),
            None if old.keeps_state() => State::OfOld(common_version(old, &of)?),
            None => State::Nothing,
        };
        let origin = Origin { trial: false, file: file.or_else(|| generation.file.clone()) };
        let config = config.unwrap_or_else(|| before.clone());
        let old = Old {
            of: *old,
            generation: generation.clone(),
            config: before.clone(),
            instance: Some(instance.clone()),
        };
        inside.replacing = true;
        drop(inside);
        let generation = Generation::new(world, of.name, of.is_gated(), origin);
        Ok(Replacing { world: world.clone(), old, of, config, generation, state })
    }

    async fn run(mut self) -> Result<()> {
        match self.old.of.exclusive || self.of.exclusive {
            true => self.in_its_place().await,
            false => self.beside().await,
        }
    }

    /// Both versions are alive for a moment.
    async fn beside(&mut self) -> Result<()> {
        let instance = match self.generation.create(&self.of, self.config.clone()).await {
            Ok(instance) => instance,
            Err(error) => {
                self.generation.give_up(None);
                return Err(error);
            }
        };
        match self.hand_over(&instance).await.and_then(|held| self.goes_on().map(|()| held)) {
            Ok(held) => self.commit(instance, held),
            Err(error) => {
                self.generation.give_up(Some(instance));
                Err(error)
            }
        }
    }

    /// From the first held event to the restored state.
    async fn hand_over(&self, new: &Local<Generation>) -> Result<Option<GateHold>> {
        let old = &self.old.generation;
        let held = old.session.gate().map(|gate| gate.hold());
        if let Some(hold) = &held {
            self.quiet(hold).await?;
        }
        let transfer = async {
            match &self.state {
                State::Nothing => Ok(()),
                State::Given(version, snapshot) => {
                    restore_in(&self.generation, new, *version, snapshot).await
                }
                State::OfOld(version) => {
                    let snapshot = self.snapshot_of_old(*version).await?;
                    restore_bytes(&self.generation, new, *version, &snapshot).await
                }
            }
        };
        match &held {
            Some(hold) => {
                hold.while_waiting(transfer).await.unwrap_or_else(|full| Err(too_many(&full)))?
            }
            None => transfer.await?,
        }
        Ok(held)
    }

    async fn snapshot_of_old(&self, version: u32) -> Result<Vec<u8>> {
        match self.old.instance.as_ref().and_then(|instance| instance.local()) {
            Some(local) => snapshot_of(&self.old.generation, local, version).await,
            None => Err(Error::new("gone", "the plugin is gone")),
        }
    }

    /// Waits for the calls that are inside, and cancels them when it takes too long.
    async fn quiet(&self, hold: &GateHold) -> Result<()> {
        if let Some(quiet) = self.world.within(HOLD_LIMIT, hold.quiet()).await {
            return quiet.map_err(|full| too_many(&full));
        }
        self.old.generation.session.cancel_present_calls();
        match self.world.within(PATIENCE, hold.quiet()).await {
            Some(quiet) => quiet.map_err(|full| too_many(&full)),
            None => Err(Error::new("busy", "calls did not end, and cannot be ended from outside")),
        }
    }

    /// The harness is not being shut down.
    fn goes_on(&self) -> Result<()> {
        match self.world.state.lock().retired {
            true => Err(Error::new("gone", "the plugin was shut down meanwhile")),
            false => Ok(()),
        }
    }

    /// From here on the new version is the plugin.
    fn commit(&mut self, instance: Local<Generation>, held: Option<GateHold>) -> Result<()> {
        self.old.instance = None;
        self.old.generation.detach();
        let before = self.generation.attach(self.of, self.config.clone(), instance)?;
        if let Some(hold) = held {
            hold.moved();
        }
        if let Some(before) = before {
            self.world.let_go(before);
        }
        Ok(())
    }
}

impl World {
    /// A version that was replaced goes, in the background.
    fn let_go(self: &Arc<Self>, before: Live) {
        let generation = before.generation.clone();
        self.state.lock().leaving.push(generation.clone());
        let world = Arc::downgrade(self);
        let leaving = self.router().workers().spawn(async move {
            before.retire().await;
            if let Some(world) = world.upgrade() {
                world.state.lock().leaving.retain(|other| !Arc::ptr_eq(other, &generation));
            }
        });
        leaving.detach();
    }
}

fn gone() -> Error {
    Error::new("gone", "the plugin was shut down")
}

fn too_many(full: &Overfull) -> Error {
    Error::new("too_many_held", format_args!("{full} waited before the state had gone over"))
}
