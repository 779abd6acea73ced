//! Standard output and standard error: lines that are flushed one by one, colours on a terminal alone, and nothing in
//! them that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};

use owo_colors::OwoColorize;

use super::exit::Failure;

/// Prints text that may be coloured; the colours are left out unless a terminal reads it.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    put(anstream::stdout().lock(), text)
}

/// Prints one line of JSON, byte for byte, save that control characters are written as escapes. They can only stand
/// inside strings there, where both spellings mean the same.
pub(crate) fn json(line: &str) -> Result<(), Failure> {
    put(std::io::stdout().lock(), &escaped(line, |out, c| write!(out, "\\u{:04x}", c as u32)))
}

/// Prints a failure to standard error. When that is closed too, there is nobody left to tell.
pub(crate) fn error(message: &str) {
    let _ = write!(anstream::stderr(), "{}", error_line(message, true));
}

/// A failure as a line for standard error, with its end.
pub(crate) fn error_line(message: &str, colours: bool) -> String {
    let message = plain(message);
    match colours {
        true => format!("{} {message}\n", "error:".red().bold()),
        false => format!("error: {message}\n"),
    }
}

/// Prints a remark to standard error, which is no part of the answer.
pub(crate) fn remark(message: &str) {
    let _ = writeln!(anstream::stderr(), "{}", plain(message).dimmed());
}

/// Text from outside, such as a file's name or a plugin's error, without what would steer a terminal. Line breaks stay.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |out, c| match c {
        '\n' => out.write_char(c),
        _ => write!(out, "{}", c.escape_default()),
    })
}

/// Whether a terminal reads standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

fn put(mut out: impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Output(error),
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char) -> std::fmt::Result) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // Writing to a String cannot fail.
        let _ = if c.is_control() { escape(&mut out, c) } else { out.write_char(c) };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_never_steered_by_text_from_outside() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\u{9b}31m"), "a\\u{1b}[2Jb\\r\nc\\u{9b}31m");
        assert!(matches!(plain("nothing to do"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        struct Refusing(ErrorKind);
        impl Write for Refusing {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(put(Refusing(ErrorKind::BrokenPipe), "x"), Err(Failure::OutputClosed)));
        assert!(matches!(put(Refusing(ErrorKind::StorageFull), "x"), Err(Failure::Output(_))));
    }
}
