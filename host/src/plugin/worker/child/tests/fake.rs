//! A plugin without a file, with a handler for each thing that a worker does.

use std::{
    io::{PipeWriter, Read, Write, pipe},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use ksi_plugin_api::{EmitOptions, Error, Watched, json, named, prelude::*};

/// What a handler that does not return waits for.
pub(super) static LET_GO: OnceLock<()> = OnceLock::new();

/// Tells who drops it.
struct Noticed(&'static str);

pub(super) static DROPPED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Drop for Noticed {
    fn drop(&mut self) {
        DROPPED.lock().unwrap().push(self.0);
    }
}

pub(super) struct Fake {
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
        let (mut ours, theirs) = pipe()?;
        ctx.keep("pair", &theirs)?;
        let kept = ctx.kept("pair")?.map(PipeWriter::from);
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

pub(super) fn number_of(name: &str) -> u64 {
    HANDLERS.iter().position(|it| *it == name).unwrap() as u64
}
