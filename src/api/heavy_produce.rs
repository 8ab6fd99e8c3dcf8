//! Produce requests that may take long are carried out on the pool of blocking threads, so that
//! no other client of an async worker waits for them.
//!
//! How long a compressed batch takes is known only when it has been read to its end: a kilobyte
//! may hold a hundred megabytes. So the batches of a request that has compressed ones are first
//! checked with a small budget on the worker, and what was found is kept for the append. Who
//! exceeds the budget starts over on the pool, a few at a time, alone on its connection. Nothing has
//! been appended by then, so the order of a connection's requests stays what it is.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use braid_protocol::feature;
use braid_protocol::header::Head;
use braid_protocol::produce::{TopicKey, Walk};
use braid_protocol::records::{
    BatchError, BatchLimits, ConformError, Conformed, DecompressError, conform,
};
use braid_protocol::request::BodyError;

use super::{Accepted, Broker, Caller, CloseReason, Moment, Reply, produce};
use crate::model::TopicId;

/// Content of a compressed batch that a worker reads.
const LIGHT_CONTENT_BYTES: usize = 128 * 1024;
/// Compressed batches of one request that a worker reads.
const LIGHT_BATCHES: usize = 8;
/// A batch that a worker compresses anew for its topic.
const LIGHT_RECOMPRESSED_BYTES: usize = 16 * 1024;

/// What was found of a batch before its append: none where nothing was looked for.
pub(super) type Found<'a> = Option<Result<Conformed<'a>, ConformError>>;

/// Checks the batches that may take long, in the order of the request, each of them with the small
/// budget; none when one of them exceeds it.
pub(super) fn look<'a>(
    broker: &Broker,
    now: &Moment,
    asked: &Head<'a>,
) -> Result<Option<Vec<Found<'a>>>, BodyError> {
    let allow_zstd = feature::produce_has_zstd(asked.api_version);
    let (head, mut walk) = Walk::begin(asked.api_version, asked.body)?;
    let (mut found, mut compressed) = (Vec::new(), 0);
    for _ in 0..head.topics {
        let (key, partitions) = walk.topic()?;
        let topic = match key {
            TopicKey::Id(id) => now.image.topic_by_id(TopicId(id)),
            TopicKey::Name(name) => now.image.topic(name),
        };
        let settings = topic.map(|topic| broker.topic_settings.of(topic));
        for _ in 0..partitions {
            let (_, records) = walk.partition()?;
            let (Some(settings), Some(batch)) = (settings.as_deref(), records) else {
                found.push(None);
                continue;
            };
            if settings.codec.is_some() && batch.len() > LIGHT_RECOMPRESSED_BYTES {
                return Ok(None);
            }
            if !Walk::claims_compression(batch) {
                found.push(None);
                continue;
            }
            compressed += 1;
            let content_size_bytes_max =
                settings.limits.content_size_bytes_max.min(LIGHT_CONTENT_BYTES);
            let limits = BatchLimits { allow_zstd, content_size_bytes_max, ..settings.limits };
            let checked = conform(batch, &limits, settings.codec, now.wall_ms);
            if compressed > LIGHT_BATCHES || is_over_budget(&checked) {
                return Ok(None);
            }
            found.push(Some(checked));
        }
        walk.end()?;
    }
    Ok(Some(found))
}

fn is_over_budget(checked: &Result<Conformed<'_>, ConformError>) -> bool {
    matches!(
        checked,
        Err(ConformError::Batch(BatchError::Decompress(DecompressError::OverBudget { .. })))
    )
}

/// Carries a whole request out on the pool, also when its client leaves meanwhile; answers when the
/// answer is true.
pub(super) fn accept(broker: &Arc<Broker>, caller: &Caller, frame: Bytes) -> Accepted {
    let (tell, told) = tokio::sync::oneshot::channel();
    let carried_out = carry_out(Arc::clone(broker), caller.clone(), frame);
    drop(broker.env.spawner.connection(async move {
        // Nobody waits for the answer of a client that has left.
        drop(tell.send(carried_out.await));
    }));
    let failed = Reply::Close(CloseReason::HeavyProduceFailed);
    Accepted::Later(Box::pin(async move { told.await.unwrap_or(failed) }))
}

async fn carry_out(broker: Arc<Broker>, caller: Caller, frame: Bytes) -> Reply {
    let Ok(turn) = broker.heavy_turns.acquire().await else {
        unreachable!("nobody closes the semaphore");
    };
    // There was room when the request came, and others may have taken it since.
    broker.partitions.room(frame.len()).await;
    let on_the_pool = Arc::clone(&broker);
    let work = move || {
        let mut answer = BytesMut::new();
        let now = Moment::of(&on_the_pool);
        let accepted = Head::parse(&frame).map_err(CloseReason::from).and_then(|head| {
            produce::submit(&on_the_pool, &caller, &now, &head, Vec::new(), &mut answer)
        });
        (accepted, answer)
    };
    let worked = broker.env.spawner.blocking(work).await;
    drop(turn);
    let Ok((accepted, mut answer)) = worked else {
        return Reply::Close(CloseReason::HeavyProduceFailed);
    };
    match accepted {
        Ok(Accepted::Produced(produced)) => match produced.wait(&broker, &mut answer).await {
            Ok(()) => Reply::Encoded(answer),
            Err(reason) => Reply::Close(reason),
        },
        Ok(Accepted::Done(reply)) => reply,
        Ok(Accepted::Later(later)) => later.await,
        Err(reason) => Reply::Close(reason),
    }
}
