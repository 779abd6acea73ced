//! Two threads that emit, against one.

use futures_util::future::try_join;
use ksi_bench_events::{Lane, Ran, Route, Run, boxed};

use ksi_figures::Best;

use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measuring, Plan, by_turns, measure},
    stage::Stage,
};

/// Longer than elsewhere, so that the moment in which only one of the two has begun does not count.
const NANOS: u64 = 2_000_000;
const PLAN: Plan = Plan { windows: 12, turns: 8, best: Best::Most };

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let stage = Stage::start(builds, 0, 0).await?;
    let mut rows = Vec::new();
    let mut met = 0;
    for (lane, name) in [(Lane::Shared, "typed"), (Lane::Json, "JSON")] {
        let alone = Run::timed(lane, Route::Request, false, NANOS);
        let one = || async { Ok(rate(stage.run(&alone).await?)) };
        let two = || -> Measuring<'_> {
            met += 2;
            let run = Run { meet: met, ..alone };
            let stage = &stage;
            Box::pin(async move {
                let (first, second) = try_join(stage.run(&run), stage.run(&run)).await?;
                Ok(rate(first) + rate(second))
            })
        };
        let [two, one] = by_turns([measure(two), measure(one)], PLAN).await?;
        rows.push(
            Row::pair(
                format!("two threads that request, {name}"),
                &two,
                "a second",
                "one thread",
                &one,
            )
            .bar(Some(Bar::RatioAtLeast(1.8))),
        );
    }
    stage.stop().await;
    rows.push(machine().await?);
    Ok(rows)
}

/// What two threads of this machine do at this moment, with nothing between them.
async fn machine() -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let boxed = move || tokio::spawn(boxed::numbers(run));
    let one = move || async move { Ok(rate(boxed().await?)) };
    let two = move || async move {
        let (first, second) = try_join(boxed(), boxed()).await?;
        Ok(rate(first) + rate(second))
    };
    let [two, one] = by_turns([measure(two), measure(one)], PLAN).await?;
    Ok(Row::pair("two threads with boxed futures", &two, "a second", "one thread", &one))
}

/// Rounds a second.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn rate(ran: Ran) -> f64 {
    ran.rounds as f64 * 1e9 / ran.nanos as f64
}
