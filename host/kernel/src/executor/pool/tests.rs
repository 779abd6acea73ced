use std::{cell::RefCell, sync::mpsc};

use super::*;

/// Waits for a task of its pool when its thread ends, as a plugin's thread-local may that emits
/// to a blocking handler.
struct AsksAtTheEnd {
    pool: Arc<Pool>,
    answered: mpsc::Sender<u32>,
}

impl Drop for AsksAtTheEnd {
    fn drop(&mut self) {
        let (sender, receiver) = mpsc::channel();
        Pool::spawn(&self.pool, async move {
            let _ = sender.send(7);
        })
        .detach();
        let answer = receiver.recv_timeout(Duration::from_secs(20));
        let _ = self.answered.send(answer.unwrap_or_default());
    }
}

thread_local! {
    static ASKS: RefCell<Option<AsksAtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn a_thread_that_ends_may_ask_its_pool_for_more_and_waits_for_no_other_that_ends() {
    let sets = Arc::new(Sets::default());
    let pool = Arc::new(Pool::new("test", 4, Duration::from_millis(1), &sets));
    let (answered, answers) = mpsc::channel();
    for _ in 0..50 {
        let asks = AsksAtTheEnd { pool: pool.clone(), answered: answered.clone() };
        Pool::spawn(&pool, async move { ASKS.set(Some(asks)) }).detach();
        // Whoever pushes now finds the thread at its end.
        while !pool.crew().threads.iter().any(|thread| thread.handle.is_finished()) {
            thread::yield_now();
        }
        Pool::spawn(&pool, async {}).detach();
        assert_eq!(answers.recv_timeout(Duration::from_secs(30)), Ok(7));
    }
    drop(pool.replace_crew(0));
}
