//! Making the plugin under test.

use std::{marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use ksi_abi::local::Local;
use ksi_kernel::lock::Lock;
use ksi_plugin_api::{__private::testing::InProcess, Error, Plugin, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Harness,
    handlers::{Instance, StandIn, declared},
    state::reply,
    world::World,
};

/// What an initialisation may take, on the clock of the harness. As in a host.
const INITIALIZE_LIMIT: Duration = Duration::from_secs(10);

/// What a plugin is made with; see [`Harness::setup`].
#[must_use = "the plugin is made by `start`"]
pub struct Setup<P> {
    config: Value,
    stand_ins: Vec<Result<Arc<StandIn>>>,
    snapshot: Option<(u32, Value)>,
    trial: bool,
    file: Option<PathBuf>,
    #[cfg(unix)]
    pub(super) kept: std::collections::BTreeMap<String, std::os::fd::OwnedFd>,
    plugin: PhantomData<fn() -> P>,
}

impl<P: Plugin> Setup<P> {
    pub(super) fn new() -> Self {
        let config = Value::Object(serde_json::Map::new());
        let stand_ins = Vec::new();
        Setup {
            config,
            stand_ins,
            snapshot: None,
            trial: false,
            file: None,
            #[cfg(unix)]
            kept: std::collections::BTreeMap::new(),
            plugin: PhantomData,
        }
    }

    /// The plugin's configuration. Default: `{}`.
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// A stand-in that is there when the plugin is initialised; see [`Harness::on`].
    pub fn on<D, R>(
        mut self,
        pattern: &str,
        stand_in: impl Fn(D) -> Result<R> + Send + Sync + 'static,
    ) -> Self
    where
        D: DeserializeOwned,
        R: Serialize,
    {
        self.stand_ins.push(StandIn::new(pattern, stand_in));
        self
    }

    /// A snapshot that is restored once the plugin is initialised, before its first event, as at a
    /// reload. See [`Harness::snapshot`].
    pub fn restore(mut self, version: u32, snapshot: Value) -> Self {
        self.snapshot = Some((version, snapshot));
        self
    }

    /// Makes the plugin as a host does that tries it out, with
    /// [`Context::is_trial`](ksi_plugin_api::Context::is_trial): its events are refused and its
    /// background tasks do not run.
    ///
    /// ```
    /// # use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # struct Server;
    /// # #[plugin]
    /// # impl Server {
    /// #[initialize]
    /// async fn initialize(ctx: &Context, _: Value) -> Result<Self> {
    ///     if !ctx.is_trial() {
    ///         ctx.emit(named("server:listens", &json!({"port": 80}))).await;
    ///     }
    ///     Ok(Server)
    /// }
    /// # }
    /// # fn main() {
    /// let plugin = Harness::setup::<Server>().trial().start().unwrap();
    /// assert_eq!(plugin.emitted(), []);
    /// # }
    /// ```
    pub fn trial(mut self) -> Self {
        self.trial = true;
        self
    }

    /// What [`Context::file`](ksi_plugin_api::Context::file) gives. Nothing need be there.
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Makes the plugin. Time passes as its initialisation needs it.
    ///
    /// # Errors
    /// As [`Harness::with_config`]; also a stand-in's pattern that is none, and a snapshot that
    /// cannot be restored, as [`Harness::restore`]. In no case does the plugin see
    /// `module:shutdown`.
    pub fn start(self) -> Result<Harness> {
        let (handlers, at_shutdown) = (declared::<P>(false)?, declared::<P>(true)?);
        let world = World::new(P::NAME, self.trial, self.file)?;
        for stand_in in self.stand_ins {
            world.stand_in(stand_in?);
        }
        #[cfg(unix)]
        {
            world.state.lock().kept = self.kept;
        }
        let harness = Harness {
            world: world.clone(),
            runtime: P::RUNTIME,
            writes: P::SNAPSHOTS.first().map(|newest| newest.version),
            at_shutdown: Lock::new(at_shutdown),
            patience: Lock::new(Duration::from_secs(10)),
        };
        let made = Arc::new(Lock::new(None));
        let making = {
            let config = serde_json::to_vec(&self.config)?;
            let instance = Local::create::<InProcess<P>>(world.clone(), &config);
            let made = made.clone();
            world.router().workers().spawn(async move {
                let result = instance.await;
                *made.lock() = Some(result);
            })
        };
        let result = harness.pass_time(INITIALIZE_LIMIT, || made.lock().take());
        drop(making);
        let instance = match result {
            Some(Ok(instance)) => instance,
            Some(Err(end)) => {
                let gave_nothing = Error::new("failed", "the initialisation gave no plugin");
                return Err(reply(end).err().unwrap_or(gave_nothing));
            }
            None => {
                let text = format!("the initialisation did not end within {INITIALIZE_LIMIT:?}");
                return Err(Error::new("timed_out", text));
            }
        };
        let instance = Arc::new(Instance(instance));
        world.state.lock().instance = Some(instance.clone());
        if let Some((version, snapshot)) = self.snapshot
            && let Err(error) = harness.restore(version, &snapshot)
        {
            harness.end_instance();
            return Err(error);
        }
        let keeper = world.keeper();
        let declared = world.session.declared(handlers, instance.clone(), Some(&keeper));
        world.session.attach(declared, instance, Some(&keeper));
        Ok(harness)
    }
}
