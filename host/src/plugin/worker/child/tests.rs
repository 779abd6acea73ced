//! A worker on threads of this process, with a plugin without a file, and a host that is a script.

mod kit;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use ksi_plugin_api::{EmitOptions, Error, Watched, json, named, prelude::*};
use ksi_worker_protocol::{FromHost, OutcomeKind, Payload, life::Limits};

use kit::Host;

/// What a handler that does not return waits for.
static LET_GO: OnceLock<()> = OnceLock::new();

/// Tells who drops it.
struct Noticed(&'static str);

static DROPPED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Drop for Noticed {
    fn drop(&mut self) {
        DROPPED.lock().unwrap().push(self.0);
    }
}

struct Fake {
    state: Mutex<Value>,
    _noticed: Noticed,
}

#[plugin(name = "fake")]
impl Fake {
    #[initialize]
    async fn initialize(ctx: &Context, config: Value) -> Result<Self> {
        if config["fails"] == true {
            return Err(Error::new("unfit", "it does not want to"));
        }
        if config["asks"] == true {
            let _: Value = ctx.request(named("init:asks", &1)).await?;
        }
        let name = if config["noticed"] == true { "instance" } else { "another" };
        Ok(Fake { state: Mutex::new(json!(0)), _noticed: Noticed(name) })
    }

    #[event_handler("fake:echo")]
    async fn echo(&self, ctx: &Context, data: Value) -> Result<Value> {
        let event = ctx.event().unwrap();
        Ok(json!([data, event.name(), event.source(), event.attribute("who"), event.depth()]))
    }

    #[event_handler("fake:fails")]
    async fn fails(&self, _: &Context, _: Value) -> Result<()> {
        Err(Error::new("late", "too late"))
    }

    #[event_handler("fake:panics")]
    async fn panics(&self, _: &Context, _: Value) -> Result<()> {
        panic!("on purpose")
    }

    #[event_handler("fake:asks")]
    async fn asks(&self, ctx: &Context, data: Value) -> Result<Value> {
        ctx.request(named("other:asked", &data)).await
    }

    #[event_handler("fake:says")]
    async fn says(&self, ctx: &Context, _: Value) -> Result<String> {
        let options = EmitOptions::new().attribute("a", "b").timeout(Duration::from_nanos(7));
        let report = ctx.with(options.depth(2)).emit(named("other:told", &json!({}))).await;
        Ok(format!("{:?}", report.outcomes()))
    }

    #[event_handler("fake:sends")]
    async fn sends(&self, ctx: &Context, bytes: usize) -> Result<()> {
        ctx.send(named("other:sent", &"x".repeat(bytes)))
    }

    #[event_handler("fake:waits")]
    async fn waits(&self, ctx: &Context, _: Value) -> Result<String> {
        let event = ctx.wait_for("other:came", Duration::from_nanos(9)).await?;
        Ok(event.info().name().to_owned())
    }

    #[event_handler("fake:sleeps")]
    async fn sleeps(&self, ctx: &Context, _: Value) -> Result<()> {
        ctx.sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    #[event_handler("fake:stuck")]
    async fn stuck(&self, _: &Context, _: Value) -> Result<()> {
        LET_GO.wait();
        Ok(())
    }

    #[event_handler("fake:blocking", blocking)]
    async fn blocking(&self, _: &Context, _: Value) -> Result<String> {
        Ok(std::thread::current().name().unwrap_or_default().to_owned())
    }

    #[event_handler("fake:keeps")]
    async fn keeps(&self, ctx: &Context, _: Value) -> Result<()> {
        let kept = ctx.clone();
        ctx.spawn(async move {
            let _ = kept.request::<Value>(named("other:later", &1)).await;
        })?;
        Ok(())
    }

    #[event_handler("fake:task")]
    async fn task(&self, ctx: &Context, _: Value) -> Result<()> {
        let noticed = Noticed("task");
        ctx.spawn(async move {
            let _noticed = noticed;
            std::future::pending::<()>().await;
        })?;
        Ok(())
    }

    #[event_handler("fake:subscribes")]
    async fn subscribes(&self, ctx: &Context, patterns: Vec<String>) -> Result<()> {
        for pattern in patterns {
            ctx.subscribe(&pattern, |_: Context, data: Value| async move { Ok(json!([data])) })?;
        }
        Ok(())
    }

    #[event_handler("fake:watches")]
    async fn watches(&self, ctx: &Context, capacity: usize) -> Result<Vec<String>> {
        let (mut watch, mut seen) = (ctx.watch(&["a:*", "b:c"], capacity)?, Vec::new());
        while let Some(step) = watch.next().await {
            seen.push(match step {
                Watched::Event(event) => event.info().name().to_owned(),
                Watched::Missed(count) => format!("missed {count}"),
                other => format!("{other:?}"),
            });
        }
        Ok(seen)
    }

    #[event_handler("fake:logs")]
    async fn logs(&self, _: &Context, _: Value) -> Result<()> {
        Ok(())
    }

    #[event_handler("fake:kept")]
    async fn kept(&self, ctx: &Context, _: Value) -> Result<String> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ctx.keep("pair", &theirs)?;
        let kept = ctx.kept("pair")?.map(UnixStream::from);
        kept.ok_or_else(|| Error::new("none", "it is not kept"))?.write_all(b"hello")?;
        drop(theirs);
        let there = ctx.stop_keeping("pair");
        let mut text = String::new();
        ours.read_to_string(&mut text)?;
        Ok(format!("{text} {there} {}", ctx.kept("other")?.is_none()))
    }

    #[event_handler("fake:set")]
    async fn set(&self, _: &Context, value: Value) -> Result<()> {
        *self.state.lock().unwrap() = value;
        Ok(())
    }

    #[snapshot]
    async fn snapshot(&self, _: &Context) -> Result<Value> {
        Ok(self.state.lock().unwrap().clone())
    }

    #[restore]
    async fn restore(&self, _: &Context, state: Value) -> Result<()> {
        *self.state.lock().unwrap() = state;
        Ok(())
    }
}

/// The handlers of the plugin, by their order.
const HANDLERS: &[&str] = &[
    "echo",
    "fails",
    "panics",
    "asks",
    "says",
    "sends",
    "waits",
    "sleeps",
    "stuck",
    "blocking",
    "keeps",
    "task",
    "subscribes",
    "watches",
    "logs",
    "kept",
    "set",
];

fn number_of(name: &str) -> u64 {
    HANDLERS.iter().position(|it| *it == name).unwrap() as u64
}

fn live() -> Host {
    Host::live::<Fake>(json!({}), Limits::default())
}

#[test]
fn a_worker_says_what_it_opened_and_that_it_made_an_instance() {
    let mut host = Host::start::<Fake>(Limits::default());
    let opened = host.open();
    assert!(opened.contains(r#""name":"echo""#), "{opened}");
    let id = host.put(FromHost::Create(Payload::Bytes(b"{}")));
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn an_initialize_that_fails_is_told_and_another_may_follow() {
    let mut host = Host::start::<Fake>(Limits::default());
    host.open();
    let id = host.put(FromHost::Create(Payload::Bytes(b"{\"fails\":true}")));
    assert_eq!(host.next(), format!("failed {id} unfit: it does not want to"));
    let id = host.put(FromHost::Create(Payload::Bytes(b"{}")));
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn an_initialize_that_asks_is_answered() {
    let mut host = Host::start::<Fake>(Limits::default());
    host.open();
    let id = host.put(FromHost::Create(Payload::Bytes(b"{\"asks\":true}")));
    let asked = host.until("emit");
    assert!(asked.ends_with("Request of 0 init:asks 1"), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "2")]);
    assert_eq!(host.next(), format!("created {id}"));
    host.ends();
}

#[test]
fn a_call_has_its_event_and_ends_in_what_the_handler_says() {
    let mut host = live();
    let id = host.call("echo", "{\"a\":1}");
    assert_eq!(host.next(), format!(r#"reply {id} [{{"a":1}},"fake:any","shop","me",3]"#));
    let id = host.call("fails", "1");
    assert_eq!(host.next(), format!("failed {id} late: too late"));
    let id = host.call("panics", "1");
    assert_eq!(host.next(), format!("panicked {id} on purpose"));
    let id = host.call("set", "5");
    assert_eq!(host.next(), format!("no_reply {id}"));
    host.ends();
}

#[test]
fn calls_that_come_together_are_answered_together() {
    let mut host = live();
    let calls: Vec<_> = (0..50).map(|_| host.call_later("echo", "1")).collect();
    host.flush();
    for id in calls {
        assert!(host.next().starts_with(&format!("reply {id} ")));
    }
    host.ends();
}

#[test]
fn an_event_is_emitted_in_the_name_of_its_call_and_the_call_goes_on_with_the_report() {
    let mut host = live();
    let id = host.call("asks", "{\"b\":2}");
    let asked = host.next();
    assert!(asked.ends_with(&format!("Request of {id} other:asked {{\"b\":2}}")), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "[7]")]);
    assert_eq!(host.next(), format!("reply {id} [7]"));
    let id = host.call("says", "1");
    let asked = host.next();
    let options = format!("Emit of {id} other:told {{}} a=b timeout 7 depth 2");
    assert!(asked.ends_with(&options), "{asked}");
    host.report(&asked, &[(OutcomeKind::REPLIED, "1"), (OutcomeKind::CRASHED, "")]);
    let reply = host.next();
    assert!(reply.contains("Replied") && reply.contains("Crashed"), "{reply}");
    host.ends();
}

#[test]
fn what_is_refused_without_the_host_never_reaches_it() {
    let limits = Limits { payload: 100, ..Limits::default() };
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("sends", "101");
    let failed = host.next();
    assert!(failed.starts_with(&format!("failed {id} ")), "{failed}");
    assert!(failed.contains("limits.payload_bytes"), "{failed}");
    let id = host.call("sends", "5");
    assert_eq!(host.next(), format!("emit {} Send of {id} other:sent \"xxxxx\"", host.last()));
    assert_eq!(host.next(), format!("no_reply {id}"));
    host.ends();
}

#[test]
fn a_refusal_that_comes_later_is_a_line_of_the_log() {
    let mut host = live();
    host.call("sends", "5");
    let sent = host.until("emit");
    host.until("no_reply");
    let number = sent.split(' ').nth(1).unwrap().parse().unwrap();
    host.answer(number, FromHost::Refused { code: 3, text: "the queue is full" });
    let line = host.next();
    assert!(line.starts_with("log 2 ") && line.ends_with("the queue is full"), "{line}");
    host.ends();
}

#[test]
fn a_call_that_waits_or_sleeps_goes_on() {
    let mut host = live();
    let id = host.call("sleeps", "1");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.call("waits", "1");
    let wait = host.next();
    assert!(wait.ends_with("other:came 9"), "{wait}");
    host.answer_event(&wait, "other:came");
    assert_eq!(host.next(), format!("reply {id} \"other:came\""));
    host.ends();
}

#[test]
fn a_call_that_is_cancelled_ends_and_so_does_what_it_asked_for() {
    let mut host = live();
    let id = host.call("asks", "1");
    let asked = host.next();
    host.answer(id, FromHost::Cancel);
    let number = asked.split(' ').nth(1).unwrap();
    let mut ends = [host.next(), host.next()];
    ends.sort();
    assert_eq!(ends[0], format!("cancel {number}"));
    assert!(ends[1].starts_with(&format!("failed {id} cancelled: ")), "{}", ends[1]);
    host.ends();
}

#[test]
fn a_ping_and_other_calls_are_answered_while_a_handler_does_not_return() {
    let mut host = live();
    let stuck = host.call("stuck", "1");
    let ping = host.put(FromHost::Ping);
    assert_eq!(host.until("pong"), format!("pong {ping}"));
    let id = host.call("sleeps", "1");
    assert_eq!(host.until("no_reply"), format!("no_reply {id}"));
    LET_GO.get_or_init(|| ());
    assert_eq!(host.until("no_reply"), format!("no_reply {stuck}"));
    host.ends();
}

#[test]
fn a_blocking_handler_has_a_thread_of_its_own() {
    let mut host = live();
    let id = host.call_blocking("blocking", "1");
    let reply = host.next();
    assert!(reply.starts_with(&format!("reply {id} ")), "{reply}");
    assert!(!reply.contains("ksi-reader"), "{reply}");
    host.ends();
}

#[test]
fn a_context_that_outlives_its_call_is_kept_by_the_host_until_it_is_released() {
    let mut host = live();
    let id = host.call("keeps", "1");
    let mut first = [host.next(), host.next()];
    first.sort();
    assert_eq!(first[1], format!("no_reply {id} kept"));
    assert!(first[0].ends_with(&format!("Request of {id} other:later 1")), "{}", first[0]);
    host.report(&first[0], &[(OutcomeKind::REPLIED, "2")]);
    assert_eq!(host.next(), format!("release {id}"));
    let limits = Limits { kept_contexts: 0, ..Limits::default() };
    host.ends();
    // Where none may be kept, it is as one without a call.
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("keeps", "1");
    assert_eq!(host.until("no_reply"), format!("no_reply {id}"));
    host.ends();
}

#[test]
fn a_subscription_is_called_by_the_number_that_it_came_with() {
    let mut host = live();
    let id = host.call("subscribes", "[\"a:*\"]");
    let asked = host.next();
    let mut words = asked.split(' ');
    assert_eq!((words.next(), words.nth(1)), (Some("subscribe"), Some("4294967296")), "{asked}");
    assert!(asked.ends_with("a:* 0 0 false"), "{asked}");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.call_number(1 << 32, "7");
    assert_eq!(host.next(), format!("reply {id} [7]"));
    let id = host.call("subscribes", "[\"not a pattern\"]");
    assert!(host.next().starts_with(&format!("failed {id} ")));
    host.ends();
}

#[test]
fn subscriptions_have_the_bound_that_the_host_gave() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    let mut host = Host::live::<Fake>(json!({}), limits);
    let id = host.call("subscribes", "[\"a:a\",\"a:b\",\"a:c\"]");
    assert!(host.next().starts_with("subscribe ") && host.next().starts_with("subscribe "));
    let failed = host.next();
    assert!(failed.starts_with(&format!("failed {id} ")), "{failed}");
    assert!(failed.contains("limits.subscriptions"), "{failed}");
    host.ends();
}

#[test]
fn a_watch_shows_what_comes_and_says_what_it_has_missed() {
    let mut host = live();
    let id = host.call("watches", "2");
    let watch = host.next();
    assert!(watch.ends_with("2 a:* b:c"), "{watch}");
    let (mut call, number) = (id, watch.split(' ').nth(1).unwrap().parse().unwrap());
    host.show(number, "a:one");
    host.answer(number, FromHost::Watched(ksi_worker_protocol::Watched::Missed(4)));
    let reply = host.until("reply");
    assert_eq!(reply, format!("reply {call} [\"a:one\",\"missed 4\"]"));
    assert_eq!(host.until("unwatch"), format!("unwatch {number}"));
    // The end of the plugin.
    call = host.call("watches", "2");
    host.until("watch");
    let detach = host.put(FromHost::Detach);
    assert_eq!(host.until("reply"), format!("reply {call} []"));
    assert_eq!(host.until("no_reply"), format!("no_reply {detach}"));
    let id = host.call("watches", "2");
    let failed = host.until("failed");
    assert!(failed.starts_with(&format!("failed {id} ")) && failed.contains("retired"), "{failed}");
    host.ends();
}

#[test]
fn tasks_end_before_the_host_hears_that_they_have() {
    let mut host = live();
    let id = host.call("task", "1");
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.put(FromHost::Detach);
    assert_eq!(host.next(), format!("no_reply {id}"));
    assert!(DROPPED.lock().unwrap().contains(&"task"));
    let id = host.call("task", "1");
    assert!(host.next().starts_with(&format!("failed {id} ")));
    host.ends();
}

#[test]
fn resources_are_asked_for_from_the_reading_thread_and_come_as_descriptors() {
    let mut host = live();
    let id = host.call("kept", "1");
    let keep = host.next();
    assert!(keep.starts_with("keep ") && keep.ends_with(" pair"), "{keep}");
    let kept = host.descriptor();
    host.answer_to(&keep, FromHost::Done);
    let asked = host.next();
    assert!(asked.ends_with(" pair"), "{asked}");
    host.answer_to(&asked, FromHost::Descriptor(kept));
    let stop = host.next();
    assert!(stop.starts_with("stop_keeping "), "{stop}");
    host.answer_to(&stop, FromHost::Done);
    let other = host.next();
    host.answer_to(&other, FromHost::Nothing);
    assert_eq!(host.next(), format!("reply {id} \"hello true true\""));
    host.ends();
}

#[test]
fn state_is_given_read_and_restored_by_its_version() {
    let mut host = live();
    host.call("set", "[1,2]");
    host.next();
    let id = host.put(FromHost::Snapshot { version: 1 });
    assert_eq!(host.next(), format!("reply {id} [1,2]"));
    let restore = |state: &'static [u8]| ksi_worker_protocol::Restore {
        version: 1,
        state: Payload::Bytes(state),
    };
    let id = host.put(FromHost::ReadBack(restore(b"[1")));
    assert!(host.next().starts_with(&format!("failed {id} ")));
    let id = host.put(FromHost::Restore(restore(b"{\"x\":3}")));
    assert_eq!(host.next(), format!("no_reply {id}"));
    let id = host.put(FromHost::Snapshot { version: 1 });
    assert_eq!(host.next(), format!("reply {id} {{\"x\":3}}"));
    host.ends();
}

#[test]
fn a_shutdown_ends_calls_and_drops_the_instance_before_it_is_answered() {
    let mut host = Host::live::<Fake>(json!({"noticed": true}), Limits::default());
    let asks = host.call("asks", "1");
    host.until("emit");
    let id = host.put(FromHost::Shutdown);
    assert!(host.until("failed").starts_with(&format!("failed {asks} cancelled")));
    assert_eq!(host.until("bye"), format!("bye {id}"));
    assert!(DROPPED.lock().unwrap().contains(&"instance"));
    host.has_ended().unwrap();
}

#[test]
fn the_end_of_the_socket_is_the_end_and_so_is_what_is_no_frame() {
    let host = live();
    host.hangs_up().unwrap();
    let host = live();
    let error = host.sends_nonsense().unwrap_err();
    assert!(error.contains("a host sends no frames of kind 0"), "{error}");
}

#[test]
fn what_the_host_must_not_wait_for_is_answered_before_there_is_an_instance() {
    let mut host = Host::start::<Fake>(Limits::default());
    let ping = host.put(FromHost::Ping);
    assert_eq!(host.until("pong"), format!("pong {ping}"));
    host.open();
    let id = host.call("echo", "1");
    assert!(host.next().starts_with(&format!("failed {id} no_instance: ")));
    host.ends();
}

#[test]
fn limits_that_cannot_be_read_are_no_reason_to_do_without() {
    let mut host = Host::start::<Fake>(Limits::default());
    let id = host.put_open(json!({"memory": []}));
    let failed = host.until("failed");
    assert!(failed.starts_with(&format!("failed {id} sandbox: ")), "{failed}");
    assert!(host.has_ended().is_err());
}
