//! The plugin that the benchmarks have emit: `bench:run` says what, how and how long; the answer
//! says how many events that were, how many replies were right, and how long it took. The clock is
//! read in here, so that nothing else is measured.

mod own;

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::{Duration, Instant},
};

use ksi_bench_events as events;
use ksi_bench_events::{Added, Lane, Laps, Letter, Numbers, Ran, Route, Run};
use ksi_plugin_api::{Layout, prelude::*};
use serde::de::DeserializeOwned;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// What a run waits for the one that it is to meet.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Emitter {
    /// Runs so far that were to meet another.
    met: AtomicU32,
}

#[plugin(name = "bench-emitter", requires("bench:numbers"))]
impl Emitter {
    /// Emits again and again.
    #[event_handler]
    async fn run(&self, ctx: &Context, run: Run) -> Result<Ran> {
        self.meet(&run)?;
        let Run { lane, route, pending, .. } = run;
        match lane {
            Lane::Shared => {
                let (ask, right) = (|number| Numbers::ask(number, pending), Added::answers);
                match route {
                    Route::Request => {
                        request(ctx, &run, |it| events::AskNumbers(ask(it)), right).await
                    }
                    Route::Pattern => {
                        request(ctx, &run, |it| events::Matched(ask(it)), right).await
                    }
                    Route::Emit(1) => emit(ctx, &run, |it| events::Numbers1(ask(it)), right).await,
                    Route::Emit(10) => {
                        emit(ctx, &run, |it| events::Numbers10(ask(it)), right).await
                    }
                    Route::Emit(100) => {
                        emit(ctx, &run, |it| events::Numbers100(ask(it)), right).await
                    }
                    Route::Emit(_) => {
                        emit(ctx, &run, |it| events::Numbers1000(ask(it)), right).await
                    }
                }
            }
            Lane::SharedLetters => {
                let ask = |number| events::AskLetter(Letter::ask(number, pending));
                request(ctx, &run, ask, Letter::answers).await
            }
            Lane::Json => {
                let ask = |number| own::Letter::ask(number, pending);
                let right = own::Letter::answers;
                match route {
                    Route::Request | Route::Pattern => {
                        request(ctx, &run, |it| own::Ask(ask(it)), right).await
                    }
                    Route::Emit(1) => emit(ctx, &run, |it| own::Ask1(ask(it)), right).await,
                    Route::Emit(10) => emit(ctx, &run, |it| own::Ask10(ask(it)), right).await,
                    Route::Emit(100) => emit(ctx, &run, |it| own::Ask100(ask(it)), right).await,
                    Route::Emit(_) => emit(ctx, &run, |it| own::Ask1000(ask(it)), right).await,
                }
            }
        }
    }

    /// How often memory was allocated here.
    #[event_handler("bench:emitter_allocated")]
    async fn allocated(&self, _ctx: &Context, _data: Value) -> Result<u64> {
        allocated()
    }
}

impl Emitter {
    /// Waits, without giving the thread away, until the run that is to go beside this one is there
    /// too.
    fn meet(&self, run: &Run) -> Result<()> {
        if run.meet == 0 {
            return Ok(());
        }
        self.met.fetch_add(1, SeqCst);
        let began = Instant::now();
        while self.met.load(SeqCst) < run.meet {
            if began.elapsed() > PATIENCE {
                return Err(Error::new("alone", "the other run did not begin"));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Wants one reply each time.
async fn request<E: Emit, R: DeserializeOwned + Layout + Clone>(
    ctx: &Context,
    run: &Run,
    ask: impl Fn(u64) -> E,
    right: impl Fn(&R, u64) -> bool,
) -> Result<Ran> {
    let mut laps = Laps::begin(run);
    while let Some(number) = laps.round() {
        let reply = ctx.request::<R>(ask(number)).await?;
        laps.replied(right(&reply, number));
    }
    Ok(laps.end())
}

/// Takes all replies each time.
async fn emit<E: Emit, R: DeserializeOwned + Layout + Clone>(
    ctx: &Context,
    run: &Run,
    ask: impl Fn(u64) -> E,
    right: impl Fn(&R, u64) -> bool,
) -> Result<Ran> {
    let mut laps = Laps::begin(run);
    while let Some(number) = laps.round() {
        let report = ctx.emit(ask(number)).await;
        for reply in report.results_as::<R>()? {
            laps.replied(right(&reply, number));
        }
    }
    Ok(laps.end())
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
