//! `/metrics`: the names that published dashboards ask for. On the Kafka side those of Strimzi's
//! exporter and of kafka_exporter, on the native side those of RocketMQ 5.
//!
//! Everything is looked up when it is asked for, but for what [`crate::traffic`] counts.

use std::collections::BTreeMap;
use std::fmt;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::App;
use super::problem::{Code, Problem, Problems};
use crate::native::metrics::{Gathered, MeasuredTopic, gather};
use crate::traffic::TopicCounts;

/// The metrics, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics.",
        content_type = "application/openmetrics-text", body = String), Problems))]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let gathered = gather(&app.native).await;
    let text = text_of(gathered)
        .map_err(|_| Problem::new(Code::Unavailable, "the metrics cannot be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn text_of(gathered: Gathered) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(gathered));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;
/// One of the counters of a topic.
type Pick = fn(&TopicCounts) -> u64;

/// One metric's series, under one name.
struct Series<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Series<'_, '_> {
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, i64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, i64)>,
    ) -> fmt::Result {
        let series = series.into_iter();
        self.counted(name, help, series.map(|(labels, n)| (labels, u64::try_from(n).unwrap_or(0))))
    }

    fn counted(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }
}

/// A group's progress in all partitions of a topic.
#[derive(Debug, Default)]
struct Sum {
    lag: i64,
    ready: i64,
    in_flight: i64,
    lag_ms: i64,
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut series = Series { encoder: &mut encoder };
        self.cluster(&mut series)?;
        self.traffic(&mut series)?;
        self.topics(&mut series)?;
        self.groups(&mut series)?;
        self.storage(&mut series)?;
        self.natives(&mut series)
    }
}

impl Gathered {
    fn cluster(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let partitions = count(self.topics.iter().map(|t| t.partitions.len()).sum());
        series.gauge("kafka_brokers", "Brokers in the cluster", count(self.brokers.len()))?;
        let info = |(id, address): &(crate::model::BrokerId, String)| {
            (vec![("id", id.to_string()), ("address", address.clone())], 1)
        };
        series.gauges("kafka_broker_info", "A broker", self.brokers.iter().map(info))?;
        for (name, help, value) in [
            ("kafka_server_replicamanager_partitioncount", "Partitions of this broker", partitions),
            ("kafka_server_replicamanager_leadercount", "Partitions it leads", partitions),
            (
                "kafka_server_replicamanager_underreplicatedpartitions",
                "Partitions with replicas behind",
                0,
            ),
            (
                "kafka_controller_kafkacontroller_activecontrollercount",
                "Whether it leads the metadata",
                i64::from(self.leads_metadata),
            ),
            (
                "kafka_controller_kafkacontroller_offlinepartitionscount",
                "Partitions without a leader",
                count(self.offline_partitions),
            ),
            ("rocketmq_topic_number", "Topics", count(self.topics.len())),
            ("rocketmq_consumer_group_number", "Consumer groups", count(self.groups.len())),
        ] {
            series.gauge(name, help, value)?;
        }
        Ok(())
    }

    /// What clients of Kafka's protocol did, and HTTP clients did not.
    fn traffic(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let name = |topic: &MeasuredTopic| vec![("topic", topic.image.name.to_string())];
        let metrics = "kafka_server_brokertopicmetrics";
        let counters: [(&str, &str, Pick); 6] = [
            ("bytesin", "Bytes of records that producers sent", |t| t.bytes_in),
            ("bytesout", "Bytes of records that consumers fetched", |t| t.bytes_out),
            ("totalproducerequests", "Requests to write to a partition", |t| t.produces),
            ("failedproducerequests", "Those that were refused", |t| t.failed_produces),
            ("totalfetchrequests", "Requests to read a partition", |t| t.fetches),
            ("failedfetchrequests", "Those that failed", |t| t.failed_fetches),
        ];
        for (metric, help, value) in counters {
            let of_topics = self.topics.iter().map(|topic| (name(topic), value(&topic.traffic)));
            series.counted(&format!("{metrics}_{metric}"), help, of_topics)?;
        }
        let requests = self.requests.iter();
        let requests = requests.map(|(api, count)| (vec![("request", (*api).to_owned())], *count));
        series.counted(
            "kafka_network_requestmetrics_requests",
            "Requests that were understood, by API",
            requests,
        )?;
        let connections = self.connections.iter().map(|(listener, count)| {
            let labels =
                vec![("listener", listener.to_string()), ("networkProcessor", "0".to_owned())];
            (labels, i64::try_from(*count).unwrap_or(i64::MAX))
        });
        series.gauges(
            "kafka_server_socket_server_metrics_connection_count",
            "Open connections",
            connections,
        )?;
        let help = "Connections of HTTP clients that did not take their answers";
        let (name, kind) = ("braid_http_stalled_connections_closed", MetricType::Counter);
        let metric = series.encoder.encode_descriptor(name, help, None, kind)?;
        ConstCounter::new(self.stalled_http_connections).encode(metric)
    }

    fn topics(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let name = |topic: &MeasuredTopic| vec![("topic", topic.image.name.to_string())];
        let of_topics = |value: fn(&MeasuredTopic) -> i64| {
            self.topics.iter().map(move |topic| (name(topic), value(topic)))
        };
        series.gauges(
            "kafka_topic_partitions",
            "Partitions of a topic",
            of_topics(|t| count(t.image.partitions.len())),
        )?;
        series.counters(
            "kafka_server_brokertopicmetrics_messagesin",
            "Messages written to a topic since it was made",
            of_topics(|t| t.partitions.values().map(|(marks, _)| marks.next.0).sum()),
        )?;
        if !self.by_partition {
            return Ok(());
        }
        let of_partitions = |value: &dyn Fn(&crate::store::Offsets, u64) -> i64| {
            let mut all = Vec::new();
            for topic in &self.topics {
                for (number, (marks, size)) in &topic.partitions {
                    let mut labels = name(topic);
                    labels.push(("partition", number.to_string()));
                    all.push((labels, value(marks, *size)));
                }
            }
            all
        };
        let own = i64::from(self.broker.0);
        let size = of_partitions(&|_, size| i64::try_from(size).unwrap_or(i64::MAX));
        series.gauges("kafka_log_log_size", "Bytes of a partition", size)?;
        let p = "kafka_topic_partition";
        for (name, help, values) in [
            (
                "current_offset",
                "Offset of the next message",
                of_partitions(&|m, _| m.high_watermark.0),
            ),
            ("oldest_offset", "Offset of the first message", of_partitions(&|m, _| m.log_start.0)),
            ("in_sync_replica", "Replicas in sync", of_partitions(&|_, _| 1)),
            ("replicas", "Replicas", of_partitions(&|_, _| 1)),
            ("leader", "The broker that leads", of_partitions(&|_, _| own)),
            ("leader_is_preferred", "Whether it is the preferred one", of_partitions(&|_, _| 1)),
            ("under_replicated_partition", "Whether replicas are behind", of_partitions(&|_, _| 0)),
        ] {
            series.gauges(&format!("{p}_{name}"), help, values)?;
        }
        Ok(())
    }

    /// What RocketMQ's dashboards ask for of the log. What lags behind there is one step with the
    /// append here, so some are always 0.
    fn storage(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("storage_size", "Bytes of the segments that hold records", bytes(self.log_size_bytes)),
            (
                "storage_flush_behind_bytes",
                "Bytes appended and not on disk yet",
                bytes(self.unsynced_size_bytes),
            ),
            ("storage_dispatch_behind_bytes", "Bytes appended and not indexed yet", 0),
            ("timer_enqueue_lag", "Messages appended and not scheduled yet", 0),
            ("timer_enqueue_latency", "How long the oldest of them has waited, in ms", 0),
            (
                "timer_dequeue_latency",
                "By how many ms the next scheduled message is overdue",
                self.timers_late_ms,
            ),
        ] {
            series.gauge(&format!("rocketmq_{name}"), help, value)?;
        }
        Ok(())
    }

    /// What RocketMQ's dashboards ask for.
    fn natives(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let topics = self.topics.iter().map(|topic| {
            let written = topic.partitions.values().map(|(marks, _)| marks.next.0).sum();
            (vec![("topic", topic.image.name.to_string())], written)
        });
        series.counters("rocketmq_messages_in", "Messages written to a topic", topics)?;
        if let Some(halves) = &self.halves {
            let of_group = |(group, count): &(std::sync::Arc<str>, u64)| {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                (vec![("producer_group", group.to_string())], count)
            };
            let help = "Half messages that wait to be decided";
            series.gauges("rocketmq_half_messages", help, halves.groups.iter().map(of_group))?;
            let oldest = halves.oldest_born_ms.map_or(0, |born| (self.now_ms - born).max(0));
            series.gauge("braid_half_message_age_max_ms", "Age of the oldest of them", oldest)?;
        }
        let timers = &self.timers;
        let ended = self.halves.as_ref().map(|halves| halves.ended).unwrap_or_default();
        let deliveries = self.delivery_totals.unwrap_or_default();
        for (name, help, value) in [
            (
                "rocketmq_commit_messages",
                "Half messages committed since the start",
                ended.committed,
            ),
            (
                "rocketmq_rollback_messages",
                "Half messages rolled back since the start",
                ended.rolled_back,
            ),
            (
                "braid_half_messages_expired",
                "Half messages discarded since the start",
                ended.expired,
            ),
            (
                "rocketmq_messages_out",
                "Messages delivered to groups since the start, each time",
                deliveries.delivered,
            ),
            (
                "braid_messages_acknowledged",
                "Delivered messages acknowledged since the start",
                deliveries.acknowledged,
            ),
            (
                "rocketmq_send_to_dlq_messages",
                "Dead letters since the start",
                deliveries.dead_letters,
            ),
            ("rocketmq_timer_enqueue", "Messages scheduled since the start", timers.scheduled),
            (
                "rocketmq_timer_dequeue",
                "Scheduled messages delivered since the start",
                timers.delivered + timers.discarded,
            ),
            (
                "braid_timer_recalled",
                "Scheduled messages taken back since the start",
                timers.recalled,
            ),
        ] {
            let kind = MetricType::Counter;
            let metric = series.encoder.encode_descriptor(name, help, None, kind)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let late = i64::try_from(timers.last_late_ms).unwrap_or(i64::MAX);
        series.gauge(
            "braid_timer_last_late_ms",
            "How late the last delivered message was",
            late,
        )?;
        let loaded = count(self.timers_loaded);
        series.gauge("braid_timers_loaded", "Scheduled messages that are due soon", loaded)?;
        let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
        for (group, progress) in &self.deliveries {
            for progress in progress {
                let sum = sums.entry((group, &progress.topic)).or_default();
                sum.lag += progress.lag;
                sum.ready += progress.ready;
                sum.in_flight += count(progress.in_flight);
                sum.lag_ms = sum.lag_ms.max(progress.lag_ms.unwrap_or(0));
            }
        }
        let of_sums = |value: fn(&Sum) -> i64| {
            let labels = |group: &str, topic: &str| {
                vec![("consumer_group", group.to_owned()), ("topic", topic.to_owned())]
            };
            let all = sums.iter().map(|((group, topic), sum)| (labels(group, topic), value(sum)));
            all.collect::<Vec<_>>()
        };
        let c = "rocketmq_consumer";
        for (name, help, values) in [
            ("lag_messages", "Messages that a group is not done with", of_sums(|s| s.lag)),
            ("ready_messages", "Messages that may be delivered now", of_sums(|s| s.ready)),
            ("inflight_messages", "Messages delivered and not done", of_sums(|s| s.in_flight)),
            ("lag_latency", "Age in ms of the oldest message not done", of_sums(|s| s.lag_ms)),
        ] {
            series.gauges(&format!("{c}_{name}"), help, values)?;
        }
        Ok(())
    }

    fn groups(&self, series: &mut Series<'_, '_>) -> fmt::Result {
        let group = |id: &str| vec![("consumergroup", id.to_owned())];
        let members = self.groups.iter().map(|g| (group(&g.id), count(g.members)));
        series.gauges("kafka_consumergroup_members", "Members of a group", members)?;
        let mut sums: Vec<(Labels, i64, i64)> = Vec::new();
        let mut singles: Vec<(Labels, i64, i64)> = Vec::new();
        for g in &self.groups {
            let mut sum: Option<(String, i64, i64)> = None;
            let labels = |topic: &str| {
                let mut labels = group(&g.id);
                labels.push(("topic", topic.to_owned()));
                labels
            };
            for ((topic, partition), (offset, lag)) in &g.offsets {
                let mut of_partition = labels(topic);
                of_partition.push(("partition", partition.to_string()));
                singles.push((of_partition, *offset, *lag));
                match &mut sum {
                    Some((name, offsets, lags)) if name == topic => {
                        *offsets += offset;
                        *lags += lag;
                    }
                    _ => {
                        sums.extend(sum.take().map(|(t, o, l)| (labels(&t), o, l)));
                        sum = Some((topic.clone(), *offset, *lag));
                    }
                }
            }
            sums.extend(sum.map(|(t, o, l)| (labels(&t), o, l)));
        }
        let pick = |all: &[(Labels, i64, i64)], lag: bool| -> Vec<(Labels, i64)> {
            all.iter().map(|(l, o, g)| (l.clone(), if lag { *g } else { *o })).collect()
        };
        let g = "kafka_consumergroup";
        let help = ("Offsets that a group has committed", "Messages that a group is behind");
        series.gauges(&format!("{g}_current_offset_sum"), help.0, pick(&sums, false))?;
        series.gauges(&format!("{g}_lag_sum"), help.1, pick(&sums, true))?;
        if self.by_partition {
            series.gauges(&format!("{g}_current_offset"), help.0, pick(&singles, false))?;
            series.gauges(&format!("{g}_lag"), help.1, pick(&singles, true))?;
        }
        Ok(())
    }
}
