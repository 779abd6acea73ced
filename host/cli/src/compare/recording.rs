//! Events that have passed, as `ksi watch --json` writes them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One that is played again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) event: String,
    pub(super) data: Vec<u8>,
    /// The plugin that emitted it; empty for a client.
    pub(super) source: String,
    /// What it carries beside its payload.
    pub(super) attributes: Vec<(&'static str, String)>,
    /// As it was numbered where it was recorded, for people.
    pub(super) id: Option<String>,
}

/// What a line may have.
#[derive(Deserialize)]
struct Line<'a> {
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, rename = "_event_id")]
    id: Option<String>,
    #[serde(default, rename = "_source")]
    source: Option<String>,
    #[serde(default, borrow, rename = "_correlation_id")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(default, borrow, rename = "_agent_id")]
    agent_id: Option<Cow<'a, str>>,
    #[serde(default, borrow, rename = "_client_id")]
    client_id: Option<Cow<'a, str>>,
}

/// Reads a line; an empty one is none.
///
/// # Errors
/// It is no event.
pub(super) fn read(line: &str) -> Result<Option<Recorded>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let event = line.event.ok_or("it has no \"event\"")?;
    ksi_host::validate_event_name(&event).map_err(|error| error.to_string())?;
    let attributes = [
        ("_correlation_id", line.correlation_id),
        ("_agent_id", line.agent_id),
        ("_client_id", line.client_id),
    ];
    let attributes = attributes.into_iter().filter_map(|(key, it)| Some((key, it?.into_owned())));
    Ok(Some(Recorded {
        event,
        data: line.data.map_or_else(|| b"{}".to_vec(), |data| data.get().into()),
        source: line.source.unwrap_or_default(),
        attributes: attributes.collect(),
        id: line.id,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_watch_is_an_event_with_what_it_carried() {
        let line = r#"{"event":"a:b","event_name":"a:b","data":{"x":1e2},"timestamp":1.5,"_event_id":"evt_7","_correlation_id":"c","_parent_event_id":null,"_source":"hello"}"#;
        let expected = Recorded {
            event: "a:b".to_owned(),
            data: b"{\"x\":1e2}".to_vec(),
            source: "hello".to_owned(),
            attributes: vec![("_correlation_id", "c".to_owned())],
            id: Some("evt_7".to_owned()),
        };
        assert_eq!(read(line), Ok(Some(expected)));
        assert_eq!(read("  \n"), Ok(None));
        let bare = read(r#"{"event":"a:b"}"#).expect("an event").expect("an event");
        assert_eq!((bare.data, bare.source), (b"{}".to_vec(), String::new()));
        assert!(read(r#"{"data":1}"#).is_err() && read("no").is_err());
        assert!(read(r#"{"event":"a"}"#).is_err());
    }
}
