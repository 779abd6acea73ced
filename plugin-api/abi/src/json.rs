//! JSON in memory of the host.
//!
//! The boundary knows of JSON here alone, because only who has all the bytes written himself can
//! promise that they are text. Who reads them needs not look at each whether it is, which is a
//! seventh of what decoding costs.

use serde::Serialize;

use super::{
    buffer::{Buffer, Failure, Writer},
    layout::crosses_as_bytes,
    value::Encode,
};

/// A value as JSON, in a buffer that is known to be text.
///
/// # Errors
/// The value cannot become JSON.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Buffer, serde_json::Error> {
    let mut writer = Writer::new();
    serde_json::to_writer(&mut writer, value)?;
    // SAFETY: serde_json writes UTF-8 and nothing else, whatever it is given; its own `to_string`
    // relies on that. Nobody else has the writer.
    Ok(unsafe { writer.finish_text() })
}

impl<T: Serialize> Encode for T {
    fn encode(&self) -> Result<Buffer, Failure> {
        encode(self).map_err(|error| {
            Failure::new("encode", &format!("the value cannot become JSON: {error}"))
        })
    }
}

// Its features change what it is made of, so JSON crosses as JSON.
crosses_as_bytes!(serde_json::Value, serde_json::Map<String, serde_json::Value>);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_encoded_is_text() {
        let buffer = encode(&("ä\u{1F600}\u{0}\"", 1.5, [0xffu8])).unwrap();
        assert_eq!(buffer.as_text(), Some("[\"ä\u{1F600}\\u0000\\\"\",1.5,[255]]"));
        let long = "ö".repeat(10_000);
        assert_eq!(encode(&long).unwrap().as_text().map(str::len), Some(20_002));
        assert!(encode(&BTreeMap::from([([1], 2)])).is_err());
    }
}
