//! How values become bytes and back. The only module of the crate that knows that payloads are JSON.

use serde::{Deserialize, Serialize};

use crate::{
    abi::{Buffer, Content, Failure, buffer::Writer, layout::crosses_as_bytes, value::Encode},
    error::{Error, Result},
};

/// Encodes into memory of the host.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Buffer> {
    let mut writer = Writer::new();
    match serde_json::to_writer(&mut writer, value) {
        Ok(()) => Ok(writer.finish()),
        Err(error) => {
            Err(Error::new("encode", format_args!("the value cannot become JSON: {error}")))
        }
    }
}

impl<T: Serialize> Encode for T {
    fn encode(&self) -> Result<Buffer, Failure> {
        encode(self).map_err(|error| {
            let (code, message) = error.into_parts();
            Failure::new(&code, &message)
        })
    }
}

// Its features change what it is made of, so JSON crosses as JSON.
crosses_as_bytes!(serde_json::Value, serde_json::Map<String, serde_json::Value>);

/// The encoding of what an emitter hands over.
pub(crate) fn bytes_of(content: Content) -> Result<Buffer> {
    content.into_bytes().map_err(|failure| {
        let (code, message) = failure.to_texts();
        Error::new(code, message)
    })
}

/// Decodes; an error names the path inside the payload.
#[inline]
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
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
    fn unit_and_none_are_no_reply() {
        assert!(is_nothing(&encode(&()).unwrap()));
        assert!(is_nothing(&encode(&None::<u8>).unwrap()));
        assert!(!is_nothing(&encode(&Some(1)).unwrap()));
    }
}
