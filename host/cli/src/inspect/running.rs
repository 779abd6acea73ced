//! What a host knows of a running plugin, beside what its file says of itself.

use std::time::SystemTime;

use ksi_wire::module::{Inspect, Retired, Timings};

use super::facts;
use crate::plugin;

/// The steps of a replacement, as they follow one another. What the host names otherwise comes
/// behind them.
const STEPS: [&str; 7] = ["settle", "copy", "manifest", "probe", "contracts", "load", "init"];
/// The steps of a hand-over; all but the first are parts of the first.
const HAND_OVER: [&str; 5] = ["hold", "quiet", "snapshot", "release", "restore"];

pub(super) fn running(inspected: &Inspect, now: SystemTime) -> String {
    let (overview, timings) = (&inspected.overview, &inspected.timings_ms);
    let generation = overview.generation.map(|number| number.to_string());
    let of_generation = inspected.generation_counts.as_ref().map(plugin::equation);
    let nothing = overview.keeps_state.map(|_| "nothing".to_owned());
    let persisted = overview.persisted.as_ref().map(|kept| plugin::persisted(kept, now));
    let mut lines = vec![
        ("name", Some(overview.name.clone())),
        ("state", Some(plugin::state(overview))),
        ("generation", generation),
        ("file", overview.file.clone()),
        ("events", Some(plugin::equation(&overview.counts))),
        ("since swap", of_generation),
        ("lately", plugin::lately(&overview.lately)),
        ("failed last", plugin::last_failure(&overview.lately, now)),
        ("replaced", plugin::replaced(overview)),
        ("persisted", persisted.or(nothing)),
        ("state", plugin::not_kept(overview, now)),
        ("state", overview.state_notice.clone()),
        ("replacement", overview.exclusive.then(|| "exclusive".to_owned())),
        ("runs in", plugin::residence(overview)),
        ("checkpoint", plugin::checkpoint(overview, now)),
        ("made again", plugin::reinstated(overview)),
        ("keeps", plugin::kept_resources(inspected)),
        ("watches", Some(inspected.watches.join("; ")).filter(|it| !it.is_empty())),
        ("held", plugin::held(overview)),
        ("missing", plugin::missing(overview)),
        ("signals", plugin::signals(overview)),
        ("quarantined", plugin::quarantined(overview)),
        ("last error", plugin::last_error(overview)),
        ("configuration", plugin::config_refused(overview, now)),
        ("previous", Some(plugin::previous(overview))),
        ("trial", plugin::trial(inspected)),
    ];
    lines.extend(overview.retired.iter().map(|old| ("old", Some(retired(old)))));
    lines.push(("memory", growth(&overview.retired)));
    lines.push(("took", Some(steps(timings))));
    lines.push(("hand-over", hand_over(timings)));
    let lines: Vec<(&str, String)> =
        lines.into_iter().filter_map(|(title, fact)| Some((title, fact?))).collect();
    facts(&lines)
}

/// `generation 1, 0.1.0, unmapped (drain 0.20 ms, unmap 0.31 ms)`
fn retired(old: &Retired) -> String {
    let version = old.version.as_ref().map(|version| format!(", {version}")).unwrap_or_default();
    let took = named(&old.timings_ms, |_| true);
    let took = if took.is_empty() { took } else { format!(" ({took})") };
    let cause = old.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("generation {}{version}, {}{took}{cause}", old.generation, old.state.as_str())
}

/// How much more the host's process holds with each replacement, by those that are remembered. Of
/// fewer than four it says nothing: the first ones fill what later ones use again.
fn growth(retired: &[Retired]) -> Option<String> {
    let held: Vec<u64> = retired.iter().filter_map(|old| old.resident_kib).collect();
    let (&[first, .., last], replacements @ 3..) = (held.as_slice(), held.len().saturating_sub(1))
    else {
        return None;
    };
    let each = last.saturating_sub(first) / u64::try_from(replacements).ok()?;
    Some(match each {
        0 => format!("the host did not grow with the last {replacements} replacements"),
        kib => format!(
            "the host grew by {kib} KiB with each of the last {replacements} replacements, from whatever cause"
        ),
    })
}

fn steps(timings: &Timings) -> String {
    let known = STEPS.iter().filter_map(|step| shown(timings, step));
    let others = named(timings, |step| !STEPS.contains(&step) && !HAND_OVER.contains(&step));
    known.chain(Some(others).filter(|it| !it.is_empty())).collect::<Vec<_>>().join(", ")
}

/// `hold 4.10 ms: quiet 1.00 ms, snapshot 0.50 ms, restore 0.70 ms`
fn hand_over(timings: &Timings) -> Option<String> {
    let [hold, parts @ ..] = HAND_OVER.map(|step| shown(timings, step));
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match (hold, parts.is_empty()) {
        (hold, true) => hold,
        (Some(hold), false) => Some(format!("{hold}: {}", parts.join(", "))),
        (None, false) => Some(parts.join(", ")),
    }
}

fn named(timings: &Timings, which: impl Fn(&str) -> bool) -> String {
    let steps = timings.keys().filter(|step| which(step));
    steps.filter_map(|step| shown(timings, step)).collect::<Vec<_>>().join(", ")
}

fn shown(timings: &Timings, step: &str) -> Option<String> {
    let ms = (*timings.get(step)?)?;
    Some(format!("{step} {ms:.2} ms"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn told(json: serde_json::Value) -> String {
        let plugin = serde_json::from_value(json).expect("a plugin as the host sends it");
        running(&plugin, SystemTime::UNIX_EPOCH + Duration::from_secs(100))
    }

    #[test]
    fn a_plugin_with_state_is_told_in_full() {
        let counts = json!({"accepted": 12, "replied": 9, "failed": 2, "in_flight": 1});
        let own = json!({"accepted": 3, "replied": 3});
        let text = told(json!({
            "name": "hello", "version": "0.3.0", "generation": 3, "state": "live", "on_probation": true,
            "file": "/p/libhello.so", "counts": counts, "generation_counts": own, "reloads": 2, "rollbacks": 0,
            "keeps_state": 2, "persisted": {"version": 2, "bytes": 2048, "written": 88.0}, "held": 0,
            "requires": ["state:set", "a:b"], "missing": ["a:b"], "quarantined": null, "last_error": null,
            "trial": {"result": "skipped", "reason": "the plugin says so"},
            "previous": [{"version": "0.2.0", "generation": 2}, {"version": "0.1.0", "generation": 1}],
            "retired": [
                {"generation": 1, "version": "0.1.0", "state": "unmapped", "cause": null,
                 "timings_ms": {"drain": 0.2, "unmap": 0.31}},
                {"generation": 2, "version": "0.2.0", "state": "pinned", "cause": "a thread of its own",
                 "timings_ms": {"drain": 1.0, "unmap": null}},
            ],
            "timings_ms": {"copy": 0.9, "hold": 4.1, "init": 0.1, "load": 0.4, "manifest": 0.02, "probe": 1.9,
                           "quiet": 1.0, "restore": 0.7, "settle": 0.05, "snapshot": 0.5, "swap": 0.001},
        }));
        assert_eq!(
            text,
            "name        hello\n\
             state       live (probation)\n\
             generation  3\n\
             file        /p/libhello.so\n\
             events      12 accepted = 9 replied + 0 no reply + 2 failed + 0 panicked + 0 timed out + 0 rejected + 1 in flight\n\
             since swap  3 accepted = 3 replied + 0 no reply + 0 failed + 0 panicked + 0 timed out + 0 rejected + 0 in flight\n\
             replaced    2 reloads\n\
             persisted   version 2, 2.0 KiB, written 12s ago\n\
             missing     nobody handles a:b, which it requires\n\
             previous    0.2.0 (generation 2), 0.1.0 (generation 1)\n\
             trial       skipped: the plugin says so\n\
             old         generation 1, 0.1.0, unmapped (drain 0.20 ms, unmap 0.31 ms)\n\
             old         generation 2, 0.2.0, pinned (drain 1.00 ms): a thread of its own\n\
             took        settle 0.05 ms, copy 0.90 ms, manifest 0.02 ms, probe 1.90 ms, load 0.40 ms, init 0.10 ms, swap 0.00 ms\n\
             hand-over   hold 4.10 ms: quiet 1.00 ms, snapshot 0.50 ms, restore 0.70 ms\n"
        );
    }

    #[test]
    fn what_replacements_leave_in_memory_is_told_once_there_were_some() {
        let after = |held: &[u64]| {
            let one = |(number, kib): (usize, &u64)| json!({"generation": number + 1, "state": "unmapped", "resident_kib": kib});
            let retired: Vec<_> = held.iter().enumerate().map(one).collect();
            told(json!({"name": "hello", "state": "live", "retired": retired}))
        };
        assert!(!after(&[]).contains("the host"));
        assert!(!after(&[1, 2, 3]).contains("the host"));
        let grown = "memory      the host grew by 1024 KiB with each of the last 3 replacements";
        assert!(after(&[20_000, 21_000, 22_500, 23_072]).contains(grown));
        assert!(after(&[20_000, 21_000, 19_000, 20_000]).contains("the host did not grow"));
    }

    #[test]
    fn a_quarantined_version_and_events_that_wait_are_told() {
        let text = told(json!({
            "name": "hello", "state": "live", "held": 7, "keeps_state": 1, "persisted": null, "rollbacks": 1, "reloads": 4,
            "last_error": "version 0.2.0 did not initialize",
            "quarantined": {"version": "0.2.0", "hash": "ab", "reason": "it panics", "attempts": 2, "retry_in_ms": 4000},
        }));
        for line in [
            "persisted   nothing",
            "replaced    1 rollback, 4 reloads",
            "held        7 events wait for the hand-over of its state",
            "quarantined version 0.2.0: it panics; 2 attempts, the next in 4s",
            "last error  version 0.2.0 did not initialize",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn an_older_host_is_understood() {
        let text = told(json!({
            "name": "hello", "state": "live", "generation": 2, "counts": {"accepted": 1, "replied": 1},
            "retired": [{"generation": 1, "state": "unmapped", "cause": null}],
            "timings_ms": {"copy": 0.9, "probe": null},
        }));
        assert_eq!(
            text,
            "name        hello\n\
             state       live\n\
             generation  2\n\
             events      1 accepted = 1 replied + 0 no reply + 0 failed + 0 panicked + 0 timed out + 0 rejected + 0 in flight\n\
             old         generation 1, unmapped\n\
             took        copy 0.90 ms\n"
        );
    }
}
