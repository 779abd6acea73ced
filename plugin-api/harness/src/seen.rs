//! What passes in a harness: what the plugin has emitted, and what anybody has.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ksi_abi::{EventObject, Pattern};
use ksi_kernel::{
    event::EventRef,
    lock::Lock,
    router::taps::{Watch, Watched},
};
use ksi_plugin_api::__private::testing::decode;
use serde_json::Value;

use super::{
    Harness,
    world::{UNBOUNDED, World},
};

/// An event that the plugin emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Value,
}

/// An event that has passed; see [`Harness::watch`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Passed {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Value,
    /// The plugin that emitted it; empty for the test.
    pub source: String,
    /// Its number in this harness.
    pub id: u64,
    /// The event in whose handler it was emitted.
    pub parent: Option<u64>,
    /// The first event of the chain; itself, when it is the first.
    pub root: u64,
    /// How many events lie between it and the first one.
    pub depth: u32,
    /// What is attached to it.
    pub attributes: BTreeMap<String, String>,
}

/// Sees events pass; see [`Harness::watch`].
#[must_use = "what passes is told by `passed`"]
pub struct Watching {
    world: Arc<World>,
    watch: Lock<Watch>,
}

impl Harness {
    /// Sees the events pass that match one of these patterns, from now on, whoever emits them: the
    /// plugin, those that the test plays, and the test itself.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Shop;
    ///
    /// #[plugin(name = "shop")]
    /// impl Shop {
    ///     #[event_handler("shop:order")]
    ///     async fn order(&self, ctx: &Context, item: String) -> Result<()> {
    ///         let urgent = EmitOptions::new().attribute("urgent", "yes");
    ///         ctx.with(urgent).send(named("stock:take", &item))
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let shop = Harness::start::<Shop>();
    /// let watching = shop.watch(&["stock:*"]);
    /// shop.emit("shop:order", "a pen");
    /// let passed = watching.passed();
    /// assert_eq!((passed[0].source.as_str(), passed[0].depth), ("shop", 1));
    /// assert_eq!(passed[0].attributes["urgent"], "yes");
    /// # }
    /// ```
    ///
    /// # Panics
    /// When one of them is no pattern.
    #[track_caller]
    pub fn watch(&self, patterns: &[&str]) -> Watching {
        let parsed: Result<Vec<_>, _> = patterns.iter().map(|text| Pattern::parse(text)).collect();
        match parsed {
            Ok(patterns) => {
                let watch = Lock::new(self.world.router().watch(&patterns, UNBOUNDED));
                Watching { world: self.world.clone(), watch }
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The events that the plugin emitted or sent, in order.
    #[track_caller]
    pub fn emitted(&self) -> Vec<Emitted> {
        self.settle();
        self.world.state.lock().emitted.iter().map(Emitted::of).collect()
    }

    /// The payloads of those of one name.
    #[track_caller]
    pub fn emitted_of(&self, event: &str) -> Vec<Value> {
        let named = self.emitted().into_iter().filter(|emitted| emitted.name == event);
        named.map(|emitted| emitted.payload).collect()
    }

    /// The events that the plugin emitted since this was called last.
    #[track_caller]
    pub fn take_emitted(&self) -> Vec<Emitted> {
        self.settle();
        let emitted = std::mem::take(&mut self.world.state.lock().emitted);
        emitted.iter().map(Emitted::of).collect()
    }

    /// The names of the events that the plugin emitted and that its `emits(..)` does not list, in
    /// order and each once. A host does not refuse them, but neither does it know of them when it
    /// compares what plugins expect of one another.
    ///
    /// ```
    /// # use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # #[derive(Default)]
    /// # struct Shop;
    /// # #[plugin(emits("shop:sold"))]
    /// # impl Shop {
    /// #     #[event_handler("shop:order")]
    /// #     async fn order(&self, ctx: &Context, item: String) -> Result<()> {
    /// #         ctx.emit(named("shop:sold", &item)).await;
    /// #         ctx.send(named("stock:take", &item))
    /// #     }
    /// # }
    /// # fn main() {
    /// # let shop = Harness::start::<Shop>();
    /// shop.emit("shop:order", "a pen");
    /// assert_eq!(shop.undeclared(), ["stock:take"]);
    /// # }
    /// ```
    #[track_caller]
    pub fn undeclared(&self) -> Vec<String> {
        let declared = self.world.state.lock().live.as_ref().map(|live| live.of.emits);
        let declared = declared.unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for Emitted { name, .. } in self.emitted() {
            if !declared.contains(&name.as_str()) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Waits, in real time, until the plugin has emitted this event; the payload of the first. For
    /// plugins with a runtime or threads of their own.
    ///
    /// # Panics
    /// When it does not come within the [`patience`](Self::patience).
    #[track_caller]
    pub fn wait_emitted(&self, event: &str) -> Value {
        let found = self.wait_until(false, || {
            let state = self.world.state.lock();
            state.emitted.iter().find(|emitted| emitted.name() == event).map(Emitted::of)
        });
        match found {
            Some(emitted) => emitted.payload,
            None => panic!("{event} was not emitted: {}", self.what_it_waits_for()),
        }
    }
}

impl Watching {
    /// What has passed since this was called last, in order.
    pub fn passed(&self) -> Vec<Passed> {
        // What threads of the plugin have emitted comes first. A loop is reported by whatever
        // drives next.
        let _ = self.world.settle();
        let (mut watch, mut passed) = (self.watch.lock(), Vec::new());
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Watched::Event(event))) = pin!(watch.next()).poll(&mut cx) {
            passed.push(Passed::of(&event));
        }
        passed
    }
}

/// The payload, as the emitter's own encoder wrote it: so it decodes.
fn payload(event: &EventRef) -> Value {
    decode(event.payload().as_json()).unwrap_or(Value::Null)
}

impl Emitted {
    fn of(event: &EventRef) -> Self {
        Emitted { name: event.name().to_owned(), payload: payload(event) }
    }
}

impl Passed {
    fn of(event: &EventRef) -> Self {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let view = EventObject::view(&**event);
        Passed {
            name: event.name().to_owned(),
            payload: payload(event),
            source: event.source().to_owned(),
            id: view.id,
            parent: Some(view.parent).filter(|parent| *parent != 0),
            root: view.root,
            depth: event.depth(),
            attributes: event.attributes().map(owned).collect(),
        }
    }
}
