//! What probes have found out, by the hash of the bytes that they looked at.
//!
//! The same bytes are not probed again as long as this host runs: when a plugin is reloaded without
//! a change, or when the host goes back to an earlier version. Only what was found fit is
//! remembered: a description, and a trial that went well with the same configuration. A file may be
//! unfit for a reason that passes, like a library of the system that is missing; an `initialize`
//! that failed or waited was not seen to its end; and a trial with state says something of that
//! state. These are done again each time.

use std::{collections::VecDeque, sync::MutexGuard};

use ksi_abi::Description;
use ksi_kernel::lock::Lock;

use super::trial::Trial;

/// How many are remembered, and how many bytes of them; beyond it, those that were used longest ago
/// are forgotten.
const REMEMBERED: usize = 256;
const BYTES: usize = 2 << 20;

/// Descriptions of files that a probe has opened.
#[derive(Default)]
pub(in crate::plugin) struct Probed(Lock<ProbeRecords>);

#[derive(Default)]
struct ProbeRecords {
    /// The one that was used last is at the end. Encoded, because most are never asked for again.
    by_use: VecDeque<(blake3::Hash, ProbeRecord)>,
    bytes: usize,
}

struct ProbeRecord {
    description: Box<[u8]>,
    /// The configuration that it initialized with.
    passed_with: Option<blake3::Hash>,
}

impl Probed {
    /// What these bytes said of themselves in a probe, if they have passed this trial there as
    /// well, or need not.
    pub(in crate::plugin) fn get(
        &self,
        hash: blake3::Hash,
        trial: Option<&Trial>,
    ) -> Option<Description> {
        let mut known = self.lock();
        let at = known.by_use.iter().position(|(other, _)| *other == hash)?;
        let found = known.by_use.remove(at)?;
        let passed = trial.is_none_or(|trial| {
            trial.snapshot.is_none() && found.1.passed_with == Some(blake3::hash(&trial.config))
        });
        let description = serde_json::from_slice(&found.1.description).ok();
        known.by_use.push_back(found);
        description.filter(|_| passed)
    }

    /// A probe has opened these bytes, and they describe themselves like this; `passed` is the
    /// trial that went well.
    pub(in crate::plugin) fn remember(
        &self,
        hash: blake3::Hash,
        description: &Description,
        passed: Option<&Trial>,
    ) {
        let passed_with = passed.map(|trial| blake3::hash(&trial.config));
        let Ok(encoded) = serde_json::to_vec(description) else { return };
        let mut known = self.lock();
        if let Some((_, found)) = known.by_use.iter_mut().find(|(other, _)| *other == hash) {
            found.passed_with = passed_with.or(found.passed_with);
            return;
        }
        known.bytes += encoded.len();
        known.by_use.push_back((hash, ProbeRecord { description: encoded.into(), passed_with }));
        while known.by_use.len() > REMEMBERED || known.bytes > BYTES {
            let Some((_, forgotten)) = known.by_use.pop_front() else { return };
            known.bytes -= forgotten.description.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProbeRecords> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ksi_abi::HandlerDescription;

    use super::*;
    use crate::plugin::instance::configs::PluginConfig;
    use crate::plugin::state::snapshot::Snapshot;
    use ksi_kernel::event::Payload;

    fn description(name: &str) -> Description {
        let handler = HandlerDescription { name: name.to_owned(), ..HandlerDescription::default() };
        Description { handlers: vec![handler], ..Description::default() }
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
        assert_eq!(name_of(probed.get(hash(1), None)), None);
        probed.remember(hash(1), &description("one"), None);
        assert_eq!(name_of(probed.get(hash(1), None)).as_deref(), Some("one"));
        assert_eq!(name_of(probed.get(hash(2), None)), None);
    }

    fn trial(config: &str, snapshot: Option<Snapshot>) -> Trial {
        Trial {
            file: "a.so".into(),
            config: PluginConfig::plain(config.as_bytes().to_vec()),
            limit: Duration::ZERO,
            snapshot,
            kept: None,
        }
    }

    #[test]
    fn a_trial_counts_for_the_configuration_that_it_went_well_with_and_for_no_state() {
        let probed = Probed::default();
        let (one, other) = (trial("1", None), trial("2", None));
        let passed = |trial: &Trial| probed.get(hash(1), Some(trial)).is_some();
        probed.remember(hash(1), &description("one"), None);
        assert!(!passed(&one), "it was only opened");
        probed.remember(hash(1), &description("one"), Some(&one));
        assert!(passed(&one) && !passed(&other));
        let snapshot = Snapshot::new(1, Payload::from_json_bytes(b"1".to_vec()));
        assert!(!passed(&trial("1", Some(snapshot))));
        assert!(probed.get(hash(1), None).is_some());
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let probed = Probed::default();
        for number in 0..REMEMBERED {
            probed.remember(hash(number), &description("small"), None);
        }
        assert!(probed.get(hash(0), None).is_some());
        probed.remember(hash(REMEMBERED), &description("one more"), None);
        assert!(probed.get(hash(0), None).is_some(), "it was just used");
        assert!(probed.get(hash(1), None).is_none());
        assert_eq!(probed.lock().by_use.len(), REMEMBERED);
    }

    #[test]
    fn large_descriptions_do_not_fill_memory() {
        let probed = Probed::default();
        let large = description(&"x".repeat(BYTES / 4));
        for number in 0..10 {
            probed.remember(hash(number), &large, None);
            let known = probed.lock();
            assert!(known.bytes <= BYTES);
            let sum: usize = known.by_use.iter().map(|(_, it)| it.description.len()).sum();
            assert_eq!(known.bytes, sum);
        }
        assert!(probed.get(hash(9), None).is_some());
    }
}
