//! The same with plugins in processes of their own, which end at any moment.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::super::fake::{Act, NAME, Stage, version_of};
use crate::plugin::instance::info::GenerationInfo;

/// Version 1 is live in a process of its own, and what it had is kept.
async fn with_one_live(exclusive: bool) -> Stage {
    let stage = Stage::isolated(exclusive);
    stage.deploy(1).await.unwrap().unwrap();
    stage.takes_checkpoint();
    stage
}

#[tokio::test(start_paused = true)]
async fn when_the_process_ends_while_its_next_version_gets_ready_that_begins_with_what_was_kept() {
    // Where the old one is asked for its state in the middle of a replacement.
    for (exclusive, step) in [(false, "create 2"), (true, "snapshot 1")] {
        let it = with_one_live(exclusive).await;
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        it.process_ends(false);
        it.script.end(step, Act::Well);
        it.in_time(second).await.unwrap().unwrap();
        let steps = it.script.steps();
        assert_eq!(steps.iter().filter(|it| *it == "restore 2").count(), 1, "{steps:?}");
        assert_eq!(it.script.count("create 1"), 1, "no other process of it: {steps:?}");
        assert_eq!(it.live().await, Some(2), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nothing_was_kept_of_a_process_that_ends_its_next_version_does_not_begin_empty() {
    for (exclusive, step) in [(false, "create 2"), (true, "snapshot 1")] {
        let it = Stage::isolated(exclusive);
        it.deploy(1).await.unwrap().unwrap();
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        it.process_ends(false);
        it.script.end(step, Act::Well);
        let error = it.in_time(second).await.unwrap().unwrap_err().to_string();
        assert!(error.contains("cannot hand its state over"), "{step}: {error}");
        let restarted = it.script.reached_times("create 1", 2);
        it.in_time(restarted).await;
        assert_eq!(version_of(&it.in_time(it.ask()).await.unwrap()), Some(1), "{step}");
    }
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

#[tokio::test(start_paused = true)]
async fn a_process_that_is_just_being_made_gives_way_to_another_version() {
    for exclusive in [false, true] {
        for step in ["create 1", "restore 1"] {
            let it = with_one_live(exclusive).await;
            it.script.next(step, Act::Waits);
            it.process_ends(false);
            it.script.reached_times("create 1", 2).await;
            it.script.reached(step).await;
            it.deploy(2).await.unwrap().unwrap();
            assert_eq!(it.script.count("create 1"), 2, "{:?}", it.script.steps());
            assert_eq!(it.live().await, Some(2), "{step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_given_way_for_nothing_comes_at_once_and_counts_as_one_end() {
    let it = with_one_live(false).await;
    it.script.next("create 1", Act::Waits);
    it.script.next("create 2", Act::Fails);
    it.process_ends(false);
    it.script.reached_times("create 1", 2).await;
    it.deploy(2).await.unwrap().unwrap_err();
    // The clock stands, and every further end has a wait.
    it.script.reached_times("create 1", 3).await;
    assert_eq!(it.live().await, Some(1));
    let registry = it.supervisor.registry();
    assert_eq!(registry.plugins[NAME].restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_the_system_does_not_start_is_no_end_of_its_plugin_and_is_tried_again() {
    let it = with_one_live(false).await;
    // More often than a plugin may end.
    (0..8).for_each(|_| it.script.next("create 1", Act::CannotBegin));
    it.process_ends(false);
    it.in_time(it.script.reached_times("create 1", 10)).await;
    it.moments().await;
    assert_eq!(it.in_time(it.ask()).await.map(|it| version_of(&it)).unwrap(), Some(1));
    let waits = it.script.waits_before("create 1");
    let least = [0, 100, 200, 400, 800, 1_000, 1_000, 1_000].map(Duration::from_millis);
    let are_long = waits[1..].iter().zip(least[1..].iter()).all(|(wait, least)| wait >= least);
    assert!(are_long, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_being_made_is_given_up_when_the_host_stops_and_nobody_waits_for_it() {
    let it = with_one_live(false).await;
    it.script.next("create 1", Act::Waits);
    it.process_ends(false);
    it.script.reached_times("create 1", 2).await;
    let asked = it.ask();
    it.stop.request();
    let report = it.in_steps(Duration::from_millis(1), asked).await.unwrap();
    assert!(report.replies().next().is_none(), "{:?}", report.outcomes());
    it.moments().await;
    assert_eq!(it.script.count("create 1"), 2, "{:?}", it.script.steps());
}

#[tokio::test(start_paused = true)]
async fn events_wait_no_longer_than_they_may_for_a_plugin_that_is_not_started_again() {
    let it = with_one_live(false).await;
    it.script.next("create 2", Act::Waits);
    let second = it.deploy(2);
    it.script.reached("create 2").await;
    // By its will: it is not started again. What is to follow waits for the other version.
    it.process_ends(true);
    it.moments().await;
    let report = it.in_time(it.ask()).await.unwrap();
    let told = format!("{:?}", report.outcomes());
    assert!(told.contains("the plugin is down: "), "{told}");
    assert!(!second.is_finished(), "it was refused before there was somebody else");
    it.script.end("create 2", Act::Well);
    it.in_time(second).await.unwrap().unwrap();
    assert_eq!(it.live().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_replaced_version_waits_for_its_next_checkpoint() {
    let it = with_one_live(false).await;
    let first: Weak<GenerationInfo> = {
        let registry = it.supervisor.registry();
        Arc::downgrade(&registry.plugins[NAME].info)
    };
    for version in 2..=50 {
        it.deploy(version).await.unwrap().unwrap();
    }
    it.all_retired().await;
    it.moments().await;
    assert!(first.upgrade().is_none(), "{} still hold it", first.strong_count());
}

#[tokio::test(start_paused = true)]
async fn what_a_plugin_has_is_kept_every_time_although_no_call_of_it_has_ended() {
    let it = with_one_live(false).await;
    let twice = it.script.reached_times("snapshot 1", 2);
    it.in_steps(Duration::from_secs(1), twice).await;
}
