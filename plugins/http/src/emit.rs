//! `POST /events/NAME`: an event whose payload is the body.

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use ksi_plugin_api::{EmitOptions, RawValue, json, named, validate_event_name};
use serde::Deserialize;

use crate::{
    answer::Refused,
    app::{App, Shared},
    query,
    report::{not_sent, told},
    trace_context::TraceContext,
};

/// A header of this name and a key attaches its text to the event by the key.
const ATTRIBUTE: &str = "ksi-attribute-";

/// Whether somebody waits for the handlers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wait {
    /// For all of them.
    #[default]
    Report,
    /// For none.
    None,
}

impl Wait {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "report" => Some(Wait::Report),
            "none" => Some(Wait::None),
            _ => None,
        }
    }
}

pub(crate) async fn post(
    State(app): Shared,
    Path(event): Path<String>,
    uri: Uri,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let trace = TraceContext::of(&head.headers);
    let emitted = emit(&app, &event, &uri, &head.headers, trace.as_ref(), body).await;
    let mut response = emitted.unwrap_or_else(IntoResponse::into_response);
    if let Some(trace) = trace {
        trace.give_back(response.headers_mut());
    }
    response
}

async fn emit(
    app: &App,
    event: &str,
    uri: &Uri,
    headers: &HeaderMap,
    trace: Option<&TraceContext>,
    body: Body,
) -> Result<Response, Refused> {
    app.may_emit(event)?;
    let wait = wait(uri)?;
    let mut options = attributes(headers)?;
    if let Some(trace) = trace {
        options = trace.beside(options);
    }
    let body = app.bodies.arrive(body).await?;
    let payload = payload(&body.bytes)?;
    let event_of = named(event, payload);
    match wait {
        Wait::None => {
            app.ctx.with(options).send(event_of).map_err(|error| not_sent(&error))?;
            let sent = json!({"event": event, "status": "sent"});
            Ok((StatusCode::ACCEPTED, Json(sent)).into_response())
        }
        Wait::Report => {
            let options = options.timeout(app.request_time);
            let report = app.ctx.with(options).emit(event_of).await;
            let (status, report) = told(event, &report);
            Ok((status, Json(report)).into_response())
        }
    }
}

impl App {
    /// Whether clients may emit it.
    pub(crate) fn may_emit(&self, event: &str) -> Result<(), Refused> {
        if let Err(error) = validate_event_name(event) {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "invalid_name", error.to_string()));
        }
        match self.emit.iter().any(|pattern| pattern.matches(event)) {
            true => Ok(()),
            false => {
                let text = format!(
                    "{event} may not be emitted by HTTP: `emit` of [plugin.http] does not list it"
                );
                Err(Refused::new(StatusCode::FORBIDDEN, "not_allowed", text))
            }
        }
    }
}

/// JSON as it is; nothing at all is an empty object, as everywhere.
pub(crate) fn payload(bytes: &[u8]) -> Result<&RawValue, Refused> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("the body is no JSON: {error}");
        Refused::new(StatusCode::BAD_REQUEST, "invalid_json", text)
    })
}

fn wait(uri: &Uri) -> Result<Wait, Refused> {
    let mut wait = Wait::Report;
    for (key, value) in query::of(uri) {
        wait = match (&*key, Wait::parse(&value)) {
            ("wait", Some(wait)) => wait,
            ("wait", None) => {
                let text = format!("there is no wait={value}: it is \"report\" or \"none\"");
                return Err(Refused::new(StatusCode::BAD_REQUEST, "invalid_query", text));
            }
            _ => return Err(query::unknown(&key, "wait")),
        };
    }
    Ok(wait)
}

fn attributes(headers: &HeaderMap) -> Result<EmitOptions, Refused> {
    let mut options = EmitOptions::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(ATTRIBUTE).filter(|key| !key.is_empty()) else {
            continue;
        };
        let value = str::from_utf8(value.as_bytes()).map_err(|_| {
            let text = format!("the header {name} is no UTF-8");
            Refused::new(StatusCode::BAD_REQUEST, "invalid_attribute", text)
        })?;
        options = options.attribute(key, value);
    }
    Ok(options)
}
