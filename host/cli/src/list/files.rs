//! Files that did not become plugins, when there are many: by the reason, with some names.

use std::collections::BTreeMap;

use ksi_wire::module::{ModuleState, Overview};

use super::super::output;
use super::super::table::hanging;

/// So many have a line each, as plugins do.
const FEW: usize = 8;
/// How many files of a group are named, and how many groups there are.
const NAMED: usize = 5;
const GROUPS: usize = 20;

/// Whether an entry is a file that never became a plugin.
fn is_file(module: &Overview) -> bool {
    module.generation.is_none()
}

/// The entries that have a line each, and those that are told by groups.
pub(super) fn apart(modules: Vec<Overview>, all: bool) -> (Vec<Overview>, Vec<Overview>) {
    if all || modules.iter().filter(|module| is_file(module)).count() <= FEW {
        return (modules, Vec::new());
    }
    modules.into_iter().partition(|module| !is_file(module))
}

/// Files by their reason, a paragraph each, the largest group first; nothing if there are none.
pub(super) fn told(files: &[Overview], width: Option<usize>) -> Vec<String> {
    if files.is_empty() {
        return Vec::new();
    }
    let mut groups: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for file in files {
        groups.entry((file.state.as_str(), reason(file))).or_default().push(&file.name);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // Those that are as large stay in the order of their reasons.
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let title =
        format!("{} files are no plugins; `ksi list --all` has a line for each", files.len());
    let mut lines = vec![String::new(), title];
    let further: usize = groups.iter().skip(GROUPS).map(|(_, names)| names.len()).sum();
    let reasons = groups.len().saturating_sub(GROUPS);
    for ((state, reason), names) in groups.into_iter().take(GROUPS) {
        let title = format!("  {} {}: ", names.len(), output::plain(state));
        lines.push(hanging(&title, &format!("{reason}: {}", some(&names)), width));
    }
    if further > 0 {
        lines.push(format!("  {further} for {reasons} other reasons"));
    }
    lines
}

/// `a.so, b.so and 7 more`
fn some(names: &[&str]) -> String {
    // One more name takes no more room than the number does.
    let shown = if names.len() == NAMED + 1 { NAMED + 1 } else { NAMED };
    let named = names.iter().take(shown).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The same text for all files of which the same is to be said.
fn reason(module: &Overview) -> String {
    let quarantined = module.quarantined.as_ref().and_then(|it| it.reason.as_ref());
    let reason = match (&module.state, quarantined) {
        (ModuleState::Waiting, _) if !module.missing.is_empty() => {
            return format!("nobody handles {}, which they require", module.missing.join(", "));
        }
        (_, Some(reason)) => reason,
        (_, None) => match &module.last_error {
            Some(reason) => reason,
            None => return "for a reason that the host does not tell".to_owned(),
        },
    };
    match &module.file {
        Some(file) if !file.is_empty() => {
            let without = reason.replace(&format!("{file} is refused: "), "");
            without.replace(file.as_str(), "the file")
        }
        _ => reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(number: usize, reason: &str) -> Overview {
        let file = format!("/p/{number:03}.so");
        let json = json!({
            "name": format!("{number:03}.so"), "state": "refused", "file": file,
            "last_error": reason.replace("FILE", &file),
        });
        serde_json::from_value(json).expect("a file as the host sends it")
    }

    fn live() -> Overview {
        let json = json!({"name": "hello", "state": "live", "generation": 1});
        serde_json::from_value(json).expect("a plugin as the host sends it")
    }

    #[test]
    fn hundreds_of_refused_files_are_told_by_their_reasons_and_plugins_have_their_lines() {
        let mut modules = vec![live()];
        modules.extend((0..300).map(|number| refused(number, "FILE is refused: this is a text")));
        modules.extend((300..303).map(|number| refused(number, "FILE cannot be read")));
        let (lines, files) = apart(modules.clone(), false);
        assert_eq!((lines.len(), &*lines[0].name, files.len()), (1, "hello", 303));
        assert_eq!(
            told(&files, None),
            [
                "",
                "303 files are no plugins; `ksi list --all` has a line for each",
                "  300 refused: this is a text: 000.so, 001.so, 002.so, 003.so, 004.so and 295 more",
                "  3 refused: the file cannot be read: 300.so, 301.so, 302.so",
            ]
        );
        assert!(told(&files, Some(80)).iter().flat_map(|it| it.lines()).all(|it| it.len() <= 80));
        assert_eq!(apart(modules.clone(), true), (modules, Vec::new()));
    }

    #[test]
    fn a_few_have_a_line_each() {
        let modules: Vec<_> = (0..FEW).map(|number| refused(number, "torn")).collect();
        assert_eq!(apart(modules.clone(), false), (modules, Vec::new()));
        assert!(told(&[], None).is_empty());
    }

    #[test]
    fn files_that_wait_for_the_same_and_many_reasons_are_told_too() {
        let mut files: Vec<_> = (0..GROUPS + 30)
            .map(|number| refused(number, &format!("reason {number:03}")))
            .collect();
        let waits = json!({"name": "w.so", "state": "waiting", "missing": ["a:b", "c:d"]});
        files.push(serde_json::from_value(waits.clone()).expect("a file"));
        files.push(serde_json::from_value(waits).expect("a file"));
        let told = told(&files, None);
        assert_eq!(told[2], "  2 waiting: nobody handles a:b, c:d, which they require: w.so, w.so");
        assert_eq!(told.len(), 2 + GROUPS + 1);
        assert_eq!(told.last().map(String::as_str), Some("  31 for 31 other reasons"));
    }
}
