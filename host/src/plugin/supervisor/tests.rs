//! Replacement as a state machine: what happens in which order, and what is left when a step fails.

mod processes;

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::advance;

use super::fake::{Act, Stage, version_of};
use crate::plugin::lifecycle::{error::DeployError, retired::RetiredState};

/// Version 1 is live, and version 2 is on its way.
async fn with_one_live(exclusive: bool) -> Stage {
    let stage = Stage::new(exclusive);
    stage.deploy(1).await.unwrap().unwrap();
    stage
}

#[tokio::test(start_paused = true)]
async fn beside_the_live_one_nothing_of_that_ends_before_the_new_one_has_its_state() {
    let it = with_one_live(false).await;
    let second = it.deploy(2).await.unwrap().unwrap();
    it.all_retired().await;
    let steps = ["describe 1", "create 1", "describe 2", "create 2", "snapshot 1", "restore 2"];
    assert_eq!(it.script.steps()[..6], steps);
    assert_eq!(it.script.steps()[6..], ["drop 1", "vacate 1"]);
    assert_eq!((second.generation, it.live().await), (2, Some(2)));
    assert_eq!(it.retired(), [RetiredState::Unmapped]);
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_one_is_gone_before_the_new_one_is_made() {
    let it = with_one_live(true).await;
    it.deploy(2).await.unwrap().unwrap();
    it.all_retired().await;
    // What it says of itself is asked for before: its contracts are looked at first.
    let steps = ["describe 1", "create 1", "describe 2", "snapshot 1", "drop 1", "create 2"];
    assert_eq!(it.script.steps()[..6], steps);
    assert_eq!(it.script.steps()[6..], ["restore 2", "vacate 1"]);
    assert_eq!(it.live().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn up_to_the_swap_the_live_one_answers_and_what_waits_for_the_state_goes_to_the_new_one() {
    let it = with_one_live(false).await;
    it.script.next("create 2", Act::Waits);
    it.script.next("restore 2", Act::Waits);
    let second = it.deploy(2);
    it.script.reached("create 2").await;
    assert_eq!(it.live().await, Some(1));
    it.script.end("create 2", Act::Well);
    it.script.reached("restore 2").await;
    let held = it.ask();
    tokio::task::yield_now().await;
    assert!(!held.is_finished());
    it.script.end("restore 2", Act::Well);
    second.await.unwrap().unwrap();
    assert_eq!(version_of(&held.await.unwrap()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_beside_the_live_one_that_goes_on_and_has_the_events_that_waited() {
    for step in ["create 2", "snapshot 1", "restore 2"] {
        let it = with_one_live(false).await;
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        let asked = it.ask();
        it.script.end(step, Act::Fails);
        let error = second.await.unwrap().unwrap_err();
        let is_of_the_step = match step {
            "create 2" => matches!(error, DeployError::Init { .. }),
            _ => matches!(error, DeployError::HandOver { .. }),
        };
        assert!(is_of_the_step, "{step}: {error}");
        assert_eq!(version_of(&asked.await.unwrap()), Some(1), "{step}");
        it.all_retired().await;
        let steps = it.script.steps();
        assert_eq!(steps.last().map(String::as_str), Some("vacate 2"), "{step}");
        assert!(!steps.contains(&"drop 1".to_owned()), "{step}: {steps:?}");
        assert_eq!(it.live().await, Some(1), "{step}");
        // The next one finds all as it was.
        assert_eq!(it.deploy(3).await.unwrap().unwrap().generation, 3, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_looks_on_for_a_candidate_that_fails_is_told_the_end() {
    for step in ["create 2", "restore 2"] {
        let it = with_one_live(false).await;
        it.script.next(step, Act::Fails);
        it.deploy(2).await.unwrap().unwrap_err();
        it.all_retired().await;
        let watch_of = |version| it.script.watches.lock().get(&version).cloned().unwrap();
        assert!(matches!(watch_of(2).next().now_or_never(), Some(None)), "{step}");
        assert!(watch_of(1).next().now_or_never().is_none(), "{step}: it is live");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_describe_itself_is_never_made() {
    let it = with_one_live(false).await;
    it.script.next("describe 2", Act::Fails);
    let error = it.deploy(2).await.unwrap().unwrap_err();
    assert!(matches!(error, DeployError::Describe { .. }), "{error}");
    it.all_retired().await;
    assert_eq!(it.script.steps()[2..], ["describe 2", "vacate 2"]);
    assert_eq!(it.live().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_its_time_fails_and_the_live_one_goes_on() {
    for step in ["create 2", "snapshot 1", "restore 2"] {
        let it = with_one_live(false).await;
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        let asked = it.ask();
        let second = it.in_steps(Duration::from_secs(1), second).await;
        let error = second.unwrap().unwrap_err().to_string();
        assert!(error.contains(" within "), "{step}: {error}");
        assert_eq!(version_of(&asked.await.unwrap()), Some(1), "{step}");
        it.all_retired().await;
        assert_eq!(it.live().await, Some(1), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_exclusive_one_fails_at_before_it_is_released_changes_nothing() {
    let it = with_one_live(true).await;
    it.script.next("snapshot 1", Act::Waits);
    let second = it.deploy(2);
    it.script.reached("snapshot 1").await;
    let held = it.ask();
    it.script.end("snapshot 1", Act::Fails);
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error, DeployError::HandOver { .. }), "{error}");
    assert_eq!(version_of(&held.await.unwrap()), Some(1));
    it.all_retired().await;
    assert_eq!(it.script.steps()[2..], ["describe 2", "snapshot 1", "vacate 2"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_new_version_of_an_exclusive_one_fails_the_old_one_is_made_again() {
    for step in ["create 2", "restore 2"] {
        let it = with_one_live(true).await;
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        let held = it.ask();
        it.script.end(step, Act::Fails);
        let error = it.in_time(second).await.unwrap().unwrap_err();
        assert!(matches!(error, DeployError::Reinstated { .. }), "{step}: {error}");
        assert_eq!(version_of(&held.await.unwrap()), Some(1), "{step}");
        it.all_retired().await;
        let steps = it.script.steps();
        let again = steps.iter().rposition(|it| it == "create 1").unwrap();
        // Two are never there at a time.
        let gone = steps.iter().position(|it| it == "drop 2");
        assert!(gone.is_none_or(|gone| gone < again), "{step}: {steps:?}");
        assert!(steps[again..].contains(&"restore 1".to_owned()), "{step}: {steps:?}");
        let registry = it.supervisor.registry();
        let plugin = registry.plugins.values().next().unwrap();
        assert_eq!((plugin.info.number, plugin.reinstated), (1, 1), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_neither_version_of_an_exclusive_one_starts_events_that_wait_are_told() {
    let it = with_one_live(true).await;
    it.script.next("create 2", Act::Waits);
    (0..10).for_each(|_| it.script.next("create 1", Act::Fails));
    let second = it.deploy(2);
    it.script.reached("create 2").await;
    let held = it.ask();
    it.script.end("create 2", Act::Fails);
    let error = it.in_time(second).await.unwrap().unwrap_err();
    assert!(matches!(error, DeployError::Down { .. }), "{error}");
    let report = held.await.unwrap();
    assert!(report.replies().next().is_none() && !report.is_ok(), "{:?}", report.outcomes());
    it.all_retired().await;
    assert_eq!(it.live().await, None);
    // Its state waits for whoever comes next.
    it.deploy(3).await.unwrap().unwrap();
    assert_eq!(it.script.steps().last().map(String::as_str), Some("restore 3"));
    assert_eq!(it.live().await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_one_plugin_at_once_come_one_after_the_other() {
    for exclusive in [false, true] {
        let it = with_one_live(exclusive).await;
        it.script.next("create 2", Act::Waits);
        let second = it.deploy(2);
        it.script.reached("create 2").await;
        let third = it.deploy(3);
        tokio::task::yield_now().await;
        assert!(!it.script.steps().contains(&"describe 3".to_owned()));
        it.script.end("create 2", Act::Well);
        let (second, third) = (second.await.unwrap().unwrap(), third.await.unwrap().unwrap());
        assert_eq!((second.generation, third.generation), (2, 3));
        it.all_retired().await;
        let steps = it.script.steps();
        let place = |step| steps.iter().position(|it| it == step).unwrap();
        assert!(place("restore 2") < place("describe 3"), "{steps:?}");
        assert!(place("snapshot 2") < place("restore 3"), "{steps:?}");
        assert_eq!(it.live().await, Some(3));
        assert_eq!(it.retired(), [RetiredState::Unmapped, RetiredState::Unmapped]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_leaves_the_live_one_with_the_events_that_waited() {
    for step in ["create 2", "snapshot 1", "restore 2"] {
        let it = with_one_live(false).await;
        it.script.next(step, Act::Waits);
        let second = it.deploy(2);
        it.script.reached(step).await;
        let asked = it.ask();
        it.stop.request();
        let error = it.in_time(second).await.unwrap().unwrap_err();
        assert!(matches!(error, DeployError::Stopping), "{step}: {error}");
        assert_eq!(version_of(&asked.await.unwrap()), Some(1), "{step}");
        assert_eq!(it.live().await, Some(1), "{step}");
        let error = it.deploy(3).await.unwrap().unwrap_err();
        assert!(matches!(error, DeployError::Stopping), "{step}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_an_exclusive_one_was_released_ends_with_an_instance_again() {
    let it = with_one_live(true).await;
    it.script.next("create 2", Act::Waits);
    let second = it.deploy(2);
    it.script.reached("create 2").await;
    let held = it.ask();
    it.stop.request();
    let error = it.in_time(second).await.unwrap().unwrap_err();
    assert!(matches!(error, DeployError::Reinstated { .. }), "{error}");
    assert_eq!(version_of(&held.await.unwrap()), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_still_needs_a_residence_is_waited_for() {
    let it = with_one_live(false).await;
    (0..3).for_each(|_| it.script.next("vacate 1", Act::Waits));
    it.deploy(2).await.unwrap().unwrap();
    it.all_retired().await;
    assert_eq!(it.script.count("vacate 1"), 4);
    assert_eq!(it.retired(), [RetiredState::Unmapped]);
}

#[tokio::test(start_paused = true)]
async fn a_residence_that_stays_is_tried_again_with_growing_waits_and_is_pinned_meanwhile() {
    let it = with_one_live(false).await;
    (0..3).for_each(|_| it.script.next("vacate 1", Act::Fails));
    it.deploy(2).await.unwrap().unwrap();
    let millisecond = Duration::from_millis(1);
    it.in_steps(millisecond, it.script.reached("vacate 1")).await;
    let expected = [100, 500, 1_000].map(Duration::from_millis);
    for (tried, wait) in (1..).zip(expected) {
        // From one attempt to the next the clock moves here alone.
        let pinned = async {
            while it.retired() != [RetiredState::Pinned(format!("it stays, try {tried}"))] {
                tokio::task::yield_now().await;
            }
        };
        it.script.unless_late("it is not tried again", pinned).await;
        advance(wait - millisecond).await;
        it.moments().await;
        advance(2 * millisecond).await;
    }
    it.all_retired().await;
    assert_eq!((it.script.count("vacate 1"), it.retired()), (4, vec![RetiredState::Unmapped]));
    let waits = it.script.waits_before("vacate 1");
    for (wait, least) in waits.iter().zip(expected) {
        assert!((least..=least + 5 * millisecond).contains(wait), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_for_good_is_pinned_and_nothing_waits_for_it() {
    let it = with_one_live(false).await;
    (0..20).for_each(|_| it.script.next("vacate 1", Act::Fails));
    it.deploy(2).await.unwrap().unwrap();
    it.in_steps(Duration::from_secs(10), it.supervisor.departures.retirements.wait()).await;
    assert_eq!(it.retired(), [RetiredState::Pinned("it stays, try 9".to_owned())]);
    assert_eq!(it.live().await, Some(2));
}
