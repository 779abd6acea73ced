//! Names of events, and patterns over them.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The longest name or pattern, in bytes.
pub const MAX_NAME_LEN: usize = 256;

/// A payload type that belongs to one event name, by its name alone. The `#[event("ns:name")]`
/// attribute implements it, for whoever emits such a value without knowing plugins: a program that
/// embeds a host.
pub trait EventName {
    /// The event's name.
    const NAME: &'static str;
}

impl<E: EventName + ?Sized> EventName for &E {
    const NAME: &'static str = E::NAME;
}

/// Why a text is no event name, or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no {what}: {reason}")]
pub struct NameError {
    what: &'static str,
    text: String,
    reason: String,
}

impl NameError {
    fn new(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        // A hostile name may be megabytes long.
        let mut text = text.to_owned();
        if text.len() > MAX_NAME_LEN {
            let cut = (0..=MAX_NAME_LEN).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
            text.push('…');
        }
        NameError { what, text, reason: reason.into() }
    }
}

/// Whether `name` is an event name: `namespace:name`, more segments allowed, each of letters,
/// digits, `_`, `-` and `.`.
///
/// ```
/// use ksi_abi::validate_event_name;
/// assert!(validate_event_name("state:update").is_ok());
/// assert!(validate_event_name("state").is_err());
/// ```
pub fn validate_event_name(name: &str) -> Result<(), NameError> {
    let error = |reason: String| Err(NameError::new("event name", name, reason));
    if name.len() > MAX_NAME_LEN {
        return error(format!("it is longer than {MAX_NAME_LEN} bytes"));
    }
    match name.split(':').find_map(segment_fault) {
        Some(reason) if !name.is_empty() => error(reason),
        _ if !name.contains(':') => {
            error("it needs a namespace, as in \"greet:request\"".to_owned())
        }
        _ => Ok(()),
    }
}

fn segment_fault(segment: &str) -> Option<String> {
    if segment.is_empty() {
        return Some("it has an empty segment".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let stranger = segment.chars().find(|&c| !allowed(c))?;
    Some(format!(
        "{stranger:?} is not allowed in it (letters, digits, '_', '-' and '.' are, and ':' between its parts)"
    ))
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PatternSegment {
    /// Exactly this segment.
    Exact(Box<str>),
    /// `*`: any one segment.
    One,
    /// `**`: any number of segments, zero too.
    Many,
}

/// An event name, or a pattern over event names.
///
/// Segments are separated by `:`. `*` stands for one whole segment, `**` for any number of them,
/// and a bare `*` for every event.
///
/// ```
/// use ksi_abi::Pattern;
/// let changes = Pattern::parse("state:*").unwrap();
/// assert!(changes.matches("state:changed"));
/// assert!(!changes.matches("state:changed:again"));
/// assert!(Pattern::parse("state:**").unwrap().matches("state:changed:again"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    segments: Box<[PatternSegment]>,
}

impl Pattern {
    /// Parses a name or a pattern.
    pub fn parse(text: &str) -> Result<Pattern, NameError> {
        let error = |reason: String| NameError::new("event name or pattern", text, reason);
        if text.len() > MAX_NAME_LEN {
            return Err(error(format!("it is longer than {MAX_NAME_LEN} bytes")));
        }
        let segments = match text {
            "*" => vec![PatternSegment::Many],
            _ => text
                .split(':')
                .map(|segment| match segment {
                    "*" => Ok(PatternSegment::One),
                    "**" => Ok(PatternSegment::Many),
                    _ if segment.contains('*') => {
                        Err(error(format!("in {segment:?} the '*' must be the whole segment")))
                    }
                    _ => match segment_fault(segment) {
                        Some(reason) => Err(error(reason)),
                        None => Ok(PatternSegment::Exact(segment.into())),
                    },
                })
                .collect::<Result<Vec<_>, _>>()?,
        };
        if let [PatternSegment::Exact(_)] = segments[..] {
            return Err(error("it needs a namespace, as in \"greet:request\"".to_owned()));
        }
        Ok(Pattern { text: text.into(), segments: segments.into() })
    }

    /// The text that it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments.
    pub fn segments(&self) -> &[PatternSegment] {
        &self.segments
    }

    /// Whether it stands for exactly one name.
    pub fn is_exact(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, PatternSegment::Exact(_)))
    }

    /// Whether `name` is one of the names that it stands for.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_exact() {
            return *self.text == *name;
        }
        let names: Vec<&str> = name.split(':').collect();
        // reached[i]: the segments so far can stand for the first i segments of the name.
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for segment in &self.segments {
            if *segment == PatternSegment::Many {
                for i in 1..reached.len() {
                    reached[i] |= reached[i - 1];
                }
            } else {
                for i in (0..names.len()).rev() {
                    let fits = match segment {
                        PatternSegment::Exact(exact) => **exact == *names[i],
                        _ => true,
                    };
                    reached[i + 1] = reached[i] && fits;
                }
                reached[0] = false;
            }
        }
        reached[names.len()]
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Pattern::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn one_star_is_one_whole_segment_and_two_are_any_number() {
        assert!(matches("state:update", "state:update"));
        assert!(!matches("state:update", "state:updated"));
        assert!(matches("*", "a:b:c"));
        assert!(matches("*:b", "a:b"));
        assert!(!matches("*:b", "a:a:b"));
        assert!(!matches("*:*", "a:b:c"));
        assert!(matches("a:**", "a"));
        assert!(matches("a:**:z", "a:z"));
        assert!(matches("a:**:z", "a:b:c:z"));
        assert!(!matches("a:**:z", "a:b:c"));
        assert!(matches("**", "a:b"));
        assert!(matches("**:b:**:d", "a:b:c:d"));
        assert!(!matches("**:b:**:d", "a:c:d"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, reason) in [
            ("state", "needs a namespace"),
            ("", "needs a namespace"),
            ("a::b", "empty segment"),
            (":b", "empty segment"),
            ("a:b c", "' ' is not allowed"),
            ("bad name", "' ' is not allowed"),
            ("a:*", "'*' is not allowed"),
        ] {
            let message = validate_event_name(text).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
        for text in ["a:b*", "state", "", "a::b", "a:ä"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        let long = "a:".to_owned() + &"é".repeat(5_000);
        assert!(validate_event_name(&long).unwrap_err().to_string().len() < 600);
    }
}
