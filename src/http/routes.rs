//! Every route, and the document that describes them, from the same declarations.

use axum::Router;
use axum::http::{Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Code, ErrorBody, Problem};
use super::{
    App, broker, cluster, dead_letters, deliveries, groups, half_messages, health, messages,
    metrics, timers, topics, webhook,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Braid's native API",
        description = "Messages, half messages, timers, deliveries and what surrounds them, over \
                       HTTP. docs/native-api.md tells it in words. Every error has a code, a \
                       message and a hint.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorBody))
)]
struct Description;

/// The routes as they are served and as they are described.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(cluster::show))
        .routes(routes!(cluster::replace))
        .routes(routes!(broker::list, broker::configure))
        .routes(routes!(topics::list, topics::create))
        .routes(routes!(topics::show, topics::delete))
        .routes(routes!(topics::configure))
        .routes(routes!(messages::send, messages::search))
        .routes(routes!(messages::browse))
        .routes(routes!(groups::list))
        .routes(routes!(groups::show, groups::configure, groups::delete))
        .routes(routes!(groups::reset))
        .routes(routes!(deliveries::receive))
        .routes(routes!(deliveries::ack))
        .routes(routes!(deliveries::nack))
        .routes(routes!(deliveries::change_invisible))
        .routes(routes!(deliveries::bury))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::re_drive))
        .routes(routes!(dead_letters::delete))
        .routes(routes!(half_messages::send))
        .routes(routes!(half_messages::list))
        .routes(routes!(half_messages::show))
        .routes(routes!(half_messages::commit))
        .routes(routes!(half_messages::rollback))
        .routes(routes!(half_messages::check))
        .routes(routes!(half_messages::poll))
        .routes(routes!(timers::list))
        .routes(routes!(timers::show))
        .routes(routes!(timers::recall))
        .routes(routes!(timers::deliver))
        .routes(routes!(webhook::show, webhook::set, webhook::delete))
}

/// The document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// The routes, ready to be served.
pub(super) fn router(app: App) -> Router {
    let text = match serde_json::to_vec(&document()) {
        Ok(text) => Bytes::from(text),
        Err(error) => unreachable!("a document of plain maps and texts: {error}"),
    };
    let (router, _) = described().split_for_parts();
    router
        .route("/api/openapi.json", get(async move || json(text)))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(app)
}

fn json(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Code::RouteNotFound, format!("there is nothing at {}", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} is not for {method}", uri.path()))
}
