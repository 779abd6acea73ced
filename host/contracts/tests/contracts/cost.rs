//! What a host pays for it: `cargo test --release -p ksi-contracts -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use fastrand::Rng;
use ksi_contracts::{Verdict, compare};
use serde_json::Value;

use crate::{
    changes::{changed, widened},
    types::types,
};

/// Of 200 plugins.
const PAIRS: usize = 2_000;
const ROUNDS: usize = 10;

#[test]
#[ignore = "measures a release build"]
fn the_pairs_of_2000_events_are_compared_in_50_ms() {
    let mut rng = Rng::with_seed(5);
    let all = types();
    let pick =
        |rng: &mut Rng| rng.choice(&all).map(|it| (it.sent.clone(), it.taken.clone())).unwrap();
    type Make<'a> = &'a dyn Fn(&mut Rng) -> (Value, Value);
    let kinds: [(&str, Make<'_>); 3] = [
        ("as they are", &pick),
        ("wider", &|rng| {
            let (sent, taken) = pick(rng);
            let wider = widened(&taken, rng).unwrap_or(taken);
            (sent, wider)
        }),
        ("changed", &|rng| {
            let (sent, taken) = pick(rng);
            (sent, changed(&taken, rng))
        }),
    ];
    for (kind, make) in kinds {
        let pairs: Vec<(Value, Value)> = (0..PAIRS).map(|_| make(&mut rng)).collect();
        // The quickest of some times is what it takes: all others had the machine for a part of it.
        let rounds = (0..ROUNDS).map(|_| {
            let began = Instant::now();
            let fit = |(sent, taken): &&(Value, Value)| compare(sent, taken) == Verdict::Compatible;
            let fit = pairs.iter().filter(fit).count();
            (began.elapsed(), fit)
        });
        let (took, fit) = rounds.min().unwrap();
        println!("{PAIRS} pairs {kind}: {took:?}, {fit} of them compatible");
        assert!(took < Duration::from_millis(50), "{kind}: {took:?}");
    }
}
