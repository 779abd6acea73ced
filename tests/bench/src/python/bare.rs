//! The handler in an asyncio loop that is nothing else, which reads JSON from a socket.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use super::letter;

/// What it runs.
const BARE: &str = include_str!("../../python/bare.py");

/// The handler without a host.
pub(super) struct Bare {
    process: Child,
    socket: UnixStream,
}

impl Bare {
    /// # Errors
    /// There is no `python3`.
    pub(super) fn start() -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let process = Command::new("python3")
            .args(["-I", "-c", BARE])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok(Bare { process, socket })
    }

    /// Nanoseconds a request.
    ///
    /// # Errors
    /// It answers wrongly, or not at all.
    pub(super) fn nanos(&mut self, at_once: usize, requests: usize) -> io::Result<f64> {
        let (began, mut answered) = (Instant::now(), 0);
        for number in 0..requests {
            if number - answered == at_once {
                self.answer()?;
                answered += 1;
            }
            let letter = serde_json::to_vec(&letter(number as u64))?;
            let mut frame = u32::try_from(letter.len()).unwrap_or(0).to_le_bytes().to_vec();
            frame.extend(letter);
            self.socket.write_all(&frame)?;
        }
        for _ in answered..requests {
            self.answer()?;
        }
        Ok(began.elapsed().as_nanos() as f64 / requests as f64)
    }

    fn answer(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        self.socket.read_exact(&mut answer)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer["number"].is_u64() {
            true => Ok(()),
            false => Err(io::Error::other("the bare loop gave another answer")),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
