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
        let (folders, files) = folders_and_files(paths);
        let together = !folders.is_empty() || files.len() > 1;
        self.only_of(folders);
        let (host, found) = self.prepare()?.unloaded();
        let files = files.into_iter().chain(found).collect();
        let checked = host.0.supervisor.check(files, together).await;
        host.shutdown().await;
        Ok(checked)
    }

    /// The same for files that would take the place of others, as one change: of a host that has
    /// the plugins of these folders. Each is also compared with the version there that it replaces.
    /// What a folder holds and no host takes is left out; a remark says so.
    ///
    /// ```no_run
    /// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), Box<dyn std::error::Error>> {
    /// let (files, folders) = (["target/release/libshop.so".into()], ["plugins".into()]);
    /// let checked = ksi_host::Host::builder(entry).check_against(&files, &folders).await?;
    /// assert!(checked.iter().all(|checked| checked.verdict.is_ok()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`check`](Self::check), and [`StartError::NoFolder`].
    pub async fn check_against(
        mut self,
        paths: &[PathBuf],
        folders: &[PathBuf],
    ) -> Result<Vec<Checked>, StartError> {
        let (of, files) = folders_and_files(paths);
        let (mut listed, none) = folders_and_files(folders);
        if let Some(path) = none.into_iter().next() {
            return Err(StartError::NoFolder { path });
        }
        listed.extend(of.iter().cloned());
        self.only_of(listed);
        let (host, found) = self.prepare()?.unloaded();
        let is_of = |file: &PathBuf| of.iter().any(|folder| file.parent() == Some(&**folder));
        let (more, found) = found.into_iter().partition::<Vec<_>, _>(is_of);
        let files = files.into_iter().chain(more).collect();
        let checked = host.0.supervisor.check_against(files, found).await;
        host.shutdown().await;
        Ok(checked)
    }

    /// A host of these folders that keeps nothing.
    fn only_of(&mut self, folders: Vec<PathBuf>) {
        let config = self.config_mut();
        // So that they are listed and trusted as a host's folders are.
        config.plugin_dirs = folders;
        (config.state.persist, config.state.dir, config.recovery.dir) = (false, None, None);
        config.python.spare = false;
    }
}

/// Folders of plugins, and what may be one, by absolute paths.
fn folders_and_files(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    paths.iter().map(absolute).partition(|path| path.is_dir() && !is_plugin_folder(path))
}
