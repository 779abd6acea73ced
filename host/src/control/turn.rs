//! A connection's turn on its worker: what it serves in place between two times that others may.

use std::time::{Duration, Instant};

use super::unix_now;

/// How long it is. After it the replies are written, so that the client works on them while the
/// host goes on; a write costs a few microseconds.
const LENGTH: Duration = Duration::from_micros(64);

/// What is known of the time without asking for it more than once a request.
pub(super) struct Turn {
    begin: Instant,
    unix: f64,
    lap: Instant,
}

impl Turn {
    pub(super) fn begin() -> Turn {
        let begin = Instant::now();
        Turn { begin, unix: unix_now(), lap: begin }
    }

    /// Ends one lap and begins the next; how long it was.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.lap, now))
    }

    /// Whether others have their turn now, as of the last lap.
    pub(super) fn is_over(&self) -> bool {
        self.lap - self.begin >= LENGTH
    }

    /// When the last lap ended, in seconds since the Unix epoch.
    pub(super) fn unix(&self) -> f64 {
        self.unix + (self.lap - self.begin).as_secs_f64()
    }
}
