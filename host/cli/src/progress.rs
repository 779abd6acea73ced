//! That something is going on still, for whoever waits for it longer than a second: on standard
//! error, where that is a terminal, and on one line that goes with it.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ksi_host::printable;

/// After this long, and then as often.
const TICK: Duration = Duration::from_secs(1);

/// Tells what is waited for until it is dropped.
pub(crate) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    pub(crate) fn of(what: &str) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::to(std::io::stderr(), what, TICK),
            false => Progress(None),
        }
    }

    fn to(mut out: impl Write + Send + 'static, what: &str, tick: Duration) -> Self {
        let (end, ended) = channel::<()>();
        let (what, start) = (printable(what).into_owned(), Instant::now());
        let telling = move || {
            let mut is_shown = false;
            // What cannot be told is told to nobody.
            while ended.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                let seconds = start.elapsed().as_secs();
                let _ = write!(out, "\r\x1b[K{what}, {seconds}s").and_then(|()| out.flush());
                is_shown = true;
            }
            if is_shown {
                let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
            }
        };
        let thread = std::thread::Builder::new().name("ksi-progress".into()).spawn(telling);
        Progress(thread.ok().map(|thread| (end, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // The line is gone before anything else is printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a screen").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("a screen").clone()).expect("text")
        }
    }

    #[test]
    fn whoever_waits_is_told_what_for_and_nothing_of_that_stays() {
        let screen = Screen::default();
        let progress = Progress::to(screen.clone(), "reloading a\u{1b}b", Duration::from_millis(1));
        while screen.text().is_empty() {
            std::thread::yield_now();
        }
        drop(progress);
        let text = screen.text();
        assert!(text.starts_with("\r\u{1b}[Kreloading a\\u{1b}b, 0s"), "{text:?}");
        assert!(text.ends_with("s\r\u{1b}[K"), "{text:?}");
        let quick = Screen::default();
        drop(Progress::to(quick.clone(), "reloading", Duration::from_secs(600)));
        assert_eq!(quick.text(), "");
    }
}
