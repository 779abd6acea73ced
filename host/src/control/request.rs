//! A request line, taken apart as far as this layer needs it: the payload stays the bytes it came
//! as.

use std::borrow::Cow;
use std::fmt;

use ksi_wire::line::ATTRIBUTES;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Nesting that readers of the payload accept too: serde_json's own limit.
const DEEPEST: usize = 127;

/// What a client asks for, as far as it can be borrowed from its line.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) event: Cow<'a, str>,
    /// The payload.
    pub(super) data: Cow<'a, RawValue>,
    pub(super) correlation_id: CorrelationId<'a>,
    pub(super) attributes: Vec<(&'static str, Cow<'a, str>)>,
}

impl Request<'_> {
    pub(super) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| &**value)
    }

    /// For later, when the line is gone.
    pub(super) fn into_owned(self) -> Request<'static> {
        let attributes = self.attributes.into_iter();
        Request {
            event: Cow::Owned(self.event.into_owned()),
            data: Cow::Owned(self.data.into_owned()),
            correlation_id: self.correlation_id.into_owned(),
            attributes: attributes
                .map(|(name, value)| (name, Cow::Owned(value.into_owned())))
                .collect(),
        }
    }
}

/// The JSON scalar by which a client knows its reply again, exactly as the client wrote it.
#[derive(Debug, Default)]
pub(super) struct CorrelationId<'a>(Option<Cow<'a, RawValue>>);

impl CorrelationId<'_> {
    pub(super) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn as_json(&self) -> &str {
        self.0.as_deref().map_or("null", RawValue::get)
    }

    /// Of what [`as_json`](Self::as_json) gives.
    pub(super) fn of_json(json: String) -> CorrelationId<'static> {
        CorrelationId(RawValue::from_string(json).ok().map(Cow::Owned))
    }

    pub(super) fn into_owned(self) -> CorrelationId<'static> {
        CorrelationId(self.0.map(|id| Cow::Owned(id.into_owned())))
    }
}

/// A line that is no request, with the correlation id if it was found at least.
#[derive(Debug)]
pub(super) struct Malformed<'a> {
    pub(super) reason: Reason,
    pub(super) correlation_id: CorrelationId<'a>,
}

impl Malformed<'_> {
    /// For later, when the line is gone.
    pub(super) fn into_owned(self) -> Malformed<'static> {
        Malformed { reason: self.reason, correlation_id: self.correlation_id.into_owned() }
    }
}

impl From<Reason> for Malformed<'_> {
    fn from(reason: Reason) -> Self {
        Malformed { reason, correlation_id: CorrelationId::default() }
    }
}

/// Why a line is no request. Its text is what the client is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("Line too long: a line may have {limit} bytes; this one was skipped")]
    TooLong { limit: usize },
    #[error("Invalid JSON: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("Invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("Invalid JSON: nested more than {DEEPEST} levels deep")]
    Nested,
    #[error("Expected a JSON object with an \"event\", found {found}")]
    NotAnObject { found: &'static str },
    #[error("Missing event name")]
    NoEvent,
    #[error("Invalid event name: expected a string, found {found}")]
    EventNotText { found: &'static str },
    #[error("Invalid correlation_id: expected a string, a number or a bool, found {found}")]
    CorrelationId { found: &'static str },
}

/// Whether there is nothing on the line.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| byte.is_ascii_whitespace())
}

/// Reads a line that is not blank.
pub(super) fn parse(line: &[u8]) -> Result<Request<'_>, Malformed<'_>> {
    let line = std::str::from_utf8(line).map_err(Reason::from)?;
    // The raw values below are skipped over without recursion and so without serde_json's limit,
    // but whoever decodes the payload later would meet it.
    if brackets(line) > DEEPEST && nesting(line) > DEEPEST {
        return Err(Reason::Nested.into());
    }
    if !line.trim_start().starts_with('{') {
        let value: &RawValue = serde_json::from_str(line).map_err(Reason::from)?;
        return Err(Reason::NotAnObject { found: kind(value) }.into());
    }
    let envelope: Envelope<'_> = serde_json::from_str(line).map_err(Reason::from)?;
    let correlation_id = match given(envelope.correlation_id) {
        Some(id) if matches!(kind(id), "an object" | "a list") => {
            return Err(Reason::CorrelationId { found: kind(id) }.into());
        }
        id => CorrelationId(id.map(Cow::Borrowed)),
    };
    let data = match given(envelope.data) {
        Some(data) => data,
        None => serde_json::from_str("{}").map_err(Reason::from)?,
    };
    match event_and_attributes(&envelope) {
        Ok((event, attributes)) => {
            Ok(Request { event, data: Cow::Borrowed(data), correlation_id, attributes })
        }
        Err(reason) => Err(Malformed { reason, correlation_id }),
    }
}

type Attributes<'a> = Vec<(&'static str, Cow<'a, str>)>;

fn event_and_attributes<'a>(
    envelope: &Envelope<'a>,
) -> Result<(Cow<'a, str>, Attributes<'a>), Reason> {
    let event = match given(envelope.event) {
        None => return Err(Reason::NoEvent),
        Some(name) if kind(name) == "a string" => text(name)?,
        Some(other) => return Err(Reason::EventNotText { found: kind(other) }),
    };
    if event.is_empty() {
        return Err(Reason::NoEvent);
    }
    let mut attributes = Vec::new();
    for (name, value) in ATTRIBUTES.into_iter().zip(envelope.attributes) {
        if let Some(value) = given(value) {
            attributes.push((name, text(value)?));
        }
    }
    Ok((event, attributes))
}

/// A value that is there and not null.
fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// A string's contents; any other value as it is written.
fn text(value: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    if kind(value) == "a string" {
        serde_json::from_str(value.get()).map(|Text(text)| text)
    } else {
        Ok(Cow::Borrowed(value.get()))
    }
}

/// What sort of value it is, in words.
fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a bool",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// How many opening brackets there are: an upper bound of how deep they nest, and cheap to find.
fn brackets(line: &str) -> usize {
    // Few enough bytes at a time for a count of one byte, so that the compiler can count many at
    // once.
    let parts = line.as_bytes().chunks(128);
    parts
        .map(|part| {
            usize::from(part.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>())
        })
        .sum()
}

/// How deep the brackets outside of strings nest.
fn nesting(line: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next()
                    && byte != b'"'
                {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// The top level of a request. Of a key that comes twice the last one counts, as in Python.
#[derive(Default)]
struct Envelope<'a> {
    event: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    correlation_id: Option<&'a RawValue>,
    attributes: [Option<&'a RawValue>; ATTRIBUTES.len()],
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(Text(key)) = map.next_key()? {
            let place = match key.as_ref() {
                "event" => &mut envelope.event,
                "data" => &mut envelope.data,
                "correlation_id" => &mut envelope.correlation_id,
                key => match ATTRIBUTES.iter().position(|name| *name == key) {
                    Some(index) => &mut envelope.attributes[index],
                    None => {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                },
            };
            *place = Some(map.next_value()?);
        }
        Ok(envelope)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err().reason.to_string()
    }

    #[test]
    fn a_full_request_keeps_its_payload_and_ids_as_written() {
        let line = br#" {"event":"a:\u0062","data":{"n":1.0, "t":"\ud800"},"correlation_id": 1e3 ,
            "_client_id":"c\"1","_event_depth":3,"_agent_id":null,"later":[{}]} "#;
        let request = parse(line).unwrap();
        assert_eq!(request.event, "a:b");
        assert_eq!(request.data.get(), r#"{"n":1.0, "t":"\ud800"}"#);
        assert_eq!(request.correlation_id.as_json(), "1e3");
        assert_eq!(request.attribute("_client_id"), Some("c\"1"));
        assert_eq!(request.attribute("_event_depth"), Some("3"));
        assert_eq!(request.attribute("_agent_id"), None);
        assert_eq!(request.attributes.len(), 2);
    }

    #[test]
    fn missing_and_null_data_are_an_empty_object() {
        for line in [r#"{"event":"a:b"}"#, r#"{"event":"a:b","data": null }"#] {
            assert_eq!(parse(line.as_bytes()).unwrap().data.get(), "{}", "{line}");
        }
    }

    #[test]
    fn data_of_any_kind_is_passed_on() {
        for data in ["[1,2]", "\"x\"", "0", "false"] {
            let line = format!(r#"{{"event":"a:b","data":{data}}}"#);
            assert_eq!(parse(line.as_bytes()).unwrap().data.get(), data);
        }
    }

    #[test]
    fn a_null_correlation_id_is_none() {
        let request = parse(br#"{"event":"a:b","correlation_id":null}"#).unwrap();
        assert!(!request.correlation_id.is_given());
        assert_eq!(request.correlation_id.as_json(), "null");
    }

    #[test]
    fn of_two_keys_of_one_name_the_last_counts() {
        assert_eq!(parse(br#"{"event":"a:b","event":"c:d"}"#).unwrap().event, "c:d");
    }

    #[test]
    fn what_is_no_json_says_so() {
        for line in [
            "{",
            "nonsense",
            r#"{"event":"a:b"} x"#,
            r#"{"event":"a:b",}"#,
            "{\"event\":\"\u{1}\"}",
        ] {
            assert!(refused(line).starts_with("Invalid JSON: "), "{line}: {}", refused(line));
        }
        let reason = parse(b"{\"event\":\"\xff\"}").unwrap_err().reason.to_string();
        assert!(reason.starts_with("Invalid JSON: ") && reason.contains("utf-8"), "{reason}");
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        for (line, found) in
            [("[]", "a list"), ("\"x\"", "a string"), (" 7", "a number"), ("null", "null")]
        {
            let expected = format!("Expected a JSON object with an \"event\", found {found}");
            assert_eq!(refused(line), expected);
        }
    }

    #[test]
    fn an_event_name_is_needed_and_the_correlation_id_survives() {
        for line in ["{}", r#"{"event":null}"#, r#"{"event":""}"#] {
            assert_eq!(refused(line), "Missing event name", "{line}");
        }
        let malformed = parse(br#"{"correlation_id":"c","event":5}"#).unwrap_err();
        assert!(malformed.reason.to_string().ends_with("found a number"));
        assert_eq!(malformed.correlation_id.as_json(), "\"c\"");
        assert!(refused(r#"{"event":"a:b","correlation_id":{}}"#).contains("correlation_id"));
    }

    #[test]
    fn nesting_is_limited_where_a_decoder_would_limit_it() {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"event":"a:b","data":{open}{close}}}"#)
        };
        let line = nested(126);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        assert!(parse(line.as_bytes()).is_ok());
        let line = nested(127);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_err());
        assert_eq!(refused(&line), "Invalid JSON: nested more than 127 levels deep");
        assert!(refused(&nested(100_000)).starts_with("Invalid JSON: "));
        assert!(refused(&"[".repeat(100_000)).starts_with("Invalid JSON: "));
        let text = format!(r#"{{"event":"a:b","data":"\"{}"}}"#, "[".repeat(500));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn no_cut_of_a_request_is_taken_for_one() {
        let line = br#"{"event":"a:b","data":{"k":["v\\\"",1,{}]},"correlation_id":"x"}"#;
        for end in 1..line.len() {
            assert!(parse(&line[..end]).is_err(), "the first {end} bytes");
        }
        assert!(parse(line).is_ok());
    }
}
