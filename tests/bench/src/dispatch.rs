//! What one emit costs: by lane, by handlers, by whether they are ready at once, from inside and through the API.

use ksi_bench_events::{FAN_OUT, Lane, Laps, Letter, Ran, Route, Run, boxed, json};
use ksi_host::{Host, NewEvent, Payload};

use crate::{
    actor,
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, NANOS, REPETITIONS, measure, medians},
    stage::Stage,
};

const BOXED: &str = "boxed futures";
const JSON: &str = "serde_json alone";
const ACTOR: &str = "channel actors";

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let stage = Stage::start(builds, 1_000, 0).await?;
    let mut rows = vec![
        typed_request(&stage).await?,
        against_the_leanest(&stage).await?,
        against_an_actor(&stage).await?,
        typed_letter(&stage).await?,
        json_request(&stage).await?,
    ];
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

async fn typed_request(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, boxed::numbers)], REPETITIONS).await?;
    Ok(Row::new("request, typed, 1 handler, ready", figure, "ns")
        .against("a boxed future", limit)
        .bar(Some(Bar::RatioAtMost(3.0))))
}

async fn against_the_leanest(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, boxed::borrowed)], REPETITIONS).await?;
    Ok(Row::new("the same", figure, "ns").against("one that borrows the event", limit))
}

async fn against_an_actor(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Request, false, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, actor::numbers)], REPETITIONS).await?;
    Ok(Row::new("the same", figure, "ns").against("a channel actor", limit))
}

async fn typed_letter(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::SharedLetters, Route::Request, false, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, boxed::letters)], REPETITIONS).await?;
    Ok(Row::new("request, typed, with strings, 1 handler, ready", figure, "ns")
        .against("a boxed future", limit))
}

async fn json_request(stage: &Stage) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Json, Route::Request, false, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, json::letters)], REPETITIONS).await?;
    Ok(Row::new("request, JSON, 137 bytes both ways, 1 handler, ready", figure, "ns")
        .against(JSON, limit)
        .bar(Some(Bar::RatioAtMost(1.3))))
}

async fn typed_emit(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Shared, Route::Emit(handlers), pending, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, boxed::numbers)], REPETITIONS).await?;
    Ok(Row::new(named("emit, typed", handlers, pending), figure, "ns").against(BOXED, limit))
}

async fn json_emit(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::Json, Route::Emit(handlers), pending, NANOS);
    let [figure, limit] =
        medians([stage.inside(run), spawned(run, json::letters)], REPETITIONS).await?;
    Ok(Row::new(named("emit, JSON", handlers, pending), figure, "ns").against(JSON, limit))
}

/// Through [`Host::emit`], from a thread that is none of the dispatch workers'.
async fn through_the_api(stage: &Stage, handlers: u32, pending: bool) -> Result<Row, BenchError> {
    let run = Run::timed(Lane::SharedLetters, Route::Emit(handlers), pending, NANOS);
    let host = &stage.host;
    let figure = spawned(run, move |run| emit_through_the_api(host.clone(), run));
    let [figure, limit] = medians([figure, spawned(run, actor::letters)], REPETITIONS).await?;
    Ok(Row::new(named("Host::emit, JSON", handlers, pending), figure, "ns").against(ACTOR, limit))
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
    let [figure, limit] = medians([emit(1_000), emit(1)], REPETITIONS).await?;
    Ok(Row::new(format!("fan-out, {name}, a handler of 1,000"), figure / 1_000.0, "ns")
        .against("1 handler alone", limit)
        .bar(Some(Bar::RatioAtMost(1.0))))
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
