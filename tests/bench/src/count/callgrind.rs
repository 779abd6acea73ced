//! Runs this program under valgrind, and reads what callgrind has counted.

use std::{
    collections::HashMap,
    io,
    ops::Sub,
    path::Path,
    process::{Command, Stdio},
};

use super::driver::Drive;
use crate::error::BenchError;

/// Lines of what valgrind says that are shown when it fails.
const SHOWN: usize = 12;

/// What was executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Executed {
    /// Instructions of this program and of the plugins.
    pub(super) own: u64,
    /// Calls from there of the C library, which copies and has memory.
    pub(super) calls: u64,
    /// Instructions of the C library. How long its allocator looks for a block that is too large
    /// for its cache depends on what lies around it, so this is never quite the same.
    pub(super) libc: u64,
    /// Instructions, of all, that lock memory.
    pub(super) locked: u64,
}

impl Sub for Executed {
    type Output = Executed;

    fn sub(self, less: Executed) -> Executed {
        Executed {
            own: self.own.saturating_sub(less.own),
            calls: self.calls.saturating_sub(less.calls),
            libc: self.libc.saturating_sub(less.libc),
            locked: self.locked.saturating_sub(less.locked),
        }
    }
}

/// # Errors
/// There is no valgrind.
pub(super) fn version() -> Result<String, BenchError> {
    let output = Command::new("valgrind").arg("--version").output().map_err(not_started)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs it from its start to its end.
///
/// # Errors
/// There is no valgrind, it fails, or what it runs does.
pub(super) fn run(drive: &Drive, folder: &Path) -> Result<Executed, BenchError> {
    let counts = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    // A lock-prefixed instruction is a global bus event. Without `fair-sched`, the thread that
    // emits keeps the others from the processor.
    valgrind.args(["--tool=callgrind", "--collect-bus=yes", "--fair-sched=yes"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(&drive.probe).arg("--drive").arg(serde_json::to_string(drive)?);
    let output = valgrind.stdin(Stdio::null()).output().map_err(not_started)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let told: Vec<&str> = said.lines().filter(|line| !line.starts_with("==")).collect();
        let told = told[..told.len().min(SHOWN)].join("\n");
        return Err(BenchError::Program(format!("valgrind ended with {}: {told}", output.status)));
    }
    let text = std::fs::read_to_string(&counts)
        .map_err(|source| BenchError::File { path: counts.clone(), source })?;
    let names = [&drive.probe, &drive.emitter, &drive.handlers].map(|file| stem(file));
    // The host gives the copy that it opens the name of the file, and a number.
    let is_own = |object: &str| names.iter().any(|name| stem(Path::new(object)).starts_with(name));
    read(&text, is_own)
        .ok_or_else(|| BenchError::Program(format!("{} has no counts in it", counts.display())))
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn not_started(error: io::Error) -> BenchError {
    match error.kind() {
        io::ErrorKind::NotFound => BenchError::NoValgrind,
        _ => BenchError::Program(format!("valgrind could not be started: {error}")),
    }
}

/// Sums up a file of callgrind's by the object that the code belongs to. Nothing, if there is none
/// or it has no count of locked instructions.
fn read<'a>(text: &'a str, is_own: impl Fn(&str) -> bool) -> Option<Executed> {
    let events = text.lines().find_map(|line| line.strip_prefix("events:"))?;
    let place = |name| events.split_whitespace().position(|event| event == name);
    let (instructions, locked) = (place("Ir")?, place("Ge")?);
    // A name stands there once, with a number, and is a number from then on.
    let mut objects: HashMap<&str, bool> = HashMap::new();
    let mut owned = |object: &'a str| {
        let (number, name) = object.split_once(' ').unwrap_or((object, ""));
        *objects.entry(number).or_insert_with(|| is_own(name))
    };
    let (mut sum, mut own, mut called, mut of_a_call) = (Executed::default(), false, None, false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            own = owned(object);
        } else if let Some(object) = line.strip_prefix("cob=") {
            called = Some(owned(object));
        } else if let Some(call) = line.strip_prefix("calls=") {
            // Without an object of its own, what is called is in the caller's.
            if own && called.take() == Some(false) {
                sum.calls += call.split_whitespace().next()?.parse::<u64>().ok()?;
            }
            (called, of_a_call) = (None, true);
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            // What a call costs is counted where it goes.
            && !std::mem::take(&mut of_a_call)
        {
            // First comes the place in the source; zeros at the end are left out.
            let costs: Vec<u64> =
                line.split_whitespace().skip(1).map_while(|cost| cost.parse().ok()).collect();
            let cost = |event: usize| costs.get(event).copied().unwrap_or(0);
            *(if own { &mut sum.own } else { &mut sum.libc }) += cost(instructions);
            sum.locked += cost(locked);
        }
    }
    (sum != Executed::default()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As valgrind 3.19 writes it: names by number, places relative to the one before.
    const COUNTS: &str = "\
# callgrind format
version: 1
positions: line
events: Ir Ge

ob=(1) /target/release/ksi-bench
fl=(1) ???
fn=(1) emit
0 100 2
cfn=(2) malloc
cob=(2) /lib/libc.so.6
calls=10 0
0 5000 70
+3 11
cfn=(4) accept
calls=20 0
0 8000 90

ob=(2)
fl=(2) malloc.c
fn=(2)
12 3000 60
* 2000 10
cfn=(5) _int_malloc
calls=5 0
* 1000

ob=(3) /tmp/ksi-0-Ig6xL7/plugins/libplugin-2.so
fn=(3) handler
-4 7

totals: 5118 72
";

    #[test]
    fn what_is_executed_counts_once_and_for_the_object_that_it_is_in() {
        let is_own = |object: &str| !object.contains("libc");
        let expected = Executed { own: 118, calls: 10, libc: 5_000, locked: 72 };
        assert_eq!(read(COUNTS, is_own), Some(expected));
    }

    #[test]
    fn a_file_without_counts_is_none() {
        assert_eq!(read("", |_| true), None);
        assert_eq!(read(&COUNTS.replace("Ir Ge", "Ir"), |_| true), None, "of what is locked");
    }
}
