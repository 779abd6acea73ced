//! The dispatch workers are exchanged, and the threads before them joined: their thread-locals may
//! hold what is of a generation. Retirements that run at the same time share one exchange.

use ksi_kernel::executor::slot::Unreturned;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, Retirer};
use crate::plugin::{
    instance::info::GenerationInfo,
    lifecycle::retired::{Retired, RetiredState},
};

/// How many stuck calls are named.
const CALLS_TOLD: usize = 8;

impl Retirer {
    /// Waits until every thread that may have run the generation has ended.
    pub(super) async fn threads_gone(&self, info: &GenerationInfo, retired: &Retired) {
        let workers = self.router.workers();
        let last = workers.current_set();
        {
            let _turn = self.turn.lock().await;
            while workers.current_set() == last {
                if let Err(error) = workers.exchange() {
                    self.pin(
                        info,
                        retired,
                        format!("no new dispatch workers can be started: {error}"),
                    );
                    sleep(PATIENCE).await;
                }
            }
        }
        let mut told = None;
        while timeout(PATIENCE, workers.joined(last)).await.is_err() {
            let cause = self.stuck(workers.unreturned(last));
            match &told {
                None => self.pin(info, retired, cause.clone()),
                // Said once; what changes is for whoever asks.
                Some(told) if *told != cause => retired.set(RetiredState::Pinned(cause.clone())),
                Some(_) => (),
            }
            told = Some(cause);
        }
    }

    /// What the threads that are waited for have not returned from, by name.
    fn stuck(&self, unreturned: Vec<Unreturned>) -> String {
        let named = |poll: &Unreturned| match self.router.info(poll.handler) {
            Some(at) => format!("{}.{} with evt_{:x}", at.plugin, at.handler, poll.event),
            None => format!("a task on a thread {}", poll.thread),
        };
        let mut names: Vec<String> = unreturned.iter().map(named).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(CALLS_TOLD);
        names.truncate(CALLS_TOLD);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        match names.is_empty() {
            true => "a thread that may have run it does not end: a destructor of a thread-local \
                     keeps it"
                .to_owned(),
            false => format!(
                "a thread that may have run it is stuck in a call, which cannot be ended from \
                 outside: {}",
                names.join(", ")
            ),
        }
    }
}
