//! A host between its making and its readiness: its plugins are still being loaded, and it can be asked how that goes, and
//! told to stop.
//!
//! Who is served meanwhile is said in [`Host::emission`]: the host's own events, save those that change plugins, are
//! answered at once; all others wait until the start is over.

use tokio::sync::mpsc;

use super::Host;
use crate::{
    plugin::watch::{Change, FolderWatch},
    socket::{ClaimedSocket, ControlSocket},
};

/// A host that has not loaded its plugins yet: what [`HostBuilder::prepare`](crate::HostBuilder::prepare) makes.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = ksi_host::ClaimedSocket::take("ksi.sock")?; // or another host is running on it
/// let starting = ksi_host::Host::builder().plugins("plugins").prepare()?;
/// // From here on, clients are told how far the start is, and can stop it.
/// let control = starting.serve_on(socket);
/// let host = starting.load().await;
/// host.wait_stopped().await;
/// host.shutdown().await;
/// control.close().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "its plugins are not loaded before `load` is called"]
pub struct StartingHost {
    pub(super) host: Host,
    pub(super) folders: FolderWatch,
    pub(super) changes: mpsc::Receiver<Change>,
}

impl StartingHost {
    /// Serves clients from now on, as [`Host::serve_on`] does. While plugins are being loaded, `system:health`,
    /// `module:list`, a request to stop and whatever else the host answers by itself are answered at once. All other events,
    /// and those that change plugins, wait until the start is over; if it ends in a stop, they are refused.
    pub fn serve_on(&self, socket: ClaimedSocket) -> ControlSocket {
        self.host.serve_on(socket)
    }

    /// Loads what is in the folders. A plugin that does not load is no error of the host: see `module:list` and the log.
    ///
    /// A host that is asked to stop meanwhile comes back at once, with what is live by then, to be
    /// [shut down](Host::shutdown).
    pub async fn load(self) -> Host {
        let StartingHost { host, folders, changes } = self;
        host.announce("system:startup").await;
        host.follow(folders, changes).await;
        host.0.supervisor.keep_state_every(host.0.config.state.interval);
        host.warn_of_strange_tables();
        if !host.0.stop.is_requested() {
            host.announce("system:ready").await;
        }
        host.0.start_up.end();
        host
    }
}

impl std::fmt::Debug for StartingHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StartingHost").field(&self.host).finish()
    }
}

impl Host {
    /// Loads what is in the folders and follows their changes, on the supervisor's thread.
    async fn follow(&self, folders: FolderWatch, changes: mpsc::Receiver<Change>) {
        let supervisor = self.0.supervisor.clone();
        let following = async move { supervisor.follow(folders, changes).await };
        if let Err(error) = self.0.supervisor.thread.runtime().spawn(following).await {
            tracing::error!(%error, "the plugin folders are not followed");
        }
    }

    /// A misspelt `[plugin.NAME]` would go unnoticed otherwise.
    fn warn_of_strange_tables(&self) {
        let registry = self.0.supervisor.registry();
        for name in self.0.config.plugins.keys() {
            if registry.plugins.contains_key(name.as_str()) {
                continue;
            }
            match registry.refused_as(name) {
                Some(file) => tracing::warn!(
                    "plugin {name:?} has its configuration, and is not live: {} was refused, for the reason above",
                    file.display()
                ),
                None => tracing::warn!(
                    "there is a configuration for plugin {name:?}, and no such plugin is loaded yet"
                ),
            }
        }
    }
}
