//! Whether the process lives, and whether it serves.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::body::Query;
use crate::native::health::{Check, checks};

/// Says that the process answers. For a supervisor that ends what hangs.
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "It does.", content_type = "text/plain", body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadyQuery {
    /// Anything: tells every check, one a line.
    verbose: Option<String>,
}

/// Says whether everything is served: 200, or 503 when a check fails.
#[utoipa::path(get, path = "/readyz", tag = "health", params(ReadyQuery),
    responses(
        (status = 200, description = "It is.", content_type = "text/plain", body = String),
        (status = 503, description = "A check fails.", content_type = "text/plain", body = String)))]
pub(super) async fn readyz(State(app): State<App>, Query(query): Query<ReadyQuery>) -> Response {
    let checks = checks(&app.native).await;
    let ready = checks.iter().all(Check::passes);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    for check in checks.iter().filter(|check| query.verbose.is_some() || !check.passes()) {
        match &check.failure {
            None => text.push_str(&format!("[+]{} ok\n", check.name)),
            Some(why) => text.push_str(&format!("[-]{} failed: {why}\n", check.name)),
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    (status, text).into_response()
}
