//! Codes that people meet: each is explained, and nothing else is.

use std::{collections::BTreeSet, fs, path::PathBuf};

use ksi_wire::codes;
use serde_json::{Value, json};

use crate::kit::{
    Library, TestHost, ksi,
    sources::{code, sources},
    workspace,
};

/// Where codes are made.
const PARTS: &[&str] = &[
    "host/src",
    "host/kernel/src",
    "host/contracts/src",
    "host/cli/src",
    "plugin-api/src",
    "plugin-api/abi/src",
    "plugin-api/harness/src",
    "plugins/state/src",
    "plugins/completion/src",
    "plugins/http/src",
    "plugins/transformers/src",
];

/// What is written before a code, on its line or the one before.
const BEFORE: &[&str] = &[
    "Failure::new(",
    "Error::new(",
    "Error::ended(",
    "Error::refused(",
    "broken(",
    ".fails(id, ",
    "let code = ",
    "code: ",
    "const CODE: &str = ",
    "const REJECTED: &str = ",
    "failure_of_host(&event, ",
    "Refused::new(StatusCode::BAD_REQUEST, ",
    "Refused::new(StatusCode::FORBIDDEN, ",
    "Refused::new(StatusCode::METHOD_NOT_ALLOWED, ",
    "Refused::new(StatusCode::NOT_FOUND, ",
    "Refused::new(StatusCode::PAYLOAD_TOO_LARGE, ",
    "Refused::new(StatusCode::REQUEST_TIMEOUT, ",
    "Refused::new(StatusCode::SERVICE_UNAVAILABLE, ",
    "Refused::new(StatusCode::UNAUTHORIZED, ",
    "return conflict(",
    "let (code, message) = (",
];

/// Functions all of whose words are codes.
const OF_CODES: &[&str] = &[
    "fn code(",
    "fn error_code(",
    "fn of_manifest(",
    "fn of_python(",
    "fn of_probe(",
    "fn of_hand_over(",
    "let code = match",
];

/// Words behind these that are none.
const NO_CODES: &[&str] = &[
    // What a scripted instance of unit tests fails with.
    "fake",
];

/// The word in quotes that a text begins with.
fn quoted(text: &str) -> Option<&str> {
    let word = text.trim_start().strip_prefix('"')?.split('"').next()?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!word.is_empty() && word.chars().all(is_word)).then_some(word)
}

/// The text up to the brace that closes the first one in it.
fn block(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &text[..at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// The same in Python.
const BEFORE_IN_PYTHON: &[&str] =
    &["    code = ", "fails(number, ", "code, message = ", "frames.text(", "HookFailed("];

/// All codes of the code, with where they are.
fn made() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![workspace().join("plugin-api/python/src/ksi")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "py") {
                let text = fs::read_to_string(&path).unwrap();
                let places = BEFORE_IN_PYTHON.iter().flat_map(|before| {
                    text.match_indices(before).map(move |(at, _)| at + before.len())
                });
                let codes = places.filter_map(|at| quoted(&text[at..]));
                found.extend(codes.map(|code| (code.to_owned(), path.display().to_string())));
            }
        }
    }
    let of_tests = |file: &PathBuf| file.iter().any(|part| part == "tests");
    for file in PARTS.iter().flat_map(|part| sources(part)).filter(|file| !of_tests(file)) {
        let text = code(&fs::read_to_string(workspace().join(&file)).unwrap());
        let mut note = |code: &str| found.insert((code.to_owned(), file.display().to_string()));
        for (at, before) in BEFORE.iter().flat_map(|before| text.match_indices(before)) {
            quoted(&text[at + before.len()..]).map(&mut note);
        }
        for (at, _) in OF_CODES.iter().flat_map(|of| text.match_indices(of)) {
            for arm in block(&text[at..]).split("=>").skip(1) {
                quoted(arm.trim_start().trim_start_matches('{')).map(&mut note);
            }
        }
    }
    found.retain(|(code, _)| !NO_CODES.contains(&code.as_str()));
    found
}

/// What a host refuses a plugin, by the names of the constants.
fn refusals() -> Vec<String> {
    let file = workspace().join("plugin-api/abi/src/refusal.rs");
    let text = fs::read_to_string(file).unwrap();
    let names = text.lines().filter_map(|line| {
        line.trim().strip_prefix("pub const ")?.strip_suffix(");")?.split(": RefusalCode").next()
    });
    names.filter(|name| *name != "NONE").map(str::to_lowercase).collect()
}

#[test]
fn every_code_that_somebody_can_meet_is_explained() {
    let made = made();
    let words = |word: &str| made.iter().any(|(code, _)| code == word);
    for known in ["invalid_payload", "other_abi", "crashed", "no_host", "removed", "not_json"] {
        assert!(words(known), "codes are looked for in vain: {known} is not among {made:?}");
    }
    let refusals = refusals();
    assert!(refusals.len() >= 20, "{refusals:?}");
    let mut unexplained: Vec<String> = made
        .iter()
        .filter(|(code, _)| codes::explained(code).is_none())
        .map(|(code, file)| format!("{code} of {file}"))
        .collect();
    unexplained.extend(refusals.into_iter().filter(|code| codes::explained(code).is_none()));
    assert!(unexplained.is_empty(), "explain these in host/wire/src/codes: {unexplained:#?}");
}

#[test]
fn nothing_is_explained_that_nobody_can_meet() {
    let made: BTreeSet<String> =
        made().into_iter().map(|(code, _)| code).chain(refusals()).collect();
    // Exit codes are numbers.
    let words = codes::all().filter(|it| !it.code.starts_with(|c: char| c.is_ascii_digit()));
    let gone: Vec<&str> = words.map(|it| it.code).filter(|code| !made.contains(*code)).collect();
    assert!(gone.is_empty(), "no code says these any more: {gone:?}");
}

#[test]
fn ksi_explain_needs_no_host_and_a_refused_file_has_a_code_wherever_it_is_shown() {
    let nowhere = "nowhere".as_ref();
    let explained = ksi(nowhere, &["explain", "timed_out"], "").ok();
    assert!(explained.contains("Mostly: ") && explained.contains("Do: "), "{explained}");
    let all = ksi(nowhere, &["explain", "--json"], "").ok();
    assert_eq!(all.lines().count(), codes::all().count());
    let unknown = ksi(nowhere, &["explain", "time_out"], "").fails(2);
    assert!(unknown.contains("did you mean timed_out?"), "{unknown}");
    let no_host = ksi(nowhere, &["list"], "").fails(3);
    assert!(no_host.ends_with(" [no_host]\n"), "{no_host}");

    let host = TestHost::builder().plugin("notes.so", &Library(b"no library".to_vec())).start();
    host.until_refused("notes.so");
    let refused = host.module("notes.so");
    assert_eq!(refused["code"], "not_elf", "{refused}");
    let listed = host.ksi(&["list"]).ok();
    assert!(listed.split_whitespace().any(|word| word.starts_with("[not_elf]")), "{listed}");
    let file = host.file("notes.so");
    let reply = host.client().reply("module:load", json!({"path": file}));
    assert_eq!(reply["data"]["code"], "not_elf", "{reply}");
    let checked = ksi(nowhere, &["check", file.to_str().unwrap()], "");
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains(" [not_elf]"), "{}", checked.stdout);
    let checked = ksi(nowhere, &["check", "--json", file.to_str().unwrap()], "").stdout;
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["checked"][0]["code"], "not_elf", "{checked}");
}
