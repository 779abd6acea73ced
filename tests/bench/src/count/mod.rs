//! Counts the instructions of one event, and those that lock memory, and holds them to bounds.
//!
//! A clock tells something else each time, and something else again on another machine; this does
//! not. It needs valgrind: callgrind counts a run with so many events and one with twice as many,
//! each of a process of its own ([`driver`]), and the difference is what the events cost.

mod bounds;
mod callgrind;
mod driver;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

pub(crate) use driver::drive;

use self::{
    bounds::{Bounds, Counted, Held},
    driver::{Case, Drive},
};
use crate::{builds::Plugins, error::BenchError, report};

/// Counts all, prints a table, and says whether each count is within its bounds. What is not
/// optimized is held to none.
///
/// # Errors
/// There is no valgrind, something cannot be built or run, or a reply is wrong.
pub(crate) fn count() -> Result<bool, BenchError> {
    let valgrind = callgrind::version()?;
    let plugins = Plugins::get()?;
    let program = std::env::current_exe();
    let program = program.map_err(|error| BenchError::Program(error.to_string()))?;
    let folder = tempfile::Builder::new().prefix("ksi-bench-").tempdir();
    let folder = folder.map_err(BenchError::Folder)?;
    let bounds = Bounds::get().map_err(|error| BenchError::Bounds(Box::new(error)))?;
    let mut rows = Vec::new();
    for case in Case::ALL {
        eprintln!("counting: {}", case.what());
        let rounds = case.rounds();
        let drive = |rounds| Drive {
            case,
            rounds,
            emitter: plugins.emitter.clone(),
            handlers: plugins.handlers.clone(),
            probe: program.clone(),
        };
        let once = callgrind::run(&drive(rounds), folder.path())?;
        let twice = callgrind::run(&drive(2 * rounds), folder.path())?;
        let (counted, libc) = each(twice - once, rounds);
        rows.push(Row { case, counted, libc });
    }
    let judged = !cfg!(debug_assertions);
    println!("{}", table(&rows, judged.then_some(&bounds)));
    println!("{valgrind}, {}", report::machine());
    let held: Vec<_> = rows.iter().map(|row| bounds.hold(row.case, row.counted)).collect();
    if judged && held.contains(&Held::Below) {
        println!("Some are well below what tests/bench/bounds.toml says: it should follow.");
    }
    if judged && held.contains(&Held::Above) {
        println!(
            "Some are above their bounds. If that is worth it, tests/bench/bounds.toml should \
             follow; if the last row has changed too, the compiler has."
        );
        return Ok(false);
    }
    Ok(true)
}

/// What one event costs, and the instructions of the C library in that, which are held to nothing.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn each(all: callgrind::Executed, rounds: u64) -> (Counted, f64) {
    let each = |count: u64| count as f64 / rounds as f64;
    let counted = Counted { own: each(all.own), calls: each(all.calls), locked: each(all.locked) };
    (counted, each(all.libc))
}

/// What was counted for one kind of event.
struct Row {
    case: Case,
    counted: Counted,
    libc: f64,
}

/// All counts, each with the most that it may be in brackets.
fn table(rows: &[Row], bounds: Option<&Bounds>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "one event",
        "instructions",
        "locked ones",
        "calls of the C library",
        "instructions there, about",
        "",
    ]);
    for Row { case, counted, libc } in rows {
        let most = bounds.and_then(|bounds| bounds.of(*case));
        let cell = |now: f64, most: Option<f64>, digits: usize| match most {
            Some(most) => format!("{now:.digits$} ({most:.digits$})"),
            None => format!("{now:.digits$}"),
        };
        let held = match bounds.map(|bounds| bounds.hold(*case, *counted)) {
            _ if most.is_none() => "",
            Some(Held::Above) => "ABOVE",
            Some(Held::Below) => "below",
            _ => "within",
        };
        table.add_row([
            case.what(),
            &cell(counted.own, most.map(|it| it.own), 0),
            &cell(counted.locked, most.map(|it| it.locked), 1),
            &cell(counted.calls, most.map(|it| it.calls), 1),
            &cell(*libc, None, 0),
            held,
        ]);
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_count_with_its_bound() {
        let bounds = Bounds::get().unwrap();
        let more = bounds.of(Case::Request).unwrap().own + 1.0;
        let row = |case, counted| Row { case, counted, libc: 77.0 };
        let rows = [
            row(Case::Request, Counted { own: more, calls: 1.0, locked: 1.0 }),
            row(Case::BoxedFuture, Counted { own: 470.4, calls: 20.0, locked: 2.01 }),
        ];
        let judged = table(&rows, Some(&bounds));
        for text in ["ABOVE", &format!("{more:.0} ("), "470 ", "2.0 ", "77 "] {
            assert!(judged.contains(text), "{text} in {judged}");
        }
        assert!(!table(&rows, None).contains("ABOVE"), "unoptimized");
    }

    #[test]
    fn what_an_event_costs_is_the_difference_of_two_runs() {
        let run = |own, calls, libc, locked| callgrind::Executed { own, calls, libc, locked };
        let cost = each(run(25_000, 200, 1_500, 90) - run(15_000, 120, 1_000, 50), 10);
        assert_eq!(cost, (Counted { own: 1_000.0, calls: 8.0, locked: 4.0 }, 50.0));
    }
}
