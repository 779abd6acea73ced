//! A number of bytes, as people write it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// A number of bytes. Written `"512 MiB"` (`B`, `KiB`, `MiB`, `GiB`, `TiB`) or as a plain number.
///
/// ```
/// use ksi_sandbox::Bytes;
///
/// let bytes: Bytes = "1.5 GiB".parse()?;
/// assert_eq!(bytes, Bytes(1536 << 20));
/// assert_eq!(bytes.to_string(), "1536 MiB");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for Bytes {
    /// What is wrong with the text.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size such as \"512 MiB\" or \"2 GiB\"");
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.trim().strip_suffix(name)?, *unit)))
            .unwrap_or((text, 1));
        let number = number.trim();
        // Neither signs nor exponents nor `inf`.
        if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(wrong());
        }
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(unit).map(Bytes).ok_or_else(wrong);
        }
        let part: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = part * unit as f64;
        match bytes < u64::MAX as f64 {
            true => Ok(Bytes(bytes as u64)),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |unit: u64| self.0 >= unit && self.0.is_multiple_of(unit);
        match UNITS.iter().find(|(_, unit)| whole(*unit)) {
            Some((name, unit)) => write!(to, "{} {name}", self.0 / unit),
            None => write!(to, "{} B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a size such as \"512 MiB\", or a number of bytes")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bytes, E> {
                Ok(Bytes(number))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bytes, E> {
                let negative = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number).map(Bytes).map_err(negative)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_with_and_without_a_unit_and_shown_with_the_largest_that_fits() {
        for (text, bytes, shown) in [
            ("0", 0, "0 B"),
            ("1000", 1000, "1000 B"),
            ("7B", 7, "7 B"),
            ("64KiB", 64 << 10, "64 KiB"),
            ("512 MiB", 512 << 20, "512 MiB"),
            (" 0.5 GiB ", 512 << 20, "512 MiB"),
            ("2 TiB", 2 << 40, "2 TiB"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "MiB", "-1", "+1 MiB", "1e3", "inf", "nan", "1 MB", "1 mib", "1.2.3"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("no size such as"), "{text}: {error}");
        }
        assert!("99999999999 TiB".parse::<Bytes>().is_err());
        assert!("99999999999.5 TiB".parse::<Bytes>().is_err());
    }

    #[test]
    fn it_crosses_as_a_number() {
        let json = serde_json::to_string(&Bytes(5)).unwrap();
        assert_eq!(json, "5");
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), Bytes(5));
        assert_eq!(serde_json::from_str::<Bytes>("\"1 KiB\"").unwrap(), Bytes(1024));
        assert!(serde_json::from_str::<Bytes>("-1").is_err());
    }
}
