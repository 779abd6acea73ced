//! Text from outside, made harmless for whoever prints it: on a terminal, in a log, in a message.
//!
//! A plugin's name, its error, a file's name or a payload may hold what a terminal obeys (escape
//! sequences), what begins a line that looks like the log's own (line breaks), and what shows other
//! text than there is (bidirectional controls, characters without width). All of these are shown as
//! escapes. Used where text leaves the process for people; JSON keeps what was there.

use std::{borrow::Cow, fmt::Write as _};

/// The text on one line, with every control and format character as an escape, such as `\n` or
/// `\u{202e}`.
///
/// ```
/// use ksi_host::printable;
///
/// assert_eq!(printable("well\n2026-01-01 INFO all gone"), "well\\n2026-01-01 INFO all gone");
/// assert_eq!(printable("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
/// assert_eq!(printable("größer, 大きい, 🙂"), "größer, 大きい, 🙂");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_unprintable) else { return Cow::Borrowed(text) };
    let (well, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(well);
    for c in rest.chars() {
        // Writing to a String cannot fail.
        let _ = match is_unprintable(c) {
            true => write!(out, "{}", c.escape_default()),
            false => out.write_char(c),
        };
    }
    Cow::Owned(out)
}

/// Whether a character steers how text is shown, and is none that is shown itself.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || FORMAT.iter().any(|range| range.contains(&c))
}

/// The general categories Cf (format), Zl and Zp (separators of lines and paragraphs) of Unicode
/// 16.0, from `extracted/DerivedGeneralCategory.txt` of its character database; C0 and C1 are
/// `char::is_control`.
const FORMAT: &[std::ops::RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_steers_a_terminal_is_shown_and_other_text_is_as_it_was() {
        for (text, shown) in [
            ("a\u{1b}[31mb\u{9b}2J", "a\\u{1b}[31mb\\u{9b}2J"),
            ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
            ("\u{202e}gnp.exe\u{2066}\u{200b}", "\\u{202e}gnp.exe\\u{2066}\\u{200b}"),
            ("line\u{2028}paragraph\u{2029}\u{85}", "line\\u{2028}paragraph\\u{2029}\\u{85}"),
            ("\u{feff}\u{e0041}\u{ad}\0\u{7f}", "\\u{feff}\\u{e0041}\\u{ad}\\u{0}\\u{7f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        for text in ["", "plain", "naïve", "שלום", "السلام", "日本語", "e\u{301}", "❤\u{fe0f}"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(_)), "{text}");
        }
    }
}
