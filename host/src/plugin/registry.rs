//! What the host knows of its plugins and of the files that are none.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    generation::{Facts, Generation},
    retire::{Retired, RetiredState},
};

/// How many retired generations of a plugin are remembered, beside those that are still in memory.
const HISTORY: usize = 8;
/// How many generations of a plugin may be in memory although they were replaced. At the limit it is not replaced any
/// more, so that a plugin that cannot be unmapped does not fill memory.
pub(crate) const PINNED: usize = 16;

/// A plugin: what stays the same over its generations.
pub(crate) struct Plugin {
    /// Its place in the order of starting, which is the reverse of the order of stopping.
    pub(crate) started: u64,
    pub(crate) live: Option<Generation>,
    /// Of the live generation, or of the last one there was.
    pub(crate) facts: Arc<Facts>,
    pub(crate) last_error: Option<String>,
    pub(crate) retired: VecDeque<Arc<Retired>>,
    /// Generations that have left memory and the history.
    pub(crate) earlier_unmapped: usize,
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

    /// How many replaced generations are still in memory.
    pub(crate) fn lingering(&self) -> usize {
        self.retired.iter().filter(|old| old.state() != RetiredState::Unmapped).count()
    }
}

/// A file that did not become a plugin.
#[derive(Debug, Clone)]
pub(crate) struct RefusedFile {
    pub(crate) reason: String,
    /// It would have become this plugin, which another file is.
    pub(crate) duplicate_of: Option<Arc<str>>,
}

/// Plugins by name, refused files by path, and the numbers of generations.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) plugins: BTreeMap<Arc<str>, Plugin>,
    pub(crate) refused: BTreeMap<PathBuf, RefusedFile>,
    started: u64,
    generations: BTreeMap<Arc<str>, u64>,
}

impl Registry {
    /// The number of a plugin's next generation. Every attempt takes one, so that a number never means two things.
    pub(crate) fn next_generation(&mut self, plugin: &Arc<str>) -> u64 {
        self.generations.get(plugin).map_or(1, |last| last + 1)
    }

    /// Makes a generation the live one; returns the one that it replaces.
    pub(crate) fn install(&mut self, generation: Generation) -> Option<Generation> {
        let facts = generation.facts.clone();
        self.refused.remove(&facts.file);
        self.generations.insert(facts.plugin.clone(), facts.number);
        match self.plugins.get_mut(&facts.plugin) {
            Some(plugin) => {
                if plugin.live.is_none() {
                    self.started += 1;
                    plugin.started = self.started;
                }
                plugin.facts = facts;
                plugin.last_error = None;
                plugin.live.replace(generation)
            }
            None => {
                self.started += 1;
                let plugin = Plugin {
                    started: self.started,
                    live: Some(generation),
                    facts: facts.clone(),
                    last_error: None,
                    retired: VecDeque::new(),
                    earlier_unmapped: 0,
                };
                self.plugins.insert(facts.plugin.clone(), plugin);
                None
            }
        }
    }

    /// The name of the live plugin that came from `file`.
    pub(crate) fn live_of(&self, file: &Path) -> Option<Arc<str>> {
        let mut live = self.plugins.iter().filter(|(_, plugin)| plugin.live.is_some());
        live.find(|(_, plugin)| plugin.facts.file == file).map(|(name, _)| name.clone())
    }

    /// Files that were refused because another one was the plugin `name`.
    pub(crate) fn duplicates_of(&self, name: &str) -> Vec<PathBuf> {
        let refused = self.refused.iter();
        refused
            .filter(|(_, refused)| refused.duplicate_of.as_deref() == Some(name))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Names of the live plugins, the last started first.
    pub(crate) fn last_started_first(&self) -> Vec<Arc<str>> {
        let live = self.plugins.iter().filter(|(_, plugin)| plugin.live.is_some());
        let mut live: Vec<_> = live.map(|(name, plugin)| (plugin.started, name.clone())).collect();
        live.sort_unstable_by(|a, b| b.cmp(a));
        live.into_iter().map(|(_, name)| name).collect()
    }
}
