//! Making the plugin under test.

use std::{marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use ksi_kernel::lock::Lock;
use ksi_plugin_api::{Plugin, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Harness,
    beside::{Beside, make},
    generation::{Generation, Origin, PluginType},
    stand_in::StandIn,
    world::World,
};

/// What a plugin is made with; see [`Harness::setup`].
#[must_use = "the plugin is made by `start`"]
pub struct Setup<P> {
    pub(super) config: Option<Value>,
    pub(super) stand_ins: Vec<Result<Arc<StandIn>>>,
    pub(super) snapshot: Option<(u32, Value)>,
    pub(super) beside: Vec<Beside>,
    pub(super) trial: bool,
    pub(super) file: Option<PathBuf>,
    #[cfg(unix)]
    pub(super) kept: std::collections::BTreeMap<String, std::os::fd::OwnedFd>,
    plugin: PhantomData<fn() -> P>,
}

impl<P: Plugin> Setup<P> {
    pub(super) fn new() -> Self {
        Setup {
            config: None,
            stand_ins: Vec::new(),
            snapshot: None,
            beside: Vec::new(),
            trial: false,
            file: None,
            #[cfg(unix)]
            kept: std::collections::BTreeMap::new(),
            plugin: PhantomData,
        }
    }

    /// The plugin's configuration. Default: `{}`; in a [replacement](Harness::replace_with), that
    /// of the version before.
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
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

    /// The state of another instance, as a host hands it over: a snapshot of the highest version
    /// that the other one writes and this type restores. The two may be versions of one plugin.
    ///
    /// ```
    /// # use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # struct Counter(u64);
    /// # #[plugin]
    /// # impl Counter {
    /// #     #[initialize]
    /// #     async fn start(_: &Context, config: Value) -> Result<Self> {
    /// #         Ok(Counter(config.as_u64().unwrap_or(0)))
    /// #     }
    /// #     #[snapshot]
    /// #     async fn snapshot(&self, _: &Context) -> Result<u64> { Ok(self.0) }
    /// #     #[restore]
    /// #     async fn restore(&self, _: &Context, n: u64) -> Result<()> {
    /// #         if n == 7 { Ok(()) } else { Err(Error::new("no", n)) }
    /// #     }
    /// # }
    /// # fn main() -> Result<()> {
    /// let old = Harness::with_config::<Counter>(json!(7))?;
    /// let new = Harness::setup::<Counter>().state_of(&old)?.start()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `no_state` and `no_common_version` as a host refuses it, else as [`Harness::snapshot_of`].
    pub fn state_of(self, old: &Harness) -> Result<Self> {
        let version = old.common_version(&PluginType::of::<P>())?;
        let snapshot = old.snapshot_of(version)?;
        Ok(self.restore(version, snapshot))
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
        let of = PluginType::of::<P>();
        // A pattern that is none is found before anything is made.
        (of.handlers)(super::handlers::Routed)?;
        let world = World::new(of.name)?;
        for stand_in in self.stand_ins {
            world.stand_in(stand_in?);
        }
        let config = self.config.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let config = serde_json::to_vec(&config)?;
        let origin = Origin { trial: self.trial, file: self.file };
        let generation = Generation::new(&world, of.name, of.is_gated(), origin);
        #[cfg(unix)]
        generation.inherit(self.kept);
        let harness = Harness {
            world,
            runtime: Lock::new(of.runtime),
            patience: Lock::new(Duration::from_secs(10)),
        };
        harness.load_all(self.beside)?;
        let snapshot = self.snapshot;
        harness.run_life_cycle(async move {
            let instance = make(&generation, &of, config.clone(), snapshot).await?;
            generation.attach(of, config, instance).map(drop)
        })?;
        Ok(harness)
    }
}
