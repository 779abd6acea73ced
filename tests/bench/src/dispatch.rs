//! What one emit costs: by lane, by handlers, by whether they are ready at once, from inside and
//! through the API.

use ksi_bench_events::{FAN_OUT, Lane, Laps, Letter, Ran, Route, Run, boxed, json};
use ksi_figures::Best;
use ksi_host::{Host, NewEvent, Payload};

use crate::{
    actor,
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, NANOS, SHORT, by_turns, measure},
    stage::Stage,
};

const BOXED: &str = "boxed futures";
const JSON: &str = "serde_json alone";
const ACTOR: &str = "channel actors";

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let stage = Stage::start(builds, 1_000, 0).await?;
    let mut rows = typed_request(&stage).await?;
    rows.extend([typed_letter(&stage).await?, json_request(&stage).await?]);
    for pending in [false, true] {
        for handlers in FAN_OUT {
            rows.push(typed_emit(&stage, handlers, pending).await?);
        }
        for handlers in FAN_OUT {
            rows.push(json_emit(&stage, handlers, pending).await?);
        }
        for handlers in FAN_OUT {
            rows.push(through_the_api(&stage, handlers, pending).await?);
        }
    }
    for (lane, name) in [(Lane::Shared, "typed"), (Lane::Json, "JSON")] {
        rows.push(a_handler(&stage, lane, name).await?);
    }
    stage.stop().await;
    Ok(rows)
}

/// All that it is held against is measured in the same turns.
async fn typed_request(stage: &Stage) -> Result<Vec<Row>, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let measures = [
        stage.inside(run),
        spawned(run, boxed::numbers),
        spawned(run, boxed::borrowed),
        spawned(run, actor::numbers),
    ];
    let [figure, boxed, leanest, actor] = by_turns(measures, SHORT).await?;
    let what = "request, typed, 1 handler, ready";
    Ok(vec![
        Row::pair(what, &figure, "ns", "a boxed future", &boxed).bar(Some(Bar::RatioAtMost(3.0))),
        Row::pair("the same", &figure, "ns", "one that borrows the event", &leanest),
        Row::pair("the same", &figure, "ns", "a channel actor", &actor),
    ])
}

async fn typed_letter(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::SharedLetters, Route::Request, false, NANOS);
    let [figure, limit] =
        by_turns([stage.inside(run), spawned(run, boxed::letters)], SHORT).await?;
    Ok(Row::pair(
        "request, typed, with strings, 1 handler, ready",
        &figure,
        "ns",
        "a boxed future",
        &limit,
    ))
}

async fn json_request(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Json, Route::Request, false, NANOS);
    let [figure, limit] = by_turns([stage.inside(run), spawned(run, json::letters)], SHORT).await?;
    Ok(Row::pair(
        "request, JSON, 137 bytes both ways, 1 handler, ready",
        &figure,
        "ns",
        JSON,
        &limit,
    )
    .bar(Some(Bar::RatioAtMost(1.3))))
}

async fn typed_emit(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Emit(handlers), pending, NANOS);
    let [figure, limit] =
        by_turns([stage.inside(run), spawned(run, boxed::numbers)], SHORT).await?;
    Ok(Row::pair(named("emit, typed", handlers, pending), &figure, "ns", BOXED, &limit))
}

async fn json_emit(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Json, Route::Emit(handlers), pending, NANOS);
    let [figure, limit] = by_turns([stage.inside(run), spawned(run, json::letters)], SHORT).await?;
    Ok(Row::pair(named("emit, JSON", handlers, pending), &figure, "ns", JSON, &limit))
}

/// Through [`Host::emit`], from a thread that is none of the dispatch workers'.
async fn through_the_api(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::SharedLetters, Route::Emit(handlers), pending, NANOS);
    let host = &stage.host;
    let figure = spawned(run, move |run| emit_through_the_api(host.clone(), run));
    let [figure, limit] = by_turns([figure, spawned(run, actor::letters)], SHORT).await?;
    Ok(Row::pair(named("Host::emit, JSON", handlers, pending), &figure, "ns", ACTOR, &limit))
}

async fn emit_through_the_api(host: Host, run: Run) -> Ran {
    let event = format!("bench:letter_{}", run.handlers());
    let mut laps = Laps::begin(&run);
    while let Some(number) = laps.round() {
        let payload = Payload::encode(&Letter::ask(number, run.pending)).ok();
        let event = payload.and_then(|payload| NewEvent::new(&event, payload).ok());
        let Some(event) = event else { break };
        for reply in host.emit(event).await.replies() {
            laps.replied(reply.decode::<Letter>().is_ok_and(|reply| reply.answers(number)));
        }
    }
    laps.end()
}

/// What one handler of a thousand costs, against one alone.
async fn a_handler(stage: &Stage, lane: Lane, name: &str) -> Result<Row, BenchError> {
    let emit = |handlers| stage.inside(Run::timed(lane, Route::Emit(handlers), false, NANOS));
    let [figure, limit] = by_turns([emit(1_000), emit(1)], SHORT).await?;
    let figure = figure.map(Best::Least, |all| all / 1_000.0);
    let what = format!("fan-out, {name}, a handler of 1,000");
    Ok(Row::pair(what, &figure, "ns", "1 handler alone", &limit).bar(Some(Bar::RatioAtMost(1.0))))
}

fn named(how: &str, handlers: u32, pending: bool) -> String {
    let readiness = if pending { "pending once" } else { "ready" };
    match handlers {
        1 => format!("{how}, 1 handler, {readiness}"),
        1_000.. => {
            format!("{how}, {},{:03} handlers, {readiness}", handlers / 1_000, handlers % 1_000)
        }
        _ => format!("{how}, {handlers} handlers, {readiness}"),
    }
}

/// Nanoseconds a round of something that runs in a task of this program.
fn spawned<'a, F>(run: Run, of: impl Fn(Run) -> F + 'a) -> Measure<'a>
where
    F: Future<Output = Ran> + Send + 'static,
{
    measure(move || {
        let task = tokio::spawn(of(run));
        async move {
            let ran = task.await?;
            let wrong = || BenchError::Wrong(format!("{run:?} came to {ran:?}"));
            ran.nanos_a_round(run.handlers()).ok_or_else(wrong)
        }
    })
}
