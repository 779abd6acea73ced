//! Snapshots of the plugin under test.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use ksi_abi::{Buffer, CallEnd, Start, local::Local};
use ksi_plugin_api::{
    __private::testing::{decode, encode},
    Error, Result,
};
use serde_json::Value;

use super::{
    Harness,
    generation::{Generation, PluginType},
    handlers::Asked,
    world::World,
};

/// What a snapshot, or its restoration, may take, on the clock of the harness.
const STATE_LIMIT: Duration = Duration::from_secs(10);

impl Harness {
    /// Takes a snapshot of the highest version that the plugin writes: the version and what it
    /// holds. Time passes as it needs it.
    ///
    /// A test that hands the snapshot to a second instance sees what a reload does:
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[payload]
    /// struct Saved {
    ///     count: u64,
    /// }
    ///
    /// #[derive(Default)]
    /// struct Counter {
    ///     count: AtomicU64,
    /// }
    ///
    /// #[plugin]
    /// impl Counter {
    ///     #[event_handler("counter:add")]
    ///     async fn add(&self, _: &Context, by: u64) -> Result<u64> {
    ///         Ok(self.count.fetch_add(by, Relaxed) + by)
    ///     }
    ///
    ///     #[snapshot]
    ///     async fn snapshot(&self, _: &Context) -> Result<Saved> {
    ///         Ok(Saved { count: self.count.load(Relaxed) })
    ///     }
    ///
    ///     #[restore]
    ///     async fn restore(&self, _: &Context, saved: Saved) -> Result<()> {
    ///         self.count.store(saved.count, Relaxed);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let old = Harness::start::<Counter>();
    /// old.emit("counter:add", 3);
    /// let (version, saved) = old.snapshot().unwrap();
    /// assert_eq!((version, &saved), (1, &json!({"count": 3})));
    ///
    /// let new = Harness::setup::<Counter>().restore(version, saved).start().unwrap();
    /// assert_eq!(new.emit("counter:add", 4).results(), [json!(7)]);
    ///
    /// let error = new.restore(2, &json!({"total": 9})).unwrap_err();
    /// assert_eq!(error.code(), "unknown_snapshot_version");
    /// # }
    /// ```
    ///
    /// # Errors
    /// `no_state` when the plugin keeps none, else as [`snapshot_of`](Self::snapshot_of).
    pub fn snapshot(&self) -> Result<(u32, Value)> {
        // A plugin without state is asked all the same: it says what is missing.
        let live = self.world.state.lock().live.as_ref().map(|live| live.of);
        let version = live.and_then(|of| of.writes().first().copied()).unwrap_or(1);
        self.snapshot_of(version).map(|snapshot| (version, snapshot))
    }

    /// Takes a snapshot of this version: of one that an older version of the plugin can read, say.
    ///
    /// # Errors
    /// `unknown_snapshot_version`, `encode`, `panicked`, `timed_out`, the plugin's own, or `gone`
    /// after a shutdown; `invalid_snapshot` when the `#[restore]` of that version cannot read it
    /// back.
    pub fn snapshot_of(&self, version: u32) -> Result<Value> {
        let taken = self.of_instance(move |instance, cx| instance.snapshot(version, cx))?;
        let Some(snapshot) = taken else { return Ok(Value::Null) };
        let decoded = decode(&snapshot);
        // As a host does before it keeps one.
        self.of_instance(move |instance, _| Start::Ready(instance.read_back(version, &snapshot)))?;
        decoded
    }

    /// Restores a snapshot in the plugin as it is. A host does so with a fresh instance alone,
    /// before its first event; [`Setup::restore`](super::Setup::restore) does too.
    ///
    /// # Errors
    /// `unknown_snapshot_version`, `invalid_snapshot`, `no_state`, `panicked`, `timed_out`, the
    /// plugin's own, or `gone` after a shutdown.
    pub fn restore(&self, version: u32, snapshot: &Value) -> Result<()> {
        let bytes = encode(snapshot)?;
        self.of_instance(move |instance, cx| instance.restore(version, &bytes, cx)).map(drop)
    }

    /// The highest version that the live plugin writes and this type restores.
    pub(super) fn common_version(&self, new: &PluginType) -> Result<u32> {
        match self.world.state.lock().live.as_ref().map(|live| live.of) {
            Some(of) if of.keeps_state() => common_version(&of, new),
            Some(_) => Err(Error::new("no_state", "the other plugin keeps no state")),
            None => Err(gone()),
        }
    }

    /// Runs what a host asks of an instance beside calls; its reply, if there is one.
    pub(super) fn of_instance(
        &self,
        start: impl FnMut(&Local<Generation>, &mut Context<'_>) -> Asked + Send + 'static,
    ) -> Result<Option<Buffer>> {
        let live = self.world.state.lock().live.as_ref().map(|live| live.instance.clone());
        let (world, instance) = (self.world.clone(), live.ok_or_else(gone)?);
        self.run_life_cycle(async move {
            match instance.local() {
                Some(local) => asked(&world, local, start).await,
                None => Err(gone()),
            }
        })
    }
}

fn gone() -> Error {
    Error::new("gone", "the plugin was shut down")
}

/// The highest version that the one writes and the other restores.
pub(super) fn common_version(old: &PluginType, new: &PluginType) -> Result<u32> {
    let (writes, restores) = (old.writes(), new.restores());
    if restores.is_empty() {
        let text = "the live version keeps state, and the new one keeps none: it would be lost";
        return Err(Error::new("no_state", text));
    }
    let common = writes.iter().find(|version| restores.contains(version)).copied();
    common.ok_or_else(|| {
        let text = format_args!(
            "the live version writes snapshots of the versions {writes:?}, and the new one restores {restores:?}: let \
             it restore one of those (#[restore(version = ..)]), or let the live version write an older one \
             (#[snapshot(version = ..)])"
        );
        Error::new("no_common_version", text)
    })
}

/// Asks an instance for something that a host asks of it beside calls, within its time.
async fn asked(
    world: &World,
    instance: &Local<Generation>,
    mut start: impl FnMut(&Local<Generation>, &mut Context<'_>) -> Asked,
) -> Result<Option<Buffer>> {
    let end = async {
        match poll_fn(|cx| Poll::Ready(start(instance, cx))).await {
            Start::Ready(end) => end,
            Start::Pending(future) => future.await,
        }
    };
    match world.within(STATE_LIMIT, end).await {
        Some(end) => reply(end),
        None => Err(Error::new("timed_out", format_args!("it did not end within {STATE_LIMIT:?}"))),
    }
}

/// Takes a snapshot of this version, as bytes.
pub(super) async fn snapshot_of(
    generation: &Generation,
    instance: &Local<Generation>,
    version: u32,
) -> Result<Vec<u8>> {
    let taken = asked(&generation.world, instance, |it, cx| it.snapshot(version, cx)).await?;
    Ok(taken.map_or_else(|| b"null".to_vec(), |bytes| bytes.to_vec()))
}

/// Restores a snapshot in an instance that is not live yet.
pub(super) async fn restore_in(
    generation: &Generation,
    instance: &Local<Generation>,
    version: u32,
    snapshot: &Value,
) -> Result<()> {
    restore_bytes(generation, instance, version, &encode(snapshot)?).await
}

/// The same for a snapshot as it was taken.
pub(super) async fn restore_bytes(
    generation: &Generation,
    instance: &Local<Generation>,
    version: u32,
    snapshot: &[u8],
) -> Result<()> {
    let world = &generation.world;
    asked(world, instance, |it, cx| it.restore(version, snapshot, cx)).await.map(drop)
}

/// The reply of a call that ended well.
pub(super) fn reply(end: CallEnd) -> Result<Option<Buffer>> {
    match end {
        CallEnd::Reply(reply) => Ok(Some(reply)),
        CallEnd::NoReply => Ok(None),
        end @ CallEnd::Value(_) => self::reply(end.encoded()),
        CallEnd::Failed(failure) => {
            let (code, message) = failure.to_texts();
            Err(Error::new(code, message))
        }
        CallEnd::Panicked(message) => Err(Error::new("panicked", message.to_text())),
    }
}
