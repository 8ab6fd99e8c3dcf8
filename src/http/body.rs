//! What a request carries: JSON bodies, parameters of path and query. Bodies are bounded each, and
//! all together: a large one waits until there is memory for it.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::{Code, Problem};

/// A JSON body, and the memory that is set aside for it until the request is answered.
pub(super) struct Body<T> {
    pub(super) content: T,
    _room: OwnedSemaphorePermit,
}

/// Bytes of all bodies in memory at once, unless one may be larger.
pub(super) const MEMORY_BYTES: usize = 64 << 20;

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "the body is not said to be JSON",
            ));
        }
        let max = app.native.config.native.request_size_bytes_max;
        let declared = content_length(&parts.headers);
        let too_large = || {
            let why = format!("a body has {max} bytes at most");
            Problem::new(Code::BodyTooLarge, why)
        };
        let size = declared.unwrap_or(max);
        if size > max {
            return Err(too_large());
        }
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        let memory = std::sync::Arc::clone(&app.body_memory);
        let Ok(room) = memory.acquire_many_owned(permits).await else {
            unreachable!("the semaphore is never closed")
        };
        let bytes = match Limited::new(body, max).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(error) => return Err(Problem::new(Code::BodyIncomplete, error.to_string())),
        };
        Ok(Self { content: parse(&bytes)?, _room: room })
    }
}

/// A JSON body that may be left out altogether.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let headers = request.headers();
        let is_absent = !headers.contains_key(header::TRANSFER_ENCODING)
            && content_length(headers).is_none_or(|length| length == 0);
        if is_absent {
            return Ok(Self(T::default()));
        }
        Ok(Self(Body::from_request(request, app).await?.content))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = given.and_then(|given| given.split(';').next()).unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body; an error names the place in it.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let content = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Problem::new(code, format!("{place}{error}"))
    })?;
    reader.end().map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    Ok(content)
}

/// Parameters in the path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let read = axum::extract::Path::from_request_parts(parts, app).await;
        read.map(|axum::extract::Path(content)| Self(content))
            .map_err(|error: PathRejection| Problem::new(Code::InvalidParameter, error.body_text()))
    }
}

/// Parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, app).await;
        read.map(|axum::extract::Query(content)| Self(content)).map_err(|error: QueryRejection| {
            Problem::new(Code::InvalidParameter, error.body_text())
        })
    }
}
