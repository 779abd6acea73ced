//! The handler as Python calls plugins in one process.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What it runs.
const WAYS: &str = include_str!("../../python/ways.py");

/// A process that calls the handler in one way or another, as it is told.
pub(super) struct Ways {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    there: Vec<String>,
}

impl Ways {
    /// # Errors
    /// There is no `python3`.
    pub(super) fn start() -> io::Result<Self> {
        let mut process = Command::new("python3")
            .args(["-I", "-c", WAYS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (orders, answers) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        let mut ways =
            Ways { process, orders, answers: BufReader::new(answers), there: Vec::new() };
        ways.there = ways.line()?.split_whitespace().map(str::to_owned).collect();
        Ok(ways)
    }

    /// Whether it knows this way: pluggy may not be installed.
    pub(super) fn has(&self, way: &str) -> bool {
        self.there.iter().any(|there| there == way)
    }

    /// Nanoseconds a call.
    ///
    /// # Errors
    /// It has ended, which it does when a reply is wrong.
    pub(super) fn nanos(&mut self, way: &str, at_once: usize, calls: usize) -> io::Result<f64> {
        writeln!(self.orders, "{way} {at_once} {calls}")?;
        self.line()?.trim().parse().map_err(io::Error::other)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
