//! The report: a table for people, JSON for programs.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ksi_figures::Spread;
use serde_json::{Value, json};

use crate::{
    error::BenchError,
    row::{Bar, Row, Verdict},
};

/// All rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let columns =
        ["what", "figure", "unit", "against", "limit", "ratio", "in the windows", "bar", ""];
    table.set_header(columns);
    for row in rows {
        let (against, limit) = match &row.limit {
            Some(limit) => (limit.what.as_str(), number(limit.figure)),
            None => ("", String::new()),
        };
        let ratio = row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let spread = row.spread.map(|it| windows(row, it)).unwrap_or_default();
        let verdict = match row.verdict {
            Some(Verdict::Met) => "met",
            Some(Verdict::Missed) => "MISSED",
            Some(Verdict::NotJudged) => "not judged",
            None if row.is_uneven() => "uneven",
            None => "",
        };
        let cells = [&row.what, &number(row.figure), row.unit, against, &limit, &ratio, &spread];
        table.add_row(cells.into_iter().chain([bar(row).as_str(), verdict]));
    }
    for column in [1, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// The least and the most, of the ratio if there is one.
fn windows(row: &Row, Spread { least, most, .. }: Spread) -> String {
    match row.ratio {
        Some(_) => format!("{least:.2} to {most:.2}"),
        None => format!("{} to {}", number(least), number(most)),
    }
}

/// How many rows cannot be judged, if there are any.
pub(crate) fn uneven(rows: &[Row]) -> Option<String> {
    let uneven = rows.iter().filter(|row| row.is_uneven()).count();
    (uneven > 0).then(|| {
        format!(
            "The machine was too uneven for {uneven} of {} rows: the middle half of their windows \
             differs by more than a tenth. Measure them again when it is quiet.",
            rows.len()
        )
    })
}

fn bar(row: &Row) -> String {
    match row.bar {
        None => String::new(),
        Some(Bar::RatioAtMost(most)) => format!("at most {most:.1} times"),
        Some(Bar::RatioAtLeast(least)) => format!("at least {least:.1} times"),
        Some(Bar::AtMost(most)) => format!("at most {} {}", number(most), row.unit),
    }
}

/// Three digits that count, or all before the point, with marks between the thousands.
fn number(number: f64) -> String {
    let digits = match number.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let marked: Vec<&str> = whole
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|digits| std::str::from_utf8(digits).unwrap_or_default())
        .collect();
    marked.join(",") + rest
}

/// What it was measured on.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("an unknown processor", |it| it.trim_matches([' ', '\t', ':']));
    let build = if cfg!(debug_assertions) { "NOT OPTIMIZED" } else { "optimized" };
    format!("{cores} cores of {model}, {build}")
}

/// Everything that was measured, as JSON.
pub(crate) fn json(rows: &[Row], seconds: f64) -> Value {
    json!({
        "machine": machine(),
        "optimized": !cfg!(debug_assertions),
        "seconds": seconds,
        "rows": rows,
    })
}

/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, json: &Value) -> Result<(), BenchError> {
    let text = serde_json::to_string_pretty(json)?;
    std::fs::write(path, text + "\n")
        .map_err(|source| BenchError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_counts() {
        let shown = [0.0, 1.234, 12.34, 999.4, 1_234.5, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.00", "1.23", "12.3", "999", "1,234", "1,234,567"]);
    }

    #[test]
    fn every_row_is_shown_with_its_limit_and_whether_its_bar_is_met() {
        let slow = || Row::counted("slow", 31.0, "ns").against("quick", 10.0);
        let spread = |uneven| Some(Spread { figure: 3.1, least: 3.04, most: 3.6, uneven });
        let even = Row { spread: spread(false), ..slow() }.bar(Some(Bar::RatioAtMost(3.0)));
        let heavy = Row::counted("heavy", 0.5, "MiB").bar(None);
        let text = table(&[even.clone(), heavy.clone()]);
        for part in ["slow", "quick", "3.10", "3.04 to 3.60", "at most 3.0 times", "MISSED", "0.50"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(uneven(&[even, heavy.clone()]), None);
        let judged = Row { spread: spread(true), ..slow() }.bar(Some(Bar::RatioAtMost(3.0)));
        let rows = [judged, Row { spread: spread(true), ..slow() }, heavy];
        let text = table(&rows);
        assert!(text.contains("not judged") && text.contains("| uneven"), "{text}");
        assert!(uneven(&rows).unwrap().contains("2 of 3 rows"));
    }
}
