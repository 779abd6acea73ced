//! What holds for pairs that are made by the thousand.

use fastrand::Rng;
use jsonschema::Validator;
use ksi_contracts::{Verdict, compare};
use serde_json::Value;

use crate::{
    changes::{changed, widened},
    oracle::validator,
    random::schema,
    types::{Type, types},
    values::value,
};

/// What came of many comparisons.
#[derive(Default)]
struct Tally {
    pairs: usize,
    compatible: usize,
    broken: usize,
    undecided: usize,
    values: usize,
    wrong: Vec<String>,
}

/// One side of a pair, and the means to hold it to its word.
struct Side<'a> {
    name: &'a str,
    schema: &'a Value,
    validator: &'a Validator,
}

impl Tally {
    /// Compares a pair, and holds the verdict to its word with some values that are sent.
    fn check(
        &mut self,
        sent: &Side<'_>,
        taken: &Side<'_>,
        values: &[Value],
        read: impl Fn(&Value) -> bool,
    ) -> Verdict {
        let verdict = compare(sent.schema, taken.schema);
        self.pairs += 1;
        let mut wrong = Vec::new();
        match &verdict {
            Verdict::Compatible => {
                self.compatible += 1;
                self.values += values.len();
                let mut failing = values.iter().filter(|it| !taken.validator.is_valid(it));
                wrong.extend(failing.next().map(|it| format!("compatible, and {it} is not taken")));
                let mut failing = values.iter().filter(|it| !read(it));
                wrong.extend(failing.next().map(|it| format!("compatible, and {it} is not read")));
            }
            Verdict::Broken(breaks) => {
                self.broken += 1;
                for it in breaks {
                    let is_sent = sent.validator.is_valid(&it.example);
                    let is_taken = taken.validator.is_valid(&it.example);
                    if !is_sent || is_taken {
                        wrong.push(format!("sent: {is_sent}, taken: {is_taken}: {it}"));
                    }
                }
            }
            Verdict::Undecided(places) => {
                self.undecided += 1;
                if std::env::var_os("KSI_TEST_UNDECIDED").is_some() {
                    self.tell(sent, taken, &places[0].to_string());
                }
            }
        }
        for it in wrong {
            self.wrong(sent, taken, &it);
        }
        verdict
    }

    fn tell(&self, sent: &Side<'_>, taken: &Side<'_>, what: &str) {
        println!("{what}\n  {}: {}\n  {}: {}", sent.name, sent.schema, taken.name, taken.schema);
    }

    fn wrong(&mut self, sent: &Side<'_>, taken: &Side<'_>, what: &str) {
        if self.wrong.len() < 8 {
            self.tell(sent, taken, what);
        }
        self.wrong.push(what.to_owned());
    }

    /// Says how many there were, and fails if one was wrong.
    fn end(&self, what: &str) {
        println!(
            "{what}: {} pairs, {} compatible (held by {} values), {} broken, {} undecided, {} wrong",
            self.pairs,
            self.compatible,
            self.values,
            self.broken,
            self.undecided,
            self.wrong.len()
        );
        assert_eq!(self.wrong.len(), 0);
    }
}

/// A type with what is asked of it many times.
struct Known {
    is: Type,
    sent: Validator,
    taken: Validator,
    /// Values that are valid under its schema as a sender, as the type itself writes them.
    values: Vec<Value>,
}

impl Known {
    fn sends(&self) -> Side<'_> {
        Side { name: &self.is.name, schema: &self.is.sent, validator: &self.sent }
    }

    fn takes(&self) -> Side<'_> {
        Side { name: &self.is.name, schema: &self.is.taken, validator: &self.taken }
    }

    fn reads(&self, value: &Value) -> bool {
        (self.is.through)(value).is_some()
    }
}

fn known(values: usize, rng: &mut Rng) -> Vec<Known> {
    let all = types().into_iter().map(|is| {
        let (sent, taken) = (validator(&is.sent), validator(&is.taken));
        let made = some_values(&is.sent, &sent, values, rng);
        // Not all that is valid is read: two fields of one meaning are not, for one.
        let written = made.iter().filter_map(|it| (is.through)(it)).filter(|it| sent.is_valid(it));
        let values = written.collect::<Vec<_>>();
        Known { is, sent, taken, values }
    });
    all.collect()
}

/// Values of a schema that are valid, so many if that is not too hard.
fn some_values(schema: &Value, valid: &Validator, count: usize, rng: &mut Rng) -> Vec<Value> {
    let made = std::iter::repeat_with(|| value(schema, rng)).take(count * 3);
    made.filter(|it| valid.is_valid(it)).take(count).collect()
}

#[test]
fn a_type_fits_itself_and_one_that_is_wider() {
    itself_and_wider(20, 4);
}

#[test]
fn what_fits_is_taken_and_what_is_broken_is_not() {
    pairs_of_types(1_500, 20);
    changed_types(2, 20);
    random_pairs(1_500, 20);
}

/// The same at length: `cargo test --release -p ksi-contracts -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn verdicts_hold_at_length() {
    itself_and_wider(2_000, 20);
    pairs_of_types(usize::MAX, 2_000);
    changed_types(10, 2_000);
    random_pairs(10_000, 1_000);
}

fn itself_and_wider(values: usize, times: usize) {
    let mut rng = Rng::with_seed(1);
    let all = known(values, &mut rng);
    let (mut itself, mut wider, mut random) = <(Tally, Tally, Tally)>::default();
    for it in &all {
        assert!(!it.values.is_empty(), "{}", it.is.name);
        let verdict = itself.check(&it.sends(), &it.takes(), &it.values, |value| it.reads(value));
        if verdict != Verdict::Compatible {
            itself.wrong(&it.sends(), &it.takes(), "not compatible with itself");
        }
        for _ in 0..times {
            let Some(schema) = widened(&it.is.taken, &mut rng) else { continue };
            let validator = validator(&schema);
            let taken = Side { name: "wider", schema: &schema, validator: &validator };
            let verdict = wider.check(&it.sends(), &taken, &it.values, |_| true);
            if matches!(verdict, Verdict::Broken(_)) {
                wider.wrong(&it.sends(), &taken, "refused, and is wider");
            }
        }
    }
    itself.end("types with themselves");
    wider.end("types with wider ones");
    for _ in 0..all.len() * times {
        let sent = schema(&mut rng);
        let Some(taken) = widened(&sent, &mut rng) else { continue };
        let (is_sent, is_taken) = (validator(&sent), validator(&taken));
        let values = some_values(&sent, &is_sent, values, &mut rng);
        let sent = Side { name: "random", schema: &sent, validator: &is_sent };
        let taken = Side { name: "wider", schema: &taken, validator: &is_taken };
        let verdict = random.check(&sent, &taken, &values, |_| true);
        if matches!(verdict, Verdict::Broken(_)) {
            random.wrong(&sent, &taken, "refused, and is wider");
        }
        if compare(sent.schema, sent.schema) != Verdict::Compatible {
            random.wrong(&sent, &sent, "not compatible with itself");
        }
    }
    random.end("random schemas with wider ones");
}

fn pairs_of_types(pairs: usize, values: usize) {
    let mut rng = Rng::with_seed(2);
    let all = known(values, &mut rng);
    let mut chosen: Vec<(usize, usize)> = (0..all.len())
        .flat_map(|a| (0..all.len()).map(move |b| (a, b)))
        // Those of one family differ by what they hold, which is as it is in life.
        .filter(|(a, b)| all[*a].is.family == all[*b].is.family || rng.u8(0..16) == 0)
        .collect();
    rng.shuffle(&mut chosen);
    chosen.truncate(pairs);
    let mut tally = Tally::default();
    for (a, b) in chosen {
        let (a, b) = (&all[a], &all[b]);
        let _ = tally.check(&a.sends(), &b.takes(), &a.values, |value| b.reads(value));
    }
    tally.end("pairs of types");
    assert!(tally.compatible > tally.pairs / 50 && tally.broken > tally.pairs / 4);
}

fn changed_types(times: usize, values: usize) {
    let mut rng = Rng::with_seed(3);
    let mut tally = Tally::default();
    for it in &known(values, &mut rng) {
        for _ in 0..times {
            let schema = changed(&it.is.taken, &mut rng);
            let validator = validator(&schema);
            let other = Side { name: "changed", schema: &schema, validator: &validator };
            let _ = tally.check(&it.sends(), &other, &it.values, |_| true);
            let values = some_values(&schema, &validator, values, &mut rng);
            let _ = tally.check(&other, &it.takes(), &values, |_| true);
        }
    }
    tally.end("types with changed ones");
}

fn random_pairs(pairs: usize, values: usize) {
    let mut rng = Rng::with_seed(4);
    let mut tally = Tally::default();
    for _ in 0..pairs {
        let sent = schema(&mut rng);
        let taken = if rng.u8(0..8) == 0 { schema(&mut rng) } else { changed(&sent, &mut rng) };
        let (is_sent, is_taken) = (validator(&sent), validator(&taken));
        let values = some_values(&sent, &is_sent, values, &mut rng);
        let sent = Side { name: "random", schema: &sent, validator: &is_sent };
        let taken = Side { name: "changed", schema: &taken, validator: &is_taken };
        let _ = tally.check(&sent, &taken, &values, |_| true);
    }
    tally.end("random schemas");
}
