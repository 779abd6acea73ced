//! Whether bytes are JSON that can be read back, within the depth that readers of it keep to.
//!
//! For snapshots of plugins that cannot say so themselves. What the JSON means is not looked at.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// # Errors
/// Where it is no JSON, or nested too deep.
pub(super) fn check(bytes: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Anything>(bytes).map(drop)
}

/// Any value. Unlike [`IgnoredAny`], which is skipped without counting how deep it is, it is visited.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

macro_rules! scalars {
    ($($method:ident: $ty:ty,)*) => {$(
        fn $method<E: Error>(self, _: $ty) -> Result<Anything, E> {
            Ok(Anything)
        }
    )*};
}

impl<'de> Visitor<'de> for Anything {
    type Value = Anything;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    scalars! {
        visit_bool: bool,
        visit_i64: i64,
        visit_u64: u64,
        visit_i128: i128,
        visit_u128: u128,
        visit_f64: f64,
        visit_str: &str,
    }

    fn visit_unit<E: Error>(self) -> Result<Anything, E> {
        Ok(Anything)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Anything, A::Error> {
        while seq.next_element::<Anything>()?.is_some() {}
        Ok(Anything)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Anything, A::Error> {
        while map.next_entry::<IgnoredAny, Anything>()?.is_some() {}
        Ok(Anything)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_a_reader_would_refuse_is_refused() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        for good in [&b"null"[..], b"{\"a\": [1.5, -1, true, \"x\", {}]}", b" [] ", &nested(127)] {
            assert!(check(good).is_ok(), "{}", String::from_utf8_lossy(good));
        }
        for bad in [&b""[..], b"[1", b"{\"a\":NaN}", b"[] []", b"\"\xff\"", &nested(128)] {
            assert!(check(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
