//! What the fuzz targets do with their input, shared with the test that replays the corpora.
//!
//! Each takes any bytes and panics only when a promise is broken.

use braid_protocol::frame::{self, FrameState};
use braid_protocol::records::{
    BatchHeader, BatchLimits, Batches, Codec, Record, RecordReader, Target, TimestampRule, conform,
    validate_batch,
};
use braid_protocol::{Request, RequestHeader, guard, request};
use bytes::{Bytes, BytesMut};

/// A connection's bytes: frame after frame until one is not whole or not allowed.
pub(crate) fn frame(data: &[u8]) {
    let limit_bytes = 1 << 10;
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        let state = frame::inspect(&buffer, limit_bytes);
        let taken = frame::take(&mut buffer, limit_bytes);
        match (state, &taken) {
            (FrameState::Frame(size_bytes), Ok(Some(frame))) => {
                assert_eq!(frame.len(), size_bytes);
                assert_eq!(buffer.len(), before - size_bytes - frame::LENGTH_SIZE_BYTES);
            }
            (FrameState::NeedMore(missing), Ok(None)) => {
                assert!(missing > 0 && buffer.len() == before);
                return;
            }
            (FrameState::TooLarge(_) | FrameState::Negative(_), Err(_)) => {
                assert_eq!(buffer.len(), before);
                return;
            }
            other => panic!("{other:?}"),
        }
        if let Ok(Some(frame)) = taken {
            request(&frame);
        }
    }
}

/// One frame's content: a header and a body.
pub(crate) fn request(data: &[u8]) {
    let Ok((header, body)) = RequestHeader::parse(Bytes::copy_from_slice(data)) else { return };
    let decoded = request::decode(&header, body.clone());
    let Some(api) = header.api().filter(|api| api.accepts(header.api_version)) else {
        assert!(matches!(decoded, Err(_) | Ok(Request::ApiVersions(_))));
        return;
    };
    match guard::check(api.key, header.api_version, &body) {
        Ok(extent) => {
            assert!(extent.size_bytes <= body.len());
            assert!(extent.memory_bytes <= guard::MEMORY_MAX_BYTES);
            // What is behind the body changes nothing.
            let alone = request::decode(&header, body.slice(..extent.size_bytes));
            assert_eq!(alone, decoded);
        }
        Err(_) => assert!(decoded.is_err()),
    }
}

/// A batch as a producer sends it, first as it is, then with its length and checksum made right,
/// so that the bytes behind them are reached.
pub(crate) fn batch(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    stored(&data);
    produced(&data);
    if data.len() >= BatchHeader::SIZE_BYTES {
        let data = repaired(&data);
        stored(&data);
        produced(&data);
    }
}

/// What a batch may become when it is decompressed.
const CONTENT_SIZE_BYTES_MAX: usize = 1 << 20;

/// Offset 0, the length of the bytes, the magic of the format, and their checksum.
fn repaired(data: &[u8]) -> Bytes {
    let mut batch = data.to_vec();
    let length = u32::try_from(batch.len() - 12).expect("an input is small");
    batch[..8].fill(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// Reads whatever batches there are, as from a log.
fn stored(data: &Bytes) {
    for batch in Batches::new(data.clone()) {
        let Ok((header, batch)) = batch else { return };
        assert_eq!(header.size_bytes(), batch.len());
        let Ok(reader) = RecordReader::open(&batch, CONTENT_SIZE_BYTES_MAX) else { continue };
        for record in &reader {
            let Ok(record) = record else { break };
            assert_eq!(record.headers.iter().count(), record.headers.len());
        }
    }
}

/// Takes the batch as a broker does; what it takes it can read, and store in every codec.
fn produced(data: &Bytes) {
    let limits = BatchLimits {
        size_bytes_max: 1 << 20,
        content_size_bytes_max: CONTENT_SIZE_BYTES_MAX,
        timestamps: TimestampRule::CreateTime { before_max_ms: i64::MAX, after_max_ms: i64::MAX },
        require_keys: false,
        allow_zstd: true,
    };
    let now_ms = 1_000;
    let Ok(valid) = validate_batch(data, &limits, now_ms) else { return };
    let reader = RecordReader::open(data, CONTENT_SIZE_BYTES_MAX).expect("a valid batch opens");
    let records =
        reader.records().collect::<Result<Vec<_>, _>>().expect("and its records are read");
    assert_eq!(i32::try_from(records.len()), Ok(valid.header.records_count));
    let stored = conform(data, &limits, None, now_ms).expect("and it is stored as it came");
    assert!(stored.header.crc_matches(&stored.batch));
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let Ok(again) = conform(data, &limits, Some(Target { codec, level: None }), now_ms) else {
            // Only what compresses badly may exceed the limit.
            assert!(data.len() > limits.size_bytes_max / 2 || codec == Codec::None);
            continue;
        };
        let again = Bytes::from(again.batch.into_owned());
        let reader = RecordReader::open(&again, 2 * CONTENT_SIZE_BYTES_MAX)
            .expect("a batch compressed anew opens");
        let again = reader.records().map(|record| record.ok().as_ref().map(said));
        assert!(again.eq(records.iter().map(|record| Some(said(record)))));
    }
}

type Said<'a> = (i64, i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a [u8], Option<&'a [u8]>)>);

/// All that a record says.
fn said<'a>(record: &Record<'a>) -> Said<'a> {
    let headers = record.headers.iter().collect();
    (record.offset, record.timestamp, record.key, record.value, headers)
}
