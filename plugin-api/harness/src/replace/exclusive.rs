//! Replacing an exclusive plugin: the old version is gone before the new one is made.

use std::sync::Arc;

use ksi_abi::local::Local;
use ksi_kernel::call::gate::GateHold;
use ksi_plugin_api::{__private::testing::encode, Error, Result};

use super::{HOLD_LIMIT, Old, Replacing, State, too_many};
use crate::{
    generation::{Generation, Live, Origin, PluginType, release},
    handlers::NoInstance,
    state::restore_bytes,
};

/// A version of a snapshot, and what it holds.
type Snapshot = (u32, Vec<u8>);

/// What the versions get.
struct Snapshots {
    /// The new one.
    next: Option<Snapshot>,
    /// The old one, if it has to be made again.
    own: Option<Snapshot>,
}

impl Replacing {
    pub(super) async fn in_its_place(&mut self) -> Result<()> {
        let old = self.old.generation.clone();
        let hold = old.session.gate_now().hold();
        self.quiet(&hold).await?;
        let Snapshots { next, own } = hold
            .while_waiting(self.snapshots())
            .await
            .unwrap_or_else(|full| Err(too_many(&full)))?;
        self.goes_on()?;
        self.release_old().await;
        let made = made(&self.generation, &self.of, &self.config, next).await;
        match made {
            Ok(instance) => self.commit(instance, Some(hold)),
            Err(error) => self.reinstate(own, hold, error).await,
        }
    }

    /// What the old version has. Where another state takes the place of that, it is not relied
    /// upon, but it may have to go on.
    async fn snapshots(&self) -> Result<Snapshots> {
        let latest = self.old.of.writes().first().copied();
        match &self.state {
            State::Nothing => Ok(Snapshots { next: None, own: None }),
            State::OfOld(version) => {
                let next = (*version, self.snapshot_of_old(*version).await?);
                let own = match latest.filter(|latest| latest != version) {
                    Some(latest) => (latest, self.snapshot_of_old(latest).await?),
                    None => next.clone(),
                };
                Ok(Snapshots { next: Some(next), own: Some(own) })
            }
            State::Given(version, given) => {
                let next = (*version, encode(given)?.to_vec());
                let own = match latest {
                    Some(latest) => {
                        let taken = self.snapshot_of_old(latest).await;
                        Some(taken.map_or_else(|_| next.clone(), |own| (latest, own)))
                    }
                    None => None,
                };
                Ok(Snapshots { next: Some(next), own })
            }
        }
    }

    async fn release_old(&mut self) {
        let old = &self.old.generation;
        old.session.suspend();
        self.world.router().redirect(old.session.plugin(), Arc::new(NoInstance));
        self.old.instance = None;
        let live = self.world.state.lock().live.take();
        let Some(Live { of, instance, mut unused, .. }) = live else { return };
        drop(instance);
        // Calls that began before there was a gate.
        let released = match self.world.within(HOLD_LIMIT, &mut unused).await {
            Some(released) => released,
            None => {
                old.session.cancel_present_calls();
                unused.await
            }
        };
        if let Ok(instance) = released {
            release(&of, old, instance).await;
        }
    }

    /// The new version has failed: an instance of the old one is made again, with its state, and
    /// gets what has waited.
    async fn reinstate(
        &mut self,
        own: Option<Snapshot>,
        hold: GateHold,
        failed: Error,
    ) -> Result<()> {
        let Old { of, generation: old, config, .. } = &self.old;
        let origin = Origin { trial: false, file: old.file.clone() };
        let again = Generation::new(&self.world, of.name, of.is_gated(), origin);
        match made(&again, of, config, own).await {
            Ok(instance) => {
                old.detach();
                again.attach(*of, config.clone(), instance)?;
                hold.moved();
                Err(failed)
            }
            Err(worse) => {
                let text = format_args!("{failed}; and the version before: {worse}");
                Err(Error::new("down", text))
            }
        }
    }
}

/// An instance with its state.
async fn made(
    generation: &Arc<Generation>,
    of: &PluginType,
    config: &[u8],
    snapshot: Option<Snapshot>,
) -> Result<Local<Generation>> {
    let (instance, error) = match generation.create(of, config.to_vec()).await {
        Ok(instance) => {
            let restored = match snapshot {
                Some((version, bytes)) => {
                    restore_bytes(generation, &instance, version, &bytes).await
                }
                None => Ok(()),
            };
            match restored {
                Ok(()) => return Ok(instance),
                Err(error) => (Some(instance), error),
            }
        }
        Err(error) => (None, error),
    };
    generation.give_up(instance);
    Err(error)
}
