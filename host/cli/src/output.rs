//! Standard output and standard error: lines that are flushed one by one, colours on a terminal
//! alone, and nothing in them that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};

use ksi_host::{is_unprintable, printable};
use owo_colors::OwoColorize;

use super::exit::CommandFailure;

/// Prints text that may be coloured; the colours are left out unless a terminal reads it.
pub(crate) fn text(text: &str) -> Result<(), CommandFailure> {
    put(anstream::stdout().lock(), text)
}

/// Prints one line of JSON, byte for byte, save that control and format characters are written as
/// escapes. They can only stand inside strings there, where both spellings mean the same.
pub(crate) fn json(line: &str) -> Result<(), CommandFailure> {
    put(std::io::stdout().lock(), &json_line(line))
}

/// See [`json`].
pub(crate) fn json_line(line: &str) -> Cow<'_, str> {
    if !line.contains(is_unprintable) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        let mut units = [0; 2];
        match is_unprintable(c) {
            // Writing to a String cannot fail.
            true => c.encode_utf16(&mut units).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            }),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Prints a failure to standard error. When that is closed too, there is nobody left to tell.
pub(crate) fn error(message: &str) {
    let _ = write!(anstream::stderr(), "{}", error_line(message, true));
}

/// A failure as a line for standard error, with its end.
pub(crate) fn error_line(message: &str, colours: bool) -> String {
    let message = paragraph(message);
    match colours {
        true => format!("{} {message}\n", "error:".red().bold()),
        false => format!("error: {message}\n"),
    }
}

/// Prints a remark to standard error, which is no part of the answer.
pub(crate) fn remark(message: &str) {
    let _ = writeln!(anstream::stderr(), "{}", paragraph(message).dimmed());
}

/// Text from outside, such as a file's name or a plugin's error, on one line, without what would
/// steer a terminal.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    printable(text)
}

/// The same for text that may have several lines. Those behind the first are set in: none of them
/// looks like one of ours.
pub(crate) fn paragraph(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.lines().map(plain).collect();
    lines.join("\n  ")
}

/// Whether a terminal reads standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

fn put(mut out: impl Write, line: &str) -> Result<(), CommandFailure> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CommandFailure::OutputClosed,
        _ => CommandFailure::Output(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_never_steered_by_text_from_outside() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\u{9b}31m"), "a\\u{1b}[2Jb\\r\\nc\\u{9b}31m");
        assert!(matches!(plain("nothing to do"), Cow::Borrowed(_)));
        assert_eq!(paragraph("a\nerror: b\u{202e}"), "a\n  error: b\\u{202e}");
    }

    #[test]
    fn json_means_the_same_with_its_characters_escaped() {
        let text = "\"a\u{202e}\u{e0041}ä\"";
        let line = json_line(text);
        assert_eq!(line, "\"a\\u202e\\udb40\\udc41ä\"");
        let parse = |text: &str| serde_json::from_str::<String>(text).expect("a string");
        assert_eq!(parse(&line), parse(text));
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
        assert!(matches!(
            put(Refusing(ErrorKind::BrokenPipe), "x"),
            Err(CommandFailure::OutputClosed)
        ));
        assert!(matches!(
            put(Refusing(ErrorKind::StorageFull), "x"),
            Err(CommandFailure::Output(_))
        ));
    }
}
