//! Records and acknowledgements as files, the way clients take and give them (`clients/README.md` is the law).

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// "Not known" or "not given" of every number below.
pub const UNKNOWN: i64 = -1;

/// One record, as it goes to a client or as one came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    /// −1: the client chooses by key.
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds; −1: now.
    pub timestamp: i64,
    /// 0 create time, 1 log append time, −1 unknown.
    pub timestamp_type: i8,
    /// Codec of the stored batch, −1 unknown.
    pub codec: i8,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    /// A record for `topic` that leaves everything else to the client.
    #[must_use]
    pub fn new(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
        Record {
            topic: topic.to_owned(),
            partition: -1,
            offset: UNKNOWN,
            timestamp: UNKNOWN,
            timestamp_type: -1,
            codec: -1,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let sized = |out: &mut Vec<u8>, bytes: Option<&[u8]>| {
            let length = bytes.map_or(-1, |b| i32::try_from(b.len()).unwrap_or(i32::MAX));
            out.extend(length.to_be_bytes());
            out.extend(bytes.unwrap_or_default());
        };
        let start = out.len();
        out.extend([0; 4]);
        out.extend(i16::try_from(self.topic.len()).unwrap_or(i16::MAX).to_be_bytes());
        out.extend(self.topic.as_bytes());
        out.extend(self.partition.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.timestamp_type.to_be_bytes());
        out.extend(self.codec.to_be_bytes());
        sized(out, self.key.as_deref());
        sized(out, self.value.as_deref());
        out.extend(i32::try_from(self.headers.len()).unwrap_or(i32::MAX).to_be_bytes());
        for (name, value) in &self.headers {
            sized(out, Some(name));
            sized(out, value.as_deref());
        }
        let size = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn decode(body: &[u8]) -> Option<Record> {
        let mut rest = Cursor(body);
        let topic_length = usize::try_from(i16::from_be_bytes(rest.array()?)).ok()?;
        let topic = String::from_utf8(rest.take(topic_length)?.to_vec()).ok()?;
        Some(Record {
            topic,
            partition: i32::from_be_bytes(rest.array()?),
            offset: i64::from_be_bytes(rest.array()?),
            timestamp: i64::from_be_bytes(rest.array()?),
            timestamp_type: i8::from_be_bytes(rest.array()?),
            codec: i8::from_be_bytes(rest.array()?),
            key: rest.sized()?,
            value: rest.sized()?,
            headers: {
                let count = i32::from_be_bytes(rest.array()?);
                (0..count).map(|_| Some((rest.sized()??, rest.sized()?))).collect::<Option<_>>()?
            },
        })
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Outer `None`: the bytes end too early; inner: null.
    #[expect(clippy::option_option, reason = "null is a value of the format")]
    fn sized(&mut self) -> Option<Option<Vec<u8>>> {
        match i32::from_be_bytes(self.array()?) {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?.to_vec())),
        }
    }
}

/// Writes a record file, one record at a time.
#[derive(Debug)]
pub struct RecordWriter {
    file: BufWriter<File>,
    buffer: Vec<u8>,
}

impl RecordWriter {
    /// Creates or empties the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> Result<RecordWriter> {
        Ok(RecordWriter {
            file: BufWriter::with_capacity(1 << 20, File::create(path)?),
            buffer: Vec::new(),
        })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.buffer.clear();
        record.encode(&mut self.buffer);
        Ok(self.file.write_all(&self.buffer)?)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> Result<()> {
        Ok(self.file.flush()?)
    }
}

/// Reads a record file that may still grow: [`RecordReader::read_next`] says `None` at a record that is not yet whole and
/// goes on from there later.
#[derive(Debug)]
pub struct RecordReader {
    file: BufReader<File>,
    position: u64,
}

impl RecordReader {
    /// Opens the file at its start.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> Result<RecordReader> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(RecordReader { file: BufReader::with_capacity(1 << 20, file), position: 0 })
    }

    /// The next whole record, if it is there yet.
    ///
    /// # Errors
    /// When the file breaks the format.
    pub fn read_next(&mut self) -> Result<Option<Record>> {
        let mut size = [0; 4];
        let mut body = Vec::new();
        if !self.fill(&mut size)? {
            return Ok(None);
        }
        body.resize(usize::try_from(u32::from_be_bytes(size))?, 0);
        if !self.fill(&mut body)? {
            return Ok(None);
        }
        self.position += 4 + body.len() as u64;
        Ok(Some(Record::decode(&body).context("a client wrote a record that breaks the format")?))
    }

    /// Fills `bytes`, or returns to the start of the record when the file ends too early.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.file.seek(SeekFrom::Start(self.position))?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// All records of a finished file.
///
/// # Errors
/// When it cannot be read or breaks the format.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let mut reader = RecordReader::open(path)?;
    let mut records = Vec::new();
    while let Some(record) = reader.read_next()? {
        records.push(record);
    }
    let length = std::fs::metadata(path)?.len();
    ensure!(length == reader.position, "{} ends inside a record", path.display());
    Ok(records)
}

/// What became of one produced record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Index of the record in the input.
    pub index: i64,
    pub partition: i32,
    /// −1 where the client does not tell it.
    pub offset: i64,
    pub timestamp: i64,
    /// Kafka's error code; 0 means acknowledged, −1000 an error of the client's own.
    pub code: i16,
}

/// All acknowledgements of a file.
///
/// # Errors
/// When it cannot be read or breaks the format.
pub fn read_acks(path: &Path) -> Result<Vec<Ack>> {
    let bytes = std::fs::read(path)?;
    let (entries, rest) = bytes.as_chunks::<30>();
    ensure!(rest.is_empty(), "{} ends inside an acknowledgement", path.display());
    let decode = |bytes: &[u8; 30]| {
        let mut rest = Cursor(bytes);
        Some(Ack {
            index: i64::from_be_bytes(rest.array()?),
            partition: i32::from_be_bytes(rest.array()?),
            offset: i64::from_be_bytes(rest.array()?),
            timestamp: i64::from_be_bytes(rest.array()?),
            code: i16::from_be_bytes(rest.array()?),
        })
    };
    entries
        .iter()
        .map(decode)
        .collect::<Option<_>>()
        .context("an acknowledgement breaks the format")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_file_and_a_torn_one_is_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut record = Record::new("t", Some(b""), None);
        record.headers = vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(vec![0xff]))];
        let mut writer = RecordWriter::create(&path).unwrap();
        writer.write(&record).unwrap();
        writer.write(&record).unwrap();
        writer.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut reader = RecordReader::open(&path).unwrap();
        assert_eq!(reader.read_next().unwrap(), Some(record.clone()));
        assert_eq!(reader.read_next().unwrap(), None);
        assert!(read_records(&path).is_err());
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(reader.read_next().unwrap(), Some(record));
    }
}
