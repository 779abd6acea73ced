//! What a run found out, gathered when everything is at rest.

use std::time::Duration;

use ksi_host::Counts;
use ksi_wire::module::{ModuleState, Overview, RetiredState};
use serde::Serialize;

use crate::{
    announced::All,
    error::SoakError,
    killer::children,
    kills::Toll,
    lane::Lane,
    latency::{Figures, Phase},
    ledger::{Fault, Ledger},
    measured::Measured,
    memory::mapped_libraries,
    reloader::Tally,
    roles::Role,
    running::{Running, until},
};

/// How long the last calls may take to be counted as ended.
const COUNTED: Duration = Duration::from_secs(10);

/// Latencies in one phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latencies {
    pub(crate) all: Figures,
    pub(crate) other: Figures,
    pub(crate) heavy: Figures,
}

/// How the run ended.
pub(crate) struct Ended {
    pub(crate) tally: Tally,
    pub(crate) wanted: u64,
    /// Why it ended before its time.
    pub(crate) broken: Option<SoakError>,
    /// The share of the processors' time that went to others, in percent.
    pub(crate) others: f64,
}

/// Everything that is judged and printed.
pub(crate) struct Findings {
    pub(crate) ended: Ended,
    pub(crate) measured: Measured,
    pub(crate) announced: All,
    /// Asked, ended as asked for, failed by a bad version.
    pub(crate) requests: (u64, u64, u64),
    /// By clients inside, in the embedding program, on the socket.
    pub(crate) asked_by: [u64; 3],
    pub(crate) counts: Counts,
    pub(crate) faults: Vec<(Fault, u64)>,
    pub(crate) told: Vec<String>,
    /// Values that were compared with what was acknowledged.
    pub(crate) compared: usize,
    pub(crate) still_in_memory: Vec<String>,
    pub(crate) live: usize,
    pub(crate) mapped: usize,
    pub(crate) mapped_after_stop: usize,
    pub(crate) toll: Toll,
    /// Processes of plugins that are still there after the stop, and dead ones that nobody has
    /// waited for.
    pub(crate) left: usize,
    pub(crate) held: Figures,
    pub(crate) quiet: Latencies,
    pub(crate) paced: Latencies,
    pub(crate) fast: Latencies,
}

impl Findings {
    /// Compares what the plugins keep, looks at what is in memory, and stops the host.
    pub(crate) async fn gather(
        running: Running,
        lanes: Vec<Lane>,
        ended: Ended,
        measured: Measured,
    ) -> Result<Self, SoakError> {
        let (host, ledger) = (running.stage.host.clone(), running.stage.ledger.clone());
        let compared = compare(&running, lanes, &ledger).await;
        let at_rest = || async { host.counts().in_flight == 0 };
        until(COUNTED, at_rest).await;
        let counts = host.counts();
        let announced = running.announced.now();
        if announced.missed > 0 {
            return Err(SoakError::Missed(announced.missed));
        }
        let (still_in_memory, live) = in_memory(&running.modules().await);
        let mapped = mapped_libraries().len();
        running.stop().await;
        drop(host);
        let latencies = |phase| Latencies {
            all: ledger.latency.of_all(phase),
            other: ledger.latency.of(phase, Role::Other),
            heavy: ledger.latency.of(phase, Role::Heavy),
        };
        let faults = [Fault::Lost, Fault::Twice, Fault::Wrong, Fault::State, Fault::Unexplained];
        Ok(Findings {
            ended,
            measured,
            announced,
            requests: ledger.requests(),
            asked_by: ledger.asked_by(),
            counts,
            faults: faults.into_iter().map(|fault| (fault, ledger.count(fault))).collect(),
            told: ledger.told(),
            compared,
            still_in_memory,
            live,
            mapped,
            mapped_after_stop: mapped_libraries().len(),
            toll: ledger.kills.toll(),
            left: children().len(),
            held: ledger.latency.held.figures(),
            quiet: latencies(Phase::Quiet),
            paced: latencies(Phase::Paced),
            fast: latencies(Phase::Fast),
        })
    }

    pub(crate) fn fault(&self, fault: Fault) -> u64 {
        self.faults.iter().find(|(it, _)| *it == fault).map_or(0, |(_, count)| *count)
    }
}

/// Compares each lane's counts with what was acknowledged, and the entries with those of a fresh
/// plugin.
async fn compare(running: &Running, mut lanes: Vec<Lane>, ledger: &Ledger) -> usize {
    let mut compared = 0;
    for role in Role::ALL.into_iter().filter(|role| role.keeps_state()) {
        let name = role.name();
        let Some(whole) = running.read(role).await else {
            ledger.fault(Fault::State, || format!("{name} does not say what it keeps"));
            continue;
        };
        for lane in &mut lanes {
            let found = whole.lanes.get(&lane.id()).copied().unwrap_or_default();
            if let Err(text) = lane.compare(role, found, &ledger.kills) {
                ledger.fault(Fault::State, || format!("lane {} of {name}: {text}", lane.id()));
            }
            compared += 1;
        }
        let (first, entries) = (running.entries[role.index()], whole.entries());
        if entries != first {
            let text = || format!("the entries of {name} are {entries:?}, and were {first:?}");
            ledger.fault(Fault::State, text);
        }
        compared += entries.0;
    }
    compared
}

/// Retired generations that are not unmapped, and how many are live.
fn in_memory(modules: &[Overview]) -> (Vec<String>, usize) {
    let mut still = Vec::new();
    for module in modules {
        for old in module.retired.iter().filter(|old| old.state != RetiredState::Unmapped) {
            let (number, state) = (old.generation, old.state.as_str());
            let cause = old.cause.as_deref().unwrap_or("it is on its way");
            still.push(format!("generation {number} of {} is {state}: {cause}", module.name));
        }
    }
    let live = modules.iter().filter(|module| module.state == ModuleState::Live).count();
    (still, live)
}
