//! One of the two: a plugin in a host of its own, in which nobody else is. What it emits goes
//! nowhere, and is noted.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ksi_host::{
    ChildEntry, Config, EventRef, Host, IsolationMode, NewEvent, OutcomeKind, Pattern, Payload,
    Watch, Watched,
};
use ksi_wire::module::announced::{Announced, LOADED};
use serde_json::Value;
use tokio::time::timeout;

use super::difference::{Account, Ended};
use super::kept::{Began, Kept};
use super::recording::Recorded;
use crate::exit::CommandFailure;

/// By which an event that is played is known again in all that follows from it.
const PLAYED: &str = "_ksi_compare";
/// Events that one played event may cause and that are kept, and their bytes.
const MOST_EMITS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
/// Events that may wait to be noted.
const WATCHED: usize = 1 << 16;

/// Plugins whose loading may wait to be looked at.
const WATCHED_LOADS: usize = 256;
/// The host tells of a plugin right after it was loaded.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// What a side is made of.
pub(super) struct Given<'a> {
    pub(super) file: &'a Path,
    pub(super) config: Config,
    /// Plugins beside it.
    pub(super) beside: &'a [PathBuf],
    /// What it is to begin with.
    pub(super) state: Option<&'a Kept>,
    pub(super) in_process: bool,
}

pub(super) struct Side {
    host: Host,
    pub(super) plugin: String,
    pub(super) began: Began,
    /// What the host itself handles: it is not played.
    of_host: Vec<String>,
    noted: Arc<Mutex<Noted>>,
    _noting: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
struct Noted {
    by_event: HashMap<u64, Emits>,
    /// Of its own accord: by name.
    beside: BTreeMap<String, u64>,
    last: Option<Instant>,
    missed: u64,
    /// The last event that was taken: what comes later of it, or of those before it, is too late.
    taken: u64,
}

#[derive(Default)]
struct Emits {
    emits: Vec<(String, Value)>,
    bytes: usize,
    cut: bool,
}

impl Side {
    /// Starts a host with this plugin.
    pub(super) async fn start(entry: ChildEntry, given: Given<'_>) -> Result<Side, CommandFailure> {
        let folder = tempfile::Builder::new().prefix("ksi-compare-").tempdir();
        let folder = folder.map_err(CommandFailure::host("there is no folder for its state"))?;
        let state = folder.path().join("state");
        std::fs::create_dir(&state)
            .map_err(CommandFailure::host("there is no folder for its state"))?;
        if let Some(kept) = given.state {
            kept.put_into(&state).map_err(CommandFailure::host("the state cannot be copied"))?;
        }
        let mut config = given.config;
        config.plugin_dirs = Vec::new();
        config.socket = None;
        config.pid_file = None;
        config.state.dir = Some(state);
        config.recovery.dir = Some(folder.path().join("recovery"));
        if !given.in_process {
            config.isolation.default = IsolationMode::Process;
        }
        let host = Host::builder(entry).config(config).start().await;
        let host = host.map_err(CommandFailure::host("a host for it cannot start"))?;
        let of_host = host.event_names();
        for file in given.beside {
            load(&host, file).await?;
        }
        let told = Pattern::parse(LOADED).map_err(CommandFailure::host("there is no watch"))?;
        let mut told = host.watch(&[told], WATCHED_LOADS);
        let plugin = load(&host, given.file).await?;
        let began = match given.state {
            None => Began::Empty,
            Some(kept) if kept.plugin != plugin => {
                Began::Without(format!("that is of {:?}, and this is {plugin:?}", kept.plugin))
            }
            Some(_) => began(&mut told, &plugin).await,
        };
        let all = Pattern::parse("*").map_err(CommandFailure::host("there is no watch"))?;
        let watch = host.watch(&[all], WATCHED);
        let noted = Arc::<Mutex<Noted>>::default();
        let noting = tokio::spawn(note(watch, plugin.clone(), noted.clone()));
        Ok(Side { host, plugin, began, of_host, noted, _noting: noting, _folder: folder })
    }

    /// Whether a plugin handles events of this name, and the host does not: what that does is not
    /// for a comparison.
    pub(super) fn handles(&self, event: &str) -> bool {
        self.host.has_handler(event) && !self.of_host.iter().any(|of_host| of_host == event)
    }

    /// Plays an event, which has this number; what became of it, and how long it took.
    pub(super) async fn play(&self, recorded: &Recorded, number: u64) -> (Vec<Ended>, Duration) {
        let payload = Payload::from_json_bytes(recorded.data.clone());
        let event = match NewEvent::new(&recorded.event, payload) {
            Ok(event) => event.source(&recorded.source).attribute(PLAYED, &number.to_string()),
            Err(error) => {
                let (code, message) = ("invalid_event".to_owned(), error.to_string());
                return (vec![Ended::Badly { code, message }], Duration::ZERO);
            }
        };
        let attributes = recorded.attributes.iter();
        let event = attributes.fold(event, |event, (key, value)| event.attribute(key, value));
        let begun = Instant::now();
        let report = self.host.emit(event).await;
        let took = begun.elapsed();
        let refused = report.was_refused();
        let own = report.outcomes().iter().filter(|it| refused || *it.plugin == *self.plugin);
        (own.map(|outcome| ended(&outcome.result)).collect(), took)
    }

    /// What it emitted because of the event of this number, and forgets it. In the order of the
    /// numbers.
    pub(super) fn take(&self, number: u64, ended: Vec<Ended>) -> Account {
        let mut noted = self.noted();
        noted.taken = number;
        let Emits { emits, cut, .. } = noted.by_event.remove(&number).unwrap_or_default();
        Account { ended, emits, cut }
    }

    /// When it emitted something last.
    pub(super) fn last_emit(&self) -> Option<Instant> {
        self.noted().last
    }

    /// What it emitted of its own accord, by name.
    pub(super) fn beside(&self) -> BTreeMap<String, u64> {
        self.noted().beside.clone()
    }

    /// Events that could not be noted.
    pub(super) fn missed(&self) -> u64 {
        self.noted().missed
    }

    pub(super) async fn end(self) {
        self.host.shutdown().await;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(host: &Host, file: &Path) -> Result<String, CommandFailure> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let loaded = host.load(&absolute).await;
    loaded.map(|loaded| loaded.plugin).map_err(CommandFailure::host("a version cannot be loaded"))
}

/// What the host has told of the plugin with whose state it was loaded.
async fn began(told: &mut Watch, plugin: &str) -> Began {
    loop {
        let Ok(Some(Watched::Event(event))) = timeout(TOLD_WITHIN, told.next()).await else {
            return Began::Without("the host does not tell that it has restored it".to_owned());
        };
        let loaded: Announced =
            serde_json::from_slice(event.payload().as_json()).unwrap_or_default();
        match loaded.state.as_deref() {
            _ if loaded.name.as_deref() != Some(plugin) => {}
            Some("kept" | "older") => return Began::Restored,
            _ => return Began::Without("it keeps no state".to_owned()),
        }
    }
}

/// Notes what the plugin emits, until the watch ends.
async fn note(mut watch: Watch, plugin: String, noted: Arc<Mutex<Noted>>) {
    loop {
        let seen = watch.next().await;
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            // What is played may have been the plugin's own, where it was recorded.
            Some(Watched::Event(event)) if event.source() == plugin => noted.event(&event),
            Some(Watched::Missed(missed)) => noted.missed += missed,
            Some(_) => {}
            None => return,
        }
    }
}

impl Noted {
    fn event(&mut self, event: &EventRef) {
        let played = event.attribute(PLAYED).and_then(|number| number.parse().ok());
        if event.depth() == 0 {
            if played.is_none() && self.beside.len() < MOST_EMITS {
                *self.beside.entry(event.name().to_owned()).or_default() += 1;
            }
            return;
        }
        self.last = Some(Instant::now());
        let Some(number) = played.filter(|&number| number > self.taken) else { return };
        let of_it = self.by_event.entry(number).or_default();
        let json = event.payload().as_json();
        if of_it.emits.len() == MOST_EMITS || of_it.bytes + json.len() > MOST_BYTES {
            of_it.cut = true;
            return;
        }
        of_it.bytes += json.len();
        let payload = serde_json::from_slice(json).unwrap_or(Value::Null);
        of_it.emits.push((event.name().to_owned(), payload));
    }
}

fn ended(outcome: &OutcomeKind) -> Ended {
    match outcome {
        OutcomeKind::Replied(payload) => {
            Ended::Replied(serde_json::from_slice(payload.as_json()).unwrap_or(Value::Null))
        }
        OutcomeKind::NoReply => Ended::NoReply,
        bad => Ended::Badly { code: bad.code().to_owned(), message: bad.message() },
    }
}
