//! Whether a worker answers: what hangs is killed.
//!
//! A worker that is at work on a call is given that call's own time, and this much more once nobody
//! waits for it any more; one that is at work on nothing that the host knows of has to answer a
//! question within this time.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use ksi_worker_protocol::FromHost;

use super::Link;

/// How often it is looked at, at the least.
const OFTEN: Duration = Duration::from_secs(1);

/// What a worker gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Health {
    /// To answer, and to end a call that nobody waits for any more.
    pub(crate) stuck: Duration,
}

impl Health {
    /// Looks after a worker until it is gone. Where there are timers.
    pub(crate) async fn look_after(self, link: Weak<Link>) {
        let pause = (self.stuck / 4).clamp(Duration::from_millis(10), OFTEN);
        loop {
            tokio::time::sleep(pause).await;
            let Some(link) = link.upgrade() else { return };
            if link.death().is_some() {
                return;
            }
            if let Some(reason) = self.is_stuck(&link) {
                link.process.kill(&reason);
                return;
            }
            // Whoever changes it otherwise than here tells nobody.
            link.tell_log_level();
            link.tell(FromHost::Ping);
        }
    }

    fn is_stuck(self, link: &Arc<Link>) -> Option<String> {
        // What it has said waits to be heard, which is none of its doing.
        if link.at_work.load(Ordering::Relaxed) {
            return None;
        }
        let stuck = humantime::format_duration(self.stuck);
        if link.calls.oldest_given_up().is_some_and(|since| since > self.stuck) {
            return Some(format!(
                "a call of it goes on {stuck} after nobody waited for it any more \
                 (isolation.stuck)"
            ));
        }
        let heard = Duration::from_millis(link.heard.load(Ordering::Relaxed));
        let silent = link.began.elapsed().saturating_sub(heard) > self.stuck;
        (silent && link.calls.awaited() == 0)
            .then(|| format!("it has answered nothing for {stuck} (isolation.stuck)"))
    }
}
