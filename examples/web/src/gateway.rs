//! What is asked over HTTP, as events.

use std::fmt::Display;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue},
};
use ksi_plugin_api::{ErrorKind, Pattern, prelude::*};

/// A larger body is refused.
const LARGEST_BODY: usize = 64 * 1024;

pub(crate) struct Gateway {
    /// That of `initialize`: each request is the first event of a chain.
    ctx: Context,
    allowed: Vec<Pattern>,
}

/// A status, and what stands in the body.
type Answer = (StatusCode, Value);

impl Gateway {
    pub(crate) fn new(ctx: Context, allowed: Vec<Pattern>) -> Self {
        Gateway { ctx, allowed }
    }

    /// Answers whatever is asked.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<String>
    where
        B: Body<Error: std::error::Error + Send + Sync + 'static>,
    {
        let (head, body) = request.into_parts();
        // Also of what is refused: before its end the connection cannot take the next request.
        let body = Limited::new(body, LARGEST_BODY).collect().await;
        let is_read = body.is_ok();
        let (status, answer) = match head.uri.path().strip_prefix("/events/") {
            Some(name) if self.allowed.iter().any(|allowed| allowed.matches(name)) => {
                match (head.method, body) {
                    (Method::POST, Ok(body)) => self.ask(name, &body.to_bytes()).await,
                    (Method::POST, Err(error)) if error.is::<LengthLimitError>() => {
                        let text = format!("it has at most {LARGEST_BODY} bytes");
                        refused(StatusCode::PAYLOAD_TOO_LARGE, "body", &text)
                    }
                    (Method::POST, Err(error)) => bad_body(error),
                    _ => refused(StatusCode::METHOD_NOT_ALLOWED, "method", "events are POSTed"),
                }
            }
            _ => refused(StatusCode::NOT_FOUND, "not_found", "there is POST /events/NAME"),
        };
        let mut response = Response::new(answer.to_string());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if !is_read {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn ask(&self, event: &str, body: &[u8]) -> Answer {
        let data: Value = match str::from_utf8(body).map(str::parse) {
            Ok(Ok(data)) => data,
            Ok(Err(error)) => return bad_body(error),
            Err(error) => return bad_body(error),
        };
        match self.ctx.request::<Option<Value>>(named(event, &data)).await {
            Ok(reply) => (StatusCode::OK, reply.unwrap_or_default()),
            Err(error) => refused(status_of(&error), error.code(), error.message()),
        }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match (error.kind(), error.code()) {
        (_, "invalid_payload") => StatusCode::BAD_REQUEST,
        (_, "no_handler") => StatusCode::NOT_FOUND,
        (ErrorKind::Failed, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (ErrorKind::TimedOut, _) => StatusCode::GATEWAY_TIMEOUT,
        (ErrorKind::Rejected, _) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn bad_body(error: impl Display) -> Answer {
    refused(StatusCode::BAD_REQUEST, "body", &error.to_string())
}

fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    (status, json!({"error": {"code": code, "message": message}}))
}
