//! How the table comes back at a start: every event of the DELIVERY queue, in its order.

use std::time::Duration;

use braid_protocol::records::{self, Batches, RecordReader};
use bytes::Bytes;

use super::growth::Growth;
use super::{Input, Owner};
use crate::delivery::event::{Event, PartKey};
use crate::delivery::table::Table;
use crate::delivery::wire::WireError;
use crate::model::Offset;
use crate::partition::{Partitions, system};
use crate::store::ReadError;

/// Bytes read at a time.
const LOAD_SIZE_BYTES: usize = 4 * 1024 * 1024;
const CONTENT_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long to wait before a queue that could not be read is read again.
const LOAD_RETRY: Duration = Duration::from_secs(1);

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
    #[error("the reader pool is gone: {0}")]
    Pool(#[from] std::io::Error),
}

impl Owner {
    pub(super) fn start_loading(&self) {
        let (env, partitions) = (self.env.clone(), self.partitions.clone());
        drop(self.spawn("delivery load", async move {
            loop {
                let partitions = partitions.clone();
                let read = env.spawner.blocking(move || load(&partitions)).await;
                match read.map_err(LoadError::from).and_then(|loaded| loaded) {
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
        let keys: Vec<PartKey> = self.table.parts().map(|(key, _)| key).collect();
        for key in keys {
            self.enter_into_agenda(&key);
            self.to_bury.insert(key);
        }
    }
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
