//! Checks files as a host would that had them, without becoming one.

use std::path::PathBuf;

use super::builder::{HostBuilder, StartError};
use crate::plugin::{file::is_plugin_folder, supervisor::deploy::check::Checked};

impl HostBuilder {
    /// Does with files, and with what lies in folders of plugins, all that the host would do before
    /// they become plugins of it: they are copied and read, the libraries that they need are looked
    /// for, and each is opened and tried in a process of its own, with its configuration and
    /// without state. Nothing is kept, nobody is served, and what the configuration says of folders
    /// is not looked at. To be called inside a tokio runtime.
    ///
    /// A single file is checked by itself. Several, and those of a folder, are checked as a host
    /// would start them, one after the other: a plugin is of one file, what it requires another one
    /// or the host handles, and it keeps its contracts with the others. What a plugin only
    /// subscribes to when it runs is not known here.
    ///
    /// ```no_run
    /// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), Box<dyn std::error::Error>> {
    /// for checked in ksi_host::Host::builder(entry).check(&["plugins".into()]).await? {
    ///     match checked.verdict {
    ///         Ok(plugin) => println!("{} {}", plugin.manifest.name, plugin.manifest.version),
    ///         Err(error) => println!("{}", ksi_host::with_causes(&error)),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`start`](Self::start). That a file is refused is no error.
    pub async fn check(mut self, paths: &[PathBuf]) -> Result<Vec<Checked>, StartError> {
        let (folders, files): (Vec<_>, Vec<_>) =
            paths.iter().cloned().partition(|path| path.is_dir() && !is_plugin_folder(path));
        let together = !folders.is_empty() || files.len() > 1;
        let config = self.config_mut();
        // So that they are listed and trusted as a host's folders are.
        config.plugin_dirs = folders;
        (config.state.persist, config.state.dir, config.recovery.dir) = (false, None, None);
        config.python.spare = false;
        let (host, found) = self.prepare()?.unloaded();
        let absolute = |file| std::path::absolute(&file).unwrap_or(file);
        let files = files.into_iter().map(absolute).chain(found).collect();
        let checked = host.0.supervisor.check(files, together).await;
        host.shutdown().await;
        Ok(checked)
    }
}
