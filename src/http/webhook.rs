//! Checks of half messages, posted to producers that asked for it.
//!
//! A group of producers names an address (`half.check.webhook`, kept in the metadata); what is to be
//! decided is posted there as JSON, and the answer may decide it at once. A post that fails counts
//! as no check: it is given back and tried again, less and less often. Redirects are not followed,
//! answers and time are bounded, and there is no TLS. One task looks which addresses there are, one
//! task posts to each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use super::App;
use super::body::{Body, Path};
use super::content::Shown;
use super::problem::{Code, Problem, Problems};
use crate::config::{HALF_CHECK_WEBHOOK_NAME, HttpUrl};
use crate::env::Env;
use crate::half::{Check, Decision, Ender, TransactionId};
use crate::native::Native;

/// How often the addresses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one asks for checks before it asks again.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// Checks of one post.
const CHECKS_MAX: usize = 16;
/// How long a post may take, with the answer.
const POST_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_SIZE_BYTES_MAX: usize = 64 << 10;
/// The pause after a post that failed, doubled each time up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A half message that is to be decided, as it is posted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    transaction_id: String,
    /// Which check of this half message it is, from 1.
    check: u16,
    topic: String,
    partition: i32,
    message_id: Option<String>,
    /// When it was sent, in milliseconds since 1970.
    born_ms: i64,
    key: Option<Shown>,
    payload: Option<Shown>,
}

impl From<&Check> for Posted {
    fn from(check: &Check) -> Self {
        let half = &check.half;
        Self {
            transaction_id: half.id.to_string(),
            check: check.number,
            topic: half.topic.clone(),
            partition: half.partition,
            message_id: half.message_id.clone(),
            born_ms: half.born_ms,
            key: half.message.key.clone().map(Shown::from),
            payload: half.message.value.clone().map(Shown::from),
        }
    }
}

/// What is posted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Post<'a> {
    producer_group: &'a str,
    checks: Vec<Posted>,
}

/// What may be answered; without it the producer decides by itself, later.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    decisions: Vec<Decided>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decided {
    transaction_id: String,
    decision: Word,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Commit,
    Rollback,
    /// Not decided yet: it is asked about again.
    Unknown,
}

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the address cannot be asked for: {0}")]
    Request(#[from] axum::http::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("not answered within {} s", POST_TIME_MAX.as_secs())]
    Time,
}

/// Posts until the broker stops.
pub(crate) async fn post_checks(native: Arc<Native>, mut stopping: watch::Receiver<bool>) {
    let mut posters: BTreeMap<String, (HttpUrl, JoinHandle<()>)> = BTreeMap::new();
    let mut seen = None;
    loop {
        let index = native.metadata.image().applied_index();
        if seen != Some(index) {
            seen = Some(index);
            let wanted = native.webhooks();
            posters.retain(|group, (url, poster)| {
                let stays = wanted.get(group) == Some(url);
                if !stays {
                    poster.abort();
                }
                stays
            });
            for (group, url) in wanted {
                let Entry::Vacant(place) = posters.entry(group) else { continue };
                let poster = poster(Arc::clone(&native), place.key().clone(), url.clone());
                place.insert((url, native.env.spawner.connection(poster)));
            }
        }
        let stops = async { drop(stopping.wait_for(|stopping| *stopping).await) };
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stops => break,
        }
    }
    for (_, poster) in posters.into_values() {
        poster.abort();
    }
}

async fn poster(native: Arc<Native>, group: String, url: HttpUrl) {
    let mut pause = PAUSE;
    while !*native.stopping.borrow() {
        let checks = match native.halves.poll_checks(&group, CHECKS_MAX, POLL_WAIT).await {
            Ok(checks) => checks,
            Err(error) => {
                tracing::debug!(group, %error, "checks cannot be asked for now");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if checks.is_empty() {
            continue;
        }
        match post(&native.env, &url, &group, &checks).await {
            Ok(answer) => {
                pause = PAUSE;
                decide(&native, &group, &checks, answer).await;
            }
            Err(error) => {
                tracing::warn!(group, url = url.authority, %error, "checks could not be posted");
                for check in &checks {
                    let returned = native.halves.return_check(check.half.id, check.number).await;
                    if let Err(error) = returned {
                        // One that has ended meanwhile needs no check.
                        tracing::debug!(group, id = %check.half.id, %error, "a check stays counted");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }
}

/// Ends the halves that the answer decides, of those that were asked about.
async fn decide(native: &Native, group: &str, checks: &[Check], answer: Answer) {
    for decided in answer.decisions {
        let decision = match decided.decision {
            Word::Commit => Decision::Commit,
            Word::Rollback => Decision::Rollback,
            Word::Unknown => continue,
        };
        let asked = |id: &TransactionId| checks.iter().any(|check| check.half.id == *id);
        let id = decided.transaction_id.parse().ok().filter(asked);
        let Some(id) = id else {
            tracing::warn!(
                group,
                id = decided.transaction_id,
                "a webhook decides what it was not asked"
            );
            continue;
        };
        let ended = native.halves.end(id, decision, Ender::Producer, Some(group.to_owned())).await;
        if let Err(error) = ended {
            tracing::warn!(group, %id, %error, "a webhook's decision has no effect");
        }
    }
}

async fn post(
    env: &Env,
    url: &HttpUrl,
    group: &str,
    checks: &[Check],
) -> Result<Answer, PostError> {
    let posted = Post { producer_group: group, checks: checks.iter().map(Posted::from).collect() };
    let body = match serde_json::to_vec(&posted) {
        Ok(body) => Bytes::from(body),
        Err(error) => unreachable!("plain structs serialize: {error}"),
    };
    let exchanged = tokio::time::timeout(POST_TIME_MAX, exchange(env, url, body)).await;
    let text = exchanged.map_err(|_| PostError::Time)??;
    // Who has nothing to say may answer anything.
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

/// One request on a connection of its own.
async fn exchange(env: &Env, url: &HttpUrl, body: Bytes) -> Result<Bytes, PostError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&url.path)
        .header(header::HOST, &url.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))?;
    let stream = env.net.connect(&url.authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async move {
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(PostError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_SIZE_BYTES_MAX).collect().await;
        Ok(body.map_err(PostError::Body)?.to_bytes())
    };
    let driven = async move {
        // Its errors are those of the request, too.
        drop(connection.await);
        std::future::pending::<()>().await
    };
    tokio::select! {
        answer = answered => answer,
        () = driven => unreachable!("the connection's end is waited for, for ever"),
    }
}

/// Where checks are posted to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhook {
    /// An address of the form http://host[:port][/path].
    #[schema(example = "http://127.0.0.1:8000/checks", max_length = 2048)]
    url: String,
}

/// Tells where the checks of a group of producers are posted to.
#[utoipa::path(get, path = "/api/v1/producer-groups/{group}/webhook", tag = "half messages",
    operation_id = "showWebhook",
    params(("group" = String, Path, description = "The group of producers.")),
    responses((status = 200, description = "The address.", body = Webhook), Problems))]
pub(super) async fn show(
    State(app): State<App>,
    Path(group): Path<String>,
) -> Result<Json<Webhook>, Problem> {
    match app.native.webhooks().remove(&group) {
        Some(url) => Ok(Json(Webhook { url: format!("http://{}{}", url.authority, url.path) })),
        None => {
            let why = format!("producer group {group} has no webhook");
            Err(Problem::new(Code::WebhookNotFound, why))
        }
    }
}

/// Has the checks of a group of producers posted to an address.
#[utoipa::path(put, path = "/api/v1/producer-groups/{group}/webhook", tag = "half messages",
    operation_id = "setWebhook",
    params(("group" = String, Path, description = "The group of producers.")),
    request_body = Webhook,
    responses((status = 200, description = "They are posted there.", body = Webhook), Problems))]
pub(super) async fn set(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<Webhook>,
) -> Result<Json<Webhook>, Problem> {
    let Webhook { url } = body.content;
    if HttpUrl::parse(&url).is_none() {
        let why = format!("{url} is no address of the form http://host[:port][/path]");
        return Err(Problem::new(Code::InvalidBody, why)
            .hinted("https is not spoken yet: name a proxy on this machine"));
    }
    let change = BTreeMap::from([(HALF_CHECK_WEBHOOK_NAME.to_owned(), Some(url.clone()))]);
    app.native.change_group_configs(&group, change).await?;
    Ok(Json(Webhook { url }))
}

/// Has the checks of a group of producers posted to nobody any more.
#[utoipa::path(delete, path = "/api/v1/producer-groups/{group}/webhook", tag = "half messages",
    operation_id = "deleteWebhook",
    params(("group" = String, Path, description = "The group of producers.")),
    responses((status = 204, description = "They are posted nowhere."), Problems))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(group): Path<String>,
) -> Result<StatusCode, Problem> {
    let change = BTreeMap::from([(HALF_CHECK_WEBHOOK_NAME.to_owned(), None)]);
    app.native.change_group_configs(&group, change).await?;
    Ok(StatusCode::NO_CONTENT)
}
