//! What probes have found out, by the hash of the bytes that they looked at.
//!
//! The same bytes are not probed again as long as this host runs: when a plugin is reloaded without a change, when the
//! host goes back to an earlier version, when a file whose `initialize` failed is tried again. Only what was found fit is
//! remembered. A file may be unfit for a reason that passes, like a library of the system that is missing, and a trial
//! with state says something of that state.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ksi_plugin_api::Description;

/// How many are remembered, and how many bytes of them; beyond it, those that were used longest ago are forgotten.
const REMEMBERED: usize = 256;
const BYTES: usize = 2 << 20;

/// Descriptions of files that a probe has opened.
#[derive(Default)]
pub(super) struct Probed(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The one that was used last is at the end. Encoded, because most are never asked for again.
    by_use: VecDeque<(blake3::Hash, Box<[u8]>)>,
    bytes: usize,
}

impl Probed {
    /// What these bytes said of themselves in a probe.
    pub(super) fn get(&self, hash: blake3::Hash) -> Option<Description> {
        let mut known = self.lock();
        let at = known.by_use.iter().position(|(other, _)| *other == hash)?;
        let found = known.by_use.remove(at)?;
        let description = serde_json::from_slice(&found.1).ok();
        known.by_use.push_back(found);
        description
    }

    /// A probe has opened these bytes, and they describe themselves like this.
    pub(super) fn remember(&self, hash: blake3::Hash, description: &Description) {
        let Ok(encoded) = serde_json::to_vec(description) else { return };
        let mut known = self.lock();
        if known.by_use.iter().any(|(other, _)| *other == hash) {
            return;
        }
        known.bytes += encoded.len();
        known.by_use.push_back((hash, encoded.into()));
        while known.by_use.len() > REMEMBERED || known.bytes > BYTES {
            let Some((_, forgotten)) = known.by_use.pop_front() else { return };
            known.bytes -= forgotten.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ksi_plugin_api::HandlerDescription;

    use super::*;

    fn description(name: &str) -> Description {
        let handler = HandlerDescription { name: name.to_owned(), ..HandlerDescription::default() };
        Description { handlers: vec![handler] }
    }

    fn name_of(found: Option<Description>) -> Option<String> {
        found.map(|description| description.handlers[0].name.clone())
    }

    fn hash(number: usize) -> blake3::Hash {
        blake3::hash(&number.to_le_bytes())
    }

    #[test]
    fn the_same_bytes_have_the_description_that_was_found() {
        let probed = Probed::default();
        assert_eq!(name_of(probed.get(hash(1))), None);
        probed.remember(hash(1), &description("one"));
        assert_eq!(name_of(probed.get(hash(1))).as_deref(), Some("one"));
        assert_eq!(name_of(probed.get(hash(2))), None);
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let probed = Probed::default();
        for number in 0..REMEMBERED {
            probed.remember(hash(number), &description("small"));
        }
        assert!(probed.get(hash(0)).is_some());
        probed.remember(hash(REMEMBERED), &description("one more"));
        assert!(probed.get(hash(0)).is_some(), "it was just used");
        assert!(probed.get(hash(1)).is_none());
        assert_eq!(probed.lock().by_use.len(), REMEMBERED);
    }

    #[test]
    fn large_descriptions_do_not_fill_memory() {
        let probed = Probed::default();
        let large = description(&"x".repeat(BYTES / 4));
        for number in 0..10 {
            probed.remember(hash(number), &large);
            let known = probed.lock();
            assert!(known.bytes <= BYTES);
            let sum: usize = known.by_use.iter().map(|(_, encoded)| encoded.len()).sum();
            assert_eq!(known.bytes, sum);
        }
        assert!(probed.get(hash(9)).is_some());
    }
}
