//! What the compiler says to an author who has made a mistake: what to write, once, at the place
//! where it is to be written.
//!
//! Each file in `tests/mistakes` is a program with one mistake. What is told of it stands in
//! comments below the line in question: `//~ at prio` says that an error points at `prio` there,
//! and each `//~ words` after it that they are said in it or beside it. There is no other error,
//! unless the file begins with `//~ the first one`: of those that the compiler adds, nothing is
//! said then.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{
    Message,
    diagnostic::{Diagnostic, DiagnosticLevel, DiagnosticSpan},
};

use crate::kit::{OutsideCrate, plugin_api, workspace};

const FIRST: &str = "//~ the first one";

/// One program.
struct Case {
    name: String,
    source: String,
    only_first: bool,
    expected: Vec<Expected>,
}

/// One error of it.
#[derive(Debug)]
struct Expected {
    line: usize,
    place: String,
    words: Vec<String>,
}

impl Case {
    fn read(file: &Path) -> Case {
        let source = fs::read_to_string(file).unwrap();
        let (mut expected, mut line) = (Vec::<Expected>::new(), 0);
        for (number, text) in (1..).zip(source.lines()) {
            match text.trim().strip_prefix("//~ ") {
                None => line = number,
                Some(_) if text == FIRST => {}
                Some(told) => match told.strip_prefix("at ") {
                    Some(place) => {
                        expected.push(Expected { line, place: place.to_owned(), words: Vec::new() })
                    }
                    None => expected.last_mut().unwrap().words.push(told.to_owned()),
                },
            }
        }
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let complete = |expected: &Expected| !expected.words.is_empty();
        assert!(!expected.is_empty() && expected.iter().all(complete), "{name} tells of no error");
        Case { only_first: source.starts_with(FIRST), name, source, expected }
    }

    /// What is not as it should be in what the compiler says of it.
    fn compare(&self, errors: &[&Diagnostic]) -> String {
        let mut wrong = String::new();
        let looked_at =
            if self.only_first { errors.iter().take(1) } else { errors.iter().take(99) };
        let mut met = vec![false; self.expected.len()];
        for error in looked_at {
            let found = self.expected.iter().position(|it| it.is_met_by(error));
            match found {
                Some(number) => met[number] = true,
                None => write!(wrong, "not expected:\n{}", told(error)).unwrap(),
            }
        }
        for (expected, _) in self.expected.iter().zip(met).filter(|(_, met)| !met) {
            writeln!(wrong, "not told: {expected:?}").unwrap();
        }
        wrong
    }
}

impl Expected {
    fn is_met_by(&self, error: &Diagnostic) -> bool {
        let said = said(error);
        let mut places = error.spans.iter().filter(|span| span.is_primary).flat_map(written);
        let is_place =
            |span: &DiagnosticSpan| span.line_start == self.line && covered(span) == self.place;
        places.any(is_place) && self.words.iter().all(|words| said.contains(words))
    }
}

/// Where somebody has written what a span points to: there, or where the macro stands that did.
fn written(span: &DiagnosticSpan) -> impl Iterator<Item = &DiagnosticSpan> {
    std::iter::successors(Some(span), |span| Some(&span.expansion.as_deref()?.span))
}

/// The code that a span points to.
fn covered(span: &DiagnosticSpan) -> String {
    let [line] = span.text.as_slice() else { return String::new() };
    let characters = line.text.chars().skip(line.highlight_start - 1);
    characters.take(line.highlight_end - line.highlight_start).collect()
}

/// All that an error says.
fn said(error: &Diagnostic) -> String {
    let labels = error.spans.iter().filter_map(|span| span.label.as_deref());
    let beside = error.children.iter().map(said);
    let own = std::iter::once(error.message.clone()).chain(labels.map(str::to_owned));
    own.chain(beside).collect::<Vec<_>>().join("\n")
}

fn told(error: &Diagnostic) -> &str {
    error.rendered.as_deref().unwrap_or(&error.message)
}

fn is_error(said: &Diagnostic) -> bool {
    // The compiler's own last word has no place.
    said.level == DiagnosticLevel::Error && !said.spans.is_empty()
}

#[test]
fn a_mistake_is_told_once_at_its_place_with_what_to_write() {
    let files = fs::read_dir(workspace().join("tests/mistakes")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let cases: Vec<Case> = files.iter().map(|file| Case::read(file)).collect();
    assert!(cases.len() >= 20, "{}", cases.len());

    // All are checked by one cargo, each as a program of one package.
    let api = format!("ksi-plugin-api = {{ path = {:?} }}", plugin_api());
    let serde = "serde = { version = \"1\", features = [\"derive\"] }";
    let package = OutsideCrate::with("mistaken", &["rlib"], &[&api, serde], "");
    let programs = package.path().join("src/bin");
    fs::create_dir(&programs).unwrap();
    for Case { name, source, .. } in &cases {
        fs::write(programs.join(format!("{name}.rs")), format!("{source}\nfn main() {{}}\n"))
            .unwrap();
    }
    let check = ["check", "--bins", "--keep-going", "--message-format=json", "--quiet"];
    let (_, printed) = package.cargo(&check);
    let mut told_of: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
    for message in Message::parse_stream(printed.as_bytes()) {
        if let Message::CompilerMessage(message) = message.unwrap() {
            told_of.entry(message.target.name).or_default().push(message.message);
        }
    }
    let mut wrong = String::new();
    for case in &cases {
        let told = told_of.get(&case.name).into_iter().flatten();
        let errors: Vec<&Diagnostic> = told.filter(|said| is_error(said)).collect();
        let compared = case.compare(&errors);
        if !compared.is_empty() {
            write!(wrong, "== {}.rs\n{compared}", case.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{}", if told_of.is_empty() { &printed } else { "" });
}
