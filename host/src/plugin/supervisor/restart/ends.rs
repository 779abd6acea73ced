//! When a process that has ended gets a successor, and when its ends are too many.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::checkpoint::CheckpointPolicy;

/// The wait before the second start; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// When a process that has ended gets a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    pub(crate) when: RestartWhen,
    /// How often within a period.
    pub(crate) intensity: u32,
    pub(crate) period: Duration,
    /// The longest wait between two starts.
    pub(crate) longest_wait: Duration,
    /// When the state is taken that the next process begins with.
    pub(crate) checkpoint: CheckpointPolicy,
}

impl RestartPolicy {
    /// The wait before another start, after so many that had one.
    pub(super) fn wait(&self, further: u32) -> Duration {
        FIRST_WAIT.saturating_mul(1 << further.min(16)).min(self.longest_wait)
    }
}

/// The policy of each plugin, by name.
pub(crate) type RestartPolicies = Arc<dyn Fn(&str) -> RestartPolicy + Send + Sync>;

/// After which ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartWhen {
    /// Not after one by its own will (exit status 0).
    OnCrash,
    /// After every one.
    Always,
    /// After none.
    Never,
}

/// When the processes of one plugin have ended, as far back as it matters.
#[derive(Debug, Default)]
pub(crate) struct Ends(VecDeque<Instant>);

impl Ends {
    /// One more end, now: the wait before the next start, if that is not one too many.
    pub(super) fn add(&mut self, now: Instant, policy: &RestartPolicy) -> Option<Duration> {
        self.0.push_back(now);
        let since = now.checked_sub(policy.period);
        self.0.retain(|end| since.is_none_or(|since| *end > since));
        let intensity = policy.intensity as usize;
        // Older ones change nothing any more.
        while self.0.len() > intensity + 1 {
            self.0.pop_front();
        }
        let further = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_sub(2);
        let wait = match self.0.len() {
            1 => Duration::ZERO,
            _ => policy.wait(further),
        };
        (self.0.len() <= intensity).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_too_many_when_there_are_more_than_the_intensity_within_a_period() {
        let policy = RestartPolicy {
            when: RestartWhen::OnCrash,
            intensity: 2,
            period: Duration::from_secs(10),
            longest_wait: Duration::from_secs(1),
            checkpoint: CheckpointPolicy::OnChange,
        };
        let (mut ends, start) = (Ends::default(), Instant::now());
        let mut add = |seconds| ends.add(start + Duration::from_secs(seconds), &policy);
        assert_eq!((add(0), add(1)), (Some(Duration::ZERO), Some(FIRST_WAIT)));
        assert_eq!(add(11), Some(Duration::ZERO), "those before are long ago");
        assert_eq!((add(11), add(12), add(13)), (Some(FIRST_WAIT), None, None));
        assert_eq!(add(30), Some(Duration::ZERO));
        assert!(ends.0.len() <= 3);
    }
}
