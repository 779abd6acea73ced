//! How far a host has come with its start, for those who ask while it loads its plugins, and for
//! those who wait for its end.
//!
//! Promises that who waits is woken when the start is over, however it ends. Does not know what is
//! done in a start, nor that a host may be stopped meanwhile.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ksi_wire::system::Starting;
use tokio::sync::watch;

/// The start of one host. A clone is the same one.
#[derive(Debug, Clone)]
pub(crate) struct StartUp {
    stage: Arc<watch::Sender<StartStage>>,
    /// The same as its last stage, for those who look at every event.
    over: Arc<AtomicBool>,
    began: Instant,
}

#[derive(Debug, Clone, Default)]
enum StartStage {
    /// No file has been looked at.
    #[default]
    Begun,
    Loading {
        file: String,
        number: usize,
        of: usize,
    },
    Over,
}

impl StartUp {
    pub(crate) fn begin() -> Self {
        StartUp { stage: Arc::default(), over: Arc::default(), began: Instant::now() }
    }

    /// This file is the one that the others behind it wait for.
    pub(crate) fn loads(&self, file: &Path, number: usize, of: usize) {
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.reach(StartStage::Loading { file, number, of });
    }

    /// Whatever was to be loaded is, or is not waited for.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.reach(StartStage::Over);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits until it is over.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`, so there is no other end.
        let _ = self.stage.subscribe().wait_for(|stage| matches!(stage, StartStage::Over)).await;
    }

    /// What is being done, for programs; `None` when it is over.
    pub(crate) fn told(&self) -> Option<Starting> {
        let begun = Starting { seconds: self.began.elapsed().as_secs_f64(), ..Starting::default() };
        match &*self.stage.borrow() {
            StartStage::Begun => Some(begun),
            StartStage::Loading { file, number, of } => Some(Starting {
                loading: Some(file.clone()),
                number: Some(*number),
                of: Some(*of),
                ..begun
            }),
            StartStage::Over => None,
        }
    }

    /// A start that is over does not begin again.
    fn reach(&self, next: StartStage) {
        self.stage.send_if_modified(|stage| {
            let goes_on = !matches!(stage, StartStage::Over);
            if goes_on {
                *stage = next;
            }
            goes_on
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_by_the_end_and_nothing_is_told_behind_it() {
        let start = StartUp::begin();
        start.loads(Path::new("plugins/liba.so"), 2, 3);
        let told = start.told().expect("it is not over");
        assert_eq!((told.loading.as_deref(), told.number), (Some("liba.so"), Some(2)));
        let waits = tokio::spawn({
            let start = start.clone();
            async move { start.ended().await }
        });
        start.end();
        waits.await.expect("it is woken");
        start.loads(Path::new("plugins/libb.so"), 3, 3);
        assert!(start.is_over() && start.told().is_none());
    }
}
