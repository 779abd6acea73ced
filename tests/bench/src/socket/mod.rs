//! The control socket against an echo over the same kind of socket, asked by the same clients.

mod client;
mod echo;

use std::path::Path;

use ksi_figures::Best;

use crate::{
    builds::Builds,
    error::BenchError,
    row::{Bar, Row},
    series::{Measure, Plan, by_turns, measure},
    stage::Stage,
};
use echo::Echo;

const PLAN: Plan = Plan { windows: 10, turns: 2, best: Best::Most };

pub(crate) async fn rows(builds: &Builds) -> Result<Vec<Row>, BenchError> {
    let stage = Stage::start(builds, 0, 0).await?;
    let control = stage.host.serve(stage.socket("host")).await?;
    let line = Echo::start(&stage.socket("line"), false)?;
    let batch = Echo::start(&stage.socket("batch"), true)?;
    let sockets = [stage.socket("host"), stage.socket("line"), stage.socket("batch")];
    let mut rows = Vec::new();
    for (connections, in_flight, each) in
        [(1, 1, 3_000), (1, 64, 30_000), (16, 1, 400), (16, 64, 4_000)]
    {
        let of = |socket| asked(socket, connections, in_flight, each);
        let [host, line, batch] = by_turns(sockets.each_ref().map(|it| of(it)), PLAN).await?;
        if (connections, in_flight) == (1, 1) {
            let [host, line] = [&host, &line].map(|it| it.map(Best::Least, |rate| 1e6 / rate));
            let what = "socket, sequential round trip";
            rows.push(
                Row::pair(what, &host, "us", "a bare echo", &line).bar(Some(Bar::RatioAtMost(1.5))),
            );
        }
        let plural = if connections == 1 { "" } else { "s" };
        let name = format!("socket, {connections} connection{plural}, {in_flight} in flight");
        let bar = ((connections, in_flight) == (1, 64)).then_some(Bar::RatioAtLeast(0.6));
        rows.push(Row::pair(&name, &host, "a second", "a bare echo", &line).bar(bar));
        if in_flight > 1 {
            let batched = "an echo that answers in batches";
            rows.push(Row::pair("the same", &host, "a second", batched, &batch));
        }
    }
    line.stop()?;
    batch.stop()?;
    control.close().await;
    stage.stop().await;
    Ok(rows)
}

/// Requests a second.
fn asked(socket: &Path, connections: u32, in_flight: u32, each: u32) -> Measure<'_> {
    measure(move || {
        let socket = socket.to_owned();
        // On threads of the clients' own.
        let asked =
            tokio::task::spawn_blocking(move || client::ask(&socket, connections, in_flight, each));
        async move { asked.await? }
    })
}
