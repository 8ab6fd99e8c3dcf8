//! How the table comes back at a start: every event of the DELIVERY queue, in its order. Where a
//! partition has lost its end, what is known of the lost records is forgotten: others may come at
//! their offsets.

use std::sync::Arc;
use std::time::Duration;

use braid_protocol::records::{self, Batches, RecordReader};
use bytes::Bytes;

use super::growth::Growth;
use super::{Input, Owner, ROOM_SIZE_BYTES, batch_of};
use crate::delivery::catalog::Catalog;
use crate::delivery::event::{Change, Event, PartKey};
use crate::delivery::table::Table;
use crate::delivery::wire::WireError;
use crate::env::Env;
use crate::model::Offset;
use crate::partition::{Partitions, system};
use crate::store::{AppendError, Class, Part, ReadError};

/// Bytes read at a time.
const LOAD_SIZE_BYTES: usize = 4 * 1024 * 1024;
const CONTENT_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long to wait before a queue that could not be read is read again.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// Parts that are cut with one write, which fits into the room for one.
const CUTS_MAX: usize = 128;

/// What was read back.
#[derive(Debug)]
pub(in crate::delivery) struct Loaded {
    table: Table,
    size_bytes: usize,
}

/// Why the deliveries could not be read back. Passing an event over would deliver acknowledged
/// messages again or lose some, so there is no engine without all of them.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a batch of events cannot be read: {0}")]
    Batch(#[from] records::ReadError),
    #[error("the event at offset {offset} cannot be read: {source}")]
    Event { offset: i64, source: WireError },
    #[error("nothing can be read from offset {offset} on")]
    NoProgress { offset: i64 },
    #[error("what was lost cannot be forgotten: {0}")]
    Append(#[from] AppendError),
    #[error("the reader pool is gone: {0}")]
    Pool(#[from] std::io::Error),
}

impl Owner {
    pub(super) fn start_loading(&self) {
        let (env, partitions) = (self.env.clone(), self.partitions.clone());
        let catalog = Arc::clone(&self.catalog);
        drop(self.spawn("delivery load", async move {
            loop {
                match read_back(&env, &partitions, &*catalog).await {
                    Ok(loaded) => return Input::Loaded(Box::new(loaded)),
                    Err(error) => tracing::error!(%error, "deliveries cannot be loaded yet"),
                }
                tokio::time::sleep(LOAD_RETRY).await;
            }
        }));
    }

    pub(super) fn on_loaded(&mut self, loaded: Loaded) {
        self.table = loaded.table;
        self.growth = Growth::of(loaded.size_bytes);
        self.is_loaded = true;
        self.names.send_replace(Some(self.table.groups().cloned().collect()));
        let keys: Vec<PartKey> = self.table.parts().map(|(key, _)| key).collect();
        for key in keys {
            self.enter_into_agenda(&key);
            self.to_bury.insert(key);
        }
    }
}

async fn read_back(
    env: &Env,
    partitions: &Partitions,
    catalog: &dyn Catalog,
) -> Result<Loaded, LoadError> {
    let own = partitions.clone();
    let mut loaded = env.spawner.blocking(move || load(&own)).await??;
    forget_lost(env, partitions, catalog, &mut loaded).await?;
    Ok(loaded)
}

/// Cuts what is known of partitions where they end. Nobody else appends events yet.
async fn forget_lost(
    env: &Env,
    partitions: &Partitions,
    catalog: &dyn Catalog,
    loaded: &mut Loaded,
) -> Result<(), LoadError> {
    let now_ms = env.clock.wall_ms();
    let mut cuts = Vec::new();
    for (key, part) in loaded.table.parts() {
        let view = catalog.topic(key.topic);
        let Some(queue) = view.and_then(|view| view.queue(key.partition)) else { continue };
        let (to, known_to) = (partitions.offsets(queue).next.0, part.known_to());
        if known_to > to {
            let (group, topic, partition) = (&key.group, key.topic, key.partition);
            tracing::warn!(
                %group, %topic, partition, from = to, to = known_to,
                "messages that were given to a group are lost; it gets what comes in their place"
            );
            // Handles of before must not fit what is delivered after.
            let generation = now_ms.max(part.generation().saturating_add(1));
            cuts.push(Event::Part { key, change: Change::Cut { to, generation } });
        }
    }
    for events in cuts.chunks(CUTS_MAX) {
        partitions.room(ROOM_SIZE_BYTES).await;
        let (batch, header) = batch_of(now_ms, events);
        let own = Part { queue: system::DELIVERY, batch: &batch, header: &header };
        let appended = partitions.append_all(now_ms, Class::System, &[own])?;
        let base_offset = appended.first().map_or(0, |own| own.base_offset.0);
        for (at, event) in (base_offset..).zip(events) {
            loaded.table.apply(at, event);
        }
        loaded.size_bytes += batch.len();
    }
    Ok(())
}

fn load(partitions: &Partitions) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded { table: Table::default(), size_bytes: 0 };
    let mut from = partitions.offsets(system::DELIVERY).log_start;
    while from < partitions.offsets(system::DELIVERY).high_watermark {
        let slices = partitions.read_blocking(system::DELIVERY, from, LOAD_SIZE_BYTES)?;
        let mut next = from;
        for batch in Batches::new(Bytes::from(slices.concat())) {
            let (header, batch) = batch?;
            let reader = RecordReader::open(&batch, CONTENT_SIZE_BYTES_MAX)?;
            for record in reader.records() {
                let record = record?;
                // A batch may begin before what is still needed.
                if record.offset >= from.0 {
                    let event = Event::decode(record.key.unwrap_or_default());
                    let offset = record.offset;
                    let event = event.map_err(|source| LoadError::Event { offset, source })?;
                    loaded.table.apply(offset, &event);
                }
            }
            loaded.size_bytes += batch.len();
            next = Offset(header.next_offset());
        }
        if next <= from {
            return Err(LoadError::NoProgress { offset: from.0 });
        }
        from = next;
    }
    Ok(loaded)
}
