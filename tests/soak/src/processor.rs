//! Whose the processor's time was: on a machine that others use, times of the run say little.

use std::fs;

/// Ticks of the system's clock, so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Processor {
    all: u64,
    busy: u64,
    /// Of this process, and of its children that have ended.
    own: u64,
}

impl Processor {
    pub(crate) fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all = numbers(read("/proc/stat").lines().next().unwrap_or_default());
        let idle = all.iter().skip(3).take(2).sum::<u64>();
        let sum = all.iter().take(8).sum::<u64>();
        // The program's name, which may hold anything, ends at the last bracket; behind it are
        // field 3 and the others.
        let own = read("/proc/self/stat");
        let fields = own.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        // utime, stime, cutime and cstime.
        let own = fields.skip(14 - 3).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Processor { all: sum, busy: sum - idle, own }
    }

    /// The share of the processors' time since then that went to others, in percent.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a run")]
    pub(crate) fn others_since(self, start: Processor) -> f64 {
        let busy = (self.busy - start.busy).saturating_sub(self.own - start.own);
        100.0 * busy as f64 / (self.all - start.all).max(1) as f64
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}
