//! Replacing the plugin under test by another version of it, under traffic.

use std::sync::atomic::AtomicUsize;

use super::*;

/// What the versions of `Till` note of themselves, on the thread of their test.
fn note(what: impl Into<String>) {
    LOG.with(|log| log.lock().unwrap().push(what.into()));
}

fn clear() {
    LOG.with(|log| log.lock().unwrap().clear());
}

/// A plugin with state, slow calls and an end, in two versions.
macro_rules! till {
    ($version:ident, $tells:literal, [$($option:tt)*], $writes:literal $(, $also:literal)?) => {
        mod $version {
            use super::*;

            pub(super) struct Till {
                sum: AtomicU64,
                config: Value,
            }

            impl Drop for Till {
                fn drop(&mut self) {
                    note(concat!($tells, " dropped"));
                }
            }

            #[plugin(name = "till", $($option)*)]
            impl Till {
                #[initialize]
                async fn open(ctx: &Context, config: Value) -> Result<Self> {
                    note(concat!($tells, " opened"));
                    if config["fail"] == $tells {
                        return Err(Error::new("no_luck", "told to fail"));
                    }
                    if config["keep"] == $tells {
                        ctx.keep("paper", std::os::unix::net::UnixStream::pair()?.0)?;
                    }
                    ctx.subscribe("till:late", |_: Context, _: Value| async { Ok($tells) })?;
                    Ok(Till { sum: AtomicU64::new(0), config })
                }

                /// Takes as many seconds.
                #[event_handler("till:add")]
                async fn add(&self, ctx: &Context, (by, seconds): (u64, u32)) -> Result<Value> {
                    if seconds > 0 {
                        ctx.sleep(SECOND * seconds).await;
                    }
                    let sum = self.sum.fetch_add(by, SeqCst) + by;
                    Ok(json!([$tells, sum]))
                }

                /// Through another plugin, back into this one.
                #[event_handler("till:round", timeout = "1m")]
                async fn round(&self, ctx: &Context, _: Value) -> Result<Value> {
                    ctx.sleep(SECOND).await;
                    ctx.request(named("other:back", &json!({}))).await
                }

                #[event_handler("till:never", timeout = "1m")]
                async fn never(&self, ctx: &Context, _: Value) -> Result<()> {
                    ctx.sleep(50 * SECOND).await;
                    Ok(())
                }

                #[event_handler("till:tick")]
                async fn tick(&self, ctx: &Context, _: Value) -> Result<()> {
                    let ticking = ctx.clone();
                    ctx.spawn(async move {
                        loop {
                            ticking.sleep(SECOND).await;
                            ticking.emit(named("till:ticked", &$tells)).await;
                        }
                    })?;
                    Ok(())
                }

                #[event_handler("till:keep")]
                async fn keep(&self, ctx: &Context, name: String) -> Result<()> {
                    ctx.keep(&name, std::os::unix::net::UnixStream::pair()?.0)
                }

                #[event_handler("module:shutdown")]
                async fn close(&self, ctx: &Context, _: Value) -> Result<()> {
                    ctx.sleep(SECOND).await;
                    note(concat!($tells, " closed"));
                    Ok(())
                }

                #[snapshot(version = $writes)]
                async fn snapshot(&self, _: &Context) -> Result<u64> {
                    note(concat!($tells, " snapshot"));
                    match self.config["snapshot"] == $tells {
                        true => Err(Error::new("no_paper", "told to fail")),
                        false => Ok(self.sum.load(SeqCst)),
                    }
                }

                #[restore(version = $writes)]
                async fn restore(&self, _: &Context, sum: u64) -> Result<()> {
                    note(concat!($tells, " restored"));
                    if self.config["restore"] == $tells {
                        return Err(Error::new("torn", "told to fail"));
                    }
                    self.sum.store(sum, SeqCst);
                    Ok(())
                }

                $(
                    #[restore(version = $also)]
                    async fn restore_older(&self, ctx: &Context, sum: u64) -> Result<()> {
                        self.restore(ctx, sum).await
                    }
                )?
            }
        }
    };
}

till!(v1, "v1", [], 1);
till!(v2, "v2", [], 2, 1);
till!(alone1, "v1", [exclusive], 1);
till!(alone2, "v2", [exclusive], 2, 1);

fn added(report: &Report) -> Value {
    report.results().remove(0)
}

fn ended(call: &crate::Call) -> Value {
    added(&call.finished().expect("it has ended"))
}

#[test]
fn calls_in_flight_end_in_the_old_version_and_what_comes_meanwhile_goes_to_the_new_one() {
    clear();
    let plugin = Harness::start::<v1::Till>();
    assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v1", 1]));
    let in_flight = plugin.begin("till:add", (10, 2));
    let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
    let held: Vec<_> = (0..3).map(|_| plugin.begin("till:add", (100, 0))).collect();
    plugin.advance(SECOND);
    assert_eq!((replacement.finished(), plugin.held()), (None, 3));
    assert!(held.iter().all(|call| call.finished().is_none()));

    plugin.advance(SECOND);
    assert_eq!(replacement.finished(), Some(Ok(())));
    assert_eq!(ended(&in_flight), json!(["v1", 11]));
    let sums: Vec<_> = held.iter().map(ended).collect();
    assert_eq!(sums, [json!(["v2", 111]), json!(["v2", 211]), json!(["v2", 311])]);
    assert_eq!(plugin.emit("till:late", ()).results(), [json!("v2")], "its subscriptions go too");
    plugin.advance(SECOND);
    assert_eq!(
        log(),
        ["v1 opened", "v2 opened", "v1 snapshot", "v2 restored", "v1 closed", "v1 dropped"]
    );
}

#[test]
fn time_passes_as_a_replacement_needs_it() {
    clear();
    let plugin = Harness::start::<v1::Till>();
    let in_flight = plugin.begin("till:add", (10, 2));
    plugin.replace::<v2::Till>().unwrap();
    assert_eq!(plugin.now(), 2 * SECOND);
    assert_eq!(ended(&in_flight), json!(["v1", 10]));
    assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v2", 11]));
    assert_eq!(plugin.snapshot().unwrap(), (2, json!(11)));
    // And back: the new version writes nothing that the old one reads.
    let error = plugin.replace::<v1::Till>().unwrap_err();
    assert_eq!(error.code(), "no_common_version");
    assert!(
        error.message().contains("of the versions [2], and the new one restores [1]"),
        "{error}"
    );
    let back = Harness::setup::<v1::Till>().restore(1, json!(5));
    plugin.replace_with(back).unwrap();
    assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v1", 6]));
}

#[test]
fn whatever_fails_before_the_swap_the_old_version_goes_on_with_all_that_waited() {
    for (config, code, dropped) in [
        (json!({"restore": "v2"}), "torn", true),
        (json!({"fail": "v2"}), "no_luck", false),
        (json!({"snapshot": "v1"}), "no_paper", true),
    ] {
        clear();
        let plugin = Harness::with_config::<v1::Till>(config).unwrap();
        let in_flight = plugin.begin("till:add", (10, 1));
        let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
        let meanwhile = plugin.begin("till:add", (100, 0));
        plugin.advance(SECOND);
        assert_eq!(replacement.finished().unwrap().unwrap_err().code(), code);
        assert_eq!(ended(&in_flight)[0], "v1");
        assert_eq!(ended(&meanwhile)[0], "v1");
        assert_eq!(plugin.emit("till:late", ()).results(), [json!("v1")]);
        assert_eq!(plugin.held(), 0);
        let log = log();
        assert_eq!(log.contains(&"v2 dropped".to_owned()), dropped, "{log:?}");
        assert!(!log.contains(&"v2 closed".to_owned()), "it never was live: {log:?}");
        // Nothing has happened: it can be done again.
        plugin
            .replace_with(Harness::setup::<v2::Till>().config(json!({})).restore(1, json!(7)))
            .unwrap();
        assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v2", 8]));
    }
}

#[test]
fn calls_that_hold_a_replacement_up_are_cancelled_at_its_deadline() {
    let plugin = Harness::start::<v1::Till>();
    let stuck = plugin.begin("till:never", ());
    let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
    let meanwhile = plugin.begin("till:add", (1, 0));
    plugin.advance(Duration::from_millis(4_999));
    assert_eq!(replacement.finished(), None);
    plugin.advance(Duration::from_millis(1));
    assert_eq!(replacement.finished(), Some(Ok(())));
    assert!(matches!(kind(&stuck.finished().unwrap()), OutcomeKind::Rejected { .. }));
    assert_eq!(ended(&meanwhile), json!(["v2", 1]));
}

#[test]
fn what_comes_from_a_call_inside_is_let_in() {
    let plugin = Harness::start::<v1::Till>();
    let bank = plugin.other("bank");
    bank.on("other:back", |ctx: Context, _: Value| async move {
        ctx.request::<Value>(named("till:add", &(1, 0))).await
    });
    let round = plugin.begin("till:round", ());
    let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
    plugin.advance(SECOND);
    assert_eq!(ended(&round), json!(["v1", 1]));
    assert_eq!(replacement.finished(), Some(Ok(())));
}

#[test]
fn what_the_host_keeps_stays_unless_a_version_that_never_was_live_has_added_it() {
    let setup = Harness::setup::<v1::Till>().config(json!({"keep": "v2", "restore": "v2"}));
    let plugin = setup.start().unwrap();
    assert!(plugin.replace::<v2::Till>().is_err());
    assert!(plugin.kept("paper").is_none());
    let kept = Harness::setup::<v2::Till>().config(json!({"keep": "v2"}));
    plugin.replace_with(kept).unwrap();
    assert!(plugin.kept("paper").is_some());
    assert!(plugin.emit("till:keep", "later").is_ok());
    plugin
        .replace_with(Harness::setup::<v1::Till>().config(json!({})).restore(1, json!(0)))
        .unwrap();
    assert!(plugin.kept("paper").is_some() && plugin.kept("later").is_some());
}

#[test]
fn tasks_of_the_old_version_end_and_those_of_the_new_one_run() {
    let plugin = Harness::start::<v1::Till>();
    plugin.emit("till:tick", ());
    plugin.advance(SECOND);
    plugin.replace::<v2::Till>().unwrap();
    plugin.emit("till:tick", ());
    plugin.advance(2 * SECOND);
    assert_eq!(plugin.emitted_of("till:ticked"), ["v1", "v2", "v2"]);
}

#[test]
fn of_an_exclusive_plugin_no_two_instances_are_alive() {
    clear();
    let plugin = Harness::start::<alone1::Till>();
    let in_flight = plugin.begin("till:add", (10, 2));
    let replacement = plugin.begin_replace(Harness::setup::<alone2::Till>());
    let meanwhile = plugin.begin("till:add", (1, 0));
    // Two seconds for the call, and one for the shutdown of the old version.
    plugin.advance(2 * SECOND);
    assert_eq!((ended(&in_flight), replacement.finished()), (json!(["v1", 10]), None));
    plugin.advance(SECOND);
    assert_eq!(replacement.finished(), Some(Ok(())));
    assert_eq!(ended(&meanwhile), json!(["v2", 11]));
    let order = ["v1 opened", "v1 snapshot", "v1 closed", "v1 dropped", "v2 opened", "v2 restored"];
    assert_eq!(log(), order);
}

#[test]
fn an_exclusive_plugin_whose_new_version_fails_is_made_again_with_its_state() {
    for config in [json!({"fail": "v2"}), json!({"restore": "v2"})] {
        let plugin = Harness::with_config::<alone1::Till>(config).unwrap();
        plugin.emit("till:add", (5, 0));
        clear();
        let replacement = plugin.begin_replace(Harness::setup::<alone2::Till>());
        let meanwhile = plugin.begin("till:add", (1, 0));
        plugin.advance(SECOND);
        assert!(replacement.finished().expect("it has ended").is_err());
        assert_eq!(ended(&meanwhile), json!(["v1", 6]));
        assert_eq!(log().last().unwrap(), "v1 restored");
        plugin.replace_with(Harness::setup::<alone2::Till>().config(json!({}))).unwrap();
        assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v2", 7]));
    }
}

#[test]
fn an_exclusive_plugin_goes_on_with_its_own_state_when_another_one_can_not_be_restored() {
    let plugin = Harness::with_config::<alone1::Till>(json!({"restore": "v2"})).unwrap();
    plugin.emit("till:add", (5, 0));
    let given = Harness::setup::<alone2::Till>().restore(1, json!(99));
    assert_eq!(plugin.replace_with(given).unwrap_err().code(), "torn");
    assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v1", 6]));
    // Of one that gives no snapshot there is nothing but what was given.
    let config = json!({"restore": "v2", "snapshot": "v1"});
    let plugin = Harness::with_config::<alone1::Till>(config).unwrap();
    plugin.emit("till:add", (5, 0));
    let given = Harness::setup::<alone2::Till>().restore(1, json!(99));
    assert_eq!(plugin.replace_with(given).unwrap_err().code(), "torn");
    assert_eq!(added(&plugin.emit("till:add", (1, 0))), json!(["v1", 100]));
}

#[test]
fn an_exclusive_plugin_that_is_made_again_gets_the_latest_that_it_writes() {
    struct Both;

    #[plugin(name = "both", exclusive)]
    impl Both {
        #[initialize]
        async fn open(_: &Context, _: Value) -> Result<Self> {
            Ok(Both)
        }

        #[snapshot(version = 2)]
        async fn snapshot(&self, _: &Context) -> Result<u8> {
            Ok(2)
        }

        #[snapshot(version = 1)]
        async fn snapshot_before(&self, _: &Context) -> Result<u8> {
            Ok(1)
        }

        #[restore(version = 2)]
        async fn restore(&self, _: &Context, written: u8) -> Result<()> {
            note(format!("restored {written}"));
            Ok(())
        }

        #[restore(version = 1)]
        async fn restore_before(&self, ctx: &Context, written: u8) -> Result<()> {
            self.restore(ctx, written).await
        }
    }

    struct Before;

    #[plugin(name = "both", exclusive)]
    impl Before {
        #[initialize]
        async fn open(_: &Context, _: Value) -> Result<Self> {
            Ok(Before)
        }

        #[snapshot(version = 1)]
        async fn snapshot(&self, _: &Context) -> Result<u8> {
            Ok(1)
        }

        #[restore(version = 1)]
        async fn restore(&self, _: &Context, written: u8) -> Result<()> {
            Err(Error::new("torn", written))
        }
    }

    clear();
    let plugin = Harness::start::<Both>();
    let error = plugin.replace::<Before>().unwrap_err();
    assert_eq!((error.code(), error.message()), ("torn", "1"));
    assert_eq!(log(), ["restored 2"]);
}

#[test]
fn an_exclusive_plugin_of_which_no_version_starts_is_down_and_every_event_is_told() {
    thread_local! {
        static STARTS: AtomicUsize = const { AtomicUsize::new(0) };
    }

    struct Once;

    #[plugin(name = "once", exclusive)]
    impl Once {
        #[initialize]
        async fn open(_: &Context, _: Value) -> Result<Self> {
            match STARTS.with(|starts| starts.fetch_add(1, SeqCst)) {
                0 => Ok(Once),
                _ => Err(Error::new("taken", "it was taken")),
            }
        }

        #[event_handler("once:ask")]
        async fn ask(&self, _: &Context, _: Value) -> Result<u8> {
            Ok(1)
        }
    }

    let plugin = Harness::start::<Once>();
    assert_eq!(plugin.replace::<Once>().unwrap_err().code(), "down");
    match kind(&plugin.emit("once:ask", ())) {
        OutcomeKind::Rejected { reason } => assert_eq!(reason, "the plugin has no instance now"),
        other => panic!("{other:?}"),
    }
    assert_eq!(plugin.replace::<Once>().unwrap_err().code(), "gone");
}

#[test]
fn a_replacement_is_refused_where_a_host_refuses_it() {
    let plugin = Harness::start::<v1::Till>();
    assert_eq!(plugin.replace::<Probe>().unwrap_err().code(), "other_plugin");
    let trial = Harness::setup::<v2::Till>().trial();
    assert_eq!(plugin.replace_with(trial).unwrap_err().code(), "trial");

    #[derive(Default)]
    struct Stateless;

    #[plugin(name = "till")]
    impl Stateless {}

    assert_eq!(plugin.replace::<Stateless>().unwrap_err().code(), "no_state");
    let _in_flight = plugin.begin("till:add", (1, 1));
    let first = plugin.begin_replace(Harness::setup::<v2::Till>());
    assert_eq!(plugin.replace::<v2::Till>().unwrap_err().code(), "busy");
    plugin.advance(SECOND);
    assert_eq!(first.finished(), Some(Ok(())));
}

#[derive(Default)]
struct Neighbour;

#[plugin(name = "neighbour")]
impl Neighbour {
    #[event_handler("neighbour:here")]
    async fn here(&self, _: &Context, _: Value) -> Result<bool> {
        Ok(true)
    }
}

#[test]
fn what_is_refused_has_changed_nothing() {
    let plugin = Harness::start::<v1::Till>();
    let with = |setup: crate::Setup<v2::Till>| {
        let (near, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let setup = setup.kept("paper", near).beside(Harness::setup::<Neighbour>());
        setup.on("stand:in", |_: Value| Ok(true))
    };
    let nothing_has_changed = |code: &str, refused: Result<()>| {
        assert_eq!(refused.unwrap_err().code(), code);
        assert!(plugin.kept("paper").is_none(), "{code}");
        for event in ["stand:in", "neighbour:here"] {
            assert!(!plugin.emit(event, ()).handled(), "{code}: {event}");
        }
    };
    let setup = || with(Harness::setup::<v2::Till>());
    let _in_flight = plugin.begin("till:add", (1, 1));
    let first = plugin.begin_replace(Harness::setup::<v2::Till>());
    nothing_has_changed("busy", plugin.replace_with(setup()));
    plugin.advance(SECOND);
    assert_eq!(first.finished(), Some(Ok(())));

    let other = Harness::setup::<Probe>().on("stand:in", |_: Value| Ok(true));
    let other = other.beside(Harness::setup::<Neighbour>());
    nothing_has_changed("other_plugin", plugin.replace_with(other));
    let trial = Harness::setup::<Probe>().trial();
    nothing_has_changed("trial", plugin.replace_with(setup().beside(trial)));
    let twice = setup().beside(Harness::setup::<Neighbour>());
    nothing_has_changed("other_plugin", plugin.replace_with(twice));
    let pattern = setup().on("no pattern", |_: Value| Ok(true));
    nothing_has_changed("error", plugin.replace_with(pattern));

    plugin.replace_with(setup()).unwrap();
    assert!(plugin.kept("paper").is_some());
    for event in ["stand:in", "neighbour:here"] {
        assert_eq!(plugin.emit(event, ()).results(), [json!(true)]);
    }
}

#[test]
fn a_shutdown_ends_a_replacement_and_all_versions() {
    clear();
    let plugin = Harness::start::<v1::Till>();
    let _in_flight = plugin.begin("till:add", (1, 1));
    let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
    assert!(plugin.shutdown().is_ok());
    assert_eq!(replacement.finished().unwrap().unwrap_err().code(), "gone");
    let log = log();
    for gone in ["v1 closed", "v1 dropped", "v2 dropped"] {
        assert!(log.contains(&gone.to_owned()), "{gone}: {log:?}");
    }
}

#[test]
fn a_shutdown_ends_a_replacement_of_an_exclusive_plugin_before_its_instance_is_given_up() {
    clear();
    let plugin = Harness::start::<alone1::Till>();
    let _in_flight = plugin.begin("till:add", (1, 1));
    let replacement = plugin.begin_replace(Harness::setup::<alone2::Till>());
    assert!(plugin.shutdown().is_ok());
    assert_eq!(replacement.finished().unwrap().unwrap_err().code(), "gone");
    assert_eq!(log(), ["v1 opened", "v1 snapshot", "v1 closed", "v1 dropped"]);
}

#[test]
fn more_events_than_may_wait_end_a_replacement() {
    let plugin = Harness::start::<v1::Till>();
    let _in_flight = plugin.begin("till:add", (1, 1));
    let replacement = plugin.begin_replace(Harness::setup::<v2::Till>());
    let held: Vec<_> = (0..4_096).map(|_| plugin.begin("till:add", (1, 0))).collect();
    assert_eq!(replacement.finished().unwrap().unwrap_err().code(), "too_many_held");
    assert_eq!(ended(held.last().unwrap()), json!(["v1", 4_096]));
}
