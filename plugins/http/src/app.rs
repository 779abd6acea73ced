//! What is behind which path, and what is done for every request.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, CONNECTION, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ksi_plugin_api::{Context, Pattern};

use crate::{
    access::{Access, Admitted},
    answer::Refused,
    body::{Bodies, Room},
    emit, health, metrics, openapi,
    passing::{Channels, Keeps},
    server::Stopped,
    sse,
    streams::Streams,
    ws,
};

/// What clients may do, as it is configured.
pub(crate) struct Serves {
    /// What they may emit.
    pub(crate) emit: Vec<Pattern>,
    /// What they may see pass.
    pub(crate) watch: Vec<Pattern>,
    pub(crate) keeps: Keeps,
    pub(crate) streams: Streams,
    pub(crate) room: Room,
    /// What the handlers of an event may take in all.
    pub(crate) request_time: Duration,
}

/// What requests are answered with.
pub(crate) struct App {
    /// That of `initialize`: each request is the first event of a chain.
    pub(crate) ctx: Context,
    access: Access,
    pub(crate) emit: Vec<Pattern>,
    pub(crate) bodies: Bodies,
    pub(crate) request_time: Duration,
    pub(crate) passing: Arc<Channels>,
    pub(crate) streams: Streams,
    pub(crate) stopped: Stopped,
}

pub(crate) type Shared = State<Arc<App>>;

impl App {
    pub(crate) fn new(
        ctx: Context,
        access: Access,
        serves: Serves,
        passing: Arc<Channels>,
        stopped: Stopped,
    ) -> Self {
        let Serves { emit, watch: _, keeps: _, streams, room, request_time } = serves;
        App {
            ctx,
            access,
            emit,
            bodies: Bodies::new(room),
            request_time,
            passing,
            streams,
            stopped,
        }
    }

    pub(crate) fn needs_token(&self) -> bool {
        self.access.needs_token()
    }

    pub(crate) fn routes(self) -> Router {
        let app = Arc::new(self);
        Router::new()
            .route("/events", get(sse::get))
            .route("/events/{name}", post(emit::post))
            .route("/ws", get(ws::get))
            .route("/openapi.json", get(openapi::get))
            .route("/metrics", get(metrics::get))
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
            .fallback(not_found)
            .method_not_allowed_fallback(not_allowed)
            .layer(middleware::from_fn_with_state(app.clone(), attended))
            .with_state(app)
    }
}

async fn not_found(uri: Uri) -> Refused {
    let text = format!("there is nothing at {}; docs/http.md has all paths", uri.path());
    Refused::new(StatusCode::NOT_FOUND, "not_found", text)
}

async fn not_allowed() -> Refused {
    let text = "another method is needed here: the header `allow` has it";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", text)
}

/// Around every request: whether it may be asked, and what every answer says.
async fn attended(State(app): Shared, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match app.access.admits(&head) {
        Err(refused) => refused.into_response(),
        Ok(Admitted::Preflight(shared)) => (StatusCode::NO_CONTENT, shared).into_response(),
        Ok(Admitted::Yes(shared)) => {
            let mut response = next.run(Request::from_parts(head, body)).await;
            response.headers_mut().extend(shared);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // One that becomes a WebSocket says so by the same header.
    if app.stopped.is_stopped() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Behind this answer, so that the client knows it before it asks the next one: over another
        // connection, which the next generation accepts.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
