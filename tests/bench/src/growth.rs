//! What an emit costs beside subscriptions and plugins that it has nothing to do with.

use ksi_bench_events::{Lane, Route, Run};
use ksi_figures::Series;
use ksi_host::{Failure, Host};

use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{NANOS, SHORT, by_turns},
    stage::Stage,
};

const SUBSCRIPTIONS: [usize; 3] = [10, 1_000, 10_000];
const PLUGINS: [usize; 2] = [10, 200];

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let mut rows = by_subscriptions(builds).await?;
    rows.push(by_plugins(builds).await?);
    Ok(rows)
}

/// All hosts are there at the same time, so that they can be measured by turns.
async fn by_subscriptions(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let mut stages = Vec::new();
    for subscriptions in SUBSCRIPTIONS {
        let stage = Stage::start(builds, 0, 0).await?;
        subscribe(&stage.host, subscriptions)?;
        stages.push(stage);
    }
    let [few, more, most] = &stages[..] else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (route, of) in [(Route::Request, ""), (Route::Pattern, ", which a pattern matches")] {
        let inside = |stage| Stage::inside(stage, Run::timed(Lane::Shared, route, false, NANOS));
        let [few, more, most] = by_turns([inside(few), inside(more), inside(most)], SHORT).await?;
        let row = |subscriptions: &str, figure: &Series| {
            let what = format!("an event{of}, beside {subscriptions} other subscriptions");
            Row::pair(what, figure, "ns", "beside 10", &few)
        };
        rows.push(row("1,000", &more));
        rows.push(row("10,000", &most).bar(Some(Bar::RatioAtMost(1.1))));
    }
    for stage in stages {
        stage.stop().await;
    }
    Ok(rows)
}

/// One half are names, the other patterns.
fn subscribe(host: &Host, subscriptions: usize) -> Result<(), BenchError> {
    for number in 0..subscriptions {
        let pattern = match number % 2 {
            0 => format!("others:name_{number}"),
            _ => format!("others:group_{number}:**"),
        };
        host.on(&pattern, |_event| async { Ok::<_, Failure>(()) })?;
    }
    Ok(())
}

async fn by_plugins(builds: &Builds) -> Result<Row, BenchError> {
    let few = Stage::start(builds, 0, PLUGINS[0]).await?;
    let many = Stage::start(builds, 0, PLUGINS[1]).await?;
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let [figure, limit] = by_turns([many.inside(run), few.inside(run)], SHORT).await?;
    few.stop().await;
    many.stop().await;
    Ok(Row::pair("an event, beside 200 other plugins", &figure, "ns", "beside 10", &limit))
}
