//! Probation of a new version, and the way back to the one before it.
//!
//! Going back takes the state along. Where the earlier version cannot read it, older state is taken
//! ([`instead`]), and what was done since is given up: by hand only with `force`, and either way
//! told ([`cost`]), with the newer state kept aside on the disk.

mod back;
mod cost;
mod instead;

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

pub(super) use back::{Asked, Return};
pub(crate) use cost::Cost;
use cost::{agreed, unreadable};
use instead::Instead;
use ksi_kernel::call::tally::Counts;
use ksi_wire::module::HistoryBy;

use super::{
    Deployed, Supervisor,
    origin::{Attempt, Origin, Prepared},
    registry::Earlier,
    retry::DeployReason,
};
use crate::{
    history::PROBATION,
    plugin::{
        instance::info::GenerationInfo,
        lifecycle::{
            error::{DeployError, OfState},
            policy::Policy,
        },
        state::{snapshot::common_version, store::SnapshotPlace},
    },
    sync::keyed_lock::LockKey,
};

/// When something was in the way of an automatic rollback that another time may not be there, it is
/// tried again after this, so often.
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: usize = 3;
/// How often a version on probation is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Goes back to the version before the live one.
    pub(super) async fn go_back(
        self: &Arc<Self>,
        name: &str,
        asked: Asked,
        by: &HistoryBy,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let no_such = || DeployError::NoSuchPlugin { plugin: name.to_owned() };
        let file = self.registry().plugins.get(name).ok_or_else(no_such)?.info.file.clone();
        let _lock = self.locks.lock(LockKey::File(file.clone())).await;
        self.ensure_running()?;
        let (bad, earlier) = {
            let registry = self.registry();
            let plugin = registry.plugins.get(name).ok_or_else(no_such)?;
            let is_expected = match asked {
                Asked::ByHand { .. } => true,
                Asked::Automatic { from } => from == plugin.info.number,
            };
            if plugin.live.is_none() || !is_expected {
                return Err(DeployError::NotLive { plugin: name.to_owned() });
            }
            let Some(earlier) = plugin.previous.front() else {
                return Err(DeployError::NothingBefore { plugin: name.to_owned() });
            };
            (plugin.info.clone(), earlier.clone())
        };
        let automatic = matches!(asked, Asked::Automatic { .. });
        let has_folder = self.persistence.is_some();
        let back = |instead: Option<&Instead>, cost: Option<&Cost>| Return {
            earlier: earlier.clone(),
            bad: bad.number,
            reason: reason.to_owned(),
            by: by.clone(),
            automatic,
            force: matches!(asked, Asked::ByHand { force: true }),
            instead: instead.cloned(),
            takes_instead: false,
            asks_the_bad_one: true,
            cost: cost.cloned(),
            aside: None,
        };
        let unread = unreadable(&bad, &earlier);
        let mut instead = Instead::of_the_swap(&earlier);
        if instead.is_none() && unread.is_some() && !automatic {
            instead = self.kept_instead(name, &earlier, &[]).await;
        }
        let is_unread = unread.is_some();
        let cost_of =
            |because, instead: &Instead| Cost::of(&bad, &earlier, format!("{because}{instead}"));
        // Without anything to go on from, it is refused for that.
        let cost = unread.zip(instead.as_ref()).map(|(why, instead)| cost_of(why, instead));
        agreed(asked, &bad, &earlier, cost.as_ref(), has_folder)?;
        let mut deployed = self.deploy_earlier(&file, back(instead.as_ref(), cost.as_ref())).await;
        let mut tries = if automatic { TRIES } else { 0 };
        while tries > 0 && deployed.as_ref().is_err_and(may_go_better) {
            tries -= 1;
            tokio::time::sleep(AGAIN).await;
            deployed = self.deploy_earlier(&file, back(instead.as_ref(), cost.as_ref())).await;
        }
        if let Err(error) = &deployed
            && error.of_state() == Some(OfState::NotGiven)
            && self.is_kept_of_one_down(&bad, &earlier).await
        {
            // It did not answer, and its process has ended since: what was kept of it last is
            // taken.
            deployed = self.deploy_earlier(&file, back(instead.as_ref(), cost.as_ref())).await;
        }
        let deployed = match deployed {
            // The bad version does not give its state away, or the earlier one does not take it.
            Err(error) if error.of_state().is_some() => {
                let mut cost = cost;
                let mut passed: Vec<SnapshotPlace> = Vec::new();
                if is_unread && error.of_state() == Some(OfState::NotTaken) {
                    // It has just been offered, and is not taken the second time.
                    passed.extend(instead.as_ref().and_then(Instead::place));
                    if !passed.is_empty() {
                        (instead, cost) = (None, None);
                    }
                }
                if instead.is_none() && !automatic {
                    instead = self.kept_instead(name, &earlier, &passed).await;
                }
                let Some(mut instead) = instead else { return Err(error) };
                let mut cost = cost.unwrap_or_else(|| cost_of(error.to_string(), &instead));
                agreed(asked, &bad, &earlier, Some(&cost), has_folder)?;
                tracing::warn!(plugin = name, "taking older state, because: {error}");
                let not_given = error.of_state() == Some(OfState::NotGiven);
                let copied = match &self.persistence {
                    Some(persistence) if not_given => {
                        persistence.copy_aside_since(name, earlier.replaced).await
                    }
                    _ => None,
                };
                let aside = copied.map(|place| place.to_string());
                let asks_the_bad_one = !not_given || gives_another(&bad, &earlier, &error);
                let deployed = loop {
                    let back = Return {
                        takes_instead: true,
                        asks_the_bad_one,
                        aside: aside.clone(),
                        ..back(Some(&instead), Some(&cost))
                    };
                    let deployed = self.deploy_earlier(&file, back).await;
                    let (Err(refused), Some(place)) = (&deployed, instead.place()) else {
                        break deployed;
                    };
                    if refused.of_state() != Some(OfState::NotTaken) {
                        break deployed;
                    }
                    passed.push(place);
                    let Some(older) = self.kept_instead(name, &earlier, &passed).await else {
                        break deployed;
                    };
                    tracing::warn!(
                        plugin = name,
                        "passing over the snapshot {place}, because: {refused}"
                    );
                    instead = older;
                    cost = cost_of(error.to_string(), &instead);
                };
                let given = |deployed: &Deployed| matches!(deployed.aside, Some(Ok(_)));
                // Nothing was given up, or what was is kept as the bad version had it in the end.
                let is_spare = deployed.as_ref().map_or(true, given);
                if let (Some(place), Some(persistence)) = (copied, &self.persistence) {
                    persistence.settle_copy(name, place, !is_spare).await;
                }
                deployed.map(|deployed| {
                    let none_given = || {
                        let version = &bad.manifest.version;
                        Err(format!("{version} gave none, and none was kept since it took over"))
                    };
                    let aside = match (&deployed.aside, aside) {
                        (Some(Ok(_)), _) | (Some(Err(_)), None) => deployed.aside.clone(),
                        (_, Some(copied)) => Some(Ok(copied)),
                        (None, None) => (!asks_the_bad_one).then(none_given),
                    };
                    Deployed { aside, lost: Some(cost), ..deployed }
                })
            }
            deployed => deployed.map(|deployed| Deployed { lost: cost, ..deployed }),
        };
        let deployed = match deployed {
            Err(error @ DeployError::Down { .. }) => {
                // Neither version is there any more: the file is tried again, like any that did not
                // work.
                let _ = self.registry().retries.begin(&file, bad.hash, DeployReason::Asked);
                return self.note(&file, &Attempt::of(by.clone(), bad.hash), Err(error));
            }
            deployed => deployed?,
        };
        self.tell_quarantine(&bad, by, reason, automatic);
        self.keep_good(&bad).await;
        self.keep_now(name);
        Ok(deployed)
    }

    /// Whether a live version's process has ended, and something is kept of it that the earlier one
    /// restores.
    async fn is_kept_of_one_down(&self, bad: &GenerationInfo, earlier: &Earlier) -> bool {
        let live = self.predecessor(&bad.plugin).filter(|live| live.info.number == bad.number);
        let restores = earlier.info.manifest.state.as_ref().map(|state| &state.restores);
        match (live.filter(|live| live.is_down()), restores) {
            (Some(_), Some(restores)) => self.kept_last_for(bad, restores).await.is_some(),
            _ => false,
        }
    }

    async fn deploy_earlier(
        self: &Arc<Self>,
        file: &Path,
        back: Return,
    ) -> Result<Deployed, DeployError> {
        // A copy of the copy: a path that may still be mapped gives the library that is mapped.
        let copied = self.preparation.copy_again(&back.earlier.copy, file).await?;
        let examined = self.preparation.examine(copied).await?;
        let trial = match back.gives_up_the_present() {
            true => {
                let restores = examined.manifest.state.as_ref();
                let state = back.state().filter(|state| {
                    restores.is_some_and(|restores| restores.restores.contains(&state.version))
                });
                match self.is_tried(&examined) {
                    Ok(()) => self.trial_with(&examined, state.cloned()).await,
                    Err(skipped) => Err(skipped),
                }
            }
            false => self.trial(&examined).await,
        };
        let candidate = self.preparation.probe(examined, trial).await?;
        let prepared = Prepared::Candidate(Box::new(candidate));
        self.finish(prepared, Origin::Earlier(back)).await
    }

    /// Watches a version that is on probation for as long as the policy says, and goes back if it
    /// does worse than the one before.
    pub(super) fn watch_over(self: &Arc<Self>, info: &Arc<GenerationInfo>) {
        let policy = (self.policies)(&info.plugin);
        let before = {
            let registry = self.registry();
            let plugin = registry.plugins.get(&info.plugin);
            plugin.and_then(|plugin| plugin.compared_with(info.number))
        };
        let Some(before) = before else {
            self.trust(info);
            return;
        };
        let probation = Probation {
            supervisor: Arc::downgrade(self),
            info: info.clone(),
            before,
            policy,
            ends: Instant::now() + policy.probation,
        };
        self.thread.runtime().spawn(probation.run());
    }

    /// A version has stood its probation.
    fn trust(&self, info: &GenerationInfo) {
        let mut registry = self.registry();
        let Some(plugin) = registry.plugins.get_mut(&info.plugin) else { return };
        if plugin.info.number != info.number {
            return;
        }
        plugin.probation = None;
        // What its predecessor handed over is out of date by now.
        plugin.previous.iter_mut().for_each(|earlier| earlier.state = None);
        registry.retries.forget(&info.file);
        drop(registry);
        self.quarantine.forget_rollback(&info.file);
    }
}

/// Whether it was not the state that was in the way of going back, but something that may pass: the
/// state was held up, or the process in which the earlier version is tried has ended.
fn may_go_better(error: &DeployError) -> bool {
    match error.of_state() {
        Some(of_state) => of_state == OfState::HeldUp,
        // What is down is tried again by itself.
        None => error.may_pass() && !matches!(error, DeployError::Down { .. }),
    }
}

/// Whether the bad version may give a snapshot of its own version to keep aside, although it did
/// not give the one that the earlier version reads. One that did not come in time is not waited for
/// again.
fn gives_another(bad: &GenerationInfo, earlier: &Earlier, error: &DeployError) -> bool {
    let (writes, restores) = (&bad.manifest.state, &earlier.info.manifest.state);
    let asked = writes.as_ref().zip(restores.as_ref());
    let asked = asked.and_then(|(writes, restores)| common_version(writes, restores));
    !error.may_pass() && asked.is_some() && asked != bad.writes()
}

struct Probation {
    supervisor: Weak<Supervisor>,
    info: Arc<GenerationInfo>,
    before: Counts,
    policy: Policy,
    ends: Instant,
}

impl Probation {
    async fn run(self) {
        let Probation { supervisor, info, before, policy, ends } = self;
        while Instant::now() < ends {
            tokio::time::sleep(LOOK).await;
            let Some(supervisor) = supervisor.upgrade() else { return };
            let on_probation = {
                let registry = supervisor.registry();
                let plugin = registry.plugins.get(&info.plugin);
                plugin.is_some_and(|plugin| plugin.compared_with(info.number).is_some())
            };
            if !on_probation {
                return;
            }
            if let Some(reason) = regressed(before, info.counts(), policy) {
                tracing::error!(
                    plugin = %info.plugin, version = %info.manifest.version, generation = info.number,
                    "going back to the version before: {reason}"
                );
                let asked = Asked::Automatic { from: info.number };
                let back = supervisor.go_back(&info.plugin, asked, &PROBATION, &reason).await;
                match back {
                    // It went, or was replaced, before its turn came: whoever did that has decided.
                    // Or the host stops.
                    Ok(_)
                    | Err(DeployError::NotLive { .. } | DeployError::NoSuchPlugin { .. })
                    | Err(DeployError::Stopping) => {}
                    Err(error) => supervisor.cannot_go_back(&info, &reason, &error),
                }
                return;
            }
        }
        if let Some(supervisor) = supervisor.upgrade() {
            supervisor.trust(&info);
        }
    }
}

/// Why a version counts as worse than the one before it, if it does.
fn regressed(before: Counts, now: Counts, policy: Policy) -> Option<String> {
    if judged(now) < policy.min_calls || bad(now) == 0 {
        return None;
    }
    let share = |counts: Counts| match judged(counts) {
        0 => 0.0,
        // Far below what a float holds exactly.
        judged => bad(counts) as f64 / judged as f64,
    };
    let (was, is) = (share(before), share(now));
    (is > was + policy.margin).then(|| {
        format!(
            "{} of its first {} calls failed, panicked, crashed or timed out ({:.0} %), and {:.0} % of its predecessor's",
            bad(now),
            judged(now),
            is * 100.0,
            was * 100.0
        )
    })
}

/// Calls that have ended, but for those that were not run to their end.
fn judged(counts: Counts) -> u64 {
    counts.replied + counts.no_reply + bad(counts)
}

/// Calls that the handler did not end well.
fn bad(counts: Counts) -> u64 {
    counts.failed + counts.panicked + counts.crashed + counts.timed_out
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
