//! How long a thread of this process has run, for whoever asks often: by a file that stays open.

use ksi_kernel::executor::cpu::CpuClock;

/// The clock of a thread, by the number that the system has for it; `None` where the system tells
/// nobody but the thread itself, or `/proc` is not there.
#[cfg(target_os = "linux")]
pub(crate) fn of_thread(thread: u32) -> Option<CpuClock> {
    use std::{fs::File, os::unix::fs::FileExt};

    let file = File::open(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Some(Box::new(move || {
        let mut text = [0; 64];
        let length = file.read_at(&mut text, 0).ok()?;
        // The first of several numbers, in nanoseconds.
        let digits = text[..length].split(|byte| !byte.is_ascii_digit()).next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_thread(_: u32) -> Option<CpuClock> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_the_thread_runs_and_ends_with_it() {
        let thread = std::thread::spawn(|| {
            let number = rustix::thread::gettid().as_raw_nonzero().get();
            let mut clock = of_thread(number.unsigned_abs()).expect("a clock");
            let first = clock().expect("a time");
            while clock().expect("a time") < first + 5_000_000 {
                std::hint::spin_loop();
            }
            clock
        });
        let mut clock = thread.join().expect("it has run");
        // Joined is not yet gone.
        while clock().is_some() {
            std::thread::yield_now();
        }
    }
}
