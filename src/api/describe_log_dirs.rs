//! DescribeLogDirs v1–5: the one data directory and what each partition takes in it. v4 adds the
//! size of the volume, v5 whether it is cordoned, which it never is. All partitions share files, so a size is that of the partition's batches;
//! space comes back when the files they are in hold nothing else.

use std::collections::{BTreeMap, BTreeSet};

use braid_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use braid_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::respond::text;

/// Kafka's mark for a volume whose size is not known.
const UNKNOWN_BYTES: i64 = -1;

pub(crate) fn handle(broker: &Broker, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let image = broker.metadata.image();
    let topics = match request.topics {
        None => {
            let all = image.topics().iter().map(|topic| describe(broker, &image, topic, None));
            all.filter(|topic| !topic.partitions.is_empty()).collect()
        }
        Some(asked) => {
            let mut wanted: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
            for topic in asked {
                wanted.entry(topic.topic).or_default().extend(topic.partitions);
            }
            // As in Kafka, what does not exist is left out.
            let found = wanted.iter().filter_map(|(name, partitions)| {
                Some(describe(broker, &image, image.topic(name)?, Some(partitions)))
            });
            found.filter(|topic| !topic.partitions.is_empty()).collect::<Vec<_>>()
        }
    };
    let dir = &broker.config.storage.dir;
    let known = |bytes: std::io::Result<u64>| {
        bytes.map_or(UNKNOWN_BYTES, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
    };
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(&dir.display().to_string()))
        .with_topics(topics)
        .with_total_bytes(known(broker.env.fs.volume_bytes(dir)))
        .with_usable_bytes(known(broker.env.fs.free_bytes(dir)));
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn describe(
    broker: &Broker,
    image: &MetadataImage,
    topic: &TopicImage,
    wanted: Option<&BTreeSet<i32>>,
) -> DescribeLogDirsTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .filter(|(index, _)| wanted.is_none_or(|wanted| wanted.contains(index)))
        .filter_map(|(index, partition)| Some((index, partition, broker.home(image, *partition)?)))
        .map(|(index, partition, home)| {
            let size_bytes = home.partitions().size_bytes(partition.queue);
            DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        })
        .collect();
    DescribeLogDirsTopic::default()
        .with_name(TopicName(text(&topic.name)))
        .with_partitions(partitions)
}
