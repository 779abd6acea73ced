//! The same with plugins in processes of their own, which end at any moment.

use super::super::fake::{Act, Stage};

/// Version 1 is live in a process of its own, and what it had is kept.
async fn with_one_live(exclusive: bool) -> Stage {
    let stage = Stage::isolated(exclusive);
    stage.deploy(1).await.unwrap().unwrap();
    stage.takes_checkpoint();
    stage
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_plugin_can_be_replaced_while_it_waits_for_its_process_after_one_did_not_start()
 {
    let it = with_one_live(true).await;
    it.script.next("create 1", Act::Fails);
    it.process_ends(false);
    it.script.reached_times("create 1", 2).await;
    it.moments().await;
    // It waits by the clock, which stands: nothing of its own comes before this.
    it.deploy(2).await.unwrap().unwrap();
    assert_eq!(it.script.count("create 1"), 2, "{:?}", it.script.steps());
    assert_eq!(it.live().await, Some(2));
}
