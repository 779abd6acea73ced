//! What an instance has of the host, wherever it lives: its [session](Session), descriptors that
//! are kept for its plugin, the clock, and where it is from.
//!
//! It is given to the residence that the instance is made in, which makes a way to it: through the
//! boundary for a library of this process ([`host_api`](super::host_api)). It comes before the
//! instance and goes after it, and does not know that way. It is no reference of the plugin to the
//! host: who holds it keeps nothing of the plugin.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ksi_kernel::{
    call::Callee,
    session::{Attachment, DeclaredRoutes, Session},
    value::Keeper,
};

use ksi_kept::{KeptResources, PluginResources};

use super::live::LiveInstance;
use crate::log_levels::LogLevels;

/// What an instance has of the host; see the module.
pub(crate) struct HostServices {
    session: Arc<Session>,
    resources: PluginResources,
    /// Where the plugin was copied from.
    file: PathBuf,
    epoch: Instant,
    levels: LogLevels,
}

impl HostServices {
    /// For an instance that has this session, of a plugin that was copied from this file, in a host
    /// that began at `epoch` and writes what is of these levels.
    pub(crate) fn new(
        session: Arc<Session>,
        file: PathBuf,
        resources: &Arc<KeptResources>,
        epoch: Instant,
        levels: LogLevels,
    ) -> Arc<Self> {
        let resources = resources.of(session.plugin().clone());
        Arc::new(HostServices { session, resources, file, epoch, levels })
    }

    /// What the instance may do towards the host.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The descriptors that are kept for its plugin.
    pub(crate) fn resources(&self) -> &PluginResources {
        &self.resources
    }

    /// Where its plugin was copied from.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// How long ago the host began.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// What is written of the log.
    pub(crate) fn levels(&self) -> &LogLevels {
        &self.levels
    }

    /// The instance is there and becomes live; see [`Session::attach`].
    pub(crate) fn attach(&self, declared: DeclaredRoutes, live: Arc<dyn LiveInstance>) {
        let keeper = self.goes_live(&*live);
        self.session.attach(declared, live, keeper.as_ref());
    }

    /// The same for instances of several plugins; see [`Session::attach_all`].
    pub(crate) fn attach_all(
        instances: Vec<(Arc<HostServices>, DeclaredRoutes, Arc<dyn LiveInstance>)>,
    ) {
        let services: Vec<_> = instances.iter().map(|(services, ..)| services.clone()).collect();
        let attached = services.iter().zip(instances).map(|(services, (_, declared, live))| {
            let keeper = services.goes_live(&*live);
            Attachment { session: &services.session, declared, callee: live, keeper }
        });
        Session::attach_all(attached.collect());
    }

    /// Before the swap, which cannot fail: so the instance knows before anything calls it.
    fn goes_live(&self, live: &dyn LiveInstance) -> Option<Arc<dyn Keeper>> {
        self.resources.is_live();
        if let Some(body) = live.body() {
            body.goes_live();
        }
        live.keeper()
    }

    /// The instance goes on after all; see [`Session::resume`].
    pub(crate) fn resume(&self, live: Arc<dyn LiveInstance>) {
        let keeper = live.keeper();
        let callee: Arc<dyn Callee> = live;
        self.session.resume(&callee, keeper.as_ref());
    }

    /// The instance goes; see [`Session::detach`].
    pub(crate) fn detach(&self) {
        self.session.detach();
        self.resources.leaves();
    }
}
