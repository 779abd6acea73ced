//! The report: a table for people, JSON for programs.

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::{
    error::SoakError,
    findings::Findings,
    verdict::{Figure, Verdict},
};

/// All figures as a table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["figure", "found", "bar", ""]);
    for figure in figures {
        let verdict = match figure.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::NotJudged => "not judged",
            Verdict::Told => "",
        };
        table.add_row([&figure.name, &figure.found, &figure.bar, verdict]);
    }
    table.to_string()
}

/// Everything that was found, as JSON.
pub(crate) fn json(figures: &[Figure], findings: &Findings, seconds: f64) -> Value {
    json!({
        "well": figures.iter().all(|figure| figure.verdict != Verdict::Failed),
        "optimized": !cfg!(debug_assertions),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "seconds": seconds,
        "figures": figures,
        "faults": findings.told,
    })
}

/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, json: &Value) -> Result<(), SoakError> {
    let text = serde_json::to_string_pretty(json)?;
    std::fs::write(path, text + "\n")
        .map_err(|source| SoakError::File { path: path.to_owned(), source })
}
