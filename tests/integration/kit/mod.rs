//! What tests are made with: libraries to drop, hosts to drop them into, clients to ask.

mod build;
mod client;
mod command;
mod counter;
mod field;
mod files;
mod host;
mod http;
pub(crate) mod isolated;
pub(crate) mod lanes;
mod load;
mod process;
pub(crate) mod sources;
mod states;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

pub(crate) use build::{
    OutsideCrate, artifacts, field_library, for_outside_crates, for_outside_crates_apart,
    plugin_api, with_ksi_in_path, workspace,
};
pub(crate) use client::{Client, error_of};
pub(crate) use command::{Ran, Running, after_mounts, ksi, ksi_command, wrapped};
pub(crate) use files::{ABI, Library, put, put_in_place};
pub(crate) use host::{HostBuilder, TestHost};
pub(crate) use http::HttpClient;
pub(crate) use load::{Ends, counters, under_load};
pub(crate) use process::{Resources, children, mapped};
pub(crate) use states::States;

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until the answer is right, and gives it.
#[track_caller]
pub(crate) fn until<T: Debug>(what: &str, ask: impl FnMut() -> T, right: impl Fn(&T) -> bool) -> T {
    until_within(PATIENCE, what, ask, right)
}

/// The same for what cargo has to build first, which may wait for other builds in its folder.
#[track_caller]
pub(crate) fn until_built<T: Debug>(
    what: &str,
    ask: impl FnMut() -> T,
    right: impl Fn(&T) -> bool,
) -> T {
    until_within(10 * PATIENCE, what, ask, right)
}

#[track_caller]
fn until_within<T: Debug>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> T,
    right: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let answer = ask();
        if right(&answer) {
            return answer;
        }
        assert!(start.elapsed() < patience, "{what}: still {answer:#?}");
        // A pause between two questions, so that the one who is asked gets the processor.
        std::thread::sleep(Duration::from_millis(4));
    }
}
