//! Timestamps as written and as stamped by the broker, and offsets found by them.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Input, Kind, Produce, Start};
use braid_compat_tests::record::{Record, UNKNOWN};
use braid_compat_tests::runner::{Suite, World};

/// A moment long past: September 2001.
const BASE: i64 = 1_000_000_000_000;
/// Retention would take what is that old.
const KEPT: [(&str, &str); 1] = [("retention.ms", "-1")];
const CREATE_TIME: i8 = 0;
const LOG_APPEND_TIME: i8 = 1;

pub(crate) fn add(suite: &mut Suite) {
    for producer in Kind::ALL {
        suite.add(format!("timestamps::create_time_is_kept_from_{producer}"), move |world| {
            create_time(world, producer)
        });
        suite.add(format!("timestamps::append_time_is_stamped_over_{producer}"), move |world| {
            append_time(world, producer)
        });
    }
    suite.add("timestamps::offsets_are_found_by_time", offsets_by_time);
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn records(topic: &str, timestamps: &[i64]) -> Vec<Record> {
    let one = |(i, timestamp): (usize, &i64)| {
        let mut record = Record::new(topic, Some(b"k"), Some(format!("value {i}").as_bytes()));
        record.partition = 0;
        record.timestamp = *timestamp;
        record
    };
    timestamps.iter().enumerate().map(one).collect()
}

/// What `producer` can set: kcat sets none, to librdkafka, its bindings and kafka-go 0 means now, and platformatic garbles times of
/// one batch that lie far apart.
fn offered(producer: Kind, topic: &str, timestamps: &[i64]) -> Vec<Record> {
    let mut records = records(topic, timestamps);
    if producer == Kind::Kcat {
        records.iter_mut().for_each(|record| record.timestamp = UNKNOWN);
    }
    if producer == Kind::Platformatic {
        records.iter_mut().for_each(|record| record.timestamp = record.timestamp.max(BASE - 100));
    }
    if matches!(producer, Kind::Librdkafka | Kind::Rdkafka | Kind::KafkaJavascript | Kind::KafkaGo)
    {
        records.iter_mut().for_each(|record| record.timestamp += i64::from(record.timestamp == 0));
    }
    records
}

fn create_time(world: &World, producer: Kind) -> Result<()> {
    let server = world.server()?;
    for codec in ["none", "gzip"] {
        let topic = format!("create-time.{producer}.{codec}");
        Kind::Java.shared()?.new_topic(server, &topic, 1, &KEPT)?;
        // Not in order, one twice, one the client's own.
        let written =
            offered(producer, &topic, &[BASE, BASE + 50, BASE - 7, BASE + 50, 0, UNKNOWN]);
        let before = now();
        producer
            .shared()?
            .produce_all(server, &Produce { codec, ..Produce::new(Input::Records(&written)) })?;
        let after = now();
        for consumer in producer.readers() {
            let read = consumer.shared()?.consume(server, &[&topic], Start::Earliest)?;
            ensure!(
                read.len() == written.len(),
                "{consumer} read {} of {} records",
                read.len(),
                written.len()
            );
            for (wanted, found) in written.iter().zip(&read) {
                let fits = match wanted.timestamp {
                    // To kafka-go it is no time at all.
                    0 if consumer == Kind::KafkaGo => found.timestamp < 0,
                    UNKNOWN => (before..=after).contains(&found.timestamp),
                    timestamp => found.timestamp == timestamp,
                };
                ensure!(
                    fits,
                    "{consumer} read {} where {producer} wrote {}",
                    found.timestamp,
                    wanted.timestamp
                );
                ensure!(
                    [CREATE_TIME, -1].contains(&found.timestamp_type),
                    "{consumer} read type {}",
                    found.timestamp_type
                );
            }
            world.shown(consumer, Capability::Timestamps, read.len());
        }
    }
    Ok(())
}

fn append_time(world: &World, producer: Kind) -> Result<()> {
    let server = world.server()?;
    for codec in ["none", "gzip"] {
        let topic = format!("append-time.{producer}.{codec}");
        Kind::Java.shared()?.new_topic(
            server,
            &topic,
            1,
            &[("message.timestamp.type", "LogAppendTime")],
        )?;
        let written = offered(producer, &topic, &[BASE, 0, BASE + 1]);
        let before = now();
        let produced = producer
            .shared()?
            .produce_all(server, &Produce { codec, ..Produce::new(Input::Records(&written)) })?;
        let window = before..=now();
        if producer == Kind::Java {
            let told = produced.acks.iter().all(|ack| window.contains(&ack.timestamp));
            ensure!(told, "the acknowledgements name other times: {:?}", produced.acks);
        }
        let able = |kind: &Kind| Capability::AppendTime.excuse(*kind).is_none();
        for consumer in producer.readers().filter(able) {
            let read = consumer.shared()?.consume(server, &[&topic], Start::Earliest)?;
            ensure!(
                read.len() == written.len(),
                "{consumer} read {} of {} records",
                read.len(),
                written.len()
            );
            for found in &read {
                ensure!(
                    window.contains(&found.timestamp),
                    "{consumer} read {}, written in {window:?}",
                    found.timestamp
                );
                ensure!(
                    [LOG_APPEND_TIME, -1].contains(&found.timestamp_type),
                    "{consumer} read type {}",
                    found.timestamp_type
                );
            }
            world.shown(consumer, Capability::AppendTime, read.len());
        }
    }
    Ok(())
}

/// Three batches, the greatest timestamp within the second.
fn offsets_by_time(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "offsets-by-time";
    let java = Kind::Java.shared()?;
    java.new_topic(server, topic, 2, &KEPT)?;
    let batches = [
        [BASE, BASE + 10, BASE + 20],
        [BASE + 30, BASE + 90, BASE + 40],
        [BASE + 50, BASE + 60, BASE + 70],
    ];
    for (i, batch) in batches.iter().enumerate() {
        let codec = ["none", "zstd", "none"][i];
        java.produce_all(
            server,
            &Produce {
                codec,
                linger_ms: 100,
                ..Produce::new(Input::Records(&records(topic, batch)))
            },
        )?;
    }
    // The first offset whose timestamp is not before the one asked for. "None" is −1, or the end where a client says so.
    let none = -1;
    let asked = [
        ("earliest".to_owned(), 0),
        ("latest".to_owned(), 9),
        ((BASE - 1000).to_string(), 0),
        (BASE.to_string(), 0),
        ((BASE + 1).to_string(), 1),
        ((BASE + 20).to_string(), 2),
        ((BASE + 21).to_string(), 3),
        ((BASE + 31).to_string(), 4),
        ((BASE + 55).to_string(), 4),
        ((BASE + 90).to_string(), 4),
        ((BASE + 91).to_string(), none),
    ];
    for client in Kind::ALL {
        let shared = client.shared()?;
        for (at, wanted) in &asked {
            let found = shared.list_offsets(server, topic, &[0], at)?[0].0;
            let fits = found == *wanted || (*wanted == none && found == 9);
            ensure!(fits, "{client} finds offset {found} at {at}, expected {wanted}");
        }
        let empty = shared.list_offsets(server, topic, &[1], "latest")?[0].0;
        ensure!(empty == 0, "{client} finds the end of an empty partition at {empty}");
        let read = shared.consume(server, &[topic], Start::Timestamp(BASE + 31))?;
        let offsets: Vec<i64> = read.iter().map(|record| record.offset).collect();
        ensure!(offsets == [4, 5, 6, 7, 8], "{client} reads {offsets:?} from a timestamp");
        let read = shared.consume(server, &[topic], Start::Offset(7))?;
        ensure!(
            read.len() == 2 && read[0].offset == 7,
            "{client} reads {} records from offset 7",
            read.len()
        );
        world.shown(client, Capability::OffsetsByTime, asked.len() + 3);
        if Capability::MaxTimestamp.excuse(client).is_none() {
            let found = shared.list_offsets(server, topic, &[0, 1], "max-timestamp")?;
            ensure!(
                found[0] == (4, BASE + 90),
                "{client} finds the greatest timestamp at {:?}",
                found[0]
            );
            ensure!(found[1].0 == none, "{client} finds {:?} in an empty partition", found[1]);
            world.shown(client, Capability::MaxTimestamp, 2);
        }
    }
    Ok(())
}
