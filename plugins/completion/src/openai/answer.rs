//! The JSON of the chat completions API: the question, a whole answer, and an error.

use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OpenAi;
use crate::{
    Ending,
    events::{Request, Usage},
    failure::Failure,
    sink::Sink,
};

/// How much of a server's message is repeated.
const MAX_MESSAGE_CHARS: usize = 500;

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    messages: [Message<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: AnswerMessage,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct AnswerMessage {
    content: Option<String>,
}

/// The body of a request.
pub(super) fn question(model: &str, request: &Request) -> serde_json::Result<Vec<u8>> {
    let messages = [Message { role: "user", content: &request.prompt }];
    let Request { temperature, stream, .. } = *request;
    serde_json::to_vec(&Question { model, messages, temperature, stream })
}

/// Reads an answer that comes as a whole.
pub(super) async fn read(
    server: &OpenAi,
    mut response: Response,
    sink: &mut Sink<'_>,
) -> Result<Ending, Failure> {
    let limit = server.max_response_bytes;
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| Failure::Disconnected {
            place: server.place(),
            source: error.without_url(),
        })?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > limit {
            return Err(Failure::TooLarge { place: server.place(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|source| Failure::Malformed { place: server.place(), source })?;
    let first = answer.choices.into_iter().next();
    let Some(Choice { message: AnswerMessage { content: Some(text) }, finish_reason }) = first
    else {
        return Err(Failure::NoText { place: server.place() });
    };
    sink.push(&text).await;
    Ok(Ending { model: answer.model, finish_reason, usage: answer.usage })
}

/// What a server says in the body of an error: servers differ in where they say it.
pub(super) fn error_message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let places = ["/error/message", "/error", "/message", "/detail"];
    let found = places.iter().find_map(|place| json.pointer(place)?.as_str());
    let text = match found {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        _ if text.is_empty() => "it does not say why".to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
