//! One plugin as the host tells of it, and the words in which `ksi list` and `ksi inspect` say it.
//!
//! Anything may be missing: an older host knows less, and a file that never became a plugin has little more than a name
//! and an error.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::table::Tone;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) generation: Option<u64>,
    state: String,
    on_probation: bool,
    pub(crate) file: Option<String>,
    pub(crate) counts: Option<Counts>,
    /// Those of the live generation alone.
    pub(crate) generation_counts: Option<Counts>,
    /// The latest generations that were replaced, and those that are still in memory.
    pub(crate) retired: Vec<Retired>,
    /// Earlier ones, all of which have left memory.
    pub(crate) earlier_unmapped: usize,
    pub(crate) last_error: Option<String>,
    /// The version of the snapshots that it writes.
    pub(crate) keeps_state: Option<u64>,
    pub(crate) persisted: Option<Persisted>,
    state_not_kept: Option<NotKept>,
    /// What somebody should know of the state that it has.
    pub(crate) state_notice: Option<String>,
    /// What somebody should know of how its library is linked.
    pub(crate) notices: Vec<String>,
    /// Events that it requires and nobody handles.
    missing: Vec<String>,
    quarantined: Option<Quarantined>,
    /// When its file is tried again.
    retry_in_ms: Option<u64>,
    /// The plugin that another file is already. It is tried again when that one goes.
    duplicate_of: Option<String>,
    /// What an instance in a process of its own told before this one was made.
    trial: Option<Trial>,
    /// What a rollback can go back to, the next first.
    previous: Vec<Previous>,
    reloads: u64,
    rollbacks: u64,
    /// Events that wait for its state to be handed over.
    held: u64,
    /// The signals that its live generation wants something of.
    signals: Vec<Handled>,
    /// Its old instance goes before the new one is made.
    pub(crate) exclusive: bool,
    /// How often an instance of a version was made again.
    reinstated: u64,
    /// What the host keeps for it over its generations.
    kept_resources: Vec<KeptResource>,
}

/// A descriptor that the host keeps.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeptResource {
    name: String,
    /// Where it listens.
    address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Handled {
    signal: String,
    ignored: bool,
    host_too: bool,
}

/// How the calls of a plugin, a handler or the host ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) replied: u64,
    pub(crate) no_reply: u64,
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    pub(crate) timed_out: u64,
    pub(crate) rejected: u64,
    pub(crate) in_flight: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Retired {
    pub(crate) generation: u64,
    pub(crate) version: Option<String>,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
    pub(crate) timings_ms: Option<Timings>,
    /// What the host's process held when the generation had left memory.
    pub(crate) resident_kib: Option<u64>,
}

/// How long steps took, in milliseconds, by their names.
pub(crate) type Timings = BTreeMap<String, Option<f64>>;

/// Its snapshot on the disk.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Persisted {
    version: u64,
    bytes: u64,
    /// Seconds since 1970.
    written: f64,
}

/// Why its state is not on the disk as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NotKept {
    reason: String,
    /// Seconds since 1970.
    since: f64,
    times: u64,
}

/// A version that the host does not try again by itself, or not yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Quarantined {
    version: Option<String>,
    reason: Option<String>,
    attempts: u64,
    retry_in_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Trial {
    result: String,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Previous {
    version: Option<String>,
    generation: u64,
}

impl Plugin {
    pub(crate) fn state(&self) -> String {
        let unkept = self.state_not_kept.as_ref().map(|_| "state not kept");
        let marks = [self.on_probation.then_some("probation"), unkept];
        let marks: Vec<&str> = marks.into_iter().flatten().collect();
        match marks.is_empty() {
            true => self.state.clone(),
            false => format!("{} ({})", self.state, marks.join(", ")),
        }
    }

    pub(crate) fn tone(&self) -> Tone {
        match self.state.as_str() {
            _ if self.state_not_kept.is_some() => Tone::Bad,
            "live" if self.on_probation => Tone::Doubtful,
            "live" => Tone::Good,
            "refused" | "failed" | "quarantined" => Tone::Bad,
            "waiting" | "draining" | "unloaded" | "pinned" => Tone::Doubtful,
            _ => Tone::Usual,
        }
    }

    /// The last error and when its file is tried again, unless the quarantine says the same.
    pub(crate) fn last_error(&self) -> Option<String> {
        let said = self.quarantined.as_ref().and_then(|it| it.reason.as_ref());
        let error = self.last_error.as_ref().filter(|error| Some(*error) != said)?;
        // What is quarantined, or waits for another plugin, has words of its own for it.
        Some(match (self.retry_in_ms, self.state.as_str()) {
            _ if self.quarantined.is_some() => error.clone(),
            (Some(ms), _) => format!("{error}; tried again in {}", seconds(ms.div_ceil(1000))),
            (None, "refused") if self.duplicate_of.is_some() => {
                format!("{error}; tried again when that one goes")
            }
            (None, "refused") => {
                format!("{error}; not tried again until it changes or `ksi {}`", self.ask())
            }
            (None, _) => error.clone(),
        })
    }

    /// `version 0.2.0: it panics; 2 attempts, the next in 12s`
    pub(crate) fn quarantined(&self) -> Option<String> {
        let Quarantined { version, reason, attempts, retry_in_ms } = self.quarantined.as_ref()?;
        let version = version.as_ref().map(|it| format!("version {it}: ")).unwrap_or_default();
        let reason = reason.as_deref().unwrap_or("for a reason that the host does not tell");
        let attempts = several(*attempts, "attempt");
        let next = match retry_in_ms {
            Some(ms) => format!("the next in {}", seconds(ms.div_ceil(1000))),
            None => format!("none until its file changes or `ksi {}`", self.ask()),
        };
        Some(format!("{version}{reason}; {attempts}, {next}"))
    }

    /// `not kept since 5m ago: the disk is full; 3 attempts failed`
    pub(crate) fn not_kept(&self, now: SystemTime) -> Option<String> {
        let NotKept { reason, since, times } = self.state_not_kept.as_ref()?;
        let since = ago(*since, now).map(|ago| format!(" since {ago}")).unwrap_or_default();
        Some(format!("not kept{since}: {reason}; {} failed", several(*times, "attempt")))
    }

    /// What has the host try its file again.
    fn ask(&self) -> String {
        match (&self.file, self.generation) {
            (Some(file), None) => format!("load {file}"),
            _ => format!("reload {}", self.name),
        }
    }

    /// `unsure: its initialize fails in a trial`, or `passed`.
    pub(crate) fn trial(&self) -> Option<String> {
        let Trial { result, reason } = self.trial.as_ref()?;
        Some(reason.as_ref().map_or_else(|| result.clone(), |reason| format!("{result}: {reason}")))
    }

    pub(crate) fn missing(&self) -> Option<String> {
        let missing = self.missing.join(", ");
        (!missing.is_empty()).then(|| format!("nobody handles {missing}, which it requires"))
    }

    pub(crate) fn held(&self) -> Option<String> {
        let wait = if self.held == 1 { "waits" } else { "wait" };
        let events = several(self.held, "event");
        (self.held > 0).then(|| format!("{events} {wait} for the hand-over of its state"))
    }

    /// How often its replacement failed when it had no instance any more.
    pub(crate) fn reinstated(&self) -> Option<String> {
        let times = several(self.reinstated, "time");
        (self.reinstated > 0).then(|| format!("{times}, when a replacement failed"))
    }

    /// `127.0.0.1:0 (127.0.0.1:41233), port`
    pub(crate) fn kept_resources(&self) -> Option<String> {
        let kept = self.kept_resources.iter().map(|kept| match &kept.address {
            Some(address) if *address != kept.name => format!("{} ({address})", kept.name),
            _ => kept.name.clone(),
        });
        let kept = kept.collect::<Vec<_>>().join(", ");
        (!kept.is_empty()).then_some(kept)
    }

    /// `has handlers for SIGUSR1, SIGINT (so has the host); asks to ignore SIGPIPE`
    pub(crate) fn signals(&self) -> Option<String> {
        let named = |ignored: bool, title: &str| {
            let of = self.signals.iter().filter(|it| it.ignored == ignored);
            let names = of.map(|it| match it.host_too {
                true if ignored => format!("{} (the host handles it)", it.signal),
                true => format!("{} (so has the host)", it.signal),
                false => it.signal.clone(),
            });
            let names = names.collect::<Vec<_>>().join(", ");
            (!names.is_empty()).then(|| format!("{title} {names}"))
        };
        let all = [named(false, "has handlers for"), named(true, "asks to ignore")];
        let all = all.into_iter().flatten().collect::<Vec<_>>().join("; ");
        (!all.is_empty()).then_some(all)
    }

    pub(crate) fn rollbacks(&self) -> Option<String> {
        let (rollbacks, reloads) =
            (several(self.rollbacks, "rollback"), several(self.reloads, "reload"));
        (self.rollbacks > 0).then(|| format!("{rollbacks}, {reloads}"))
    }

    pub(crate) fn replaced(&self) -> Option<String> {
        self.rollbacks().or_else(|| (self.reloads > 0).then(|| several(self.reloads, "reload")))
    }

    /// `0.1.0 (generation 2), 0.0.9 (generation 1)`
    pub(crate) fn previous(&self) -> String {
        let words = self.previous.iter().map(|Previous { version, generation }| {
            format!("{} (generation {generation})", version.as_deref().unwrap_or("?"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The older generations by what became of them: `3 unmapped, 1 pinned`.
    pub(crate) fn old(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        if self.earlier_unmapped > 0 {
            counts.push(("unmapped", self.earlier_unmapped));
        }
        for generation in &self.retired {
            match counts.iter_mut().find(|(state, _)| *state == generation.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((&generation.state, 1)),
            }
        }
        let words = counts.iter().map(|(state, count)| format!("{count} {state}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl Persisted {
    /// `version 2, 4.1 KiB, written 12s ago`
    pub(crate) fn shown(&self, now: SystemTime) -> String {
        let age = ago(self.written, now).map(|ago| format!(", written {ago}")).unwrap_or_default();
        format!("version {}, {}{age}", self.version, size(self.bytes))
    }
}

impl Counts {
    /// Calls that ended in no answer for a reason somebody should look into.
    pub(crate) fn unwell(&self) -> u64 {
        self.failed + self.panicked + self.timed_out + self.rejected
    }

    /// Every event that was accepted ends in one of these; whoever reads this can add them up.
    pub(crate) fn equation(&self) -> String {
        let Counts {
            accepted,
            replied,
            no_reply,
            failed,
            panicked,
            timed_out,
            rejected,
            in_flight,
        } = self;
        format!(
            "{accepted} accepted = {replied} replied + {no_reply} no reply + {failed} failed + {panicked} panicked \
             + {timed_out} timed out + {rejected} rejected + {in_flight} in flight"
        )
    }
}

/// `12s ago` or `just now`, of seconds since 1970.
pub(crate) fn ago(at: f64, now: SystemTime) -> Option<String> {
    let since = Duration::try_from_secs_f64(at).ok()?;
    let at = SystemTime::UNIX_EPOCH.checked_add(since)?;
    // A clock that was set back makes it the future.
    let age = now.duration_since(at).unwrap_or_default();
    Some(match age.as_secs() {
        0 => "just now".to_owned(),
        age => format!("{} ago", seconds(age)),
    })
}

fn several(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin(json: serde_json::Value) -> Plugin {
        serde_json::from_value(json).expect("a plugin as the host sends it")
    }

    #[test]
    fn what_an_older_host_does_not_know_is_not_told() {
        let plugin = plugin(json!({"name": "hello", "state": "live"}));
        assert_eq!(plugin.state(), "live");
        let told = [plugin.quarantined(), plugin.missing(), plugin.held(), plugin.replaced()];
        assert_eq!(told, [None, None, None, None]);
        assert_eq!((plugin.previous(), plugin.old()), (String::new(), String::new()));
        assert!(plugin.persisted.is_none() && plugin.generation_counts.is_none());
    }

    #[test]
    fn a_version_on_probation_is_told_from_one_that_is_trusted() {
        let on_probation = plugin(json!({"state": "live", "on_probation": true}));
        assert_eq!(
            (on_probation.state().as_str(), on_probation.tone()),
            ("live (probation)", Tone::Doubtful)
        );
        let trusted = plugin(json!({"state": "live", "on_probation": false}));
        assert_eq!((trusted.state().as_str(), trusted.tone()), ("live", Tone::Good));
        assert_eq!(plugin(json!({"state": "waiting"})).tone(), Tone::Doubtful);
    }

    #[test]
    fn a_quarantine_says_why_and_when_it_is_tried_again() {
        let told = |attempts: u64, retry: serde_json::Value| {
            let quarantined = json!({"version": "0.2.0", "hash": "ab", "reason": "it panics", "attempts": attempts,
                                     "retry_in_ms": retry});
            plugin(json!({"name": "hello", "quarantined": quarantined})).quarantined()
        };
        assert_eq!(
            told(1, json!(11_001)).as_deref(),
            Some("version 0.2.0: it panics; 1 attempt, the next in 12s")
        );
        assert_eq!(
            told(5, json!(null)).as_deref(),
            Some(
                "version 0.2.0: it panics; 5 attempts, none until its file changes or `ksi reload hello`"
            )
        );
    }

    #[test]
    fn an_error_that_is_the_reason_of_the_quarantine_is_told_once() {
        let with = |reason: &str| {
            plugin(json!({"last_error": "it panics", "quarantined": {"reason": reason}}))
        };
        assert_eq!(with("it panics").last_error(), None);
        assert_eq!(with("it fails").last_error().as_deref(), Some("it panics"));
    }

    #[test]
    fn what_was_refused_says_whether_it_is_tried_again() {
        let told = |state: &str, retry: serde_json::Value| {
            let file = json!({"name": "a.so", "state": state, "file": "/p/a.so", "last_error": "it is torn",
                              "retry_in_ms": retry});
            plugin(file).last_error()
        };
        assert_eq!(told("refused", json!(1_001)).as_deref(), Some("it is torn; tried again in 2s"));
        let never = told("refused", json!(null));
        let words = "it is torn; not tried again until it changes or `ksi load /p/a.so`";
        assert_eq!(never.as_deref(), Some(words));
        assert_eq!(told("waiting", json!(null)).as_deref(), Some("it is torn"));
        let duplicate = plugin(json!({"name": "b.so", "state": "refused", "file": "/p/b.so",
                                      "last_error": "so is a.so", "duplicate_of": "a"}));
        let words = "so is a.so; tried again when that one goes";
        assert_eq!(duplicate.last_error().as_deref(), Some(words));
    }

    #[test]
    fn a_snapshot_is_told_with_its_size_and_age() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let told = |bytes: u64, written: f64| {
            let persisted = json!({"version": 2, "bytes": bytes, "written": written});
            let persisted: Persisted = serde_json::from_value(persisted).expect("a snapshot");
            persisted.shown(now)
        };
        assert_eq!(told(812, 939.5), "version 2, 812 B, written 1m ago");
        assert_eq!(told(4_200, 999.9), "version 2, 4.1 KiB, written just now");
        assert_eq!(told(3 << 20, 2_000.0), "version 2, 3.0 MiB, written just now");
        assert_eq!(told(1 << 30, -1.0), "version 2, 1.0 GiB");
    }

    #[test]
    fn state_that_is_not_kept_is_marked_and_told_with_the_reason() {
        let trouble = json!({"reason": "the disk is full", "since": 940.2, "times": 3});
        let plugin =
            plugin(json!({"state": "live", "on_probation": true, "state_not_kept": trouble}));
        assert_eq!(plugin.state(), "live (probation, state not kept)");
        assert_eq!(plugin.tone(), Tone::Bad);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let told = plugin.not_kept(now);
        let expected = "not kept since 59s ago: the disk is full; 3 attempts failed";
        assert_eq!(told.as_deref(), Some(expected));
    }

    #[test]
    fn what_is_kept_is_told_with_where_it_listens() {
        let kept =
            |kept: serde_json::Value| plugin(json!({"kept_resources": kept})).kept_resources();
        assert_eq!(kept(json!([])), None);
        let told = kept(json!([
            {"name": "127.0.0.1:0", "address": "127.0.0.1:41233"},
            {"name": "127.0.0.1:80", "address": "127.0.0.1:80"},
            {"name": "serial", "address": null},
        ]));
        assert_eq!(told.as_deref(), Some("127.0.0.1:0 (127.0.0.1:41233), 127.0.0.1:80, serial"));
    }

    #[test]
    fn signals_are_told_with_whether_the_host_gets_them_too() {
        let plugin = plugin(json!({"signals": [
            {"signal": "SIGINT", "ignored": false, "host_too": true},
            {"signal": "SIGUSR1", "ignored": false, "host_too": false},
            {"signal": "SIGTERM", "ignored": true, "host_too": true},
        ]}));
        assert_eq!(
            plugin.signals().as_deref(),
            Some(
                "has handlers for SIGINT (so has the host), SIGUSR1; asks to ignore SIGTERM (the host handles it)"
            )
        );
    }

    #[test]
    fn one_is_told_from_many() {
        let plugin = plugin(json!({"held": 1, "rollbacks": 1, "reloads": 3}));
        assert_eq!(plugin.held().as_deref(), Some("1 event waits for the hand-over of its state"));
        assert_eq!(plugin.replaced().as_deref(), Some("1 rollback, 3 reloads"));
    }
}
