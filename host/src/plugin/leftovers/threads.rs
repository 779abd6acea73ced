//! Threads that a library has started and that the kernel still has, by the names that they go by.

use std::{collections::BTreeMap, fs};

use ksi_plugin_api::abi::unload::StartedThread;

use super::{super::proc_fs, Remaining};

/// How many different names are told.
const NAMES: usize = 8;
/// What the host's own threads are named like. Who starts a thread hands its own name down to it.
const INHERITED: &str = "ksi-";

/// What is to be told of `count` threads, of which those in `known` could be asked for.
pub(super) fn look(count: u64, known: &[StartedThread]) -> Option<Remaining> {
    let names: Vec<Option<String>> = known.iter().filter_map(name).collect();
    let gone = known.len() - names.len();
    let count = count.saturating_sub(u64::try_from(gone).unwrap_or(u64::MAX));
    let threads = match count {
        0 => return None,
        1 => "a thread that it started still runs".to_owned(),
        more => format!("{more} threads that it started still run"),
    };
    Some(Remaining::new(format!("{threads}: {}", listed(names))))
}

/// The name of a thread, if it has one of its own, as long as there is such a thread.
fn name(thread: &StartedThread) -> Option<Option<String>> {
    // Without /proc, one that has ended cannot be told from one that runs.
    if thread.id == 0 || !proc_fs::is_there() {
        return Some(None);
    }
    let of_thread = |file| fs::read_to_string(format!("/proc/self/task/{}/{file}", thread.id));
    let (stat, name) = (of_thread("stat").ok()?, of_thread("comm").ok()?);
    if began(&stat).is_some_and(|began| began > thread.noted) {
        // Another one, that got the number after this one had ended.
        return None;
    }
    let name = name.trim_end();
    Some((!name.starts_with(INHERITED)).then(|| name.to_owned()))
}

/// When a thread began, in ticks since the system was booted: the 22nd field. The second is a name in brackets, which may
/// contain anything.
fn began(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
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

    #[test]
    fn a_thread_that_began_after_it_was_noted_is_another_one() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(began(stat), Some(4711));
        let id = std::process::id();
        let now = began(&fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap());
        let noted = now.unwrap();
        assert!(look(1, &[StartedThread { id, noted }]).is_some());
        assert_eq!(look(1, &[StartedThread { id, noted: noted - 1 }]), None);
        // Not all could be asked for.
        assert!(look(2, &[StartedThread { id, noted: noted - 1 }]).is_some());
        assert_eq!(look(0, &[]), None);
    }
}
