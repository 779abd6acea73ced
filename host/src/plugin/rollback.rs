//! Probation of a new version, and the way back to the one before it.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    deploy_error::DeployError,
    generation::Facts,
    policy::Policy,
    registry::Earlier,
    setback::Why,
    state::Snapshot,
    supervisor::{Deployed, Supervisor},
    transaction::{Origin, Prepared},
    turns::Turn,
};
use crate::dispatch::tally::Counts;

/// How often a version on probation is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// An earlier version that the host goes back to, and why.
pub(super) struct Return {
    earlier: Earlier,
    /// The generation that it takes the place of.
    bad: u64,
    reason: String,
    automatic: bool,
    /// The bad version is not asked for its state: what its predecessor gave to it is taken.
    as_of_the_swap: bool,
}

impl Return {
    pub(super) fn number(&self) -> u64 {
        self.earlier.facts.number
    }

    pub(super) fn bad(&self) -> u64 {
        self.bad
    }

    pub(super) fn state(&self) -> Option<&Snapshot> {
        self.earlier.state.as_ref()
    }

    pub(super) fn as_of_the_swap(&self) -> bool {
        self.as_of_the_swap
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn automatic(&self) -> bool {
        self.automatic
    }
}

impl Supervisor {
    /// Goes back to the version before the live one; if `expected` is given, only from that generation, and by itself.
    pub(super) async fn go_back(
        self: &Arc<Self>,
        name: &str,
        expected: Option<u64>,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let no_such = || DeployError::NoSuchPlugin { plugin: name.to_owned() };
        let file = self.registry().plugins.get(name).ok_or_else(no_such)?.facts.file.clone();
        let _turn = self.turns.take(Turn::File(file.clone())).await;
        self.go_on()?;
        let (bad, earlier) = {
            let registry = self.registry();
            let plugin = registry.plugins.get(name).ok_or_else(no_such)?;
            let is_expected = expected.is_none_or(|number| number == plugin.facts.number);
            if plugin.live.is_none() || !is_expected {
                return Err(DeployError::NotLive { plugin: name.to_owned() });
            }
            let Some(earlier) = plugin.previous.front() else {
                return Err(DeployError::NothingBefore { plugin: name.to_owned() });
            };
            (plugin.facts.clone(), earlier.clone())
        };
        let back = |as_of_the_swap| Return {
            earlier: earlier.clone(),
            as_of_the_swap,
            bad: bad.number,
            reason: reason.to_owned(),
            automatic: expected.is_some(),
        };
        let deployed = match self.deploy_earlier(&file, back(false)).await {
            // The bad version does not give its state away. What its predecessor gave to it is still there.
            Err(error) if error.is_of_state() && earlier.state.is_some() => {
                tracing::warn!(plugin = name, "taking the state as of the swap, because: {error}");
                self.deploy_earlier(&file, back(true)).await
            }
            deployed => deployed,
        };
        let deployed = match deployed {
            Err(error @ DeployError::Down { .. }) => {
                // Neither version is there any more: the file is tried again, like any that did not work.
                let _ = self.registry().setbacks.begin(&file, bad.hash, Why::Asked);
                return self.note(&file, Err(error));
            }
            deployed => deployed?,
        };
        self.quarantine(&bad, reason, expected.is_some());
        self.keep_now(name);
        Ok(deployed)
    }

    async fn deploy_earlier(
        self: &Arc<Self>,
        file: &Path,
        back: Return,
    ) -> Result<Deployed, DeployError> {
        // A copy of the copy: a path that may still be mapped gives the library that is mapped.
        let copied = self.preparation.copy_from(back.earlier.copy.path(), file).await?;
        let examined = self.preparation.examine(copied)?;
        let trial = self.trial(&examined).await;
        let candidate = self.preparation.probe(examined, trial).await?;
        let prepared = Prepared::Candidate(Box::new(candidate));
        self.finish(prepared, Origin::Earlier(back)).await
    }

    /// Watches a version that is on probation for as long as the policy says, and goes back if it does worse than the
    /// one before.
    pub(super) fn watch_over(self: &Arc<Self>, facts: &Arc<Facts>) {
        let policy = (self.policies)(&facts.plugin);
        let before = {
            let registry = self.registry();
            let plugin = registry.plugins.get(&facts.plugin);
            plugin.and_then(|plugin| plugin.compared_with(facts.number))
        };
        let Some(before) = before else {
            self.trust(facts);
            return;
        };
        let probation = Probation {
            supervisor: Arc::downgrade(self),
            facts: facts.clone(),
            before,
            policy,
            ends: Instant::now() + policy.probation,
        };
        self.thread.runtime().spawn(probation.run());
    }

    /// A version has stood its probation.
    fn trust(&self, facts: &Facts) {
        let mut registry = self.registry();
        let Some(plugin) = registry.plugins.get_mut(&facts.plugin) else { return };
        if plugin.facts.number != facts.number {
            return;
        }
        plugin.probation = None;
        // What its predecessor handed over is out of date by now.
        plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
        registry.setbacks.forget(&facts.file);
        drop(registry);
        self.quarantine.forget_rollback(&facts.file);
    }
}

struct Probation {
    supervisor: Weak<Supervisor>,
    facts: Arc<Facts>,
    before: Counts,
    policy: Policy,
    ends: Instant,
}

impl Probation {
    async fn run(self) {
        let Probation { supervisor, facts, before, policy, ends } = self;
        while Instant::now() < ends {
            tokio::time::sleep(LOOK).await;
            let Some(supervisor) = supervisor.upgrade() else { return };
            let on_probation = {
                let registry = supervisor.registry();
                let plugin = registry.plugins.get(&facts.plugin);
                plugin.is_some_and(|plugin| plugin.compared_with(facts.number).is_some())
            };
            if !on_probation {
                return;
            }
            if let Some(reason) = regressed(before, facts.counts(), policy) {
                tracing::error!(
                    plugin = %facts.plugin, version = %facts.manifest.version, generation = facts.number,
                    "going back to the version before: {reason}"
                );
                let back = supervisor.go_back(&facts.plugin, Some(facts.number), &reason).await;
                match back {
                    // It went, or was replaced, before its turn came: whoever did that has decided. Or the host stops.
                    Ok(_)
                    | Err(DeployError::NotLive { .. } | DeployError::NoSuchPlugin { .. })
                    | Err(DeployError::Stopping) => {}
                    Err(error) => supervisor.cannot_go_back(&facts, &reason, &error),
                }
                return;
            }
        }
        if let Some(supervisor) = supervisor.upgrade() {
            supervisor.trust(&facts);
        }
    }
}

/// Why a version counts as worse than the one before it, if it does.
fn regressed(before: Counts, now: Counts, policy: Policy) -> Option<String> {
    if now.judged() < policy.min_calls || now.bad() == 0 {
        return None;
    }
    let share = |counts: Counts| match counts.judged() {
        0 => 0.0,
        // Far below what a float holds exactly.
        judged => counts.bad() as f64 / judged as f64,
    };
    let (was, is) = (share(before), share(now));
    (is > was + policy.margin).then(|| {
        format!(
            "{} of its first {} calls failed, panicked or timed out ({:.0} %), and {:.0} % of its predecessor's",
            now.bad(),
            now.judged(),
            is * 100.0,
            was * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        drain: Duration::ZERO,
        hold: Duration::ZERO,
        keep_calls: false,
        probation: Duration::ZERO,
        margin: 0.1,
        min_calls: 10,
        exclusive: false,
        trial: true,
    };

    fn counts(replied: u64, failed: u64, panicked: u64) -> Counts {
        Counts { replied, failed, panicked, ..Counts::default() }
    }

    #[test]
    fn a_version_is_judged_by_its_share_of_bad_calls_beside_its_predecessors() {
        let judged = |before, now| regressed(before, now, POLICY).is_some();
        assert!(!judged(counts(100, 0, 0), counts(0, 9, 0)), "too few calls");
        assert!(judged(counts(100, 0, 0), counts(5, 5, 0)));
        assert!(judged(counts(100, 0, 0), counts(80, 0, 20)));
        assert!(!judged(counts(100, 0, 0), counts(95, 5, 0)), "within the margin");
        assert!(!judged(counts(50, 50, 0), counts(45, 55, 0)), "it was no better before");
        assert!(judged(Counts::default(), counts(80, 20, 0)), "without a history, none is bad");
        let rejected = Counts { rejected: 100, replied: 10, ..Counts::default() };
        assert!(!judged(counts(100, 0, 0), rejected), "what is not run says nothing");
    }
}
