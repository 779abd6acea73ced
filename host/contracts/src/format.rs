//! Formats of strings and numbers.
//!
//! JSON Schema leaves open whether a format is an assertion. Here it is one, because whoever
//! deserializes takes nothing else. What is not known of a format is not guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::tri::Tri;

/// From where to where an integer of a format goes, as `schemars` names Rust's; `None` is farther
/// than an `i128` goes. No format of integers is `None` as a whole.
pub(crate) fn integers(format: &str) -> Option<(i128, Option<i128>)> {
    Some(match format {
        "int8" => (i8::MIN.into(), Some(i8::MAX.into())),
        "int16" => (i16::MIN.into(), Some(i16::MAX.into())),
        "int32" => (i32::MIN.into(), Some(i32::MAX.into())),
        "int64" | "int" => (i64::MIN.into(), Some(i64::MAX.into())),
        "int128" => (i128::MIN, Some(i128::MAX)),
        "uint8" => (0, Some(u8::MAX.into())),
        "uint16" => (0, Some(u16::MAX.into())),
        "uint32" => (0, Some(u32::MAX.into())),
        "uint64" | "uint" => (0, Some(u64::MAX.into())),
        "uint128" => (0, None),
        _ => return None,
    })
}

/// One value of each format of strings that is known.
const SAMPLES: &[(&str, &str)] = &[
    ("uuid", "00000000-0000-0000-0000-000000000000"),
    ("date-time", "2000-01-01T00:00:00Z"),
    ("partial-date-time", "2000-01-01T00:00:00"),
    ("date", "2000-01-01"),
    ("time", "00:00:00Z"),
    ("partial-time", "00:00:00"),
    ("duration", "PT0S"),
    ("ipv4", "127.0.0.1"),
    ("ipv6", "::1"),
    ("ip", "127.0.0.1"),
    ("uri", "https://example.com/"),
    ("email", "someone@example.com"),
];

/// A string of a format.
pub(crate) fn sample(format: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(name, _)| *name == format).map(|(_, sample)| *sample)
}

/// Whether every string of one format is one of the other.
pub(crate) fn implies(one: &str, other: &str) -> bool {
    one == other || (other == "ip" && matches!(one, "ipv4" | "ipv6"))
}

/// Whether a string is of a format.
pub(crate) fn is_of(format: &str, text: &str) -> Tri {
    let Some(sample) = sample(format) else { return Tri::Unknown };
    match format {
        "uuid" => Tri::from(is_uuid(text)),
        "ipv4" => Tri::from(text.parse::<Ipv4Addr>().is_ok()),
        "ipv6" => Tri::from(text.parse::<Ipv6Addr>().is_ok()),
        "ip" => Tri::from(text.parse::<IpAddr>().is_ok()),
        _ if text == sample => Tri::Yes,
        // What is certainly none of them is enough for an example.
        "duration" if !text.starts_with('P') => Tri::No,
        "uri" if !text.contains(':') => Tri::No,
        "email" if !text.contains('@') => Tri::No,
        "date" | "date-time" | "partial-date-time" | "time" | "partial-time"
            if !has_shape_of(text, sample) =>
        {
            Tri::No
        }
        _ => Tri::Unknown,
    }
}

/// Hyphenated, as it is written everywhere.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a text begins as a date or time does: a digit where there is one, and so on, as far as
/// the seconds go; and is not one of the neighbours.
fn has_shape_of(text: &str, sample: &str) -> bool {
    let fixed = sample.trim_end_matches('Z');
    let begins = text.len() >= fixed.len()
        && text.bytes().zip(fixed.bytes()).all(|(byte, like)| match like {
            b'T' => matches!(byte, b'T' | b't' | b' '),
            _ if like.is_ascii_digit() => byte.is_ascii_digit(),
            _ => byte == like,
        });
    let has_time = fixed.contains(':');
    let zoned = text
        .get(fixed.len()..)
        .is_some_and(|rest| rest.ends_with(['Z', 'z']) || rest.contains(['+', '-']));
    begins
        && match (has_time, sample.ends_with('Z')) {
            (false, _) => text.len() == fixed.len(),
            (true, zone) => zone == zoned,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_its_format_and_of_no_other() {
        for (format, sample) in SAMPLES {
            assert_eq!(is_of(format, sample), Tri::Yes, "{format}");
            for (other, _) in SAMPLES.iter().filter(|(other, _)| !implies(format, other)) {
                let both = (*format, *other) == ("ip", "ipv4") || *other == "uri";
                assert!(both || is_of(other, sample) == Tri::No, "{sample} as {other}");
            }
            assert_eq!(is_of(format, ""), Tri::No, "{format}");
            assert_ne!(is_of(format, "é2000-01-01T00:00:00Zé"), Tri::Yes, "{format}");
        }
        assert_eq!(is_of("colour", "red"), Tri::Unknown);
    }
}
