//! The plugin whose handlers the benchmarks emit to. Each does what `ksi-bench-events` says is a
//! handler's work, at once or when it is polled a second time.
//!
//! | event | handlers |
//! |---|---|
//! | `bench:numbers`, `bench:letter` | one, declared |
//! | `bench:numbers_N`, `bench:letter_N` | N, subscribed at run time, up to the N that the configuration says in `fan_out` |
//! | `matched:by:pattern` | one, subscribed at run time to `matched:**` |
//! | `bench:echo` | one, declared, which sends back what it gets |
//! | `bench:handlers_allocated` | how much was allocated here so far |

use std::future::Future;

use ksi_bench_events as events;
use ksi_bench_events::{Added, AskLetter, AskNumbers, FAN_OUT, Letter, Matched, Numbers};
use ksi_plugin_api::prelude::*;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

#[payload]
#[derive(Default)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// How many handlers the events that have many are to have at most.
    fan_out: u32,
}

struct Handlers;

#[plugin(name = "bench-handlers")]
impl Handlers {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        ctx.subscribe("matched:**", |_, asked: Matched| numbers(asked))?;
        for handlers in FAN_OUT.into_iter().filter(|handlers| *handlers <= config.fan_out) {
            subscribe(ctx, handlers)?;
        }
        Ok(Handlers)
    }

    /// Adds numbers.
    #[event_handler]
    async fn numbers(&self, _ctx: &Context, asked: &AskNumbers) -> Result<Added> {
        Ok(asked.0.answer().await)
    }

    /// Answers a letter.
    #[event_handler]
    async fn letter(&self, _ctx: &Context, asked: AskLetter) -> Result<Letter> {
        Ok(asked.0.answer().await)
    }

    /// Sends a letter back as it is, for clients that compare.
    #[event_handler("bench:echo")]
    async fn echo(&self, _ctx: &Context, letter: Letter) -> Result<Letter> {
        Ok(letter)
    }

    /// How often memory was allocated here.
    #[event_handler("bench:handlers_allocated")]
    async fn allocated(&self, _ctx: &Context, _data: Value) -> Result<u64> {
        allocated()
    }
}

/// Subscribes so many handlers to each of the events that are to have so many.
fn subscribe(ctx: &Context, handlers: u32) -> Result<()> {
    for _ in 0..handlers {
        match handlers {
            1 => {
                ctx.subscribe(events::Numbers1::NAME, |_, it: events::Numbers1| numbers(it))?;
                ctx.subscribe(events::Letter1::NAME, |_, it: events::Letter1| letter(it))?;
            }
            10 => {
                ctx.subscribe(events::Numbers10::NAME, |_, it: events::Numbers10| numbers(it))?;
                ctx.subscribe(events::Letter10::NAME, |_, it: events::Letter10| letter(it))?;
            }
            100 => {
                ctx.subscribe(events::Numbers100::NAME, |_, it: events::Numbers100| numbers(it))?;
                ctx.subscribe(events::Letter100::NAME, |_, it: events::Letter100| letter(it))?;
            }
            _ => {
                ctx.subscribe(events::Numbers1000::NAME, |_, it: events::Numbers1000| numbers(it))?;
                ctx.subscribe(events::Letter1000::NAME, |_, it: events::Letter1000| letter(it))?;
            }
        }
    }
    Ok(())
}

fn numbers(asked: impl Into<Numbers>) -> impl Future<Output = Result<Added>> + Send + 'static {
    let asked = asked.into();
    async move { Ok(asked.answer().await) }
}

fn letter(asked: impl Into<Letter>) -> impl Future<Output = Result<Letter>> + Send + 'static {
    let asked = asked.into();
    async move { Ok(asked.answer().await) }
}

#[cfg(feature = "count-allocations")]
fn allocated() -> Result<u64> {
    let stats = COUNTED.stats();
    u64::try_from(stats.allocations + stats.reallocations)
        .map_err(|error| Error::new("overflow", error))
}

#[cfg(not(feature = "count-allocations"))]
fn allocated() -> Result<u64> {
    Err(Error::new("not_counted", "this build does not count; build it with count-allocations"))
}
