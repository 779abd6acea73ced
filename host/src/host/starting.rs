//! A host between its making and its readiness: its plugins are still being loaded, and it can be
//! asked how that goes, and told to stop.
//!
//! Who is served meanwhile is said in [`Core::emission`](crate::core::Core::emission): the host's
//! own events, save those that change plugins, are answered at once; all others wait until the
//! start is over.

use std::{collections::BTreeSet, path::PathBuf};

use tokio::sync::mpsc;

use super::Host;
use crate::{
    control::{ClaimedSocket, ControlSocket},
    core::Core,
    plugin::file::watch::{Change, FolderWatch},
    stopping::StopStage,
};

/// A host that has not loaded its plugins yet: what
/// [`HostBuilder::prepare`](crate::HostBuilder::prepare) makes.
///
/// ```no_run
/// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), Box<dyn std::error::Error>> {
/// let socket = ksi_host::ClaimedSocket::take("ksi.sock")?; // or another host is running on it
/// let starting = ksi_host::Host::builder(entry).plugins("plugins").prepare()?;
/// // From here on, clients are told how far the start is, and can stop it.
/// let control = starting.serve_on(socket);
/// let host = starting.load().await;
/// host.wait_stopped().await;
/// host.shutdown().await;
/// control.close().await;
/// # Ok(())
/// # }
/// ```
///
/// A start that is given up, because this or the future of [`load`](Self::load) is dropped, is a
/// stop: clients that are served are told so, nothing more is loaded, and the host is shut down on
/// the runtime that it was made on, which may take as long as [`Host::shutdown`]. Until it has
/// ended, that runtime must not end, or plugins are not told of the stop and their state is not
/// kept, and another host must not be given the same folders.
#[must_use = "its plugins are not loaded before `load` is called"]
pub struct StartingHost {
    start: Start,
    folders: FolderWatch,
    changes: mpsc::Receiver<Change>,
}

/// Drops as a stop unless the host was [handed over](Self::hand_over): nobody else could shut it
/// down, and whoever waits for its start would wait for ever.
struct Start {
    host: Host,
    handed_over: bool,
}

impl Start {
    /// From here on it is for others to shut it down.
    fn hand_over(mut self) -> Host {
        self.handed_over = true;
        self.host.clone()
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        let host = self.host.clone();
        host.0.stop.reach(StopStage::Draining);
        host.0.start_up.end();
        let runtime = host.0.router.runtime().clone();
        runtime.spawn(async move { host.shutdown().await });
    }
}

impl StartingHost {
    pub(super) fn new(host: Host, folders: FolderWatch, changes: mpsc::Receiver<Change>) -> Self {
        StartingHost { start: Start { host, handed_over: false }, folders, changes }
    }

    /// The host without what lies in its folders, and that. It is for others to shut it down.
    pub(super) fn unloaded(self) -> (Host, Vec<PathBuf>) {
        let StartingHost { start, folders, changes: _ } = self;
        let found = folders.found().to_vec();
        let host = start.hand_over();
        host.0.start_up.end();
        (host, found)
    }

    /// Serves clients from now on, as [`Host::serve_on`] does. While plugins are being loaded,
    /// `system:health`, `module:list`, a request to stop and whatever else the host answers by
    /// itself are answered at once. All other events, and those that change plugins, wait until the
    /// start is over; if it ends in a stop, they are refused.
    pub fn serve_on(&self, socket: ClaimedSocket) -> ControlSocket {
        self.start.host.serve_on(socket)
    }

    /// Loads what is in the folders. A plugin that does not load is no error of the host: see
    /// `module:list` and the log.
    ///
    /// A host that is asked to stop meanwhile comes back at once, with what is live by then, to be
    /// [shut down](Host::shutdown).
    pub async fn load(self) -> Host {
        let StartingHost { start, folders, changes } = self;
        let host = start.host.clone();
        host.0.unless_stopped(host.0.announce("system:startup")).await;
        host.0.follow(folders, changes).await;
        host.0.supervisor.keep_state_every(host.0.config.state.interval);
        host.0.warn_of_strange_tables();
        host.0.follow_config();
        // Before anybody is told: who sends an event then is answered, and may be waited for by
        // those who are told.
        host.0.start_up.end();
        host.0.unless_stopped(host.0.announce("system:ready")).await;
        start.hand_over()
    }
}

impl std::fmt::Debug for StartingHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StartingHost").field(&self.start.host).finish()
    }
}

impl Core {
    /// Waits for those who are told of the start, but not when the host is to stop.
    async fn unless_stopped(&self, told: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.stop.requested() => {}
            () = told => {}
        }
    }

    /// Loads what is in the folders and follows their changes, on the supervisor's thread.
    async fn follow(&self, folders: FolderWatch, changes: mpsc::Receiver<Change>) {
        let supervisor = self.supervisor.clone();
        let following = async move { supervisor.follow(folders, changes).await };
        if let Err(error) = self.supervisor.thread.runtime().spawn(following).await {
            tracing::error!(%error, "the plugin folders are not followed");
        }
    }

    /// A misspelt `[plugin.NAME]` or `[python.plugins.NAME]` would go unnoticed otherwise.
    fn warn_of_strange_tables(&self) {
        let registry = self.supervisor.registry();
        let named = self.config.plugins.keys().chain(self.config.python.plugins.keys());
        for name in named.collect::<BTreeSet<_>>() {
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

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures_util::FutureExt;
    use ksi_kernel::{
        event::{self, Payload},
        report::{OutcomeKind, Report},
    };

    use super::*;
    use crate::ChildEntry;

    /// What becomes of a client's event that waits for a start, which is given up by dropping what
    /// `begin` makes of it.
    async fn given_up<T>(begin: impl FnOnce(StartingHost) -> T) -> Report {
        let starting = Host::builder(ChildEntry::none()).prepare().expect("it is prepared");
        let host = starting.start.host.clone();
        // A start that is as quick as a poll would be over.
        never_ends(&host, "system:startup");
        let mut waits = pin!(host.0.emission(
            event::of_host("shop:order", Payload::from_json_bytes(b"null".to_vec())),
            false
        ));
        assert!(waits.as_mut().now_or_never().is_none(), "it does not wait");
        drop(begin(starting));
        let end = tokio::time::timeout(Duration::from_secs(60), waits).await;
        end.expect("it waits still")
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_leaves_nobody_waiting_for_it() {
        let dropped = given_up(|starting| starting).await;
        let cancelled = given_up(|starting| {
            let mut load = Box::pin(starting.load());
            assert!(load.as_mut().now_or_never().is_none(), "it has loaded all");
            load
        });
        for report in [dropped, cancelled.await] {
            let stopping = matches!(
                &report.outcomes()[0].result,
                OutcomeKind::Failed { code, .. } if code == "stopping"
            );
            assert!(stopping, "{report:?}");
        }
    }

    /// Whoever is told that never ends.
    fn never_ends(host: &Host, event: &str) {
        host.on(event, |_| std::future::pending::<Result<(), crate::Failure>>())
            .expect("the name is one");
    }

    async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), future).await.expect(what)
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_at_any_time_shuts_the_host_down() {
        for told in [false, true] {
            let starting = Host::builder(ChildEntry::none()).prepare().expect("it is prepared");
            let host = starting.start.host.clone();
            let mut load = Box::pin(starting.load());
            if told {
                never_ends(&host, "system:ready");
                tokio::select! {
                    _ = &mut load => panic!("nobody has told the last one"),
                    () = in_time("the start ends", host.0.start_up.ended()) => {}
                }
            }
            drop(load);
            in_time("it is being shut down", host.0.stop.reached(StopStage::Unloading)).await;
            in_time("it is shut down", host.shutdown()).await;
        }
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_those_who_are_told_that_the_host_is_ready() {
        let stop = crate::StopHandle::default();
        let starting =
            Host::builder(ChildEntry::none()).stopped_by(&stop).prepare().expect("it is prepared");
        let host = starting.start.host.clone();
        never_ends(&host, "system:ready");
        let mut load = pin!(starting.load());
        tokio::select! {
            _ = &mut load => panic!("somebody is told still"),
            () = in_time("the start ends", host.0.start_up.ended()) => {}
        }
        stop.request();
        in_time("it comes back", load).await;
    }
}
