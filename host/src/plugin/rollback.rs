//! Probation of a new version, and the way back to the one before it.
//!
//! Going back takes the state along. Where the earlier version cannot read it, what it had when it was replaced is taken
//! instead, and what was done since is given up: by hand only with `force`, and either way told, with the newer state kept
//! aside on the disk.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::{
    deploy_error::{DeployError, OfState},
    generation::Facts,
    policy::Policy,
    registry::Earlier,
    setback::Why,
    state::{Snapshot, common_version},
    supervisor::{Deployed, Supervisor},
    transaction::{Origin, Prepared},
    turns::Turn,
};
use crate::dispatch::tally::Counts;

/// When something other than the state was in the way of an automatic rollback, it is tried once more after this.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a version on probation is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Who wants to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Somebody; with `force` also if that gives up state.
    ByHand { force: bool },
    /// The host itself, and only from this generation.
    Automatic { from: u64 },
}

/// What going back gives up: what the later version has done to the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cost {
    /// Calls that were answered since the later version took over.
    pub(crate) calls: u64,
    /// For so many seconds it has been live.
    pub(crate) seconds: u64,
    /// Why the state as it is now cannot go on.
    pub(crate) because: String,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = humantime::format_duration(Duration::from_secs(self.seconds));
        let calls = match self.calls {
            1 => "1 call that was".to_owned(),
            calls => format!("{calls} calls that were"),
        };
        write!(
            f,
            "what {calls} answered in the last {since} did to its state, because {}",
            self.because
        )
    }
}

/// An earlier version that the host goes back to, and why.
pub(super) struct Return {
    earlier: Earlier,
    /// The generation that it takes the place of.
    bad: u64,
    reason: String,
    automatic: bool,
    /// The state of the bad version does not go on: what its predecessor gave to it is taken.
    as_of_the_swap: bool,
    /// What the bad version has is kept aside.
    asks_the_bad_one: bool,
    cost: Option<Cost>,
    /// What people call the newest snapshot of the bad version, where that was set aside.
    aside: Option<String>,
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

    /// Whether the earlier version gets other state than the bad one has.
    fn gives_up_the_present(&self) -> bool {
        self.as_of_the_swap || self.cost.is_some()
    }

    pub(super) fn asks_the_bad_one(&self) -> bool {
        self.asks_the_bad_one
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn automatic(&self) -> bool {
        self.automatic
    }

    pub(super) fn cost(&self) -> Option<&Cost> {
        self.cost.as_ref()
    }

    pub(super) fn aside(&self) -> Option<&str> {
        self.aside.as_deref()
    }
}

impl Supervisor {
    /// Goes back to the version before the live one.
    pub(super) async fn go_back(
        self: &Arc<Self>,
        name: &str,
        asked: Asked,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let no_such = || DeployError::NoSuchPlugin { plugin: name.to_owned() };
        let file = self.registry().plugins.get(name).ok_or_else(no_such)?.facts.file.clone();
        let _turn = self.turns.take(Turn::File(file.clone())).await;
        self.go_on()?;
        let (bad, earlier) = {
            let registry = self.registry();
            let plugin = registry.plugins.get(name).ok_or_else(no_such)?;
            let is_expected = match asked {
                Asked::ByHand { .. } => true,
                Asked::Automatic { from } => from == plugin.facts.number,
            };
            if plugin.live.is_none() || !is_expected {
                return Err(DeployError::NotLive { plugin: name.to_owned() });
            }
            let Some(earlier) = plugin.previous.front() else {
                return Err(DeployError::NothingBefore { plugin: name.to_owned() });
            };
            (plugin.facts.clone(), earlier.clone())
        };
        let automatic = matches!(asked, Asked::Automatic { .. });
        let back = |cost| Return {
            earlier: earlier.clone(),
            bad: bad.number,
            reason: reason.to_owned(),
            automatic,
            as_of_the_swap: false,
            asks_the_bad_one: true,
            cost,
            aside: None,
        };
        let cost = unreadable(&bad, &earlier).map(|because| cost(&bad, &earlier, because));
        agreed(asked, &bad, &earlier, cost.as_ref())?;
        let mut deployed = self.deploy_earlier(&file, back(cost.clone())).await;
        let held_up = |deployed: &Result<_, DeployError>| {
            deployed.as_ref().err().and_then(DeployError::of_state) == Some(OfState::HeldUp)
        };
        if automatic && held_up(&deployed) {
            tokio::time::sleep(AGAIN).await;
            deployed = self.deploy_earlier(&file, back(cost.clone())).await;
        }
        let deployed = match deployed {
            // The bad version does not give its state away, or the earlier one does not take it. What the earlier one gave
            // to it is still there.
            Err(error) if error.of_state().is_some() && earlier.state.is_some() => {
                let cost = cost.unwrap_or_else(|| self::cost(&bad, &earlier, error.to_string()));
                agreed(asked, &bad, &earlier, Some(&cost))?;
                tracing::warn!(plugin = name, "taking the state as of the swap, because: {error}");
                let asks_the_bad_one = error.of_state() != Some(OfState::NotGiven);
                let copied = match &self.persistence {
                    Some(persistence) if !asks_the_bad_one => {
                        persistence.copy_aside_since(name, earlier.replaced).await
                    }
                    _ => None,
                };
                let aside = copied.map(|place| place.to_string());
                let back = Return {
                    as_of_the_swap: true,
                    asks_the_bad_one,
                    aside: aside.clone(),
                    ..back(Some(cost.clone()))
                };
                let deployed = self.deploy_earlier(&file, back).await;
                if let (Err(_), Some(place), Some(persistence)) =
                    (&deployed, copied, &self.persistence)
                {
                    // Nothing was given up.
                    let _ = persistence.remove(name, vec![place]).await;
                }
                deployed.map(|deployed| {
                    let none_given = || {
                        let version = &bad.manifest.version;
                        Err(format!("{version} gave none, and none was kept since it took over"))
                    };
                    let aside = aside.map(Ok).or_else(|| (!asks_the_bad_one).then(none_given));
                    let aside = deployed.aside.clone().or(aside);
                    Deployed { aside, lost: Some(cost), ..deployed }
                })
            }
            deployed => deployed.map(|deployed| Deployed { lost: cost, ..deployed }),
        };
        let deployed = match deployed {
            Err(error @ DeployError::Down { .. }) => {
                // Neither version is there any more: the file is tried again, like any that did not work.
                let _ = self.registry().setbacks.begin(&file, bad.hash, Why::Asked);
                return self.note(&file, Err(error));
            }
            deployed => deployed?,
        };
        self.quarantine(&bad, reason, automatic);
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
        let trial = match back.gives_up_the_present() {
            true => {
                let restores = examined.manifest.state.as_ref();
                let state = back.state().filter(|state| {
                    restores.is_some_and(|restores| restores.restores.contains(&state.version))
                });
                self.is_tried(&examined).map(|()| self.trial_with(&examined, state.cloned()))
            }
            false => self.trial(&examined).await,
        };
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

/// Why the earlier version cannot go on with the state as it is now, if that can be seen without trying.
fn unreadable(bad: &Facts, earlier: &Earlier) -> Option<String> {
    let writes = bad.manifest.state.as_ref()?;
    let (new, old) = (&bad.manifest.version, &earlier.facts.manifest.version);
    let Some(restores) = &earlier.facts.manifest.state else {
        return Some(format!("{old} keeps no state"));
    };
    // Without any state to go back to, it is refused for that.
    let older = earlier.state.is_some() && common_version(writes, restores).is_none();
    older.then(|| {
        let (writes, restores) = (&writes.writes, &restores.restores);
        format!("{new} writes snapshots of versions {writes:?}, and {old} restores {restores:?}")
    })
}

fn cost(bad: &Facts, earlier: &Earlier, because: String) -> Cost {
    let counts = bad.counts();
    let seconds = SystemTime::now().duration_since(earlier.replaced).unwrap_or_default().as_secs();
    Cost { calls: counts.replied + counts.no_reply, seconds, because }
}

/// Nobody gives up state by hand without saying so.
fn agreed(
    asked: Asked,
    bad: &Facts,
    earlier: &Earlier,
    cost: Option<&Cost>,
) -> Result<(), DeployError> {
    match (asked, cost) {
        (Asked::ByHand { force: false }, Some(cost)) => Err(DeployError::LosesState {
            plugin: bad.plugin.to_string(),
            to: earlier.facts.manifest.version.clone(),
            cost: cost.to_string(),
        }),
        _ => Ok(()),
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
                let back = supervisor
                    .go_back(&facts.plugin, Asked::Automatic { from: facts.number }, &reason)
                    .await;
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
