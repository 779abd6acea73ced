//! `GET /openapi.json`: what this host's events take and reply, as OpenAPI 3.1.
//!
//! It is that of the plugins that are live now. Of a pattern that a handler subscribes to, nobody
//! knows which events it means; they are emitted as any other, and do not stand here.

mod components;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use components::Components;
use ksi_plugin_api::{Context, Value, json, named};
use ksi_wire::module::{EventSchemas, Handled, Schemas};

use crate::{
    answer::Refused,
    app::{App, Shared},
};

pub(crate) async fn get(State(app): Shared) -> Response {
    match schemas(&app.ctx).await {
        Ok(schemas) => Json(document(&app, &schemas)).into_response(),
        Err(error) => {
            let (code, message) = (error.code(), error.message());
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, code, message).into_response()
        }
    }
}

async fn schemas(ctx: &Context) -> ksi_plugin_api::Result<Schemas> {
    let schemas: Value = ctx.request(named("module:schemas", &json!({}))).await?;
    Ok(serde_json::from_value(schemas)?)
}

fn document(app: &App, schemas: &Schemas) -> Value {
    let mut components = Components::new();
    let mut paths = own_paths();
    for (event, said) in &schemas.events {
        let is_name = ksi_plugin_api::validate_event_name(event).is_ok();
        if is_name && !said.handles.is_empty() && app.may_emit(event).is_ok() {
            let emits = emitting(event, said, &mut components);
            paths[format!("/events/{event}")] = json!({"post": emits});
        }
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ksi",
            "summary": "The events of a host, over HTTP",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": components.into_value(),
    });
    if app.needs_token() {
        document["components"]["securitySchemes"] =
            json!({"token": {"type": "http", "scheme": "bearer"}});
        document["security"] = json!([{"token": []}]);
    }
    document
}

fn emitting(event: &str, said: &EventSchemas, components: &mut Components) -> Value {
    let of_all = |kind, schema: fn(&Handled) -> Option<&Value>, components: &mut Components| {
        let each = said.handles.iter().filter_map(|by| Some((by, schema(by)?)));
        each.map(|(by, schema)| components.add(&[event, &by.module, &by.handler, kind], schema))
            .collect::<Vec<Value>>()
    };
    let payloads = of_all("payload", |by| by.payload_schema.as_ref(), components);
    let replies = of_all("reply", |by| by.reply_schema.as_ref(), components);
    let is_needed = !payloads.is_empty();
    let payload = match payloads.len() {
        0 | 1 => payloads.into_iter().next().unwrap_or(json!(true)),
        // Every handler gets it.
        _ => json!({"allOf": payloads}),
    };
    // A handler that subscribes at run time says nothing of its reply.
    let report = match replies.len() == said.handles.len() {
        false => json!({"$ref": "#/components/schemas/Report"}),
        true => json!({
            "allOf": [{"$ref": "#/components/schemas/Report"}],
            "properties": {"outcomes": {"items": {"properties": {"reply": {"anyOf": replies}}}}},
        }),
    };
    let summaries = said.handles.iter().filter_map(|by| by.summary.as_deref());
    let handlers: Vec<String> =
        said.handles.iter().map(|by| format!("{}.{}", by.module, by.handler)).collect();
    json!({
        "operationId": event,
        "tags": [event.split(':').next()],
        "summary": summaries.into_iter().find(|it| !it.is_empty()).unwrap_or_default(),
        "description": format!("Handled by {}.", handlers.join(", ")),
        "parameters": [
            {"$ref": "#/components/parameters/wait"},
            {"$ref": "#/components/parameters/traceparent"},
            {"$ref": "#/components/parameters/tracestate"},
        ],
        "requestBody": {
            "required": is_needed,
            "content": {"application/json": {"schema": payload}},
        },
        "responses": {
            "200": {
                "description": "Every handler ended well.",
                "content": {"application/json": {"schema": report}},
            },
            "202": {"description": "It is sent, and nobody waits for its handlers: `wait=none`."},
            "default": {"$ref": "#/components/responses/Other"},
        },
    })
}

/// What there is whatever the plugins are.
fn own_paths() -> Value {
    let ok = |description: &str, kind: &str| {
        json!({
            "200": {"description": description, "content": {kind: {}}},
            "default": {"$ref": "#/components/responses/Other"},
        })
    };
    let status = |path: &str, summary: &str| {
        json!({"get": {
            "operationId": path, "summary": summary, "security": [],
            "responses": {
                "200": {"description": "It is.", "content": {"application/json": {}}},
                "503": {"description": "It is not.", "content": {"application/json": {}}},
            },
        }})
    };
    json!({
        "/events": {"get": {
            "operationId": "watch",
            "summary": "Events as they pass, as Server-Sent Events.",
            "parameters": [
                {
                    "name": "pattern", "in": "query", "required": true,
                    "schema": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                },
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
            ],
            "responses": ok("Events, until the connection ends.", "text/event-stream"),
        }},
        "/healthz": status("healthz", "Whether the host answers."),
        "/readyz": status("readyz", "Whether the host has loaded its plugins and does not stop."),
        "/metrics": {"get": {
            "operationId": "metrics",
            "summary": "What the host counts, for Prometheus.",
            "responses": ok("The metrics.", "text/plain"),
        }},
    })
}
