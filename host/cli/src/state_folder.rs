//! Where a host of the command line keeps the state of its plugins: what was named, else what is
//! configured, else a folder that no host on another socket has. A library says nothing about it,
//! so an embedding program has none.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ksi_host::{Config, Origin};

use super::args::{Common, KeptState};
use super::exit::CommandFailure;

/// What of the process's surroundings says where state belongs. In both, empty or relative counts
/// as not set.
pub(crate) struct Home {
    xdg_state_home: Option<OsString>,
    home: Option<OsString>,
}

/// What was chosen, for the log.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Folder(PathBuf),
    /// Somebody wants it so, by this.
    Nothing(&'static str),
    /// Nobody named a folder, and there is no place for one.
    NoPlace(String),
}

impl Home {
    pub(crate) fn of_process() -> Self {
        Self { xdg_state_home: std::env::var_os("XDG_STATE_HOME"), home: std::env::var_os("HOME") }
    }

    /// The folder of the host on this socket: the same however the socket's path is written, and
    /// another one for every other socket.
    ///
    /// # Errors
    /// The socket's path is relative, and there is no current folder.
    pub(crate) fn folder_for(&self, socket: &Path) -> Result<Option<PathBuf>, CommandFailure> {
        let set = |value: &Option<OsString>| {
            value.as_ref().map(PathBuf::from).filter(|folder| folder.is_absolute())
        };
        let states =
            set(&self.xdg_state_home).or_else(|| Some(set(&self.home)?.join(".local/state")));
        let name =
            name_of(socket).map_err(CommandFailure::host("cannot tell where the socket is"))?;
        Ok(states.map(|folder| folder.join("ksi").join(name)))
    }
}

/// Settles in the configuration where state is kept, and logs it. `default` is the folder when
/// nobody named one; it is made here, because a host that cannot have a folder which nobody asked
/// for runs without one.
pub(crate) fn settle(
    config: &mut Config,
    wanted: KeptState,
    default: Option<PathBuf>,
) -> Result<(), CommandFailure> {
    let said = |option: &str| Origin::CommandLine { option: option.to_owned() };
    let (by_option, by_file) = (wanted.state.is_some(), config.state.dir.is_some());
    match choose(config, wanted, default)? {
        Chosen::Folder(folder) => {
            tracing::info!("the state of plugins is kept in {}", folder.display());
            if by_option {
                config.said_by("state.dir", said("--state"));
                config.said_by("state.persist", said("--state"));
            } else if !by_file {
                config.said_by("state.dir", Origin::Default);
            }
            (config.state.persist, config.state.dir) = (true, Some(folder));
        }
        Chosen::Nothing(because) => {
            tracing::info!("the state of plugins ends with this host: {because}");
            if because.starts_with("--") {
                config.said_by("state.persist", said(because));
            }
            config.state.persist = false;
        }
        Chosen::NoPlace(why) => {
            tracing::warn!(
                "the state of plugins ends with this host: {why}; name a folder with --state, or say --no-state"
            );
            config.state.persist = false;
        }
    }
    Ok(())
}

/// Where the packages lie that modules of Python need, for a command that is no host: those of the
/// host with this configuration, whether it runs or not, which has told of this folder of state if
/// it was asked. Nothing if there was never one.
pub(crate) fn environments(
    common: &Common,
    config: &Config,
    told: Option<&Path>,
) -> Result<Option<PathBuf>, CommandFailure> {
    let mut of_host = config.clone();
    let (persist, dir) = match (told, &config.state.dir) {
        (Some(dir), _) => (true, Some(dir.to_owned())),
        (None, Some(dir)) => (config.state.persist, Some(dir.clone())),
        (None, None) => {
            let socket = common.socket_path(config);
            (config.state.persist, Home::of_process().folder_for(socket.path())?)
        }
    };
    // One that is not there is for a host to make, which closes it to others.
    let dir = dir.filter(|dir| dir.is_dir());
    (of_host.state.persist, of_host.state.dir) = (persist, dir);
    Ok(of_host.environments())
}

/// Settles in the configuration where the crash journal lies: what is configured, else a folder in
/// that of the state, else one beside the socket. A host that cannot have it runs without.
pub(crate) fn settle_recovery(config: &mut Config, socket: &Path) {
    if config.recovery.dir.is_some() {
        return;
    }
    // No plugin has such a name, so no snapshot is called like that.
    let folder = match config.state.dir.as_ref().filter(|_| config.state.persist) {
        Some(state) => state.join(".recovery"),
        None => {
            let mut beside = socket.as_os_str().to_owned();
            beside.push(".recovery");
            beside.into()
        }
    };
    match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Ok(()) => {
            config.said_by("recovery.dir", Origin::Default);
            config.recovery.dir = Some(folder);
        }
        Err(error) => tracing::warn!(
            "the next start will not know what this host died of, if it does: the folder {} cannot be made: {error}",
            folder.display()
        ),
    }
}

fn choose(
    config: &Config,
    wanted: KeptState,
    default: Option<PathBuf>,
) -> Result<Chosen, CommandFailure> {
    if wanted.no_state {
        return Ok(Chosen::Nothing("--no-state"));
    }
    if let Some(folder) = wanted.state {
        // A log or an error shall say where it is, and not from where it was named.
        let folder = std::path::absolute(&folder).map_err(|error| {
            CommandFailure::Usage(format!("--state {}: {error}", folder.display()))
        })?;
        return Ok(Chosen::Folder(folder));
    }
    if !config.state.persist {
        return Ok(Chosen::Nothing("the configuration says `persist = false`"));
    }
    if let Some(folder) = &config.state.dir {
        return Ok(Chosen::Folder(folder.clone()));
    }
    Ok(match default {
        None => Chosen::NoPlace("neither XDG_STATE_HOME nor HOME is an absolute path".to_owned()),
        Some(folder) => match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
            Ok(()) => Chosen::Folder(folder),
            Err(error) => {
                Chosen::NoPlace(format!("the folder {} cannot be made: {error}", folder.display()))
            }
        },
    })
}

/// `daemon-03fe2c1a9b7d` for `/run/user/7/ksi/daemon.sock`: a word to recognise it by, and a hash
/// of the whole path.
fn name_of(socket: &Path) -> io::Result<OsString> {
    let absolute = std::path::absolute(socket)?;
    let file = absolute.file_name().unwrap_or_default();
    // Links and `..` on the way would make several folders for one socket. The socket itself may
    // not be there yet.
    let folder = absolute.parent().and_then(|folder| folder.canonicalize().ok());
    let path = folder.map_or_else(|| absolute.clone(), |folder| folder.join(file));
    let mut name = absolute.file_stem().unwrap_or_default().to_owned();
    let hash = blake3::hash(path.as_os_str().as_bytes()).to_hex();
    name.push("-");
    name.push(hash.chars().take(12).collect::<String>());
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(xdg_state_home: &str, home: &str) -> Home {
        Home { xdg_state_home: Some(xdg_state_home.into()), home: Some(home.into()) }
    }

    fn folder(home: &Home, socket: &str) -> Option<PathBuf> {
        home.folder_for(Path::new(socket)).expect("an absolute path")
    }

    fn nothing_said() -> KeptState {
        KeptState { state: None, no_state: false }
    }

    fn named(folder: &str) -> KeptState {
        KeptState { state: Some(folder.into()), no_state: false }
    }

    #[test]
    fn the_folder_is_below_the_first_of_both_homes_that_is_a_path() {
        let below = |home: &Home| {
            let folder = folder(home, "/r/daemon.sock")?;
            Some(folder.parent().expect("a folder").to_owned())
        };
        assert_eq!(below(&home("/x", "/h")), Some("/x/ksi".into()));
        for unset in ["", "x"] {
            assert_eq!(below(&home(unset, "/h")), Some("/h/.local/state/ksi".into()));
            assert_eq!(below(&home(unset, unset)), None);
        }
        assert_eq!(below(&Home { xdg_state_home: None, home: None }), None);
    }

    #[test]
    fn hosts_on_two_sockets_never_share_a_folder() {
        let home = home("/x", "/h");
        let [one, other] = ["/one/daemon.sock", "/other/daemon.sock"]
            .map(|socket| folder(&home, socket).expect("a folder"));
        assert_ne!(one, other);
        assert_ne!(folder(&home, "/one/daemon.sock2"), Some(one.clone()));
        let name = one.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with("daemon-") && name.len() == "daemon-".len() + 12, "{name}");
    }

    #[test]
    fn a_socket_has_one_folder_however_its_path_is_written() {
        let there = tempfile::tempdir().expect("a folder");
        let real = there.path().join("real");
        std::fs::create_dir(&real).expect("a folder");
        std::os::unix::fs::symlink(&real, there.path().join("link")).expect("a link");
        let home = home("/x", "/h");
        let of = |path: &str| {
            let path = there.path().join(path);
            folder(&home, path.to_str().expect("a path")).expect("a folder")
        };
        assert_eq!(of("link/s"), of("real/s"));
        assert_eq!(of("real/../real/./s"), of("real/s"));
    }

    #[test]
    fn what_was_named_comes_before_the_configuration_and_that_before_the_default() {
        let default = tempfile::tempdir().expect("a folder").path().join("a/b");
        let chosen = |config: &Config, wanted| {
            choose(config, wanted, Some(default.clone())).expect("a choice")
        };
        let mut config = Config::default();
        assert_eq!(chosen(&config, named("/n")), Chosen::Folder("/n".into()));
        assert!(!default.exists(), "a default that nobody needs is not made");
        assert_eq!(chosen(&config, nothing_said()), Chosen::Folder(default.clone()));
        config.state.dir = Some("/c".into());
        assert_eq!(chosen(&config, nothing_said()), Chosen::Folder("/c".into()));
        assert_eq!(chosen(&config, named("/n")), Chosen::Folder("/n".into()));
        let none = KeptState { state: None, no_state: true };
        assert_eq!(chosen(&config, none), Chosen::Nothing("--no-state"));
        config.state.persist = false;
        assert!(matches!(chosen(&config, nothing_said()), Chosen::Nothing(_)));
        assert_eq!(chosen(&config, named("/n")), Chosen::Folder("/n".into()));
    }

    #[test]
    fn a_host_without_a_place_for_state_runs_without() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for default in [None, Some(file.path().join("below"))] {
            let mut config = Config::default();
            settle(&mut config, nothing_said(), default).expect("no reason to stop");
            assert_eq!((config.state.persist, config.state.dir), (false, None));
        }
    }

    #[test]
    fn the_crash_journal_is_where_the_state_is_or_else_beside_the_socket() {
        let there = tempfile::tempdir().expect("a folder");
        let socket = there.path().join("s");
        let settled = |mut config: Config| {
            settle_recovery(&mut config, &socket);
            config.recovery.dir
        };
        let mut config = Config::default();
        assert_eq!(settled(config.clone()), Some(there.path().join("s.recovery")));
        config.state.dir = Some(there.path().join("state"));
        assert_eq!(settled(config.clone()), Some(there.path().join("state/.recovery")));
        config.state.persist = false;
        assert_eq!(settled(config.clone()), Some(there.path().join("s.recovery")));
        config.recovery.dir = Some("/named".into());
        assert_eq!(settled(config), Some("/named".into()));
    }

    #[test]
    fn the_choice_reaches_the_host() {
        let mut config = Config::default();
        config.state.persist = false;
        settle(&mut config, named("state"), None).expect("a choice");
        let folder = std::env::current_dir().expect("a folder").join("state");
        assert_eq!((config.state.persist, config.state.dir), (true, Some(folder)));
    }

    #[test]
    fn a_default_folder_is_closed_to_others() {
        use std::os::unix::fs::MetadataExt;
        let there = tempfile::tempdir().expect("a folder");
        let folder = there.path().join("ksi/s");
        settle(&mut Config::default(), nothing_said(), Some(folder.clone())).expect("made");
        assert_eq!(std::fs::metadata(folder).expect("the folder").mode() & 0o777, 0o700);
    }
}
