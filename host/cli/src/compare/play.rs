//! Playing the events to both, and waiting for what they cause.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ksi_host::Pattern;
use serde_json::Value;
use tokio::sync::mpsc;

use super::difference::{Ended, Ignored, differences};
use super::events::Next;
use super::side::Side;
use super::summary::Summary;
use crate::args::Compare;
use crate::client::ClientError;
use crate::exit::CommandFailure;

/// For how long what an event has caused is waited for.
const SETTLE: Duration = Duration::from_millis(200);
/// How long at most in the end, while more comes.
const LAST_SETTLE: Duration = Duration::from_secs(5);
/// Events that wait for what they cause, and about how many bytes of them.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 64 << 20;

/// One that was played, and waits for what it causes.
struct Played {
    number: u64,
    event: String,
    told: String,
    at: Instant,
    bytes: usize,
    ended: [Vec<Ended>; 2],
    took: [Duration; 2],
}

/// Plays all of them, or as many as are wanted.
pub(super) async fn play(
    old: &Side,
    new: &Side,
    mut events: mpsc::Receiver<Next>,
    args: &Compare,
) -> Result<Summary, CommandFailure> {
    let patterns: Vec<Pattern> =
        args.events.iter().filter_map(|pattern| Pattern::parse(pattern).ok()).collect();
    let ignored = Ignored::new(&args.ignore);
    let mut summary = Summary::new()?;
    let mut waiting: VecDeque<Played> = VecDeque::new();
    let (mut number, mut bytes) = (0_u64, 0);
    while let Some(next) = events.recv().await {
        let recorded = next.map_err(failed)?;
        let wanted = patterns.is_empty() || patterns.iter().any(|it| it.matches(&recorded.event));
        // What it emitted itself it will emit again.
        if !wanted || recorded.source == old.plugin {
            continue;
        }
        if !old.handles(&recorded.event) && !new.handles(&recorded.event) {
            summary.left_out();
            continue;
        }
        number += 1;
        // By turns, so that neither always finds warm caches.
        let (of_old, of_new) = if number % 2 == 0 {
            let of_new = new.play(&recorded, number).await;
            (old.play(&recorded, number).await, of_new)
        } else {
            (old.play(&recorded, number).await, new.play(&recorded, number).await)
        };
        let told = recorded.id.unwrap_or_else(|| format!("#{number}"));
        let played = Played {
            number,
            event: recorded.event,
            told,
            at: Instant::now(),
            bytes: recorded.data.len() + size(&of_old.0) + size(&of_new.0),
            ended: [of_old.0, of_new.0],
            took: [of_old.1, of_new.1],
        };
        bytes += played.bytes;
        waiting.push_back(played);
        while let Some(first) = waiting.front() {
            let age = first.at.elapsed();
            if age < SETTLE && waiting.len() < WAITING && bytes < WAITING_BYTES {
                break;
            }
            tokio::time::sleep(SETTLE.saturating_sub(age)).await;
            if let Some(first) = waiting.pop_front() {
                bytes -= first.bytes;
                judge(old, new, first, &ignored, &mut summary);
            }
        }
        if args.count.is_some_and(|count| number >= count) {
            break;
        }
    }
    settle(old, new).await;
    for played in waiting {
        judge(old, new, played, &ignored, &mut summary);
    }
    for side in [old, new] {
        if side.missed() > 0 {
            return Err(failed(format!(
                "{} emitted more than could be noted: {} events are not",
                side.plugin,
                side.missed()
            )));
        }
    }
    Ok(summary)
}

/// It was asked rightly, and cannot be done to the end.
fn failed(reason: String) -> CommandFailure {
    ClientError::Answer(vec![reason]).into()
}

/// Waits until neither emits anything any more.
async fn settle(old: &Side, new: &Side) {
    let begun = Instant::now();
    loop {
        let last = [old.last_emit(), new.last_emit(), Some(begun)].into_iter().flatten().max();
        let quiet = last.map_or(SETTLE, |last| last.elapsed());
        if quiet >= SETTLE || begun.elapsed() >= LAST_SETTLE {
            return;
        }
        tokio::time::sleep(SETTLE - quiet).await;
    }
}

fn judge(old: &Side, new: &Side, played: Played, ignored: &Ignored, summary: &mut Summary) {
    let Played { number, event, told, ended: [of_old, of_new], took, .. } = played;
    let (of_old, of_new) = (old.take(number, of_old), new.take(number, of_new));
    if of_old == Default::default() && of_new == Default::default() {
        // A plugin beside them has handled it.
        summary.left_out();
        return;
    }
    let differences = differences(&of_old, &of_new, ignored);
    let failed = |ended: &Ended| matches!(ended, Ended::Badly { .. });
    if differences.is_empty() && of_old.ended.iter().any(failed) {
        summary.failed_alike();
    }
    summary.add(&event, &told, differences, took);
}

/// About how many bytes are kept of it.
fn size(ended: &[Ended]) -> usize {
    let each = |ended: &Ended| match ended {
        Ended::Replied(value) => value_size(value),
        Ended::NoReply => 0,
        Ended::Badly { code, message } => code.len() + message.len(),
    };
    ended.iter().map(|it| 32 + each(it)).sum()
}

fn value_size(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_size).sum(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + 32 + value_size(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
