//! What is told in the end: how many events were alike, and where the others differ.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use super::difference::Difference;
use crate::exit::CommandFailure;
use crate::table::{Column, Table, Tone};

/// Paths that are told apart; what is beyond is counted together.
const MOST_PATHS: usize = 200;
/// Characters of a value that are shown.
const SHOWN: usize = 120;

/// All that has been compared so far.
pub(super) struct Summary {
    compared: u64,
    differing: u64,
    left_out: u64,
    failed_alike: u64,
    paths: BTreeMap<(String, String), At>,
    further: u64,
    old_took: Histogram<u64>,
    new_took: Histogram<u64>,
}

/// A path of an event at which some differ.
#[derive(Debug, Clone, Serialize)]
pub(super) struct At {
    pub(super) event: String,
    pub(super) path: String,
    pub(super) count: u64,
    /// The first of them: which, and what was there.
    pub(super) first: String,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// One of the two.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) plugin: String,
    /// It has begun with the state that was given.
    pub(super) restored: bool,
}

/// How long the calls of one took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Took {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// The same as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    pub(super) old: &'a str,
    pub(super) new: &'a str,
    /// Whether each has begun with the state that was given.
    pub(super) old_restored: bool,
    pub(super) new_restored: bool,
    pub(super) compared: u64,
    pub(super) differing: u64,
    /// Neither handles them.
    pub(super) left_out: u64,
    /// Both failed, and there is no difference between them.
    pub(super) failed_alike: u64,
    pub(super) differences: Vec<At>,
    /// Places that differ, beyond those that are told apart.
    pub(super) further: u64,
    pub(super) old_took: Took,
    pub(super) new_took: Took,
}

impl Summary {
    pub(super) fn new() -> Result<Self, CommandFailure> {
        // Nanoseconds up to an hour, at two digits: a few KB each.
        let histogram = || {
            Histogram::new_with_max(3_600_000_000_000, 2)
                .map_err(CommandFailure::host("times cannot be counted"))
        };
        Ok(Summary {
            compared: 0,
            differing: 0,
            left_out: 0,
            failed_alike: 0,
            paths: BTreeMap::new(),
            further: 0,
            old_took: histogram()?,
            new_took: histogram()?,
        })
    }

    /// One that neither handles.
    pub(super) fn left_out(&mut self) {
        self.left_out += 1;
    }

    /// One that both failed in, without a difference.
    pub(super) fn failed_alike(&mut self) {
        self.failed_alike += 1;
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    /// One that both were given; `told` says which, for people.
    pub(super) fn add(
        &mut self,
        event: &str,
        told: &str,
        differences: Vec<Difference>,
        took: [Duration; 2],
    ) {
        self.compared += 1;
        self.differing += u64::from(!differences.is_empty());
        for (all, took) in [&mut self.old_took, &mut self.new_took].into_iter().zip(took) {
            all.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        for Difference { path, old, new } in differences {
            let key = (event.to_owned(), path.clone());
            let is_full = self.paths.len() == MOST_PATHS;
            match self.paths.get_mut(&key) {
                Some(at) => at.count += 1,
                None if is_full => self.further += 1,
                None => {
                    let (event, first) = (event.to_owned(), told.to_owned());
                    let (old, new) = (old.map(shortened), new.map(shortened));
                    self.paths.insert(key, At { event, path, count: 1, first, old, new });
                }
            }
        }
    }

    pub(super) fn differs(&self) -> bool {
        self.differing > 0
    }

    pub(super) fn told<'a>(&self, old: &'a Who, new: &'a Who) -> Told<'a> {
        Told {
            old: &old.plugin,
            new: &new.plugin,
            old_restored: old.restored,
            new_restored: new.restored,
            compared: self.compared,
            differing: self.differing,
            left_out: self.left_out,
            failed_alike: self.failed_alike,
            differences: self.paths.values().cloned().collect(),
            further: self.further,
            old_took: took(&self.old_took),
            new_took: took(&self.new_took),
        }
    }

    /// The table of what differs, and a line that says how much does.
    pub(super) fn in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.paths.is_empty() {
            let mut table = Table::new(&[
                Column::Text("EVENT"),
                Column::Text("PATH"),
                Column::Number("TIMES"),
                Column::Text("FIRST"),
                Column::Text("OLD"),
                Column::Text("NEW"),
            ]);
            let value = |value: &Option<Value>| match value {
                Some(value) => value.to_string(),
                None => "-".to_owned(),
            };
            for at in self.paths.values() {
                let (old, new) = (value(&at.old), value(&at.new));
                let count = at.count.to_string();
                let cells = [at.event.clone(), at.path.clone(), count, at.first.clone(), old, new];
                table.row(cells.into_iter().map(|cell| (cell, Tone::Usual)));
            }
            lines.extend([table.render(), String::new()]);
        }
        if self.further > 0 {
            lines.push(format!("and at {} further places", self.further));
        }
        let Summary { compared, differing, left_out, .. } = self;
        lines.push(format!(
            "{compared} events compared: {} the same, {differing} not; {left_out} left out, which no plugin here handles",
            compared - differing
        ));
        // They may have asked for somebody who is not here.
        if self.failed_alike > 0 {
            lines.push(format!(
                "{} of the same failed in both: --with puts a plugin beside them that they ask",
                self.failed_alike
            ));
        }
        let (old, new) = (took(&self.old_took), took(&self.new_took));
        let shown = |it: Took| {
            format!("p50 {:.0} us, p99 {:.0} us, at most {:.0} us", it.p50_us, it.p99_us, it.max_us)
        };
        lines.push(format!("time of OLD: {}", shown(old)));
        lines.push(format!("time of NEW: {}", shown(new)));
        lines
    }
}

fn took(all: &Histogram<u64>) -> Took {
    let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    let at = |quantile: f64| us(all.value_at_quantile(quantile));
    Took { p50_us: at(0.5), p99_us: at(0.99), max_us: us(all.max()) }
}

/// A value that is shown: long ones are cut.
fn shortened(value: Value) -> Value {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        None => value,
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_counted_with_the_first_example_and_a_bound() {
        let mut summary = Summary::new().expect("a summary");
        let differs = |path: String| Difference { path, old: Some(json!(1)), new: None };
        let took = [Duration::from_micros(10), Duration::from_micros(20)];
        summary.add("a:b", "evt_1", vec![differs("reply/x".to_owned())], took);
        summary.add("a:b", "evt_2", vec![differs("reply/x".to_owned())], took);
        summary.add("a:b", "evt_3", vec![], took);
        summary.left_out();
        let both = ["old", "new"].map(|it| Who { plugin: it.to_owned(), restored: false });
        let told = summary.told(&both[0], &both[1]);
        assert_eq!((told.compared, told.differing, told.left_out), (3, 2, 1));
        let at = &told.differences[0];
        assert_eq!((at.count, &*at.first, &at.old, &at.new), (2, "evt_1", &Some(json!(1)), &None));
        assert!((told.new_took.p50_us - 20.0).abs() < 1.0, "{:?}", told.new_took);
        assert!(
            summary
                .in_words()
                .iter()
                .any(|line| line.starts_with("3 events compared: 1 the same, 2 not"))
        );
        let many = (0..300).map(|at| differs(format!("reply/{at}"))).collect();
        summary.add("a:b", "evt_4", many, took);
        assert_eq!(summary.paths.len(), MOST_PATHS);
        assert_eq!(summary.further, 101);
    }

    #[test]
    fn long_values_are_cut_where_a_character_ends() {
        let cut = shortened(json!("ä".repeat(500)));
        assert!(cut.as_str().expect("text").ends_with("… (1002 bytes)"), "{cut}");
        assert_eq!(shortened(json!([1, 2])), json!([1, 2]));
    }
}
