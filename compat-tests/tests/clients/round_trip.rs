//! What one client writes, every client reads: codecs, nulls, headers, sizes. Each producer writes the same catalogue of
//! records once for each codec; each consumer that it meets reads all of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{CODECS, Input, Kind, Produce, Start};
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};

const PARTITIONS: usize = 3;
const MIB: usize = 1 << 20;

pub(crate) fn add(suite: &mut Suite) {
    for producer in Kind::ALL {
        suite.add(format!("round_trip::all_codecs_from_{producer}"), move |world| {
            from(world, producer)
        });
    }
    suite.add("round_trip::a_header_name_may_be_any_bytes", any_header_name);
}

fn topic(producer: Kind, codec: &str) -> String {
    format!("round-trip.{producer}.{codec}")
}

/// Bytes that no codec makes smaller, the same in every run.
pub(crate) fn noise(mut seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // SplitMix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Text of exactly `size` bytes.
fn text(size: usize) -> Vec<u8> {
    b"a message broker in one small binary ".iter().copied().cycle().take(size).collect()
}

/// One record of every kind that the format knows.
fn catalogue(topic: &str) -> Vec<Record> {
    let plain = |key: Option<&[u8]>, value: Option<&[u8]>| Record::new(topic, key, value);
    let with = |headers: &[(&[u8], Option<&[u8]>)]| {
        let mut record = Record::new(topic, Some(b"headers"), Some(b"value"));
        record.headers = headers
            .iter()
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        record
    };
    let mut records = vec![
        plain(Some(b"key"), Some(b"value")),
        plain(None, Some(b"null key")),
        plain(Some(b"null-value"), None),
        plain(None, None),
        plain(Some(b""), Some(b"empty key")),
        plain(Some(b"empty-value"), Some(b"")),
        plain(Some(b""), Some(b"")),
        plain(Some(&[0, 0xff, 0xfe, 0x80]), Some(&[0xff, 0, 0xc3, 0x28])),
        plain(Some("schlüssel".as_bytes()), Some("日本語 ✓".as_bytes())),
        with(&[(b"one", Some(b"1"))]),
        with(&[(b"same", Some(b"1")), (b"same", Some(b"2")), (b"other", Some(b"3"))]),
        with(&[(b"empty", Some(b"")), (b"null", None)]),
        with(&[(b"", Some(b"no-name"))]),
        with(&[
            (b"binary", Some(&[0xff, 0xfe, 0, 0x80])),
            ("ünïcode".as_bytes(), Some("wërt".as_bytes())),
        ]),
    ];
    for size in [1, 2, 10, 100, 1000, 1 << 10, 10_000, 1 << 16, 100_000, 1 << 18, MIB - 1, MIB] {
        records.push(plain(Some(b"text"), Some(&text(size))));
    }
    for size in [1, 100, 1 << 14, 1 << 17, MIB] {
        records.push(plain(Some(b"noise"), Some(&noise(size as u64, size))));
    }
    for (i, record) in records.iter_mut().enumerate() {
        record.partition = i32::try_from(i % PARTITIONS).unwrap_or_default();
    }
    records
}

fn offered(producer: Kind, topic: &str) -> Vec<Record> {
    let mut records = catalogue(topic);
    records.retain(|record| producer.carries(record));
    records
}

fn from(world: &World, producer: Kind) -> Result<()> {
    let server = world.server()?;
    let client = producer.shared()?;
    let admin = Kind::Java.shared()?;
    let partitions = i32::try_from(PARTITIONS)?;
    let mut topics = Vec::new();
    for (codec, _) in CODECS {
        let name = topic(producer, codec);
        admin.new_topic(server, &name, partitions, &[("max.message.bytes", "2097152")])?;
        let records = offered(producer, &name);
        let produce = Produce {
            codec,
            max_request_bytes: Some(2_000_000),
            ..Produce::new(Input::Records(&records))
        };
        let produced = client.produce_all(server, &produce)?;
        ensure!(
            produced.sent == records.len() as u64,
            "{producer} sent {} of {}",
            produced.sent,
            records.len()
        );
        check_acks(producer, &records, &produced.acks)?;
        topics.push(name);
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    // A header that is null, or there twice, is beyond rskafka.
    let able = |consumer: &Kind| *consumer != Kind::Rskafka || producer == Kind::Rskafka;
    for consumer in producer.readers().filter(able) {
        let read = consumer.shared()?.consume(server, &names, Start::Earliest)?;
        let mut by_topic: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in read {
            by_topic.entry(record.topic.clone()).or_default().push(record);
        }
        for (name, (codec, number)) in topics.iter().zip(CODECS) {
            let read = by_topic.remove(name).unwrap_or_default();
            compare(consumer, &offered(producer, name), &read, number).map_err(|error| {
                error.context(format!("{producer} wrote with {codec}, {consumer} read {name}"))
            })?;
            for client in [producer, consumer] {
                world.shown(client, Capability::Codecs, 1);
            }
            let sizes = read
                .iter()
                .filter(|record| {
                    record.key.as_deref().is_some_and(|key| key == b"text" || key == b"noise")
                })
                .count();
            world.shown(consumer, Capability::Sizes, sizes);
            if Capability::Headers.excuse(consumer).is_none() {
                world.shown(consumer, Capability::Headers, read.len() - sizes);
            }
        }
    }
    Ok(())
}

/// Offsets of a partition that only we write begin at 0 and have no gaps.
fn check_acks(
    producer: Kind,
    records: &[Record],
    acks: &[braid_compat_tests::record::Ack],
) -> Result<()> {
    if producer == Kind::Kcat {
        return Ok(());
    }
    let mut next = [0; PARTITIONS];
    let mut acks = acks.to_vec();
    acks.sort_by_key(|ack| ack.index);
    ensure!(acks.len() == records.len(), "{} acknowledgements of {}", acks.len(), records.len());
    for (record, ack) in records.iter().zip(acks) {
        let next = &mut next[usize::try_from(record.partition)?];
        ensure!(
            (ack.partition, ack.offset) == (record.partition, *next),
            "{ack:?}, expected offset {next}"
        );
        *next += 1;
    }
    Ok(())
}

/// What `consumer` cannot tell is left out.
fn as_told_by(consumer: Kind, record: &Record) -> Record {
    let mut told = Record::new(&record.topic, record.key.as_deref(), record.value.as_deref());
    told.headers.clone_from(&record.headers);
    if consumer == Kind::Kcat {
        // It prints header values as C strings.
        for value in told.headers.iter_mut().filter_map(|(_, value)| value.as_mut()) {
            value.truncate(value.iter().position(|b| *b == 0).unwrap_or(value.len()));
        }
    }
    if consumer == Kind::KafkaJavascript {
        // A header without a value comes as an empty one.
        for (_, value) in &mut told.headers {
            value.get_or_insert_default();
        }
    }
    if consumer == Kind::KafkaGo {
        // It takes what is empty for null.
        told.key = told.key.filter(|key| !key.is_empty());
        told.value = told.value.filter(|value| !value.is_empty());
        for (_, value) in &mut told.headers {
            *value = value.take().filter(|value| !value.is_empty());
        }
    }
    told
}

fn compare(consumer: Kind, written: &[Record], read: &[Record], codec: i8) -> Result<()> {
    let mut read_by_partition: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
    for record in read {
        read_by_partition.entry(record.partition).or_default().push(record);
    }
    ensure!(written.len() == read.len(), "{} records written, {} read", written.len(), read.len());
    let mut at: BTreeMap<i32, usize> = BTreeMap::new();
    for record in written {
        let i = at.entry(record.partition).or_default();
        let found = read_by_partition.get(&record.partition).and_then(|list| list.get(*i));
        let Some(found) = found else {
            anyhow::bail!("partition {} ends at {i}", record.partition)
        };
        ensure!(found.offset == i64::try_from(*i)?, "offset {} where {i} is due", found.offset);
        let (wanted, told) = (as_told_by(consumer, record), as_told_by(consumer, found));
        ensure!(
            wanted == told,
            "partition {} offset {i}: {} came as {}",
            record.partition,
            short(record),
            short(found)
        );
        ensure!(
            found.codec == -1 || found.codec == codec || small(record),
            "stored with codec {}",
            found.codec
        );
        *i += 1;
    }
    Ok(())
}

/// Clients leave batches alone that a codec would make larger.
fn small(record: &Record) -> bool {
    record.value.as_ref().is_none_or(|value| value.len() <= 100)
        || record.key.as_deref() == Some(b"noise")
}

fn short(record: &Record) -> String {
    let cut = |bytes: &Option<Vec<u8>>| match bytes {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() > 40 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
    };
    let headers: Vec<String> = record
        .headers
        .iter()
        .map(|(name, value)| format!("{}={}", String::from_utf8_lossy(name), cut(value)))
        .collect();
    format!("(key {}, value {}, headers {headers:?})", cut(&record.key), cut(&record.value))
}

/// Only franz-go can write such a name; it must come back as it was.
fn any_header_name(world: &World) -> Result<()> {
    let server = world.server()?;
    let client = Kind::FranzGo.shared()?;
    let name = "round-trip.header-name";
    client.new_topic(server, name, 1, &[])?;
    let mut record = Record::new(name, None, Some(b"value"));
    record.partition = 0;
    record.headers = vec![
        (vec![0xff, 0, 0xfe], Some(b"1".to_vec())),
        (vec![0xff, 0, 0xfe], Some(b"2".to_vec())),
    ];
    client.produce_all(server, &Produce::new(Input::Records(std::slice::from_ref(&record))))?;
    let read = client.consume(server, &[name], Start::Earliest)?;
    ensure!(read.len() == 1 && read[0].headers == record.headers, "came back as {read:?}");
    world.shown(Kind::FranzGo, Capability::Headers, 1);
    Ok(())
}
