//! What the host knows of its plugins and of the files that are none.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::SystemTime,
};

use ksi_kernel::call::tally::Counts;

use super::{
    checkpoint::{Checkpoint, TakesCheckpoints},
    configure::RefusedConfig,
    restart::Ends,
    retry::RetrySchedule,
};
use crate::plugin::{
    file::copy::PrivateCopy,
    instance::{generation::Generation, info::GenerationInfo, services::HostServices},
    lifecycle::retired::{Retired, RetiredState},
    state::snapshot::Snapshot,
};

/// How many retired generations of a plugin are remembered, beside those that are still in memory.
const HISTORY: usize = 8;
/// How many plugins are remembered that are not live any more.
const UNLOADED: usize = 64;
/// How many refused files are remembered; beyond it, the first by path are forgotten.
const REFUSED: usize = 1_024;
/// How many generations of a plugin may be pinned. At the limit it is not replaced any more, so
/// that a plugin that cannot be unmapped does not fill memory.
const PINNED: usize = 16;
/// The same for all that are still in memory, those that still drain too.
const LINGERING: usize = 64;

/// A plugin: what stays the same over its generations.
pub(crate) struct Plugin {
    /// Its place in the order of starting, which is the reverse of the order of stopping.
    pub(crate) started: u64,
    pub(crate) live: Option<Generation>,
    /// Of the live generation, or of the last one there was.
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) last_error: Option<String>,
    /// What the configuration says of it, and it has not taken.
    pub(crate) config_refused: Option<RefusedConfig>,
    /// What the live generation breaks of contracts with others, or cannot be told of them.
    pub(crate) contract_notices: Vec<String>,
    /// What somebody should know of the state that the live generation has.
    pub(crate) state_notice: Option<String>,
    pub(crate) retired: VecDeque<Arc<Retired>>,
    /// Generations that have left memory and the history.
    pub(crate) earlier_unmapped: usize,
    /// Versions that can be gone back to, the next one first.
    pub(crate) previous: VecDeque<Earlier>,
    /// The generation that is on probation, and what it is compared with.
    pub(crate) probation: Option<OnProbation>,
    /// How often it was replaced, and how often by an earlier version.
    pub(crate) reloads: u64,
    pub(crate) rollbacks: u64,
    /// The live generation has no instance for now: it was released for another one, which is not
    /// there yet.
    pub(crate) released: bool,
    /// What that instance had, as long as there is no other.
    pub(crate) released_with: Option<Snapshot>,
    /// How often an instance of a live generation was made again, because its replacement failed
    /// after its release.
    pub(crate) reinstated: u64,
    /// How often an instance of a live generation was made again because its process had ended,
    /// and when that was.
    pub(crate) restarts: u64,
    pub(crate) ends: Ends,
    /// What its live generation had last, if that is kept in memory.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Takes further ones.
    pub(crate) checkpoints: Option<TakesCheckpoints>,
    /// Which instance's process has ended, as long as somebody sees to that.
    pub(crate) restarting: Option<Weak<HostServices>>,
    /// The state of a generation that went without a successor.
    pub(crate) orphaned: Option<Snapshot>,
}

/// A generation that is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnProbation {
    pub(crate) generation: u64,
    /// How the calls of the last version that was trusted ended.
    pub(crate) before: Counts,
}

impl Plugin {
    /// What the generation of this number is compared with, if it is on probation.
    pub(crate) fn compared_with(&self, generation: u64) -> Option<Counts> {
        self.probation.filter(|on| on.generation == generation).map(|on| on.before)
    }
}

/// An earlier version of a plugin, with the copy that it was loaded from.
#[derive(Clone)]
pub(crate) struct Earlier {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) copy: Arc<PrivateCopy>,
    /// What it handed over to its successor, as long as that is on probation.
    pub(crate) state: Option<Snapshot>,
    /// When that was.
    pub(crate) replaced: SystemTime,
}

impl Plugin {
    /// Remembers a retired generation, and forgets old ones that are out of memory.
    pub(crate) fn remember(&mut self, retired: Arc<Retired>) {
        self.retired.push_back(retired);
        while self.retired.len() > HISTORY {
            let gone = self.retired.iter().position(|old| old.state() == RetiredState::Unmapped);
            let Some(gone) = gone else { break };
            self.retired.remove(gone);
            self.earlier_unmapped += 1;
        }
    }
}

/// A plugin that is live, and the number of its generation.
pub(crate) type LiveGeneration = (Arc<str>, u64);

/// A file that did not become a plugin.
#[derive(Debug, Clone, Default)]
pub(crate) struct RefusedFile {
    pub(crate) reason: String,
    /// What kind of reason that is.
    pub(crate) code: &'static str,
    /// It would have become this plugin, which another file is.
    pub(crate) duplicate_of: Option<Arc<str>>,
    /// It is this plugin, whose `initialize` did not give an instance.
    pub(crate) not_initialized: Option<Arc<str>>,
}

/// Plugins by name, refused files by path, and the numbers of generations.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) plugins: BTreeMap<Arc<str>, Plugin>,
    pub(crate) refused: BTreeMap<PathBuf, RefusedFile>,
    pub(crate) retries: RetrySchedule,
    /// Files that require events which nobody handled when they were tried. As many as refused ones
    /// are remembered.
    pub(crate) waiting: BTreeMap<PathBuf, Vec<String>>,
    /// Files that were refused for what the live versions of these plugins send or take. As many as
    /// refused ones are remembered.
    pub(crate) refused_for: BTreeMap<PathBuf, Vec<Arc<str>>>,
    started: u64,
    generations: BTreeMap<Arc<str>, u64>,
    /// Generations of plugins that were never live, as long as they are in memory.
    strays: BTreeMap<Arc<str>, Vec<Arc<Retired>>>,
}

impl Registry {
    /// A number for the next generation of a plugin. One whose `initialize` fails keeps it, so that
    /// no number means two things.
    pub(crate) fn take_generation(&mut self, plugin: &Arc<str>) -> u64 {
        let number = self.generations.entry(plugin.clone()).or_default();
        *number += 1;
        *number
    }

    /// Remembers a generation that did not become live.
    pub(crate) fn remember(&mut self, name: &Arc<str>, retired: Arc<Retired>) {
        match self.plugins.get_mut(name) {
            Some(plugin) => plugin.remember(retired),
            None => {
                self.strays.values_mut().for_each(|strays| {
                    strays.retain(|stray| stray.state() != RetiredState::Unmapped);
                });
                self.strays.retain(|_, strays| !strays.is_empty());
                self.strays.entry(name.clone()).or_default().push(retired);
            }
        }
    }

    /// How many generations of a plugin are in memory although they are not live, if they are too
    /// many.
    pub(crate) fn too_many(&self, name: &str) -> Option<usize> {
        let in_memory = self.in_memory(name);
        let pinned = in_memory.iter().filter(|state| **state != RetiredState::Draining).count();
        (pinned >= PINNED || in_memory.len() >= LINGERING).then_some(in_memory.len())
    }

    fn in_memory(&self, name: &str) -> Vec<RetiredState> {
        let strays = self.strays.get(name).into_iter().flatten();
        let replaced = self.plugins.get(name).into_iter().flat_map(|plugin| &plugin.retired);
        let states = strays.chain(replaced).map(|old| old.state());
        states.filter(|state| *state != RetiredState::Unmapped).collect()
    }

    /// Remembers why a file is no plugin.
    pub(crate) fn refuse(&mut self, file: &Path, refused: RefusedFile) {
        self.refused.insert(file.to_owned(), refused);
        if self.refused.len() > REFUSED {
            self.refused.pop_first();
        }
    }

    /// Remembers that a file waits for somebody who handles these events, or that it does not wait
    /// any more.
    pub(crate) fn wait_for(&mut self, file: &Path, missing: &[String]) {
        if missing.is_empty() {
            self.waiting.remove(file);
            return;
        }
        self.waiting.insert(file.to_owned(), missing.to_vec());
        if self.waiting.len() > REFUSED {
            self.waiting.pop_first();
        }
    }

    /// Remembers that a file may be taken when one of these plugins changes, or that it was looked
    /// at anew.
    pub(crate) fn refuse_for(&mut self, file: &Path, plugins: &[Arc<str>]) {
        if plugins.is_empty() {
            self.refused_for.remove(file);
            return;
        }
        self.refused_for.insert(file.to_owned(), plugins.to_vec());
        if self.refused_for.len() > REFUSED {
            self.refused_for.pop_first();
        }
    }

    /// Forgets the plugins that were unloaded first, beyond a number of them, if nothing of them is
    /// in memory.
    pub(crate) fn forget_unloaded(&mut self) -> Vec<Arc<str>> {
        let unloaded = self.plugins.iter().filter(|(_, plugin)| plugin.live.is_none());
        let mut unloaded: Vec<_> =
            unloaded.map(|(name, plugin)| (plugin.started, name.clone())).collect();
        unloaded.sort_unstable();
        let excess = unloaded.len().saturating_sub(UNLOADED);
        let mut forgotten: Vec<Arc<str>> = unloaded.into_iter().map(|(_, name)| name).collect();
        forgotten.truncate(excess);
        forgotten.retain(|name| self.in_memory(name).is_empty());
        for name in &forgotten {
            self.plugins.remove(name);
            self.generations.remove(name);
        }
        forgotten
    }

    /// Makes a generation the live one; returns the one that it replaces.
    pub(crate) fn install(&mut self, generation: Generation) -> Option<Generation> {
        let info = generation.info.clone();
        self.refused.remove(&info.file);
        self.waiting.remove(&info.file);
        self.refused_for.remove(&info.file);
        match self.plugins.get_mut(&info.plugin) {
            Some(plugin) => {
                if plugin.live.is_none() {
                    self.started += 1;
                    plugin.started = self.started;
                }
                plugin.info = info;
                plugin.last_error = None;
                plugin.released = false;
                plugin.released_with = None;
                plugin.orphaned = None;
                plugin.checkpoint = None;
                plugin.checkpoints = None;
                plugin.ends = Ends::default();
                plugin.contract_notices.clear();
                plugin.state_notice = None;
                plugin.live.replace(generation)
            }
            None => {
                self.started += 1;
                let plugin = Plugin {
                    started: self.started,
                    live: Some(generation),
                    info: info.clone(),
                    last_error: None,
                    config_refused: None,
                    contract_notices: Vec::new(),
                    state_notice: None,
                    retired: VecDeque::new(),
                    earlier_unmapped: 0,
                    previous: VecDeque::new(),
                    probation: None,
                    reloads: 0,
                    rollbacks: 0,
                    released: false,
                    released_with: None,
                    reinstated: 0,
                    restarts: 0,
                    ends: Ends::default(),
                    checkpoint: None,
                    checkpoints: None,
                    restarting: None,
                    orphaned: None,
                };
                self.plugins.insert(info.plugin.clone(), plugin);
                None
            }
        }
    }

    /// Whether this generation of a plugin is the live one.
    pub(crate) fn is_live(&self, name: &str, number: u64) -> bool {
        let live = self.plugins.get(name).and_then(|plugin| plugin.live.as_ref());
        live.is_some_and(|live| live.info.number == number)
    }

    /// The live plugin that came from `file`, and the number of its generation.
    pub(crate) fn live_of(&self, file: &Path) -> Option<LiveGeneration> {
        let mut live = self.plugins.iter().filter(|(_, plugin)| plugin.live.is_some());
        let (name, plugin) = live.find(|(_, plugin)| plugin.info.file == file)?;
        Some((name.clone(), plugin.info.number))
    }

    /// Files that were refused because another one was the plugin `name`.
    pub(crate) fn duplicates_of(&self, name: &str) -> Vec<PathBuf> {
        let refused = self.refused.iter();
        refused
            .filter(|(_, refused)| refused.duplicate_of.as_deref() == Some(name))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// The same of a plugin that is not live any more and was last loaded from `file`: it has
    /// ended, and nobody took it out.
    pub(crate) fn duplicates_of_last(&self, file: &Path) -> Vec<PathBuf> {
        let last = self.plugins.iter().filter(|(_, it)| it.live.is_none() && it.info.file == file);
        last.flat_map(|(name, _)| self.duplicates_of(name)).collect()
    }

    /// A file that would be the plugin `name`, had it initialized.
    pub(crate) fn not_initialized(&self, name: &str) -> Option<PathBuf> {
        let mut refused = self.refused.iter();
        let found = refused.find(|(_, it)| it.not_initialized.as_deref() == Some(name));
        found.map(|(file, _)| file.clone())
    }

    /// A file that was refused, or waits, and is this plugin as far as can be told: it said so, or
    /// is named like it.
    pub(crate) fn refused_as(&self, name: &str) -> Option<PathBuf> {
        let named = |file: &&PathBuf| {
            let stem = file.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_"));
            let own = name.replace('-', "_");
            stem.is_some_and(|stem| stem.strip_prefix("lib").unwrap_or(&stem) == own || stem == own)
        };
        self.not_initialized(name).or_else(|| self.refused.keys().find(named).cloned())
    }

    /// Names of the live plugins, the last started first.
    pub(crate) fn last_started_first(&self) -> Vec<Arc<str>> {
        let live = self.plugins.iter().filter(|(_, plugin)| plugin.live.is_some());
        let mut live: Vec<_> = live.map(|(name, plugin)| (plugin.started, name.clone())).collect();
        live.sort_unstable_by(|a, b| b.cmp(a));
        live.into_iter().map(|(_, name)| name).collect()
    }
}
