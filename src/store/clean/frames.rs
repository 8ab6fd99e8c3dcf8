//! Reads the frames that cleaning goes through, from files and not from maps: of a sector that
//! the device cannot read a map dies, and cleaning reads everything.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use bytes::Bytes;

use crate::env::fs::File;
use crate::model::QueueId;
use crate::store::error::{DamageReason, IoFailure, ReadError};
use crate::store::frame::{HEADER_BYTES, Header};
use crate::store::page::Extent;
use crate::store::read::check;
use crate::store::segment::SegmentReader;
use crate::store::width::index;

/// Files that are kept open.
const FILES_MAX: usize = 64;

/// The files read so far, by the first position of their segments.
#[derive(Debug, Default)]
pub(super) struct Frames {
    files: HashMap<u64, Arc<dyn File>>,
}

impl Frames {
    /// A frame's header, its batch's header, and the batch: all checked.
    pub(super) fn read(
        &mut self,
        reader: &SegmentReader,
        queue: QueueId,
        extent: &Extent,
    ) -> Result<(Header, BatchHeader, Bytes), ReadError> {
        let damaged = |reason| reader.damage(extent.position, reason);
        let mut frame = vec![0; index(extent.payload_end() - extent.position)];
        let read = self.file(reader)?.read_at(&mut frame, extent.position - reader.first);
        if read.map_err(IoFailure::of("read", &reader.path))? < frame.len() {
            return Err(damaged(DamageReason::Header).into());
        }
        let header = check(&frame, queue, extent).map_err(damaged)?;
        let batch = Bytes::from(frame).split_off(HEADER_BYTES);
        match BatchHeader::parse(&batch) {
            Ok(parsed) if parsed.size_bytes() == batch.len() => Ok((header, parsed, batch)),
            Ok(_) | Err(_) => Err(damaged(DamageReason::Body).into()),
        }
    }

    fn file(&mut self, reader: &SegmentReader) -> Result<Arc<dyn File>, IoFailure> {
        if let Some(file) = self.files.get(&reader.first) {
            return Ok(Arc::clone(file));
        }
        if self.files.len() == FILES_MAX {
            self.files.clear();
        }
        let file = reader.open_file()?;
        self.files.insert(reader.first, Arc::clone(&file));
        Ok(file)
    }
}
