//! What the process holds, as the system tells it.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Serialize;

/// Resident memory after so many reloads, with nothing under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub(crate) reloads: u64,
    /// Memory that no file stands behind: what a leak would grow.
    pub(crate) anonymous_kib: f64,
    /// That and the pages of mapped files, which differ from version to version.
    pub(crate) resident_kib: f64,
    /// Of this process.
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

impl Sample {
    pub(crate) fn now(reloads: u64) -> Self {
        let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let kib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        Sample {
            reloads,
            anonymous_kib: kib("Anonymous:").unwrap_or(f64::NAN),
            resident_kib: kib("Rss:").unwrap_or(f64::NAN),
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}

/// How much there is in a folder.
fn entries(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// By how much memory grew a reload, in KiB: the slope of the line that fits the samples best.
#[expect(clippy::cast_precision_loss, reason = "a few thousand reloads")]
pub(crate) fn growth(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Option<f64> {
    let n = samples.len() as f64;
    let mean = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / n;
    let reloads = |sample: &Sample| sample.reloads as f64;
    let (x, y) = (mean(&reloads), mean(&of));
    let across: f64 = samples.iter().map(|it| (reloads(it) - x) * (of(it) - y)).sum();
    let spread: f64 = samples.iter().map(|it| (reloads(it) - x).powi(2)).sum();
    (samples.len() > 2 && spread > 0.0).then(|| across / spread)
}

/// Private copies of hosts that are mapped into this process.
pub(crate) fn mapped_libraries() -> BTreeSet<String> {
    let private = std::env::temp_dir().join("ksi-");
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    paths.filter(|path| is_below(path, &private)).map(str::to_owned).collect()
}

fn is_below(path: &str, prefix: &Path) -> bool {
    prefix.to_str().is_some_and(|prefix| path.starts_with(prefix)) && path.contains(".so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_the_slope_and_needs_a_few_samples() {
        let sample =
            |reloads: u64, kib: f64| Sample { reloads, anonymous_kib: kib, ..Sample::now(0) };
        let samples = [sample(0, 10.0), sample(100, 60.0), sample(200, 110.0)];
        let slope = growth(&samples, |it| it.anonymous_kib).unwrap();
        assert!((slope - 0.5).abs() < 1e-9);
        assert_eq!(growth(&samples[..2], |it| it.anonymous_kib), None);
    }
}
