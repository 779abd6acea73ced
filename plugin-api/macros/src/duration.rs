//! Timeouts as an author writes them: a whole number and a unit.

/// The milliseconds that `text` stands for, or what is wrong with it.
///
/// A timeout is at least 1 ms, because zero is how a handler's table says "the host's default".
pub(crate) fn parse_timeout(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(no_duration(text)),
    };
    if number.is_empty() {
        return Err(no_duration(text));
    }
    let milliseconds =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_each));
    match milliseconds {
        Some(0) => Err("a timeout of zero would end every call at once: write at least \"1ms\", \
                        or leave `timeout` out for the host's default"
            .into()),
        Some(milliseconds) => Ok(milliseconds),
        None => Err(format!("`{text}` is too long for a timeout")),
    }
}

fn no_duration(text: &str) -> String {
    format!(
        "`{text}` is no duration: write a whole number and `ms`, `s` or `m`, like \"500ms\", \
         \"5s\" or \"2m\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        assert_eq!(parse_timeout("500ms"), Ok(500));
        assert_eq!(parse_timeout("5s"), Ok(5_000));
        assert_eq!(parse_timeout("2m"), Ok(120_000));
    }

    #[test]
    fn shows_how_a_duration_is_written() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5h", "5S", "５s"] {
            let mistake = parse_timeout(text).unwrap_err();
            assert!(mistake.contains("is no duration: write a whole number"), "{text}: {mistake}");
        }
    }

    #[test]
    fn zero_and_overflow_are_mistakes() {
        for text in ["0ms", "0s", "00m"] {
            assert!(parse_timeout(text).unwrap_err().contains("a timeout of zero"), "{text}");
        }
        for text in ["99999999999999999999s", "18446744073709551615m"] {
            assert!(parse_timeout(text).unwrap_err().contains("too long"), "{text}");
        }
    }
}
