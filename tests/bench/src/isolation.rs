//! What it costs that a plugin has a process of its own: the same handlers there and in the host,
//! and a bare echo over a pair of sockets; and for how long its events wait while its state goes
//! from one process to the next.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::Instant,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ksi_bench_events::{Lane, Letter, Route, Run};
use ksi_figures::{Best, Series};
use ksi_host::{Host, NewEvent, Payload};
use ksi_wire::module::{Inspect, Named};
use serde::de::IgnoredAny;
use serde_json::json;

use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, NANOS, SHORT, by_turns, measure},
    stage::{Stage, ask},
};

/// Requests that are on their way at a time, and how many there are in a turn.
const AT_ONCE: usize = 64;
const IN_A_TURN: usize = 512;
/// Characters of a large letter's subject.
const LARGE: usize = 100_000;
/// Bytes of an echo: a letter with the head of its frame.
const ECHO: usize = 256;
/// Values of the plugin that keeps state, and about how many bytes of a snapshot each is.
const VALUES: usize = 1_000;
const VALUE_BYTES: usize = 50;
/// Replacements of it, in windows.
const REPLACED: usize = 200;
const IN_A_WINDOW: usize = 20;
/// Echoes in a turn.
const ECHOES: u32 = 50;

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let (host, process) =
        (Stage::start(builds, 1, 0).await?, Stage::with_isolated_handlers(builds).await?);
    let mut rows = one_at_a_time(&process).await?;
    let many = |stage: &Stage| together(stage.host.clone());
    let [figure, limit] = by_turns([many(&process), many(&host)], SHORT).await?;
    let what = "isolated request, JSON, 64 at once";
    let bar = Some(Bar::RatioAtMost(2.5));
    rows.push(Row::pair(what, &figure, "ns", "the same in the host", &limit).bar(bar));
    let large = |stage: &Stage| large(stage.host.clone());
    let [figure, limit] = by_turns([large(&process), large(&host)], SHORT).await?;
    let what = "isolated request, JSON, 100 KB both ways";
    rows.push(Row::pair(what, &figure, "ns", "the same in the host", &limit));
    process.stop().await;
    host.stop().await;
    rows.extend(hold(builds).await?);
    Ok(rows)
}

/// For how long events wait in a replacement with state, as the host says of each.
async fn hold(builds: &Builds) -> Result<[Row; 2], BenchError> {
    let stages = [Stage::with_state(builds, true).await?, Stage::with_state(builds, false).await?];
    for stage in &stages {
        for number in 0..VALUES {
            // With its key and what stands around it.
            let value = "x".repeat(VALUE_BYTES - 19);
            let set = json!({ "namespace": "bench", "key": format!("key-{number:08}"),
                              "value": value, "operation": "set" });
            let _: IgnoredAny = ask(&stage.host, "state:update", &set).await?;
        }
    }
    let mut series = [(); 2].map(|()| Series::new(Best::Least, IN_A_WINDOW));
    let mut all = Vec::with_capacity(REPLACED);
    let plugin = Named { module_name: "state".to_owned() };
    for _ in 0..REPLACED {
        for (stage, series) in stages.iter().zip(&mut series) {
            let _: IgnoredAny = ask(&stage.host, "module:reload", &plugin).await?;
            let inspected: Inspect = ask(&stage.host, "module:inspect", &plugin).await?;
            let held = inspected.timings_ms.get("hold").copied().flatten();
            let held = held.ok_or_else(|| BenchError::Wrong("nothing was held".to_owned()))?;
            series.add(held);
            all.push(held);
        }
    }
    let mut isolated: Vec<f64> = all.into_iter().step_by(2).collect();
    isolated.sort_by(f64::total_cmp);
    for stage in stages {
        stage.stop().await;
    }
    let [figure, limit] = series;
    let what = "events wait in a replacement between processes, 50 KB of state";
    let quickest = Row::pair(what, &figure, "ms", "the same in the host", &limit);
    let median = Row::counted(format!("{what}, half of {REPLACED}"), isolated[REPLACED / 2], "ms");
    Ok([quickest, median.bar(Some(Bar::AtMost(1.0)))])
}

async fn one_at_a_time(process: &Stage) -> Result<Vec<Row>, BenchError> {
    let run = Run::timed(Lane::Json, Route::Request, false, NANOS);
    let mut echo = Echo::start().map_err(BenchError::Socket)?;
    let bare = measure(move || {
        let echoed = echo.nanos().map_err(BenchError::Socket);
        async move { echoed }
    });
    let [figure, limit] = by_turns([process.inside(run), bare], SHORT).await?;
    let what = "isolated request, JSON, 137 bytes both ways";
    let bar = Some(Bar::RatioAtMost(3.0));
    Ok(vec![Row::pair(what, &figure, "ns", "a bare echo over a socket pair", &limit).bar(bar)])
}

/// Nanoseconds a request, with many on their way.
fn together<'a>(host: Host) -> Measure<'a> {
    measure(move || {
        let host = host.clone();
        async move {
            let began = Instant::now();
            let mut going_on = FuturesUnordered::new();
            for number in 0..IN_A_TURN as u64 {
                if going_on.len() == AT_ONCE {
                    let _: Option<Result<(), BenchError>> = going_on.next().await;
                }
                going_on.push(request(&host, Letter::ask(number, false), number));
            }
            while let Some(ended) = going_on.next().await {
                ended?;
            }
            Ok(began.elapsed().as_nanos() as f64 / IN_A_TURN as f64)
        }
    })
}

/// Nanoseconds a request with a large payload.
fn large<'a>(host: Host) -> Measure<'a> {
    measure(move || {
        let host = host.clone();
        async move {
            let letter = Letter { subject: "x".repeat(LARGE), ..Letter::ask(1, false) };
            let began = Instant::now();
            request(&host, letter, 1).await?;
            Ok(began.elapsed().as_nanos() as f64)
        }
    })
}

async fn request(host: &Host, letter: Letter, number: u64) -> Result<(), BenchError> {
    let report = host.emit(NewEvent::new("bench:letter", Payload::encode(&letter)?)?).await;
    let mut replies = report.replies();
    let reply = replies.next().map(|reply| reply.decode::<Letter>());
    match reply {
        Some(Ok(reply)) if reply.number == number + 1 => Ok(()),
        other => Err(BenchError::Wrong(format!("letter {number} came to {other:?}"))),
    }
}

/// A pair of sockets, and a thread that sends back what comes.
struct Echo(UnixStream);

impl Echo {
    fn start() -> io::Result<Self> {
        let (own, mut other) = UnixStream::pair()?;
        thread::spawn(move || {
            let mut bytes = [0; ECHO];
            while other.read_exact(&mut bytes).is_ok() && other.write_all(&bytes).is_ok() {}
        });
        Ok(Echo(own))
    }

    /// Nanoseconds an echo.
    fn nanos(&mut self) -> io::Result<f64> {
        let (began, mut bytes) = (Instant::now(), [7; ECHO]);
        for _ in 0..ECHOES {
            self.0.write_all(&bytes)?;
            self.0.read_exact(&mut bytes)?;
        }
        Ok(began.elapsed().as_nanos() as f64 / f64::from(ECHOES))
    }
}
