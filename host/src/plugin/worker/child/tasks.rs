//! Background tasks of the plugin.

use std::{collections::HashMap, sync::Arc};

use async_task::Task;
use ksi_abi::{BoundaryFuture, Refusal, RefusalCode};
use ksi_kernel::lock::Lock;

use super::host::WorkerHost;

#[derive(Default)]
pub(super) struct WorkerTasks(Lock<TaskTable>);

#[derive(Default)]
struct TaskTable {
    tasks: HashMap<u64, Task<()>>,
    closed: bool,
}

impl WorkerTasks {
    pub(super) fn count(&self) -> usize {
        self.0.lock().tasks.len()
    }

    pub(super) fn cancel(&self, number: u64) {
        let task = self.0.lock().tasks.remove(&number);
        drop(task);
    }

    /// Ends all of them, takes no more, and waits until nothing of them is left.
    pub(super) async fn close(&self) {
        let all = {
            let mut table = self.0.lock();
            table.closed = true;
            std::mem::take(&mut table.tasks)
        };
        for (_, task) in all {
            task.cancel().await;
        }
    }
}

impl WorkerHost {
    pub(super) fn run_task(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        let (number, host) = (self.number(), self.clone());
        let task = async move {
            let end = future.await;
            if let Err(message) = end {
                host.say(1, &format!("a background task panicked: {}", message.to_text()));
            }
            let task = host.tasks.0.lock().tasks.remove(&number);
            drop(task);
        };
        let to = self.clone();
        let (runnable, task) =
            async_task::spawn(task, move |runnable| to.schedule(runnable, false));
        let refused = {
            let (mut table, limit) = (self.tasks.0.lock(), self.limits.tasks);
            if table.closed {
                Some((
                    RefusalCode::RETIRING,
                    format!("{} is being retired and cannot start tasks any more", self.plugin),
                ))
            } else if table.tasks.len() as u64 >= limit {
                Some((
                    RefusalCode::TOO_MANY_TASKS,
                    format!(
                        "{} runs {limit} background tasks, and no more are allowed \
                         (limits.background_tasks)",
                        self.plugin
                    ),
                ))
            } else {
                table.tasks.insert(number, task);
                None
            }
        };
        // Its first poll is not the caller's, who may be in the middle of anything.
        self.runtime.spawn(async move {
            runnable.run();
        });
        refused.map_or(Ok(number), |(code, text)| Err(Refusal::new(code, text)))
    }
}
