use std::{
    sync::atomic::{AtomicBool, AtomicI64},
    task::Context,
    time::{Duration, Instant},
};

use ksi_abi::{Counted, ReplyForm};

use super::*;
use crate::{
    call::{
        CallTarget, Callee, HandlerInfo, Started, outcome::CallOutcome, outcome_taps::OutcomeTaps,
        recorder::Recorder,
    },
    event::Event,
    memory::Budget,
};

struct Nothing;

impl Callee for Nothing {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        Started::Ready(CallOutcome::NoReply)
    }
}

fn target(plugin: &str, priority: i32, order: u64) -> Arc<Target> {
    let info = HandlerInfo {
        plugin: plugin.into(),
        handler: "h".into(),
        key: 0,
        untried: AtomicBool::new(false),
        counts: Arc::default(),
        generation: 1,
        is_of_host: false,
        latency: Default::default(),
        cpu: Default::default(),
        recorder: Recorder::none(),
        outcome_taps: OutcomeTaps::new(Budget::new(0), 0),
        active: AtomicI64::new(0),
        timeout: Duration::ZERO,
        check: Default::default(),
        _label: None,
    };
    let entry = CallTarget {
        info: Arc::new(info),
        callee: Arc::new(Nothing),
        number: 0,
        timeout: Duration::ZERO,
        blocking: false,
        cancel: Arc::default(),
        keeper: None,
    };
    Arc::new(Target::new(priority, order, None, false, entry))
}

fn routes(patterns: &[&str], target: &Arc<Target>) -> Vec<Route> {
    let parsed = patterns.iter().map(|text| Pattern::parse(text).unwrap());
    parsed.map(|pattern| Route { pattern, target: target.clone() }).collect()
}

fn subscription(number: u64) -> Owner {
    Owner::Subscription { plugin: "p".into(), generation: 1, number }
}

/// What a table has to say, worked out from nothing but its routes.
fn naively(table: &RoutingTable, name: &str) -> Vec<Arc<Target>> {
    let matching = table.routes().filter(|route| route.pattern.matches(name));
    let mut targets: Vec<_> = matching.map(|route| route.target.clone()).collect();
    targets.sort_by(|a, b| rank(a).cmp(&rank(b)));
    targets.dedup_by(|a, b| Arc::ptr_eq(a, b));
    targets
}

fn assert_same(found: &[Arc<Target>], expected: &[Arc<Target>], name: &str) {
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| Arc::ptr_eq(found, expected));
    assert!(same, "{name}: {} targets instead of {}", found.len(), expected.len());
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

#[test]
fn after_any_change_every_name_has_the_targets_that_its_routes_say() {
    const SEGMENTS: [&str; 5] = ["a", "b", "c", "*", "**"];
    let mut random = Random(7);
    let mut table = RoutingTable::default();
    let mut held: Vec<Arc<HeldName>> = Vec::new();
    let plugins: [Arc<str>; 3] = ["p".into(), "q".into(), "r".into()];
    for step in 0..3_000 {
        let plugin = &plugins[random.below(3)];
        let some = |random: &mut Random| -> Vec<Route> {
            let new = target(plugin, random.below(3) as i32, random.below(4) as u64);
            let patterns: Vec<String> = (0..random.below(3))
                .map(|_| {
                    let length = 2 + random.below(2);
                    let segments: Vec<_> = (0..length).map(|_| random.pick(&SEGMENTS)).collect();
                    segments.join(":")
                })
                .collect();
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            routes(&patterns, &new)
        };
        let owner = Owner::Subscription {
            plugin: plugin.clone(),
            generation: 1,
            number: random.below(6) as u64,
        };
        table = match random.below(12) {
            0 => table.without(plugin),
            1 => {
                let new = vec![
                    (Owner::Plugin(plugin.clone()), some(&mut random)),
                    (owner, some(&mut random)),
                ];
                table.swapped([(plugin, new)])
            }
            2 => table.with(Owner::Host(random.below(3) as u64), some(&mut random)),
            3 => {
                let name =
                    format!("{}:{}", random.pick(&["a", "b", "z"]), random.pick(&["a", "b", "z"]));
                held.push(table.interner().hold(&name));
                table.with_names(held.last())
            }
            4 if !held.is_empty() => {
                held.swap_remove(random.below(held.len()));
                table
            }
            _ => table.with(owner, some(&mut random)),
        };
        for first in ["a", "b", "c", "z"] {
            for second in ["a", "b", "c", "a:b", "b:c", "z"] {
                let name = format!("{first}:{second}");
                assert_same(
                    &table.targets(&name),
                    &naively(&table, &name),
                    &format!("{step}: {name}"),
                );
            }
        }
        for held in &held {
            let found = table.held(held).expect("the table was told of it");
            assert_same(&found.targets, &naively(&table, held.name()), held.name());
        }
        assert!(table.names().all(|name| table.routes().any(|r| r.pattern.as_str() == name)));
    }
}

#[test]
fn ten_thousand_subscriptions_one_by_one_are_ten_thousand_names_worked_out() {
    let mut table = RoutingTable::default();
    for number in 0..10_000 {
        let name = format!("n{number}:x");
        table = table.with(subscription(number), routes(&[&name], &target("p", 0, number)));
    }
    assert_eq!(table.recomputed, 10_000, "none is worked out for another's sake");
    table = table.with(subscription(10_000), routes(&["n77:*"], &target("p", 0, 10_000)));
    assert_eq!(table.recomputed, 10_001, "a pattern is about the names that it matches");
    assert_eq!(table.targets("n77:x").len(), 2);
    for number in 0..10_000 {
        table = table.with(subscription(number), Vec::new());
    }
    assert!(table.recomputed <= 20_001, "{}", table.recomputed);
    assert_eq!(table.routes().count(), 1);
}

#[test]
fn a_swap_works_out_the_names_of_its_plugin_only() {
    let mut table = RoutingTable::default();
    for number in 0..1_000 {
        let plugin: Arc<str> = format!("p{number}").into();
        let new = routes(&[&format!("{plugin}:a"), &format!("{plugin}:b")], &target(&plugin, 0, 0));
        table = table.swapped([(&plugin, vec![(Owner::Plugin(plugin.clone()), new)])]);
    }
    let before = table.recomputed;
    let plugin: Arc<str> = "p500".into();
    let new = target(&plugin, 0, 0);
    let owned = vec![(Owner::Plugin(plugin.clone()), routes(&["p500:a", "p500:c"], &new))];
    table = table.swapped([(&plugin, owned)]);
    assert!(table.recomputed - before <= 3, "{}", table.recomputed - before);
    assert_same(&table.targets("p500:a"), &[new], "the new generation's");
    assert!(table.targets("p500:b").is_empty());
}

#[test]
fn a_table_stays_as_it_was_when_another_is_made_from_it() {
    let (one, two) = (target("p", 0, 0), target("p", 0, 1));
    let before = RoutingTable::default().with(subscription(1), routes(&["a:b", "a:*"], &one));
    let after = before.with(subscription(1), Vec::new());
    let after = after.with(subscription(2), routes(&["a:b"], &two));
    assert_same(&before.targets("a:b"), std::slice::from_ref(&one), "before");
    assert_same(&before.targets("a:c"), &[one], "before");
    assert_same(&after.targets("a:b"), &[two], "after");
    assert!(after.targets("a:c").is_empty());
}

#[test]
fn nothing_of_a_plugin_that_went_stays_in_the_table() {
    let gone = target("p", 0, 0);
    let mut table = RoutingTable::default();
    let (name, patterns) = (table.interner().hold("a:x"), ["a:b", "a:*", "*", "**:b"]);
    table = table.with_names([&name]);
    table = table.with(Owner::Plugin("p".into()), routes(&patterns, &gone));
    assert_eq!(table.held(&name).map(|called| called.targets.len()), Some(1));
    drop(name);
    table = table.without("p");
    assert_eq!(Arc::strong_count(&gone), 1, "neither by name nor by pattern nor by number");
    assert_eq!(table.routes().count(), 0);
}

#[test]
fn a_number_that_was_given_back_never_stands_for_the_name_before() {
    let handler = target("p", 0, 0);
    let table = RoutingTable::default().with(subscription(1), routes(&["*:b"], &handler));
    let first = table.interner().hold("a:b");
    let number = first.id();
    let table = table.with_names([&first]);
    drop(first);
    let second = table.interner().hold("a:c");
    assert_eq!(second.id(), number, "it was free");
    assert!(table.held(&second).is_none(), "this table knows the number as that of a:b");
    let table = table.with_names([&second]);
    assert_eq!(table.held(&second).map(|called| called.targets.len()), Some(0));
    assert_same(&table.targets("a:b"), &[handler], "without a number");
}

#[test]
fn what_the_table_knows_is_bounded_by_what_is_subscribed_and_held() {
    let mut table = RoutingTable::default();
    let mut most = 0;
    for round in 0..5_000 {
        let name = format!("n{round}:x");
        table = table.with(subscription(1), routes(&[&name], &target("p", 0, 0)));
        let held = table.interner().hold(&format!("n{round}:y"));
        table = table.with_names([&held]);
        most = most.max(held.id().index());
    }
    assert!(table.slots.len() < 80, "{}", table.slots.len());
    assert_eq!(table.numbers.len(), table.slots.len());
    assert!(most < 80, "{most}");
}

#[test]
fn names_that_a_pattern_alone_matches_share_its_list() {
    let handler = target("p", 0, 0);
    let table = RoutingTable::default().with(subscription(1), routes(&["a:*"], &handler));
    let (one, two) = (table.targets("a:b"), table.targets("a:c"));
    assert!(Arc::ptr_eq(&one, &two), "nothing is put together for a look-up");
}

/// For people: `cargo test --release -p ksi-kernel --lib router::table -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures of the machine it runs on"]
fn figures() {
    for foreign in [10, 1_000, 10_000] {
        let mut table = RoutingTable::default();
        let begin = Instant::now();
        for number in 0..foreign {
            let text = match number % 4 {
                0 => format!("n{number}:*"),
                _ => format!("n{number}:x"),
            };
            table = table.with(subscription(number), routes(&[&text], &target("p", 0, number)));
        }
        let subscribing = begin.elapsed() / u32::try_from(foreign).unwrap();
        table = table.with(subscription(foreign), routes(&["own:*"], &target("p", 0, 0)));
        let held = table.interner().hold("own:held");
        table = table.with_names([&held]);
        let each = |what: &dyn Fn() -> usize| {
            let begin = Instant::now();
            (0..1_000_000).for_each(|_| assert_eq!(std::hint::black_box(what()), 1));
            begin.elapsed().as_nanos() / 1_000_000
        };
        let by_number = each(&|| table.held(&held).unwrap().targets.len());
        let by_name = each(&|| table.targets("own:held").len());
        let by_pattern = each(&|| table.targets("own:other").len());
        println!(
            "{foreign} others: subscribing {subscribing:?}, by number {by_number} ns, by name {by_name} ns, by pattern {by_pattern} ns"
        );
    }
}
