//! How figures are written.

/// `0.02 ms`, `12.4 ms`, `3.21 s`
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 0.0095 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 10_000.0 => format!("{ms:.1} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_digits_that_say_something() {
        let written = [0.0, 0.002, 0.02, 3.214, 12.44, 9_999.0, 12_345.0].map(milliseconds);
        let expected = ["0 µs", "2 µs", "0.02 ms", "3.21 ms", "12.4 ms", "9999.0 ms", "12.3 s"];
        assert_eq!(written, expected);
    }
}
