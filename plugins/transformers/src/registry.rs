//! The transformers that are live: which file each is of, and how one set of them follows another
//! without a moment in which one is missing.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ksi_plugin_api::{SubscriptionId, prelude::*};

use crate::{
    definition::{Definition, Found, Problem, Text},
    files::FileRead,
    transformer::Transformer,
};

/// What a transformer is known by.
#[payload]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    /// The file; empty for what was registered by an event.
    pub(crate) file: String,
    /// Its name, else its source.
    pub(crate) name: String,
    /// Counts those of one name in one file.
    pub(crate) number: usize,
}

/// A transformer with its subscriptions: to its source, and to where its answers come from.
pub(crate) struct Live {
    pub(crate) key: Key,
    pub(crate) slot: Arc<Slot>,
    pub(crate) source: SubscriptionId,
    pub(crate) answers: Option<SubscriptionId>,
}

/// What a subscription's calls look at: the transformer may be exchanged below it.
pub(crate) struct Slot {
    pub(crate) key: Key,
    current: Mutex<Arc<Transformer>>,
    pub(crate) counts: Counts,
}

/// What became of the events that came.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) events: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) emitted: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) last_error: Mutex<Option<String>>,
}

/// A problem, and the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProblem {
    pub(crate) file: String,
    pub(crate) problem: Problem,
}

/// What is to be done so that the live transformers are those of the files.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) added: Vec<(Key, Transformer)>,
    /// In the place of one that is live, with the same events.
    pub(crate) exchanged: Vec<(Arc<Slot>, Transformer)>,
    /// In the place of the one of this key, with other events.
    pub(crate) moved: Vec<(Key, Transformer)>,
    pub(crate) removed: Vec<Key>,
    pub(crate) kept: usize,
    pub(crate) problems: Vec<FileProblem>,
}

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) live: Vec<Live>,
    pub(crate) problems: Vec<FileProblem>,
}

impl Registry {
    /// Compares what is live with what the files say. What is wrong in them leaves what was there
    /// before it.
    pub(crate) fn change_to(
        &self,
        files: Vec<FileRead>,
        compile: impl Fn(Definition) -> Result<Transformer, Problem>,
    ) -> Change {
        let mut change = Change::default();
        let mut wanted: BTreeMap<Key, Option<Transformer>> = BTreeMap::new();
        let mut untouched: Vec<PathBuf> = Vec::new();
        for FileRead { file, content } in files {
            let shown = file.display().to_string();
            let mut complain = |problem: Problem| {
                change.problems.push(FileProblem { file: shown.clone(), problem });
            };
            let content = match content {
                Ok(content) => content,
                Err(problem) => {
                    complain(problem);
                    untouched.push(file);
                    continue;
                }
            };
            let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
            for Found { identity: name, definition } in content {
                if definition.as_ref().is_ok_and(|definition| !definition.enabled) {
                    continue;
                }
                for (name, unknown) in definition.iter().flat_map(Definition::unknown_keys) {
                    let Text { line, text } = unknown;
                    complain(Problem::new(*line, name, format_args!("{text:?} says nothing here")));
                }
                let compiled = definition.and_then(&compile);
                let number = numbers.entry(name.clone()).or_default();
                let key = Key { file: shown.clone(), name, number: *number };
                *number += 1;
                let compiled = compiled.map_err(&mut complain).ok();
                wanted.insert(key, compiled);
            }
        }
        for live in self.live.iter().filter(|live| !live.key.file.is_empty()) {
            let stays = |file: &PathBuf| std::path::Path::new(&live.key.file).starts_with(file);
            match wanted.remove(&live.key) {
                Some(Some(new)) if new.is_like(&live.slot.current()) => change.kept += 1,
                Some(Some(new)) if new.hears_like(&live.slot.current()) => {
                    change.exchanged.push((live.slot.clone(), new));
                }
                Some(Some(new)) => change.moved.push((live.key.clone(), new)),
                Some(None) => change.kept += 1,
                None if untouched.iter().any(stays) => change.kept += 1,
                None => change.removed.push(live.key.clone()),
            }
        }
        let added = wanted.into_iter().filter_map(|(key, new)| Some((key, new?)));
        change.added.extend(added);
        change
    }

    /// Those that were registered by events.
    pub(crate) fn registered(&self) -> impl Iterator<Item = &Live> {
        self.live.iter().filter(|live| live.key.file.is_empty())
    }

    pub(crate) fn by_key(&self, key: &Key) -> Option<&Live> {
        self.live.iter().find(|live| live.key == *key)
    }

    pub(crate) fn by_key_mut(&mut self, key: &Key) -> Option<&mut Live> {
        self.live.iter_mut().find(|live| live.key == *key)
    }

    /// Takes out what is of this source; KSI knows transformers by that.
    pub(crate) fn take_source(&mut self, source: &str) -> Vec<Live> {
        let of_it = |live: &mut Live| live.slot.current().source == source;
        self.live.extract_if(.., of_it).collect()
    }

    /// Takes out the ones of these keys.
    pub(crate) fn take(&mut self, keys: &[Key]) -> Vec<Live> {
        self.live.extract_if(.., |live| keys.contains(&live.key)).collect()
    }
}

impl Live {
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> {
        [Some(self.source), self.answers].into_iter().flatten()
    }
}

impl Slot {
    pub(crate) fn new(key: Key, transformer: Arc<Transformer>) -> Arc<Self> {
        let current = Mutex::new(transformer);
        Arc::new(Slot { key, current, counts: Counts::default() })
    }

    pub(crate) fn current(&self) -> Arc<Transformer> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn exchange(&self, transformer: Transformer) {
        let new = Arc::new(transformer);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

impl Counts {
    pub(crate) fn fail(&self, message: &str) {
        self.failed.fetch_add(1, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
    }
}

impl Transformer {
    fn is_like(&self, other: &Transformer) -> bool {
        // A line that has moved is shown where it is now.
        self.written == other.written && self.values == other.values && self.line == other.line
    }

    /// Whether the same subscriptions serve both.
    pub(crate) fn hears_like(&self, other: &Transformer) -> bool {
        let from = |it: &Transformer| it.route.as_ref().map(|route| route.from.clone());
        self.source == other.source && from(self) == from(other)
    }
}

impl FileProblem {
    /// In one line: where, who, what.
    pub(crate) fn line(&self) -> String {
        let FileProblem { file, problem: Problem { line, name, message } } = self;
        let place = if *line > 0 { format!("{file}:{line}") } else { file.clone() };
        let who = if name.is_empty() { String::new() } else { format!(" transformer {name:?}:") };
        format!("{place}:{who} {message}")
    }
}
