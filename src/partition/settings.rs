//! What is in force for a topic, worked out once per change of the topic or of the broker's
//! configuration, and kept beside it.
//!
//! Most topics set nothing themselves and share one entry. Others are looked up by id; an entry is
//! good as long as the image still holds the very topic it was made from.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use braid_protocol::records::{BatchLimits, Codec, Target, TimestampRule};
use braid_raft::image::TopicImage;

use crate::config::{Compression, LiveConfig, Settings, TimestampType, TopicConfig};
use crate::model::TopicId;

/// A topic's settings in the form the hot path needs.
#[derive(Debug)]
pub(crate) struct TopicSettings {
    pub(crate) config: TopicConfig,
    /// What a batch must keep to; `allow_zstd` is the request's to say.
    pub(crate) limits: BatchLimits,
    /// The codec batches are stored with; `None` keeps the producer's.
    pub(crate) codec: Option<Target>,
}

impl TopicSettings {
    fn of(config: TopicConfig) -> Self {
        let timestamps = match config.timestamp_type {
            TimestampType::CreateTime => TimestampRule::CreateTime {
                before_max_ms: config.timestamp_before_ms_max,
                after_max_ms: config.timestamp_after_ms_max,
            },
            TimestampType::LogAppendTime => TimestampRule::LogAppendTime,
        };
        let codec = match config.compression {
            Compression::Producer => None,
            Compression::Uncompressed => Some(Target { codec: Codec::None, level: None }),
            Compression::Gzip(level) => Some(Target { codec: Codec::Gzip, level: Some(level) }),
            Compression::Snappy => Some(Target { codec: Codec::Snappy, level: None }),
            Compression::Lz4(level) => Some(Target { codec: Codec::Lz4, level: Some(level) }),
            Compression::Zstd(level) => Some(Target { codec: Codec::Zstd, level: Some(level) }),
        };
        let limits = BatchLimits {
            size_bytes_max: config.batch_size_bytes_max,
            content_size_bytes_max: BatchLimits::CONTENT_SIZE_BYTES_MAX,
            timestamps,
            require_keys: config.compact,
            allow_zstd: true,
        };
        Self { config, limits, codec }
    }
}

/// Settings and the topic they were made from.
type Entry = (Arc<TopicImage>, Arc<TopicSettings>);

/// The settings of every topic that was asked for.
#[derive(Debug)]
pub(crate) struct TopicSettingsCache {
    live: Arc<LiveConfig>,
    made: RwLock<Made>,
}

/// What was made from one generation of the broker's configuration.
#[derive(Debug)]
struct Made {
    generation: u64,
    defaults: Arc<TopicSettings>,
    own: HashMap<TopicId, Entry>,
}

impl Made {
    fn from(live: &LiveConfig) -> Self {
        // Read first: a change in between makes this one old, never too new.
        let generation = live.generation();
        let defaults = Arc::new(TopicSettings::of(live.load().topic(&Settings::new())));
        Self { generation, defaults, own: HashMap::new() }
    }

    fn find(&self, topic: &Arc<TopicImage>) -> Option<Arc<TopicSettings>> {
        if topic.configs.is_empty() {
            return Some(Arc::clone(&self.defaults));
        }
        let (made_from, settings) = self.own.get(&topic.id)?;
        Arc::ptr_eq(made_from, topic).then(|| Arc::clone(settings))
    }
}

impl TopicSettingsCache {
    pub(crate) fn new(live: Arc<LiveConfig>) -> Self {
        let made = RwLock::new(Made::from(&live));
        Self { live, made }
    }

    /// What is in force for a topic.
    pub(crate) fn of(&self, topic: &Arc<TopicImage>) -> Arc<TopicSettings> {
        let generation = self.live.generation();
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if made.generation == generation
            && let Some(settings) = made.find(topic)
        {
            return settings;
        }
        drop(made);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.generation != generation {
            *made = Made::from(&self.live);
        }
        if let Some(settings) = made.find(topic) {
            return settings;
        }
        let settings = Arc::new(TopicSettings::of(self.live.load().topic(&topic.configs)));
        made.own.insert(topic.id, (Arc::clone(topic), Arc::clone(&settings)));
        settings
    }

    /// Forgets a deleted topic.
    pub(crate) fn forget(&self, topic: TopicId) {
        self.made.write().unwrap_or_else(PoisonError::into_inner).own.remove(&topic);
    }
}
