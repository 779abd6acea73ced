//! Reading the sources of the workspace, for what they name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::workspace;

/// The Rust files of a part, relative to the workspace, without those of unit tests.
pub(crate) fn sources(part: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![workspace().join(part)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            files.push(path.strip_prefix(workspace()).unwrap().to_owned());
        }
    }
    assert!(!files.is_empty(), "{part} has no sources: was it renamed?");
    files.sort();
    files
}

/// The module that a file is, as segments: `host/src/plugin/file/watch/mod.rs` is `plugin`, `file`,
/// `watch`.
pub(crate) fn module_of(file: &Path) -> Vec<String> {
    let below = file.iter().skip_while(|part| *part != "src").skip(1);
    let mut segments: Vec<String> = below.map(|part| part.to_str().unwrap().to_owned()).collect();
    let name = segments.pop().unwrap_or_default();
    if !matches!(name.as_str(), "mod.rs" | "lib.rs" | "main.rs") {
        segments.push(name.trim_end_matches(".rs").to_owned());
    }
    segments
}

/// The text without its line comments and without its unit tests, which may make use of anything.
pub(crate) fn code(text: &str) -> String {
    let tests = text.rfind("#[cfg(test)]").filter(|at| {
        let after = &text[*at..];
        after
            .find('{')
            .is_some_and(|end| after[..end].contains("mod ") && !after[..end].contains(';'))
    });
    let lines = text[..tests.unwrap_or(text.len())]
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The code without what stands in quotes on one line.
pub(crate) fn without_strings(code: &str) -> String {
    let lines =
        code.lines().map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let mut places = code.match_indices(word);
    places.any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let ends = word.ends_with(|c| !is_part_of_word(c)) || !after.starts_with(is_part_of_word);
        !before.ends_with(is_part_of_word) && ends
    })
}

/// Everything of the same crate that the code names by a path, from the crate's root.
pub(crate) fn paths(code: &str, module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_part_of_word) && !code[..at].ends_with('$') {
            expand(&code[at + "crate::".len()..], "", &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        // Only the first of several in a row: the others are counted with it.
        if code[..at].ends_with(is_part_of_word) || code[..at].ends_with("super::") {
            continue;
        }
        let (mut rest, mut up) = (&code[at..], 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, up) = (next, up + 1);
        }
        let base = module[..module.len().saturating_sub(up)].join("::");
        expand(rest, &base, &mut found);
    }
    found
}

/// What a module exports that is defined elsewhere in its crate: the name, and the path from the
/// crate's root.
pub(crate) fn re_exported(code: &str, module: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("pub") {
        let Some((visibility, path)) = code[at..].split_once("use ") else { break };
        let is_one =
            visibility == "pub " || (visibility.starts_with("pub(") && visibility.ends_with(") "));
        if !is_one || visibility.contains('\n') {
            continue;
        }
        let path = path.split(';').next().unwrap_or_default();
        match path.starts_with("crate::") || path.starts_with("super::") {
            true => found.extend(paths(path, module)),
            false => {
                expand(path, &module.join("::"), &mut found);
            }
        }
    }
    let segments = found.iter().map(|path| path.split("::").map(str::to_owned).collect::<Vec<_>>());
    segments.filter_map(|path| Some((path.last()?.clone(), path))).collect()
}

/// Reads a path with its groups, `a::{b, c::d}`, and notes each one that it stands for. Gives what
/// follows it.
fn expand<'a>(text: &'a str, base: &str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let Some(end) = rest.find([',', '}', '{']) else { return "" };
            rest = match rest.as_bytes()[end] {
                b'{' => expand(rest, base, found),
                _ => {
                    expand(&rest[..end], base, found);
                    &rest[end..]
                }
            };
            rest = rest.trim_start().trim_start_matches(',');
        }
    }
    let end = text.find(|c| !is_part_of_word(c)).unwrap_or(text.len());
    let (segment, rest) = text.split_at(end);
    let path = if base.is_empty() { segment.to_owned() } else { format!("{base}::{segment}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(deeper, &path, found),
        _ => {
            if !segment.is_empty() {
                found.insert(path);
            }
            rest
        }
    }
}
