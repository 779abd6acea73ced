//! The packages that modules say they need, installed in folders of the host's own: one folder for
//! each set of them and each interpreter, which all modules share that need the same.
//!
//! A folder is made before anything of a replacement happens, whole or not at all, and not touched
//! any more. Nothing is installed unless the operator says by what. A folder that somebody has made
//! by hand, by the command that is told, is as good.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ksi_kernel::lock::Lock;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tokio::sync::Semaphore;

use super::{error::PythonError, interpreter::Interpreter};
use crate::{
    plugin::file::copy::PrivateDir,
    sync::keyed_lock::{KeyedLock, LockKey},
    system::low_priority,
    text::printable::printable,
};

/// What installing a set of packages may take.
const LIMIT: Duration = Duration::from_secs(600);
/// How many sets are installed at a time.
const PLACES: usize = 4;
/// How many sets are kept; beyond it, those that were used longest ago are removed.
const KEPT: usize = 32;
/// How often it is looked whether the host stops.
const LOOK: Duration = Duration::from_millis(100);
/// What is told of an installer that has failed, and what is logged as one line.
const LAST_LINES: usize = 5;
const LONGEST_LINE: usize = 2 << 10;

/// In the host's private folder.
const IN_PRIVATE: &str = "python-packages";

/// What installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installer {
    Uv,
    Pip,
}

/// See the module.
pub(super) struct Environments {
    folder: Option<PathBuf>,
    installer: Option<Installer>,
    /// Each is made by one at a time,
    making: Arc<KeyedLock>,
    /// and so many are at a time.
    places: Semaphore,
    /// Those that this host has used: they may be imported from at any time.
    used: Lock<HashSet<PathBuf>>,
    /// The host stops.
    ended: Arc<AtomicBool>,
}

impl Environments {
    /// In this folder, which need not be there; or else in the host's private folder, with which
    /// they go.
    pub(super) fn new(folder: Option<PathBuf>, installer: Option<Installer>) -> Self {
        let (making, places) = (Arc::default(), Semaphore::new(PLACES));
        let (used, ended) = (Lock::default(), Arc::default());
        Environments { folder, installer, making, places, used, ended }
    }

    /// Where the packages of this set lie, or are to; nothing if it is empty.
    ///
    /// # Errors
    /// There is no place for them.
    pub(super) fn folder_of(
        &self,
        dir: &PrivateDir,
        interpreter: &Interpreter,
        packages: &[String],
    ) -> Result<Option<PathBuf>, PythonError> {
        let mut packages: Vec<&str> = packages.iter().map(|it| it.trim()).collect();
        packages.sort_unstable();
        packages.dedup();
        if packages.is_empty() {
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        for part in
            [&interpreter.version, &*interpreter.path.to_string_lossy()].into_iter().chain(packages)
        {
            hasher.update(blake3::hash(part.as_bytes()).as_bytes());
        }
        Ok(Some(self.root(dir)?.join(&hasher.finalize().to_hex()[..16])))
    }

    /// Sees to it that the packages of this set are there, for the module of this name.
    ///
    /// # Errors
    /// They are not, and are not to be installed, or cannot be.
    pub(super) async fn provide(
        &self,
        dir: &PrivateDir,
        interpreter: &Arc<Interpreter>,
        packages: &[String],
        plugin: &str,
    ) -> Result<(), PythonError> {
        let Some(folder) = self.folder_of(dir, interpreter, packages)? else { return Ok(()) };
        if let Some(odd) = packages.iter().find(|it| is_odd(it)) {
            return Err(PythonError::NoPackage { name: odd.clone() });
        }
        self.used.lock().insert(folder.clone());
        if self.is_there(&folder) {
            return Ok(());
        }
        let Some(installer) = self.installer else {
            let command = command(Installer::Pip, &interpreter.path, &folder, packages);
            let packages = packages.to_vec();
            return Err(PythonError::NotInstalled { packages, command: in_words(&command) });
        };
        let _alone = self.making.lock(LockKey::File(folder.clone())).await;
        if self.is_there(&folder) {
            return Ok(());
        }
        // Never closed, so there is always a place to wait for.
        let _place = self.places.acquire().await;
        let draft = folder.with_extension("new");
        let command = command(installer, &interpreter.path, &draft, packages);
        let (plugin, ended, root) = (plugin.to_owned(), self.ended.clone(), self.root(dir)?);
        let used = self.used.lock().clone();
        let program = interpreter.path.clone();
        let made = low_priority::done("ksi-install", move || {
            let made = make(&root, &draft, &folder, command, &plugin, &ended);
            if made.is_err() {
                let _ = fs::remove_dir_all(&draft);
            }
            sweep(&root, &used);
            made
        });
        made.await.map_err(|source| PythonError::NotStarted { program, source })?
    }

    /// Whether this set has to be installed first, and will be.
    pub(super) fn installs(
        &self,
        dir: &PrivateDir,
        interpreter: &Interpreter,
        packages: &[String],
    ) -> bool {
        let folder = self.folder_of(dir, interpreter, packages).ok().flatten();
        self.installer.is_some() && folder.is_some_and(|folder| !self.is_there(&folder))
    }

    /// Ends what is being installed: the host stops.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn root(&self, dir: &PrivateDir) -> Result<PathBuf, PythonError> {
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(dir.folder(IN_PRIVATE)?),
        }
    }

    fn is_there(&self, folder: &Path) -> bool {
        let there = folder.is_dir();
        if there && let Ok(open) = fs::File::open(folder) {
            // When it was used last.
            let _ = open.set_modified(SystemTime::now());
        }
        there
    }
}

/// What would be an option of the installer, or more than one package.
fn is_odd(package: &str) -> bool {
    package.trim().is_empty()
        || package.trim_start().starts_with('-')
        || package.chars().any(char::is_control)
}

fn command(installer: Installer, python: &Path, folder: &Path, packages: &[String]) -> Command {
    let mut command = match installer {
        Installer::Uv => {
            let mut command = Command::new("uv");
            command.args(["pip", "install", "--compile-bytecode", "--python"]).arg(python);
            command
        }
        Installer::Pip => {
            let mut command = Command::new(python);
            command.args([
                "-I",
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ]);
            command
        }
    };
    command.arg("--target").arg(folder).arg("--").args(packages.iter().map(|it| it.trim()));
    command
}

/// As somebody would type it.
fn in_words(command: &Command) -> String {
    let parts = [command.get_program()].into_iter().chain(command.get_args());
    let quoted = parts.map(|part| {
        let part = part.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
        match part.chars().all(plain) {
            true => part.into_owned(),
            false => format!("'{}'", part.replace('\'', r"'\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Makes a folder under another name, and gives it its own when all of it is there.
fn make(
    root: &Path,
    draft: &Path,
    folder: &Path,
    command: Command,
    plugin: &str,
    ended: &AtomicBool,
) -> Result<(), PythonError> {
    let failed = |source| PythonError::Environment { path: folder.to_owned(), source };
    fs::create_dir_all(root).map_err(failed)?;
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let words = in_words(&command);
    tracing::info!(plugin, "installing what it needs: {words}");
    run(command, plugin, ended)
        .map_err(|reason| PythonError::Install { command: words, reason })?;
    // An installer makes no folder where nothing is to be put into it.
    fs::create_dir_all(draft).map_err(failed)?;
    fs::rename(draft, folder).map_err(failed)
}

/// Runs an installer, whose output goes to the log; why it has failed.
fn run(mut command: Command, plugin: &str, ended: &AtomicBool) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let not_started = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} was not found"),
        _ => format!("it cannot be started: {error}"),
    };
    let (out, theirs) = io::pipe().map_err(not_started)?;
    let own = theirs.try_clone().map_err(not_started)?;
    for name in std::env::vars_os().map(|(name, _)| name) {
        if name.as_encoded_bytes().starts_with(b"PYTHON") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(theirs).stderr(own).process_group(0);
    let mut child = command.spawn().map_err(not_started)?;
    // With it, the ends of the pipe that are open here.
    drop(command);
    let mut printed = Printed { plugin, line: Vec::new(), last: VecDeque::new() };
    let followed = printed.follow(out, ended, Instant::now() + LIMIT);
    if followed.is_err() {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait();
    followed?;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}: {}", Vec::from(printed.last).join("; "))),
        Err(error) => Err(error.to_string()),
    }
}

/// What an installer prints, line by line.
struct Printed<'a> {
    plugin: &'a str,
    line: Vec<u8>,
    last: VecDeque<String>,
}

impl Printed<'_> {
    /// Logs what comes until nothing more does; why that is not waited for any more.
    fn follow(
        &mut self,
        mut out: io::PipeReader,
        ended: &AtomicBool,
        until: Instant,
    ) -> Result<(), String> {
        let mut chunk = [0; 4 << 10];
        loop {
            if ended.load(Ordering::Acquire) {
                return Err("the host is stopping".to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let limit = humantime::format_duration(LIMIT);
                return Err(format!("it has not ended within {limit}"));
            }
            let look = Timespec::try_from(left.min(LOOK)).map_err(|error| error.to_string())?;
            match poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&look)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
            match out.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => self.take(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.end_line();
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = printable(text.trim());
        if text.is_empty() {
            return;
        }
        tracing::info!(plugin = self.plugin, "{text}");
        self.last.push_back(text.to_string());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
    }
}

/// Removes what is too much, but nothing that this host has used.
fn sweep(root: &Path, used: &HashSet<PathBuf>) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut there: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    there.sort_unstable();
    let over = there.len().saturating_sub(KEPT);
    for (_, folder) in there.into_iter().take(over).filter(|(_, folder)| !used.contains(folder)) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "old packages could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::file::copy::Places;

    fn interpreter(version: &str) -> Arc<Interpreter> {
        let (path, version) = ("/usr/bin/python3".into(), version.to_owned());
        Arc::new(Interpreter { path, version, folders: Vec::new() })
    }

    fn packages(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    fn private(above: &Path) -> PrivateDir {
        let named = Some(above.to_owned());
        let places = Places { named, runtime: None, temporary: "/".into() };
        PrivateDir::create(places).unwrap()
    }

    #[test]
    fn the_same_set_for_the_same_interpreter_has_one_folder() {
        let above = tempfile::tempdir().unwrap();
        let (environments, dir) = (Environments::new(None, None), private(above.path()));
        let of = |version: &str, all: &[&str]| {
            environments.folder_of(&dir, &interpreter(version), &packages(all)).unwrap()
        };
        assert_eq!(of("3.12.1", &[]), None);
        assert!(of("3.12.1", &["a"]).unwrap().starts_with(above.path()));
        assert_eq!(of("3.12.1", &["a>=1", "b"]), of("3.12.1", &[" b", "a>=1", "b"]));
        assert_ne!(of("3.12.1", &["a"]), of("3.12.1", &["b"]));
        assert_ne!(of("3.12.1", &["a"]), of("3.13.0", &["a"]));
    }

    #[tokio::test]
    async fn without_an_installer_the_command_is_told_and_what_it_makes_is_used() {
        let (root, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let environments = Environments::new(Some(root.path().to_owned()), None);
        let dir = private(above.path());
        let (needed, interpreter) = (packages(&["structlog", "it's >=2"]), interpreter("3.12.1"));
        let told =
            environments.provide(&dir, &interpreter, &needed, "p").await.unwrap_err().to_string();
        let folder = environments.folder_of(&dir, &interpreter, &needed).unwrap().unwrap();
        let command = format!(
            r"/usr/bin/python3 -I -m pip install --no-input --disable-pip-version-check --target {} -- structlog 'it'\''s >=2'",
            folder.display()
        );
        assert!(told.contains(&command), "{told}");
        fs::create_dir(&folder).unwrap();
        environments.provide(&dir, &interpreter, &needed, "p").await.unwrap();
        let odd = packages(&["--index-url=http://x"]);
        let told =
            environments.provide(&dir, &interpreter, &odd, "p").await.unwrap_err().to_string();
        assert!(told.contains("--index-url"), "{told}");
    }

    /// An installer that is a script; it gets the folder as its first argument.
    fn made(script: &str, root: &Path, ended: &AtomicBool) -> Result<(), PythonError> {
        let (draft, folder) = (root.join("x.new"), root.join("x"));
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&draft);
        let made = make(root, &draft, &folder, command, "p", ended);
        assert_eq!(made.is_ok(), folder.is_dir());
        made
    }

    #[test]
    fn a_folder_is_there_as_a_whole_or_not_at_all() {
        let (root, on) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let half = "mkdir $1; echo half > $1/a; echo no network >&2; exit 3";
        let failed = made(half, root.path(), &on).unwrap_err().to_string();
        assert!(failed.contains("exit status: 3: no network"), "{failed}");
        made("test ! -e $1 && mkdir $1 && echo all > $1/a", root.path(), &on).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("x/a")).unwrap(), "all\n");
    }

    #[test]
    fn a_host_that_stops_waits_for_no_installer() {
        let (root, stops) = (tempfile::tempdir().unwrap(), AtomicBool::new(true));
        let failed = made("sleep 1000", root.path(), &stops).unwrap_err().to_string();
        assert!(failed.contains("the host is stopping"), "{failed}");
    }

    #[test]
    fn old_sets_make_room_and_those_in_use_stay() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            let folder = root.path().join(format!("{number:03}"));
            fs::create_dir(&folder).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64);
            fs::File::open(&folder).unwrap().set_modified(time).unwrap();
        }
        sweep(root.path(), &HashSet::from([root.path().join("001")]));
        let there = |name: &str| root.path().join(name).is_dir();
        assert!(!there("000") && there("001") && !there("002") && there("003"));
    }
}
