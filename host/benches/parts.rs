//! Parts of an event's way that are public API, each for itself: `cargo bench -p ksi-host`. What a
//! whole emit costs, and what it costs against the same without a host, is measured by
//! `cargo run --release -p ksi-bench`.

#![allow(clippy::unwrap_used)]

use divan::{Bencher, black_box};
use ksi_host::{
    ChildEntry, EventRef, Failure, Host, NewEvent, Pattern, Payload, validate_event_name,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const NAME: &str = "orders:invoice:created";

#[derive(Serialize, Deserialize)]
struct Letter {
    number: u64,
    from: String,
    to: String,
    subject: String,
    pages: Vec<u32>,
    pending: bool,
}

/// 137 bytes as JSON.
fn letter() -> Letter {
    Letter {
        number: 1_000_000_000,
        from: "ada@example.org".to_owned(),
        to: "grace@example.org".to_owned(),
        subject: "the analytical engine".to_owned(),
        pages: vec![1, 2, 3],
        pending: false,
    }
}

#[divan::bench]
fn validate_a_name() {
    validate_event_name(black_box(NAME)).unwrap();
}

#[divan::bench(args = ["orders:invoice:created", "orders:*:created", "orders:**"])]
fn parse_a_pattern(pattern: &str) -> Pattern {
    Pattern::parse(black_box(pattern)).unwrap()
}

#[divan::bench]
fn encode_a_payload(bencher: Bencher<'_, '_>) {
    let letter = letter();
    bencher.bench_local(|| Payload::encode(black_box(&letter)).unwrap());
}

#[divan::bench]
fn decode_a_payload(bencher: Bencher<'_, '_>) {
    let payload = Payload::encode(&letter()).unwrap();
    bencher.bench_local(|| black_box(&payload).decode::<Letter>().unwrap());
}

#[divan::bench]
fn make_an_event(bencher: Bencher<'_, '_>) {
    let payload = Payload::encode(&letter()).unwrap();
    bencher.bench_local(|| NewEvent::new(black_box(NAME), payload.clone()).unwrap());
}

/// From a thread that is none of the dispatch workers', to handlers of the embedding program.
#[divan::bench(args = [0, 1, 10])]
fn emit_to_native_handlers(bencher: Bencher<'_, '_>, handlers: usize) {
    let runtime = Runtime::new().unwrap();
    let host = runtime.block_on(Host::builder(ChildEntry::none()).start()).unwrap();
    for _ in 0..handlers {
        let answer = |event: EventRef| async move {
            event.payload().decode::<Letter>().map_err(|error| Failure::new("decode", error))
        };
        host.on(NAME, answer).unwrap();
    }
    let payload = Payload::encode(&letter()).unwrap();
    bencher.bench_local(|| {
        let event = NewEvent::new(NAME, payload.clone()).unwrap();
        let report = runtime.block_on(host.emit(event));
        assert_eq!(report.replies().count(), handlers);
    });
    runtime.block_on(host.shutdown());
}
