//! The second half of a generation's end: its residence is vacated, once nothing needs it.
//!
//! Whatever keeps it is named, and looked at again; what is left of it in the end stays, and so
//! does its file.

use std::{
    io,
    sync::mpsc,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::sleep};

use super::{PATIENCE, Quiet, Retirer};
use crate::{
    plugin::{
        instance::{
            generation::Generation,
            info::GenerationInfo,
            residence::{Residence, Vacated},
        },
        lifecycle::retired::{Retired, RetiredState},
    },
    system::resident::resident_kib,
};

/// What something that needs a library is waited for before the second look, and, growing, before
/// each further one.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// What a library that is still mapped after dlclose waits before each further attempt; after the
/// last one it stays.
const RETRIES: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// What has become of a residence that nothing needed any more.
enum Left {
    Gone,
    /// It is there all the same.
    Not {
        cause: String,
        residence: Box<dyn Residence>,
    },
}

impl Retirer {
    /// The second half: until nothing is left of its residence, or that is given up on.
    pub(crate) async fn close(&self, quiet: Quiet, retired: &Retired) {
        let Quiet(generation) = quiet;
        let (info, began) = (generation.info.clone(), Instant::now());
        // Before anything that may take long: nobody is to be called whose instance is gone.
        generation.residence.withdraw();
        // Looked at first: what is let go of while threads end may run code of the plugin on those
        // that follow.
        let held = generation.residence.references() > 0;
        let here = generation.residence.is_here();
        if here {
            self.threads_gone(&info, retired).await;
        }
        self.references_gone(&generation, retired).await;
        let Generation { services, residence, copy, .. } = generation;
        drop(services);
        if held && here {
            // Whatever let go of the last reference may have run code of the plugin on the new
            // threads.
            self.threads_gone(&info, retired).await;
        }
        let mut left = self.vacated(residence, &info, retired).await;
        for retry in RETRIES {
            let Some(Left::Not { cause, residence }) = left else { break };
            self.pin(&info, retired, cause);
            sleep(retry).await;
            if here {
                self.threads_gone(&info, retired).await;
            }
            // Whatever kept it has run its code since.
            left = self.vacated(residence, &info, retired).await;
        }
        match left {
            Some(Left::Gone) => {
                drop(copy);
                retired.note("unmap", began);
                if let Some(kib) = resident_kib() {
                    retired.resident_kib.get_or_init(|| kib);
                }
                retired.set(RetiredState::Unmapped);
            }
            Some(Left::Not { cause, .. }) => {
                // Debuggers and backtraces need the file as long as it is mapped.
                std::mem::forget(copy);
                self.pin(&info, retired, cause);
            }
            None => {
                std::mem::forget(copy);
                self.pin(&info, retired, "the host panicked while it closed it".to_owned());
            }
        }
    }

    /// Waits until the plugin has no reference to the host any more, and nobody a value of it.
    async fn references_gone(&self, generation: &Generation, retired: &Retired) {
        let (mut wait, mut waited) = (Duration::from_micros(100), Duration::ZERO);
        loop {
            let held = generation.residence.references();
            if held == 0 {
                return;
            }
            if waited < PATIENCE && waited + wait >= PATIENCE {
                let mut cause = format!(
                    "{held} reference(s) still need it: a thread or a static of its own keeps a Context or a Watch, or another plugin works on a value that it gave"
                );
                let watched = generation.services.session().watched();
                if !watched.is_empty() {
                    cause += &format!(". It watches, and has not dropped: {}", watched.join("; "));
                }
                self.pin(&generation.info, retired, cause);
            }
            sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(250));
        }
    }

    /// Vacates a residence as soon as nothing needs it. `None` if that has panicked.
    async fn vacated(
        &self,
        mut residence: Box<dyn Residence>,
        info: &GenerationInfo,
        retired: &Retired,
    ) -> Option<Left> {
        let (began, mut wait) = (Instant::now(), FIRST_LOOK);
        let mut told = Vec::new();
        loop {
            let attempt = on_own_thread(
                move || residence.vacate(),
                |error| self.no_thread(info, retired, &error),
            );
            let by = match attempt.await? {
                Vacated::Gone => return Some(Left::Gone),
                Vacated::Stays { cause, residence } => return Some(Left::Not { cause, residence }),
                Vacated::Needed { by, residence: back } => {
                    residence = back;
                    by
                }
            };
            if began.elapsed() >= PATIENCE && by != told {
                let cause = by.join("; ");
                match told.is_empty() {
                    true => self.pin(info, retired, cause),
                    // Said once; what changes is for whoever asks.
                    false => retired.set(RetiredState::Pinned(cause)),
                }
                told = by;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LAST_LOOK);
        }
    }

    fn no_thread(&self, info: &GenerationInfo, retired: &Retired, error: &io::Error) {
        let cause = format!("no thread can be started to close it, which is tried again: {error}");
        self.pin(info, retired, cause);
    }
}

/// Runs something that may run a library's destructors, on a thread that ends right after. As long
/// as there is no thread it is tried again, which `no_thread` is told of once. `None` if it has
/// panicked.
async fn on_own_thread<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
    no_thread: impl FnOnce(io::Error),
) -> Option<T> {
    let mut no_thread = Some(no_thread);
    loop {
        let (sender, receiver) = oneshot::channel();
        // What is given to a thread that is not started would be lost.
        let (give, take) = mpsc::channel::<W>();
        let thread = std::thread::Builder::new().name("ksi-close".to_owned());
        let started = thread.spawn(move || {
            if let Ok(work) = take.recv() {
                // The other end waits for as long as this takes.
                let _ = sender.send(work());
            }
        });
        match started {
            Ok(_) => {
                let _ = give.send(work);
                return receiver.await.ok();
            }
            Err(error) => {
                if let Some(no_thread) = no_thread.take() {
                    no_thread(error);
                }
                sleep(PATIENCE).await;
            }
        }
    }
}
