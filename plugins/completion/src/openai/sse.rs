//! An answer that comes in pieces, as server-sent events.

use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;

use super::OpenAi;
use crate::{Ending, events::Usage, failure::Failure, sink::Sink};

/// The data of the last event.
const DONE: &[u8] = b"[DONE]";

#[derive(Deserialize)]
struct Piece {
    model: Option<String>,
    /// Absent in a piece that only reports an error or the usage.
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

/// Reads the stream to its end.
pub(super) async fn read(
    server: &OpenAi,
    mut response: Response,
    sink: &mut Sink<'_>,
) -> Result<Ending, Failure> {
    let limit = server.max_response_bytes;
    let (mut events, mut bytes) = (EventReader::default(), 0);
    let mut ending = Ending::default();
    loop {
        let chunk = response.chunk().await.map_err(|error| Failure::BrokenStream {
            place: server.place(),
            pieces: sink.pieces(),
            source: error.without_url(),
        })?;
        let at_end = chunk.is_none();
        let complete = match chunk {
            Some(chunk) => {
                bytes += chunk.len();
                if bytes > limit {
                    return Err(Failure::TooLarge { place: server.place(), limit });
                }
                events.read(&chunk)
            }
            None => Vec::from_iter(events.finish()),
        };
        for data in complete {
            match &*data {
                DONE => return Ok(ending),
                // Some servers keep the connection alive with empty events.
                b"" => {}
                data => take(server, data, sink, &mut ending).await?,
            }
        }
        if at_end {
            // Some servers close the connection where others say that they are done.
            return match ending.finish_reason {
                Some(_) => Ok(ending),
                None => Err(Failure::CutStream { place: server.place(), pieces: sink.pieces() }),
            };
        }
    }
}

async fn take(
    server: &OpenAi,
    data: &[u8],
    sink: &mut Sink<'_>,
    ending: &mut Ending,
) -> Result<(), Failure> {
    let piece: Piece = serde_json::from_slice(data)
        .map_err(|source| Failure::Malformed { place: server.place(), source })?;
    if piece.error.is_some() {
        let message = server.error_message(data);
        return Err(Failure::FailedMidway { place: server.place(), message });
    }
    if piece.model.is_some() {
        ending.model = piece.model;
    }
    if piece.usage.is_some() {
        ending.usage = piece.usage;
    }
    if let Some(Choice { delta, finish_reason }) = piece.choices.into_iter().next() {
        sink.push(delta.content.as_deref().unwrap_or_default()).await;
        if finish_reason.is_some() {
            ending.finish_reason = finish_reason;
        }
    }
    Ok(())
}

/// Puts events together from bytes that may be split anywhere, inside a character too.
#[derive(Default)]
struct EventReader {
    line: Vec<u8>,
    /// The `data` of the event that is being read; `None` before its first line.
    data: Option<Vec<u8>>,
    after_carriage_return: bool,
}

impl EventReader {
    /// The data of the events that are complete now.
    fn read(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let second_of_pair = byte == b'\n' && self.after_carriage_return;
            self.after_carriage_return = byte == b'\r';
            match byte {
                b'\n' if second_of_pair => {}
                b'\n' | b'\r' => complete.extend(self.end_of_line()),
                _ => self.line.push(byte),
            }
        }
        complete
    }

    /// The data of an event whose last empty line never came.
    fn finish(&mut self) -> Option<Vec<u8>> {
        self.end_of_line();
        self.data.take()
    }

    fn end_of_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        // Comments and other fields mean nothing here.
        let value = line.strip_prefix(b"data:")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\nevent: x\ndata: {\"a\":\ndata:1}\n\nid: 1\r\n\r\ndata: é\r\n\r\ndata:\r\rdata: [DONE]";

    #[test]
    fn events_are_the_same_however_the_bytes_are_split() {
        for size in 1..STREAM.len() {
            let mut reader = EventReader::default();
            let mut events: Vec<Vec<u8>> =
                STREAM.as_bytes().chunks(size).flat_map(|chunk| reader.read(chunk)).collect();
            events.extend(reader.finish());
            let texts: Vec<_> =
                events.iter().map(|event| String::from_utf8_lossy(event).into_owned()).collect();
            assert_eq!(texts, ["{\"a\":\n1}", "é", "", "[DONE]"], "in pieces of {size}");
        }
    }
}
