//! What a process that has limited itself can still do, and what it is told where it cannot.
//!
//! Each case starts this program again, which applies its limits and then tries what it is told
//! to. It does so as nobody in particular when the tests run as the superuser. The usual harness
//! runs tests in threads, and a process with threads is refused, so this has a `main` of its own;
//! it takes words that the names of cases are to have, as the usual one does.

#![allow(clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod child;

#[cfg(target_os = "linux")]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().is_some_and(|word| word == child::ARGUMENT) {
        true => child::run(&words[1..]),
        false => cases::run(words.iter().filter(|word| !word.starts_with('-')).collect()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    let error = ksi_sandbox::Limits::default().apply().map(|applied| applied.missing);
    assert_eq!(error.unwrap().len(), 1, "it is told that nothing is limited here");
}
