//! Threads that run a library's code and that the kernel still has, by the names that they go by.
//!
//! The library has noted those that it started itself, from before they began. The [`search`] finds
//! those that came another way: started by a function that was looked up, or by a library that this
//! one depends on.

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod origin;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod search;
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
#[path = "threads/no_search.rs"]
mod search;
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
mod stack;

use std::{collections::BTreeMap, fs};

use ksi_abi::unload::StartedThread;

pub(super) use self::search::Memory;
use super::Remaining;
use crate::system::proc_fs;

/// How many different names are told.
const NAMES: usize = 8;
/// What the host's own threads are named like. Who starts a thread hands its own name down to it.
const INHERITED: &str = "ksi-";

/// A thread that a library is to be kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FoundThread {
    id: u32,
    why: Why,
}

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It was started for the library.
    Started,
    /// It is in a call of the library.
    Inside,
    /// It runs all the time, and nobody knows what.
    Unknown,
}

/// What a search has found.
pub(super) struct Others(Result<Vec<FoundThread>, String>);

/// Looks for all threads that run code of the library; `opened` is when it was opened, in ticks
/// since the system was booted.
pub(super) fn search(memory: &Memory, opened: Option<u64>) -> Others {
    Others(search::search(memory, opened).map_err(|error| error.to_string()))
}

/// What is to be told of `count` threads, of which those in `known` could be asked for, and of
/// those that were found besides.
pub(super) fn look(count: u64, known: &[StartedThread], others: Others) -> Vec<Remaining> {
    let (others, error) = match others.0 {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    // A noted one that the search has found counts, also if it has ended since then: it may have
    // started another meanwhile, in a way that is not noted. That is so for all that were found.
    let was_found = |thread: &StartedThread| others.iter().any(|found| found.id == thread.id);
    let with_name =
        |thread: &StartedThread| name(thread).or_else(|| was_found(thread).then_some(None));
    let mut names: Vec<Option<String>> = known.iter().filter_map(with_name).collect();
    let gone = known.len() - names.len();

    let noted = |found: &&FoundThread| !known.iter().any(|thread| thread.id == found.id);
    let others: Vec<FoundThread> = others.iter().filter(noted).copied().collect();
    let of = |why: Why| others.iter().filter(move |found| found.why == why).map(|found| found.id);
    // Those that have noted no number yet are among those that were found, or will be. So are those
    // that no number was asked of.
    let without = known.iter().filter(|thread| thread.id == 0).count();
    let without = without as u64 + count.saturating_sub(known.len() as u64);
    let count = count.saturating_sub(u64::try_from(gone).unwrap_or(u64::MAX));
    let started: Vec<u32> = of(Why::Started).collect();
    let count = count + (started.len() as u64).saturating_sub(without);
    let more = started.into_iter().map(name_of);
    names.extend(
        more.take(usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(names.len())),
    );

    let mut remaining = Vec::new();
    if count > 0 {
        let threads = match count {
            1 => "a thread that it started still runs".to_owned(),
            more => format!("{more} threads that it started still run"),
        };
        remaining.push(Remaining::new(format!("{threads}: {}", listed(names))));
    }
    for (why, text) in [
        (Why::Inside, "another library's threads are inside its code"),
        (
            Why::Unknown,
            "threads began after it was opened, run all the time, and may be in its code",
        ),
    ] {
        let names: Vec<Option<String>> = of(why).map(name_of).collect();
        if !names.is_empty() {
            remaining.push(Remaining::new(format!("{text}: {}", listed(names))));
        }
    }
    remaining.extend(error.map(|error| {
        Remaining::new(format!("whether a thread still runs its code cannot be seen: {error}"))
    }));
    remaining
}

/// The name of a thread, if it has one of its own, as long as there is such a thread.
fn name(thread: &StartedThread) -> Option<Option<String>> {
    // Without /proc, one that has ended cannot be told from one that runs.
    if thread.id == 0 || !proc_fs::is_there() {
        return Some(None);
    }
    match proc_fs::began(thread.id) {
        // The second is another one, that got the number after this one had ended.
        Ok(None) => None,
        Ok(Some(began)) if began > thread.noted => None,
        Ok(Some(_)) => Some(name_of(thread.id)),
        // Whether it has ended cannot be seen now.
        Err(_) => Some(None),
    }
}

/// The name that a thread of this number has of its own.
fn name_of(id: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    let name = name.trim_end();
    (!name.starts_with(INHERITED)).then(|| name.to_owned())
}

fn listed(names: Vec<Option<String>>) -> String {
    let mut counted = BTreeMap::<Option<String>, usize>::new();
    for name in names {
        *counted.entry(name).or_default() += 1;
    }
    let more = counted.len().saturating_sub(NAMES);
    let mut told: Vec<String> = counted
        .into_iter()
        .take(NAMES)
        .map(|(name, count)| {
            let name = name.map_or_else(|| "without a name".to_owned(), |name| format!("`{name}`"));
            if count == 1 { name } else { format!("{count} {name}") }
        })
        .collect();
    if more > 0 {
        told.push(format!("and {more} names more"));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_by_name_and_those_that_share_one_together() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(listed(vec![some("reader")]), "`reader`");
        let names = vec![some("b"), None, some("a"), some("b"), None, None];
        assert_eq!(listed(names), "3 without a name, `a`, 2 `b`");
        let many = (0..12).map(|number| some(&number.to_string())).collect();
        assert!(listed(many).ends_with("and 4 names more"));
    }

    fn none() -> Others {
        Others(Ok(Vec::new()))
    }

    #[test]
    fn a_thread_that_began_after_it_was_noted_is_another_one() {
        let id = std::process::id();
        let noted = proc_fs::began(id).unwrap().unwrap();
        assert_eq!(look(1, &[StartedThread { id, noted }], none()).len(), 1);
        assert_eq!(look(1, &[StartedThread { id, noted: noted - 1 }], none()), []);
        // Not all could be asked for.
        assert_eq!(look(2, &[StartedThread { id, noted: noted - 1 }], none()).len(), 1);
        assert_eq!(look(0, &[], none()), []);
    }

    #[test]
    fn a_thread_that_was_noted_and_found_is_one() {
        let told = |count, known: &[StartedThread], found: &[(u32, Why)]| {
            let found = found.iter().map(|(id, why)| FoundThread { id: *id, why: *why }).collect();
            let told = look(count, known, Others(Ok(found)));
            told.iter().map(Remaining::to_string).collect::<Vec<_>>().join("; ")
        };
        let id = std::process::id();
        let known = StartedThread { id, noted: proc_fs::began(id).unwrap().unwrap() };
        // No thread has such a number.
        let other = u32::MAX / 2;
        let one = told(1, &[known], &[]);
        assert!(one.starts_with("a thread that it started still runs: `"), "{one}");
        assert_eq!(told(1, &[known], &[(id, Why::Started)]), one);
        let two = told(1, &[known], &[(id, Why::Started), (other, Why::Started)]);
        assert!(two.starts_with("2 threads that it started still run: "), "{two}");
        // It was there when all were looked at, and has ended since then.
        let ended = StartedThread { id: other, noted: 1 };
        assert_eq!(told(1, &[ended], &[]), "");
        let one = "a thread that it started still runs: without a name";
        assert_eq!(told(1, &[ended], &[(other, Why::Started)]), one);
        // It has only begun, and what was found may be it.
        let begun = StartedThread::default();
        assert!(told(1, &[begun], &[(other, Why::Started)]).starts_with("a thread that it"));
        let inside = told(0, &[], &[(id, Why::Inside), (other, Why::Unknown)]);
        assert!(inside.starts_with("another library's threads are inside its code: `"), "{inside}");
        assert!(inside.ends_with("may be in its code: without a name"), "{inside}");
        let error = look(0, &[], Others(Err("none left".to_owned())));
        assert!(error[0].to_string().ends_with("cannot be seen: none left"), "{}", error[0]);
    }
}
