//! What a process holds, as the system tells it.

use std::{collections::BTreeSet, fs, path::Path};

#[derive(Debug, Clone)]
pub(crate) struct Resources {
    /// Files below the host's private folder that are mapped.
    pub(crate) libraries: BTreeSet<String>,
    pub(crate) resident_kib: u64,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
    /// The signals that it has a handler for, bit 0 for signal 1.
    pub(crate) signals_caught: u64,
}

impl Resources {
    pub(crate) fn of(process: u32, private: &Path) -> Resources {
        let of = |what: &str| format!("/proc/{process}/{what}");
        let libraries = mapped(process, private);
        let status = fs::read_to_string(of("status")).unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        Resources {
            libraries,
            resident_kib: field("VmRSS:").trim_end_matches(" kB").parse().unwrap(),
            threads: fs::read_dir(of("task")).unwrap().count(),
            descriptors: fs::read_dir(of("fd")).unwrap().count(),
            signals_caught: u64::from_str_radix(field("SigCgt:"), 16).unwrap(),
        }
    }
}

/// Files below a folder that are mapped in a process; none in one that has ended.
pub(crate) fn mapped(process: u32, below: &Path) -> BTreeSet<String> {
    let below = below.to_str().unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find(below).map(|at| line[at..].to_owned()));
    files.collect()
}

/// The processes that this one has started and not seen the end of.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_task =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .flat_map(|task| {
            let of_task = of_task(task.unwrap());
            of_task.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}
