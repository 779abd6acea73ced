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

/// Whether a string is of a format. Types of Rust read more than the format says, each in another
/// way: what one of them may read is not refused.
pub(crate) fn is_of(format: &str, text: &str) -> Tri {
    let Some(sample) = sample(format) else { return Tri::Unknown };
    let maybe = |yes: bool| if yes { Tri::Unknown } else { Tri::No };
    match format {
        _ if text == sample => Tri::Yes,
        "uuid" if is_uuid(text) => Tri::Yes,
        "uuid" => maybe(is_another_uuid(text)),
        "ipv4" => Tri::from(text.parse::<Ipv4Addr>().is_ok()),
        "ipv6" if text.contains('%') => Tri::Unknown,
        "ipv6" => Tri::from(text.parse::<Ipv6Addr>().is_ok()),
        "ip" if text.contains('%') => Tri::Unknown,
        "ip" => Tri::from(text.parse::<IpAddr>().is_ok()),
        "duration" => maybe(may_be_duration(text)),
        "uri" => maybe(text.contains(':')),
        "email" => maybe(text.contains('@')),
        _ => maybe(may_be_time(format, text)),
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

/// Without hyphens, in braces, or as a name: as `uuid` reads them as well.
fn is_another_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let others = text.bytes().filter(|it| !it.is_ascii_hexdigit());
    // Those of `urn:uuid:` are among the digits or the others, in whichever case.
    (32..=33).contains(&digits) && others.count() <= 16
}

/// As ISO 8601 has it, or in words and by colons (`1 hour`, `1:00:00`), as `jiff` reads it.
fn may_be_duration(text: &str) -> bool {
    text.bytes().any(|it| it.is_ascii_digit())
        && text.bytes().any(|it| it.is_ascii_alphabetic() || it == b':')
        && !text.trim_start_matches('-').contains('-')
}

/// Whether a text may be a date or a time, relaxed as `chrono` and `jiff` read them: with spaces,
/// without zeros in front or hyphens, and with more than is asked for.
fn may_be_time(format: &str, text: &str) -> bool {
    // A time zone may follow.
    if text.contains('[') {
        return true;
    }
    let strange = |it: char| !it.is_ascii_digit() && !" TtZzUuCcWw:.,+-\u{2212}".contains(it);
    if text.contains(strange) || text.bytes().filter(u8::is_ascii_digit).count() < 2 {
        return false;
    }
    let has_zulu = text.contains(['Z', 'z']);
    let has_date = text.get(1..).is_some_and(|it| it.matches('-').count() >= 2);
    let (before, after) = match text.trim().split_once(['T', 't', ' ']) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    };
    // An address, or a number of another kind.
    if text.matches('.').count() > 1 || before.matches('-').count() > 3 {
        return false;
    }
    let is_time = after.is_none() && before.contains(':');
    match format {
        "date-time" => {
            after.is_some_and(|it| it.contains(['Z', 'z', 'U', 'u', '+', '-', '\u{2212}']))
        }
        "date" | "partial-date-time" => !has_zulu && !is_time,
        "partial-time" => !has_zulu && (after.is_some() || is_time || !has_date),
        "time" => is_time || !has_date,
        _ => true,
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
                let more = match *other {
                    "ipv4" => *format == "ip",
                    "uri" => true,
                    // A date of `jiff`'s may have a time beside it, and the other way round.
                    "date" => *format == "partial-date-time",
                    "partial-date-time" => *format == "date",
                    "partial-time" => *format == "partial-date-time",
                    "time" => *format == "partial-time",
                    "duration" => matches!(*format, "ipv6" | "partial-time" | "time"),
                    _ => false,
                };
                assert!(more || is_of(other, sample) == Tri::No, "{sample} as {other}");
                assert_ne!(is_of(format, "é2000-01-01T00:00:00Zé"), Tri::Yes, "{format}");
            }
            assert_eq!(is_of(format, ""), Tri::No, "{format}");
        }
        assert_eq!(is_of("colour", "red"), Tri::Unknown);
    }

    #[test]
    fn what_a_type_may_read_is_not_refused() {
        let read = [
            ("uuid", "67e5504410b1426f9247bb680e5fe0c8"),
            ("uuid", "URN:UUID:67E55044-10B1-426F-9247-BB680E5FE0C8"),
            ("uuid", "{67e55044-10b1-426f-9247-bb680e5fe0c8}"),
            ("date-time", "2012-  12-12T12:  12:12Z"),
            ("date-time", "2012-1-2 3:4:5 UTC"),
            ("date-time", "2024-06-19T15:22:45-04[America/New_York]"),
            ("date-time", "20240619T152245-0400"),
            ("date", "2012-1-2"),
            ("date", "20120102"),
            ("date", "2024-06-19T15:22:45"),
            ("partial-date-time", "2024-06-19"),
            ("partial-time", "15:22"),
            ("partial-time", "2024-06-19T15:22:45"),
            ("duration", "-P1DT1H"),
            ("duration", "1 hour 30 minutes"),
            ("duration", "01:30:00"),
        ];
        for (format, text) in read {
            assert_eq!(is_of(format, text), Tri::Unknown, "{format}: {text}");
        }
        for (format, _) in SAMPLES.iter().filter(|(format, _)| *format != "uri") {
            for text in ["a", "red", "é", "-", "a b"] {
                assert_eq!(is_of(format, text), Tri::No, "{format}: {text}");
            }
        }
    }
}
