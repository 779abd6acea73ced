//! Patterns, as far as everybody reads them alike: JSON Schema has those of JavaScript, and types
//! of Rust and Python their own.

use regex_lite::{Regex, RegexBuilder};

use crate::tri::Tri;

/// What a compiled pattern may take, in bytes: the smallest of these that is enough.
pub(crate) const SIZES: [usize; 3] = [4 * 1024, 16 * 1024, 64 * 1024];
/// The longest pattern that is looked at, in bytes, and the longest text.
pub(crate) const LONGEST: usize = 4096;
const LONGEST_TEXT: usize = 1024;

pub(crate) struct Pattern {
    regex: Regex,
    size: usize,
    /// It speaks of kinds of characters, or of ends of lines.
    has_kinds: bool,
}

impl Pattern {
    /// `None` for one that is larger, that looks ahead or back, or that is not read alike.
    pub(crate) fn new(pattern: &str, size: usize) -> Option<Pattern> {
        let has_kinds = kinds(pattern)?;
        let regex = RegexBuilder::new(pattern).size_limit(size).build().ok()?;
        Some(Pattern { regex, size, has_kinds })
    }

    /// The steps that it takes to look for it.
    pub(crate) fn cost(&self, text: &str) -> usize {
        text.len().min(LONGEST_TEXT) * (self.size / SIZES[0]) / 8
    }

    pub(crate) fn is_found_in(&self, text: &str) -> Tri {
        // What a digit, a word, a space or a line is beyond ASCII is said in several ways.
        let plain = |it: char| it.is_ascii() && !it.is_ascii_control();
        let alike = if self.has_kinds {
            text.chars().all(plain)
        } else {
            // A character of two units is one or two of them.
            text.chars().all(|it| it.len_utf16() == 1)
        };
        if !alike || text.len() > LONGEST_TEXT {
            return Tri::Unknown;
        }
        self.regex.is_match(text).into()
    }
}

/// Whether kinds of characters are spoken of; `None` if something is not read alike.
fn kinds(pattern: &str) -> Option<bool> {
    let mut kinds = false;
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    let mut before = None;
    while let Some(it) = chars.next() {
        let next = chars.peek().copied();
        match it {
            '\\' => match chars.next()? {
                'd' | 'D' | 'w' | 'W' | 's' | 'S' => kinds = true,
                'b' | 'B' if !in_class => kinds = true,
                't' | 'n' | 'r' => {}
                '<' | '>' => return None,
                other if other.is_ascii_punctuation() => {}
                _ => return None,
            },
            // Classes within classes, and those that are added or taken away.
            '[' if in_class || next == Some(']') => return None,
            '[' => {
                in_class = true;
                chars.next_if_eq(&'^');
                if chars.peek() == Some(&']') {
                    return None;
                }
            }
            ']' if !in_class => return None,
            ']' => in_class = false,
            '&' | '~' | '-' if in_class && next == Some(it) => return None,
            _ if in_class => {}
            '.' | '$' => kinds = true,
            '(' if next == Some('?') => {
                chars.next();
                (chars.next()? == ':').then_some(())?;
            }
            '{' if !next.is_some_and(|it| it.is_ascii_digit()) => return None,
            '*' | '+' if matches!(before, Some('*' | '+' | '?' | '}')) => return None,
            _ => {}
        }
        // What was escaped is no quantifier.
        before = (it != '\\').then_some(it);
    }
    (!in_class).then_some(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Tri {
        Pattern::new(pattern, SIZES[2]).map_or(Tri::Unknown, |it| it.is_found_in(text))
    }

    #[test]
    fn what_everybody_reads_alike_is_looked_for() {
        for (pattern, text) in [
            ("^[a-z_]+$", "a_b"),
            ("^\\d{4}-\\d\\d$", "2000-01"),
            ("^(?:a|b)*?c$", "abc"),
            ("[^\\]]\\.", "a."),
            ("é", "né"),
            ("", ""),
        ] {
            assert_eq!(found(pattern, text), Tri::Yes, "{pattern}");
            assert_eq!(found(&format!("{pattern}zz"), text), Tri::No, "{pattern}");
        }
    }

    #[test]
    fn what_is_read_in_several_ways_is_not_known() {
        for (pattern, text) in [
            ("^\\d$", "\u{663}"),
            ("^\\w$", "é"),
            ("^a$", "a\n"),
            ("^.$", "\r"),
            ("^[^a]$", "\u{1f600}"),
            ("\\Aa\\z", "a"),
            ("\\<a", "<a"),
            ("[a[b]", "["),
            ("[a&&b]", "&"),
            ("(?i)a", "A"),
            ("(?=a)", "a"),
            ("a{,3}", "a{,3}"),
            ("a*+", "a"),
            ("[]a]", "]"),
        ] {
            assert_eq!(found(pattern, text), Tri::Unknown, "{pattern}");
        }
    }
}
