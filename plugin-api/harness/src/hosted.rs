//! The plugin as the library that cargo builds of it, in a real host.
//!
//! The host is a process of the `ksi` executable, which is spoken to by its socket, so that none of
//! it is compiled for the tests of a plugin.

mod build;
mod connection;
mod process;

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use ksi_plugin_api::{__private::testing, Emit, Error, Plugin, Report, Result};
use ksi_wire::module::{List, ModuleState, Named, Overview};
use serde_json::{Value, json};

use self::{
    connection::{Connection, Watching},
    process::{Files, HostProcess},
};
use super::{Emitted, Subject};

/// How long a plugin may take until it is live, or is not going to be.
const LIVE_WITHIN: Duration = Duration::from_secs(60);

/// The library of a plugin, in a host of the test's own: a [`Subject`] like the
/// [`Harness`](super::Harness). Its feature is `host`.
///
/// cargo builds the library of the package whose test this is, in the profile of the test. The host
/// is the executable `ksi`: the one that the environment variable `KSI` names, or else the first on
/// the path.
///
/// ```no_run
/// # use ksi_plugin_api::prelude::*;
/// # #[derive(Default)]
/// # struct Greeter;
/// # #[plugin]
/// # impl Greeter {}
/// use ksi_harness::{Hosted, Subject};
///
/// # fn main() {
/// let plugin = Hosted::start::<Greeter>();
/// let text: String = plugin.request(named("greet:request", "Ada")).unwrap();
/// # }
/// ```
///
/// What a [`Harness`](super::Harness) has beside a [`Subject`] it does not have: nobody else
/// answers for other plugins than their libraries ([`HostedSetup::beside`]), and time passes as it
/// does.
pub struct Hosted {
    plugin: &'static str,
    // The order in which they go: the connections, the process, and its files last.
    connection: Mutex<Connection>,
    watching: Watching,
    process: HostProcess,
}

/// What a library is hosted with; see [`Hosted::setup`].
#[must_use = "the host is started by `start`"]
pub struct HostedSetup<P> {
    config: Option<Value>,
    library: Option<PathBuf>,
    beside: Vec<PathBuf>,
    cargo: Vec<String>,
    plugin: PhantomData<fn() -> P>,
}

impl Hosted {
    /// Builds the library, and starts a host with it.
    ///
    /// # Panics
    /// When it does not become live; [`HostedSetup::start`] gives the error instead.
    #[track_caller]
    pub fn start<P: Plugin>() -> Self {
        match Self::setup::<P>().start() {
            Ok(hosted) => hosted,
            Err(error) => panic!("{} is not live in a host: {error:?}", P::NAME),
        }
    }

    /// What the library is hosted with beside itself.
    pub fn setup<P: Plugin>() -> HostedSetup<P> {
        HostedSetup {
            config: None,
            library: None,
            beside: Vec::new(),
            cargo: Vec::new(),
            plugin: PhantomData,
        }
    }

    /// What the host has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What the host says of the plugin, or of a file that is none.
    fn overview(&self) -> Result<Option<Overview>> {
        let list: List = self.connection().ask("module:list", &json!({}))?;
        let own = |module: &Overview| {
            let file = module.file.as_deref().map(Path::new).and_then(Path::file_name);
            module.name == self.plugin || file == self.process.files().library.file_name()
        };
        Ok(list.modules.into_iter().find(own))
    }

    fn until_live(&self) -> Result<()> {
        let until = Instant::now() + LIVE_WITHIN;
        loop {
            let (state, why) = match self.overview()? {
                Some(Overview { state: ModuleState::Live, .. }) => return Ok(()),
                Some(module) => {
                    (Some(module.state), waits_or_failed(&module.last_error, &module.missing))
                }
                None => (None, None),
            };
            let over = Instant::now() >= until;
            if let Some(why) = why.filter(|_| over || state == Some(ModuleState::Refused)) {
                return Err(Error::new("refused", why));
            }
            if over {
                let text = format_args!("it was not live within {LIVE_WITHIN:?}:\n{}", self.log());
                return Err(Error::new("timed_out", text));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Why a plugin is not live, for people.
fn waits_or_failed(error: &Option<String>, missing: &[String]) -> Option<String> {
    match error {
        Some(error) => Some(error.clone()),
        None if missing.is_empty() => None,
        None => Some(format!(
            "nobody handles {}, which it requires: put the library that does beside it, with `HostedSetup::beside`",
            missing.join(", ")
        )),
    }
}

impl<P: Plugin> HostedSetup<P> {
    /// The plugin's configuration, as its table of the host's configuration file has it. TOML knows
    /// no `null`.
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
        self
    }

    /// A library that is there already, in place of the one that cargo builds of this package.
    pub fn library(mut self, file: impl Into<PathBuf>) -> Self {
        self.library = Some(file.into());
        self
    }

    /// The library of another plugin, in the same host.
    pub fn beside(mut self, file: impl Into<PathBuf>) -> Self {
        self.beside.push(file.into());
        self
    }

    /// Further arguments for `cargo build`, such as `["--features", "metrics"]`.
    pub fn cargo<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.cargo.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    /// Builds the library, starts a host with it, and waits until it is live.
    ///
    /// # Errors
    /// `not_built` with what cargo says, `no_host` when there is no `ksi` or it does not start,
    /// `refused` with what the host has against the plugin.
    pub fn start(self) -> Result<Hosted> {
        let library = match self.library {
            Some(library) => library,
            None => build::library(&self.cargo)?,
        };
        let files = Files::new(P::NAME, self.config, &library, &self.beside)?;
        let process = HostProcess::start(files)?;
        let socket = &process.files().socket;
        let watching = Watching::start(Connection::to(socket)?)?;
        let connection = Mutex::new(Connection::to(socket)?);
        let hosted = Hosted { plugin: P::NAME, connection, watching, process };
        hosted.until_live()?;
        Ok(hosted)
    }
}

impl Subject for Hosted {
    #[track_caller]
    fn emit_event(&self, event: impl Emit) -> Report {
        let name = event.owned_name();
        let emitted = event.into_content().and_then(testing::bytes_of).and_then(|payload| {
            let payload: Value = testing::decode(&payload)?;
            self.connection().emit(&name, &payload)
        });
        match emitted {
            Ok(report) => report,
            Err(error) => panic!("{name}: {error:?}\nThe host has logged:\n{}", self.log()),
        }
    }

    #[track_caller]
    fn emitted(&self) -> Vec<Emitted> {
        match self.watching.until_now(&mut self.connection()) {
            Ok(passed) => {
                let own = passed.into_iter().filter(|(source, _)| source == self.plugin);
                own.map(|(_, emitted)| emitted).collect()
            }
            Err(error) => panic!("{error:?}\nThe host has logged:\n{}", self.log()),
        }
    }

    fn pass(&self, duration: Duration) {
        thread::sleep(duration);
    }

    fn reload(&self) -> Result<()> {
        let named = Named { module_name: self.plugin.to_owned() };
        self.connection().ask::<Value>("module:reload", &named).map(drop)
    }
}
