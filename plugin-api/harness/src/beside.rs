//! Further plugins in the host of a plugin under test, as what they are.

use std::sync::Arc;

use ksi_plugin_api::{Error, Plugin, Result};
use serde_json::Value;

use super::{
    Harness, Setup,
    generation::{Generation, Live, Origin, PluginType},
    stand_in::STAND_IN,
    state::restore_in,
};

/// What starts one of them.
pub(super) type Beside = Box<dyn FnOnce(&Harness) -> Result<()>>;

impl<P: Plugin> Setup<P> {
    /// Another plugin in the same host, by the same clock: it is started before this one, and
    /// events go both ways. Its crate is one that the test depends on.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # #[derive(Default)]
    /// # struct Shop;
    /// # #[plugin(name = "shop")]
    /// # impl Shop {
    /// #     #[event_handler("shop:order")]
    /// #     async fn order(&self, ctx: &Context, item: String) -> Result<String> {
    /// #         ctx.request(named("stock:take", &item)).await
    /// #     }
    /// # }
    /// # mod warehouse {
    /// #     use ksi_plugin_api::{__private::{RawConfig, Restore, SentSchemas, Snapshot, TypeDescription}, Context, Handler, Plugin, Result, Value};
    /// #     pub struct Warehouse;
    /// #     impl Plugin for Warehouse {
    /// #         const NAME: &'static str = "warehouse";
    /// #         const VERSION: &'static str = "1.0.0";
    /// #         const RUNTIME: bool = false;
    /// #         const EMITS: &'static [&'static str] = &[];
    /// #         const EMIT_SCHEMAS: &'static [fn() -> SentSchemas] = &[];
    /// #         const EMIT_TYPES: &'static [fn() -> Option<TypeDescription>] = &[];
    /// #         const REQUIRES: &'static [&'static str] = &[];
    /// #         const REPLY_SCHEMAS: &'static [fn() -> Value] = &[];
    /// #         const SNAPSHOTS: &'static [Snapshot<Self>] = &[];
    /// #         const RESTORES: &'static [Restore<Self>] = &[];
    /// #         const HANDLERS: &'static [Handler<Self>] = &[];
    /// #         async fn initialize(ctx: Context, config: RawConfig) -> Result<Self> {
    /// #             let config: Value = config.decode()?;
    /// #             ctx.subscribe("stock:take", move |_: Context, item: String| {
    /// #                 let text = format!("{} {item}", config["each"]);
    /// #                 async move { Ok(text) }
    /// #             })?;
    /// #             Ok(Warehouse)
    /// #         }
    /// #     }
    /// # }
    /// # use warehouse::Warehouse;
    ///
    /// # fn main() {
    /// let warehouse = Harness::setup::<Warehouse>().config(json!({"each": 2}));
    /// let shop = Harness::setup::<Shop>().beside(warehouse).start().unwrap();
    /// assert_eq!(shop.emit("shop:order", "pens").results(), [json!("2 pens")]);
    /// # }
    /// ```
    ///
    /// All that the harness tells (what was emitted, the state, a replacement) is of the plugin
    /// under test. A [trial](Self::trial) of another one is refused.
    pub fn beside<Q: Plugin>(mut self, other: Setup<Q>) -> Self {
        self.beside.push(Box::new(move |harness| harness.load(other)));
        self
    }
}

impl Harness {
    /// Starts all of these, or none.
    pub(super) fn load_all(&self, others: Vec<Beside>) -> Result<()> {
        let there = self.world.state.lock().beside.len();
        let loaded = others.into_iter().try_for_each(|other| other(self));
        if loaded.is_err() {
            let begun = self.world.state.lock().beside.split_off(there);
            self.end_each(begun);
        }
        loaded
    }

    fn load<Q: Plugin>(&self, setup: Setup<Q>) -> Result<()> {
        let of = PluginType::of::<Q>();
        let known = |live: &Live| live.of.name == of.name;
        let taken = of.name == self.world.plugin
            || of.name == STAND_IN
            || self.world.state.lock().beside.iter().any(known);
        if taken {
            let text = format_args!("there is a plugin named {} already", of.name);
            return Err(Error::new("other_plugin", text));
        }
        if setup.trial {
            return Err(Error::new("trial", "whoever is only tried out is beside nobody"));
        }
        let stand_ins = setup.stand_ins.into_iter().collect::<Result<Vec<_>>>()?;
        self.load_all(setup.beside)?;
        for stand_in in stand_ins {
            self.world.stand_in(stand_in);
        }
        if of.runtime {
            *self.runtime.lock() = true;
        }
        let config = setup.config.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let config = serde_json::to_vec(&config)?;
        let origin = Origin { trial: false, file: setup.file };
        let generation = Generation::new(&self.world, of.name, of.is_gated(), origin);
        #[cfg(unix)]
        generation.inherit(setup.kept);
        let (world, snapshot) = (self.world.clone(), setup.snapshot);
        self.run_life_cycle(async move {
            let instance = make(&generation, &of, config.clone(), snapshot).await?;
            let live = generation.go_live(of, config, instance)?;
            world.state.lock().beside.push(live);
            Ok(())
        })
    }

    /// They go, one after another.
    pub(super) fn end_beside(&self) {
        let all = std::mem::take(&mut self.world.state.lock().beside);
        self.end_each(all);
    }

    fn end_each(&self, all: Vec<Live>) {
        for live in all {
            live.generation.detach();
            self.world.router().withdraw(live.of.name);
            live.generation.session.cancel_calls();
            // What does not end in time is given up.
            let _ = self.run_life_cycle(async move {
                live.retire().await;
                Ok(())
            });
        }
    }
}

/// Makes an instance that is not live yet, with its state.
pub(super) async fn make(
    generation: &Arc<Generation>,
    of: &PluginType,
    config: Vec<u8>,
    snapshot: Option<(u32, Value)>,
) -> Result<ksi_abi::local::Local<Generation>> {
    let instance = match generation.create(of, config).await {
        Ok(instance) => instance,
        Err(error) => {
            generation.give_up(None);
            return Err(error);
        }
    };
    if let Some((version, snapshot)) = snapshot
        && let Err(error) = restore_in(generation, &instance, version, &snapshot).await
    {
        generation.give_up(Some(instance));
        return Err(error);
    }
    Ok(instance)
}
