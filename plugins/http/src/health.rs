//! Whether the host is well, for whoever restarts it or sends it work.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ksi_plugin_api::{Context, EmitOptions, Result, Value, json, named};
use ksi_wire::system::Health;

use crate::app::Shared;

/// A host that takes longer than this is not well.
const SOON: Duration = Duration::from_secs(5);

/// `GET /healthz`: 200 if the host answers, whatever it says.
pub(crate) async fn healthz(State(app): Shared) -> Response {
    told(&app.ctx, |_| true).await
}

/// `GET /readyz`: 200 once all plugins are loaded, until the host stops.
pub(crate) async fn readyz(State(app): Shared) -> Response {
    told(&app.ctx, |status| !matches!(status, "starting" | "stopping")).await
}

async fn told(ctx: &Context, is_well: impl Fn(&str) -> bool) -> Response {
    let (is_well, status) = match of_host(ctx).await {
        Ok(health) => (is_well(&health.status), health.status),
        Err(_) => (false, "silent".into()),
    };
    let code = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"status": status}))).into_response()
}

/// What the host says of itself.
pub(crate) async fn of_host(ctx: &Context) -> Result<Health> {
    let soon = ctx.with(EmitOptions::new().timeout(SOON));
    let health: Value = soon.request(named("system:health", &json!({}))).await?;
    Ok(serde_json::from_value(health)?)
}
