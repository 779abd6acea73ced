//! The one way in which values are held against their ranges, and how a value outside is told.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Problem;

pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Durations above zero and at most thirty days. `table` is how the keys' table is written.
pub(super) fn durations(table: &str, all: &[(&str, Duration)]) -> Result<(), Problem> {
    match all.iter().find(|(_, value)| value.is_zero() || *value > LONGEST) {
        Some((key, value)) => {
            Err(outside(table, key, shown(*value), "above zero and at most 30 days"))
        }
        None => Ok(()),
    }
}

/// A duration of which zero means that there is none of it.
pub(super) fn zero_or_duration(table: &str, key: &str, value: Duration) -> Result<(), Problem> {
    match value > LONGEST {
        true => Err(outside(table, key, shown(value), "from zero to 30 days")),
        false => Ok(()),
    }
}

pub(super) fn count<T>(
    table: &str,
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Problem>
where
    T: PartialOrd + std::fmt::Display,
{
    // A float that is no number is in no range.
    match range.contains(&value) {
        true => Ok(()),
        false => {
            let range = format!("from {} to {}", range.start(), range.end());
            Err(outside(table, key, value, &range))
        }
    }
}

pub(super) fn outside(
    table: &str,
    key: &str,
    value: impl std::fmt::Display,
    range: &str,
) -> Problem {
    Problem::OutOfRange {
        key: format!("{table}.{key}"),
        value: value.to_string(),
        range: range.to_owned(),
    }
}

pub(super) fn shown(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}
