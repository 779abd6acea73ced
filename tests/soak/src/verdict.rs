//! The figures of a run, each with its bar.

use ksi_figures::Spread;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    arenas,
    bare::Beside,
    findings::{Ended, Findings},
    kills::TAKEN_BACK,
    latency::Figures,
    ledger::Fault,
    measured::Steps,
    memory::{Sample, growth},
};

/// Reloads under load from which on a run shows what it is to show: more than there are
/// thread-local keys in a process.
const ENOUGH: u64 = 3_000;
/// The last reloads, over which memory must not grow.
const LAST: u64 = 2_000;
/// Measured values from which on a 99th percentile is one.
const MEASURED: u64 = 200;
/// Descriptors or threads more than that are a growth.
const MORE: usize = 4;
/// The most that other programs may have of the processors' time, in percent: beside more, a time
/// says something of them.
const OTHERS: f64 = 10.0;

/// Whether a figure reaches its bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Failed,
    /// The run was too short, the build is not optimized, or times were measured beside others.
    NotJudged,
    /// It has no bar.
    Told,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) found: String,
    pub(crate) bar: String,
    pub(crate) verdict: Verdict,
    value: Value,
}

/// All figures, in the order in which they are printed. In processes of their own, plugins have
/// nothing mapped here.
pub(crate) fn judge(findings: &Findings, isolated: bool) -> Vec<Figure> {
    let mut figures = Vec::new();
    outcomes(findings, &mut figures);
    if isolated {
        processes(findings, &mut figures);
    }
    reloads(findings, isolated, &mut figures);
    memory(findings, &mut figures);
    times(findings, &Bars::of(isolated), &mut figures);
    latencies(findings, &mut figures);
    figures
}

fn outcomes(findings: &Findings, figures: &mut Vec<Figure>) {
    let counts = findings.counts;
    let sum = counts.replied
        + counts.no_reply
        + counts.failed
        + counts.panicked
        + counts.crashed
        + counts.timed_out
        + counts.rejected;
    figures.push(Figure::must(
        "events accepted, and the sum of outcomes",
        format!("{} and {sum}", counts.accepted),
        "equal",
        counts.accepted == sum,
        json!(counts),
    ));
    let (asked, answered, explained) = findings.requests;
    let faults: u64 = findings.faults.iter().map(|(_, count)| count).sum();
    let found = format!(
        "{asked}: {answered} as asked for, {explained} failed by a bad version or with a killed process"
    );
    let value = json!({ "asked": asked, "as_asked_for": answered, "explained": explained });
    let well = asked == answered + explained || faults > 0;
    figures.push(Figure::must("requests of the clients", found, "all ended", well, value));
    let [inside, embedding, socket] = findings.asked_by;
    let found =
        format!("{inside} in a plugin, {embedding} by Host::emit and send, {socket} on the socket");
    figures.push(Figure::told("where they came from", found, json!(findings.asked_by)));
    let faults = [
        (Fault::Lost, "lost"),
        (Fault::Twice, "answered twice"),
        (Fault::Wrong, "wrong answers"),
        (Fault::State, "state mismatches"),
        (Fault::Unexplained, "failed without a cause"),
    ];
    for (fault, name) in faults {
        let count = findings.fault(fault);
        let found = match fault {
            Fault::State => format!("{count}; {} values compared at the end", findings.compared),
            _ => count.to_string(),
        };
        figures.push(Figure::must(name, found, "0", count == 0, json!(count)));
    }
}

fn processes(findings: &Findings, figures: &mut Vec<Figure>) {
    let toll = findings.toll;
    let [down, restarted] =
        [findings.announced.sum(|of| of.down), findings.announced.sum(|of| of.restarted)];
    let found = format!(
        "{}; {down} of them of live plugins, {restarted} of these started again",
        toll.kills
    );
    let value = json!({ "toll": toll, "down": down, "restarted": restarted });
    let well = down <= toll.kills;
    figures.push(Figure::must("processes killed", found, "no other end", well, value));
    let found = format!(
        "{} ended as crashed, {} of which nothing can be told; by the host {} calls in all",
        toll.crashed, toll.untold, findings.counts.crashed
    );
    let well = toll.kills > 0 || findings.counts.crashed == 0;
    let value = json!(findings.counts.crashed);
    figures.push(Figure::must("requests that they had", found, "with kills alone", well, value));
    let found = format!(
        "{}, the oldest acknowledged {:.1} ms before the kill",
        toll.taken_back, toll.oldest_ms
    );
    let (name, bar) = ("acknowledged counts taken back", format!("none older than {TAKEN_BACK:?}"));
    figures.push(Figure::must(name, found, &bar, true, json!(toll)));
    let left = findings.left;
    let name = "processes left after the stop";
    figures.push(Figure::must(name, left.to_string(), "0", left == 0, json!(left)));
    let samples = &findings.measured.samples;
    // What the first reloads bring is there from then on.
    let level = |of: &dyn Fn(&Sample) -> usize| {
        let (early, late) = samples.split_at(samples.len() / 2);
        let most = |samples: &[Sample]| samples.iter().map(of).max().unwrap_or_default();
        (most(early), most(late))
    };
    for (name, (early, late)) in [
        ("descriptors", level(&|sample| sample.descriptors)),
        ("threads", level(&|sample| sample.threads)),
    ] {
        let found = format!("{early}, then {late}");
        let name = format!("most {name} between reloads, first half and second");
        let well = late <= early + MORE;
        let figure = Figure::must(&name, found, "the same", well, json!([early, late]));
        figures.push(figure.unless(samples.len() < 4));
    }
}

fn reloads(findings: &Findings, isolated: bool, figures: &mut Vec<Figure>) {
    let Ended { tally, wanted, broken, .. } = &findings.ended;
    if let Some(error) = broken {
        let (name, error) = ("the run broke off", error.to_string());
        figures.push(Figure::must(name, error.clone(), "to its end", false, json!(error)));
    }
    let found = format!(
        "{} done, {} refused, {} rolled back, {} otherwise",
        tally.done, tally.refused, tally.rolled_back, tally.otherwise
    );
    let value = json!({ "done": tally.done, "refused": tally.refused, "rolled_back": tally.rolled_back,
                        "refused_again": tally.again,
                        "otherwise": tally.otherwise, "wanted": wanted });
    // What a version that is worse replaced, it replaced as any other does.
    let idle = findings.measured.idle_reloads;
    let reloaded = tally.done + tally.rolled_back + tally.killed_live + idle;
    let announced = [
        findings.announced.sum(|of| of.reloaded),
        findings.announced.sum(|of| of.refused),
        findings.announced.sum(|of| of.rolled_back),
    ];
    let refused = tally.refused + tally.again + tally.killed;
    let [now_reloaded, now_refused, rolled_back] = announced;
    // A version whose process ends on probation is rolled back from too.
    let by_kills = rolled_back.checked_sub(tally.rolled_back);
    let as_announced = (now_reloaded, now_refused) == (reloaded, refused)
        && by_kills.is_some_and(|by_kills| by_kills <= findings.toll.kills);
    let found = match as_announced {
        true => found,
        false => format!("{found}; announced are {announced:?}, with {idle} of the idle host"),
    };
    let (name, bar) = ("reloads under load", format!("as planned, {ENOUGH} at least"));
    let well = tally.otherwise == 0 && as_announced;
    let figure = Figure::must(name, found, &bar, well, value);
    figures.push(figure.unless(well && tally.files() < ENOUGH));
    let (unmapped, pinned) =
        (findings.announced.sum(|of| of.unmapped), findings.announced.sum(|of| of.pinned));
    let found = match findings.announced.pinned_by()[..] {
        [] => format!("{unmapped} unmapped, {pinned} pinned"),
        ref causes => format!("{unmapped} unmapped, {pinned} pinned ({})", causes.join("; ")),
    };
    let value = json!({ "unmapped": unmapped, "pinned": pinned, "still_in_memory": findings.still_in_memory });
    let well = pinned == 0 && findings.still_in_memory.is_empty();
    figures.push(Figure::must("retired generations", found, "all unmapped", well, value));
    let found = format!("{}, {} after the stop", findings.mapped, findings.mapped_after_stop);
    let value = json!({ "mapped": findings.mapped, "after_stop": findings.mapped_after_stop });
    let live = if isolated { 0 } else { findings.live };
    let well = findings.mapped == live && findings.mapped_after_stop == 0;
    let bar = format!("{live}, then 0");
    figures.push(Figure::must("mapped libraries at the end", found, &bar, well, value));
}

fn memory(findings: &Findings, figures: &mut Vec<Figure>) {
    let files = findings.ended.tally.files();
    let from = files.saturating_sub(LAST);
    let at = findings.measured.samples.partition_point(|sample| sample.reloads < from);
    let last = &findings.measured.samples[at..];
    let kib = growth(last, |sample| sample.anonymous_kib);
    let resident = growth(last, |sample| sample.resident_kib);
    let found = match (kib, resident) {
        (Some(kib), Some(all)) => {
            format!("{kib:.2} KiB; {all:.2} with mapped files; {}", arenas::described())
        }
        _ => "too few samples".to_owned(),
    };
    let value = json!({ "anonymous_kib": kib, "resident_kib": resident, "samples": findings.measured.samples });
    let well = kib.is_some_and(|kib| kib < 1.0);
    let name = "growth of resident memory a reload, last 2,000";
    let figure = Figure::must(name, found, "under 1 KiB", well, value);
    figures.push(figure.unless(files < LAST || kib.is_none()));
}

/// What the first answer of a file's code may take from its rename on, in milliseconds: at the
/// median and at the 99th percentile; and what handing 1 MB of state over may add to an event.
struct Bars {
    idle: (f64, f64),
    loaded: (f64, f64),
    handing_over: f64,
}

impl Bars {
    /// In a process of its own, each file takes the start of one, beside that of a probe, and the
    /// state goes through two sockets.
    fn of(isolated: bool) -> Self {
        match isolated {
            false => Bars { idle: (5.0, 15.0), loaded: (15.0, 50.0), handing_over: 10.0 },
            true => Bars { idle: (20.0, 50.0), loaded: (50.0, 150.0), handing_over: 30.0 },
        }
    }
}

fn times(findings: &Findings, bars: &Bars, figures: &mut Vec<Figure>) {
    let measured = &findings.measured;
    let alone = findings.ended.others <= OTHERS;
    let mut first_answers =
        |name: &str, of: Figures, (p50, p99): (f64, f64), beside: &Beside, steps: &Steps| {
            figures.push(Figure::time(&format!("{name}, p50"), of.p50, p50, alone && of.count > 0));
            figures.push(Figure::time(
                &format!("{name}, p99"),
                of.p99,
                p99,
                alone && of.count >= MEASURED,
            ));
            figures.push(held_against_bare(name, beside));
            let name = format!("of which, as the host says (p50 of {})", of.count);
            figures.push(Figure::told(&name, medians(steps), json!(steps.figures())));
        };
    let (idle, loaded) = (measured.idle.figures(), measured.loaded.figures());
    let name = "rename to first answer, host idle";
    first_answers(name, idle, bars.idle, &measured.idle_beside, &measured.idle_steps);
    let name = "rename to first answer, under load";
    first_answers(name, loaded, bars.loaded, &measured.loaded_beside, &measured.loaded_steps);
    let held = findings.held;
    let added = (held.p99 - findings.quiet.heavy.p99).max(0.0);
    let name = "added to events while 1 MB of state is handed over, p99";
    figures.push(Figure::time(name, added, bars.handing_over, alone && held.count >= MEASURED));
    let found = format!("p50 {:.2}, p99 {:.2}, max {:.2} ms", held.p50, held.p99, held.max);
    let name = format!("those events in all ({})", held.count);
    figures.push(Figure::told(&name, found, json!(held)));
    let steps = measured.held_steps.figures();
    figures.push(Figure::told(
        "of which, as the host says (p50)",
        medians(&measured.held_steps),
        json!(steps),
    ));
    let ratio = findings.paced.other.p99 / findings.quiet.other.p99;
    let found = format!(
        "{ratio:.2} ({:.2} ms, without {:.2} ms)",
        findings.paced.other.p99, findings.quiet.other.p99
    );
    let name = "p99 of a plugin that is not replaced, to that without reloads";
    let figure = Figure::must(name, found, "at most 1.5", ratio <= 1.5, json!(ratio));
    figures.push(figure.timed(alone && findings.paced.other.count >= MEASURED));
    let (with, without) = (measured.paced, measured.quiet);
    let ratio = with.rate() / without.rate();
    let found = format!(
        "{ratio:.2} ({:.0} a second with {:.1} reloads a second, without {:.0})",
        with.rate(),
        with.pace(),
        without.rate()
    );
    let value = json!({ "ratio": ratio, "with": with, "without": without });
    let name = "throughput with 10 reloads a second, to that without";
    let figure = Figure::must(name, found, "at least 0.8", ratio >= 0.8, value);
    figures.push(figure.timed(alone && with.pace() > 0.0));
}

/// The quickest reload to the quickest copy and open of the same files, measured by turns.
fn held_against_bare(name: &str, Beside { reloads, bare }: &Beside) -> Figure {
    let Spread { figure, least, most, uneven } = reloads.ratio(bare);
    let found = match bare.windows() {
        0 => "none was measured".to_owned(),
        windows => format!(
            "{figure:.1} times ({least:.1} to {most:.1} in {windows} windows{}); {:.2} ms to {:.2} ms",
            if uneven { ", too uneven or too few to judge" } else { "" },
            reloads.figure(),
            bare.figure(),
        ),
    };
    let value = json!({ "reload_ms": reloads.spread(), "bare_ms": bare.spread(),
                        "ratio": reloads.ratio(bare), "windows": bare.windows() });
    Figure::told(&format!("{name}, quickest, to a bare copy and open"), found, value)
}

/// The steps of a reload, the longest first.
fn medians(steps: &Steps) -> String {
    let mut steps: Vec<_> = steps.figures().into_iter().collect();
    steps.sort_by(|(_, one), (_, other)| other.p50.total_cmp(&one.p50));
    let each = steps.iter().map(|(step, figures)| format!("{step} {:.2}", figures.p50));
    each.collect::<Vec<_>>().join(", ") + " ms"
}

fn latencies(findings: &Findings, figures: &mut Vec<Figure>) {
    let phases = [
        ("without reloads", findings.quiet),
        ("with 10 reloads a second", findings.paced),
        ("with as many reloads as go", findings.fast),
    ];
    for (name, phase) in phases {
        let all = phase.all;
        let found = format!(
            "p50 {:.3}, p99 {:.2}, p99.9 {:.2}, max {:.1} ms of {}",
            all.p50, all.p99, all.p999, all.max, all.count
        );
        figures.push(Figure::told(&format!("latency of events {name}"), found, json!(phase)));
    }
    let others = findings.ended.others;
    let name = "processor time that other programs had";
    figures.push(Figure::told(name, format!("{others:.0} %"), json!(others)));
}

impl Figure {
    fn must(name: &str, found: String, bar: &str, well: bool, value: Value) -> Self {
        let verdict = if well { Verdict::Ok } else { Verdict::Failed };
        Figure { name: name.to_owned(), found, bar: bar.to_owned(), verdict, value }
    }

    fn told(name: &str, found: String, value: Value) -> Self {
        let bar = String::new();
        Figure { name: name.to_owned(), found, bar, verdict: Verdict::Told, value }
    }

    /// A time in milliseconds that must be below a bar.
    fn time(name: &str, found: f64, bar: f64, enough: bool) -> Self {
        let (text, under) = (format!("{found:.2} ms"), format!("under {bar} ms"));
        Figure::must(name, text, &under, found < bar, json!(found)).timed(enough)
    }

    /// Times say something of optimized code alone, and of enough of them.
    fn timed(self, enough: bool) -> Self {
        self.unless(!enough || cfg!(debug_assertions))
    }

    /// Is not judged, when that would say nothing.
    fn unless(self, says_nothing: bool) -> Self {
        match says_nothing {
            true => Figure { verdict: Verdict::NotJudged, ..self },
            false => self,
        }
    }
}
