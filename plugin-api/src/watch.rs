//! Watching events pass, without handling them.

use std::fmt;

use ksi_abi::host::{WatchRef, WatchStep};

use crate::{
    context::{Context, REJECTED, Received},
    error::{Error, Result},
};

/// Events that pass, for somebody who only looks on; see [`Context::watch`]. Dropping it ends the
/// watch.
///
/// It keeps the library as a [`Context`] does: one that outlives the plugin's shutdown keeps the
/// library mapped.
#[must_use = "a watch ends when it is dropped"]
pub struct Watch {
    watch: WatchRef,
    over: bool,
}

/// What a [`Watch`] gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Watched {
    /// An event that has passed.
    Event(Received),
    /// So many events did not fit. It is the last that this watch gives: watch anew.
    Missed(u64),
}

impl Context {
    /// Sees the events pass that match one of the patterns, from now on, without being a handler of
    /// them: nobody waits for whoever watches, reports do not know of him, and an event that is
    /// only watched is handled by nobody. That is what a recorder, a page or a bridge to another
    /// host wants; who replies or must not miss anything subscribes.
    ///
    /// At most `capacity` events wait to be read, no more than the operator allows
    /// (`limits.subscriber_queue`, 1024), and no more than `limits.subscriber_bytes` of them. Once
    /// one does not fit, no more are added: those that wait are read, and then how many were
    /// [missed](Watched::Missed). The watch ends with its plugin.
    ///
    /// Made in `#[initialize]`, it begins while the generation before still watches, and what
    /// passes then is seen by both. Made in a spawned task, it may begin when that one has gone. Do
    /// not watch what you emit for what you see: no chain of events ends that loop, unless each is
    /// emitted with a greater [depth](crate::EmitOptions::depth).
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Recorder;
    ///
    /// #[plugin]
    /// impl Recorder {
    ///     #[event_handler("recorder:start")]
    ///     async fn start(&self, ctx: &Context, _: Value) -> Result<()> {
    ///         let mut watch = ctx.watch(&["order:*"], 64)?;
    ///         let recording = ctx.clone();
    ///         ctx.spawn(async move {
    ///             while let Some(Watched::Event(event)) = watch.next().await {
    ///                 let line = event.info().name().to_owned();
    ///                 let _ = recording.send(named("recorder:line", &line));
    ///             }
    ///         })?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let plugin = Harness::start::<Recorder>();
    /// plugin.emit("recorder:start", ());
    /// assert!(!plugin.emit("order:placed", json!({"item": "pen"})).handled());
    /// assert_eq!(plugin.emitted_of("recorder:line"), [json!("order:placed")]);
    /// # }
    /// ```
    ///
    /// # Errors
    /// `rejected` when one of the patterns is none, there are none or more than 64, the plugin has
    /// as many watches and subscriptions as it may have (`limits.subscriptions`), or is being
    /// retired.
    pub fn watch(&self, patterns: &[&str], capacity: usize) -> Result<Watch> {
        match self.scope().host.watch(patterns, capacity) {
            Ok(watch) => Ok(Watch { watch, over: false }),
            Err(refusal) => Err(Error::refused(REJECTED, &refusal)),
        }
    }
}

impl Watch {
    /// The next event, once there is one; `None` at the end: after [`Watched::Missed`], or when the
    /// plugin is retired. A future that is dropped before it is ready has taken nothing.
    pub async fn next(&mut self) -> Option<Watched> {
        if self.over {
            return None;
        }
        let step = self.watch.next().await;
        self.over = !matches!(step, Ok(WatchStep::Event(_)));
        match step {
            Ok(WatchStep::Event(handle)) => Some(Watched::Event(Received::new(handle))),
            Ok(WatchStep::Missed(count)) => Some(Watched::Missed(count)),
            // The host panicked, and has said so.
            Ok(WatchStep::Ended) | Err(_) => None,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("over", &self.over).finish_non_exhaustive()
    }
}
