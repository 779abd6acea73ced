//! How values become bytes and back. The only module of the crate that knows that payloads are
//! JSON.

use ksi_abi::{Buffer, Content, Encoding, json};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Encodes into memory of the host.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Buffer> {
    json::encode(value).map_err(|error| {
        Error::new("encode", format_args!("the value cannot become JSON: {error}"))
    })
}

/// The encoding of what an emitter hands over.
pub fn bytes_of(content: Content) -> Result<Buffer> {
    content.into_bytes().map_err(|failure| {
        let (code, message) = failure.to_texts();
        Error::new(code, message)
    })
}

/// Decodes what is lent; an error names the path inside the payload.
#[inline]
pub(crate) fn decode_lent<'a, T: Deserialize<'a>>(encoding: Encoding<'a>) -> Result<T> {
    match encoding {
        Encoding::Text(text) => match serde_json::from_str(text) {
            Ok(value) => Ok(value),
            Err(_) => decode_with_path(text.as_bytes()),
        },
        Encoding::Bytes(bytes) => decode(bytes),
    }
}

/// The same for the payload of a handler. A client that has nothing to say sends an empty object:
/// where nothing is expected, `()` or perhaps an `Option`, that is what it stands for.
#[inline]
pub(crate) fn decode_payload<'a, T: Deserialize<'a>>(encoding: Encoding<'a>) -> Result<T> {
    decode_lent(encoding).or_else(|error| match encoding.as_bytes() {
        b"{}" => serde_json::from_str("null").map_err(|_| error),
        _ => Err(error),
    })
}

/// The same for bytes that nothing is known of.
#[inline]
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        // Noting the path costs as much as decoding, so it is done for those that fail alone.
        Err(_) => decode_with_path(bytes),
    }
}

#[cold]
fn decode_with_path<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let place = match path.as_str() {
            "." => String::new(),
            path => format!("at {path:?}: "),
        };
        Error::new("invalid_payload", format_args!("{place}{}", error.into_inner()))
    })?;
    json.end().map_err(|error| Error::new("invalid_payload", error))?;
    Ok(value)
}

/// Whether an encoded reply is the one that stands for "no reply": unit and `None`.
pub(crate) fn is_nothing(reply: &[u8]) -> bool {
    reply == b"null"
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[allow(dead_code)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[allow(dead_code)]
        count: u32,
    }

    #[test]
    fn a_decode_error_names_the_path_inside_the_payload() {
        let error = decode::<Outer>(br#"{"inner":[{"count":1},{"count":"x"}]}"#).unwrap_err();
        assert_eq!(error.code(), "invalid_payload");
        assert!(error.message().contains("inner[1].count"), "{error}");
        let error = decode::<Outer>(b"[").unwrap_err();
        assert_eq!(error.code(), "invalid_payload");
    }

    #[test]
    fn a_float_comes_back_as_it_went() {
        let floats = [0.904_216_945_489_337_1, 1e-7, f64::MIN_POSITIVE, f64::MAX, 5e-324];
        let json = encode(&floats).unwrap();
        assert_eq!(decode::<[f64; 5]>(&json).unwrap(), floats);
        assert_eq!(decode_lent::<[f64; 5]>(Encoding::of(&json)).unwrap(), floats);
    }

    #[test]
    fn a_decode_error_names_the_path_however_the_bytes_came() {
        let json = Buffer::from(r#"{"inner":[{"count":"x"}]}"#);
        for encoding in [Encoding::of(&json), Encoding::Bytes(&json)] {
            let error = decode_lent::<Outer>(encoding).unwrap_err();
            assert!(error.message().contains("inner[0].count"), "{error}");
        }
    }

    #[test]
    fn an_empty_object_is_nothing_for_a_handler_that_takes_nothing() {
        let empty = Encoding::Text("{}");
        assert_eq!(decode_payload::<()>(empty), Ok(()));
        assert_eq!(decode_payload::<Option<u32>>(Encoding::Bytes(b"{}")), Ok(None));
        assert_eq!(decode_payload::<serde_json::Value>(empty), Ok(serde_json::json!({})));
        let error = decode_payload::<u32>(empty).unwrap_err();
        assert!(error.message().contains("expected u32"), "{error}");
        assert!(decode_payload::<()>(Encoding::Text(r#"{"a":1}"#)).is_err());
    }

    #[test]
    fn unit_and_none_are_no_reply() {
        assert!(is_nothing(&encode(&()).unwrap()));
        assert!(is_nothing(&encode(&None::<u8>).unwrap()));
        assert!(!is_nothing(&encode(&Some(1)).unwrap()));
    }
}
