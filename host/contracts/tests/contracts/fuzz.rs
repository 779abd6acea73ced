//! Verdicts on random schemas in all words of JSON Schema, held against another crate's idea of
//! what is valid.

use std::time::{Duration, Instant};

use fastrand::Rng;
use ksi_contracts::{Verdict, compare};
use serde_json::Value;

use crate::{
    closed::Sender,
    oracle::validator,
    values::value,
    wild::{changed, values, wild},
};

/// How many there were of each verdict.
#[derive(Debug, Default)]
struct Tally {
    compatible: usize,
    broken: usize,
    undecided: usize,
    held: usize,
    wrong: usize,
}

/// Compares a pair, and holds the verdict to its word.
fn check(sent: &Value, taken: &Value, values: &[Value], rng: &mut Rng, tally: &mut Tally) {
    let wrong = match compare(sent, taken) {
        Verdict::Undecided(_) => {
            tally.undecided += 1;
            None
        }
        Verdict::Compatible => {
            tally.compatible += 1;
            let (is_sent, is_taken) = (validator(sent), validator(taken));
            let sender = Sender::new(sent);
            let made: Vec<Value> = (0..40).map(|_| value(sent, rng)).collect();
            let mut all = made.iter().chain(values).filter(|it| is_sent.is_valid(it));
            let lost = all.find(|it| {
                tally.held += 1;
                !is_taken.is_valid(it) && sender.sends(it, rng)
            });
            lost.map(|it| format!("compatible, and {it} is not taken"))
        }
        Verdict::Broken(breaks) => {
            tally.broken += 1;
            let (is_sent, is_taken) = (validator(sent), validator(taken));
            let wrong = breaks
                .iter()
                .find(|it| !is_sent.is_valid(&it.example) || is_taken.is_valid(&it.example));
            wrong.map(|it| format!("broken, and that is no break: {it}"))
        }
    };
    if let Some(wrong) = wrong {
        tally.wrong += 1;
        println!("{wrong}\n  sent {sent}\n  taken {taken}");
    }
}

/// Pairs of one seed.
fn pairs(seed: u64, count: usize, values: &[Value], tally: &mut Tally) {
    let mut rng = Rng::with_seed(seed);
    for _ in 0..count {
        let sent = wild(&mut rng);
        let taken = if rng.u8(0..6) == 0 { wild(&mut rng) } else { changed(&sent, &mut rng) };
        if sent != taken {
            check(&sent, &taken, values, &mut rng, tally);
        }
    }
}

#[test]
fn verdicts_on_wild_schemas_hold() {
    let (values, mut tally) = (values(), Tally::default());
    for seed in 1..=4 {
        pairs(seed, 500, &values, &mut tally);
    }
    println!("{tally:?}");
    assert_eq!(tally.wrong, 0);
    assert!(tally.compatible > 200 && tally.broken > 200, "{tally:?}");
}

/// The same at length, from a seed and for so many seconds: `KSI_TEST_SEED`, `KSI_TEST_SECONDS`.
#[test]
#[ignore = "takes as long as it is told to"]
fn verdicts_on_wild_schemas_hold_at_length() {
    let told = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seconds = Duration::from_secs(told("KSI_TEST_SECONDS").unwrap_or(60));
    let (values, mut tally, began) = (values(), Tally::default(), Instant::now());
    let mut seed = told("KSI_TEST_SEED").unwrap_or(1_000);
    while began.elapsed() < seconds {
        pairs(seed, 200, &values, &mut tally);
        seed += 1;
    }
    println!("to seed {seed}: {tally:?}");
    assert_eq!(tally.wrong, 0);
}
