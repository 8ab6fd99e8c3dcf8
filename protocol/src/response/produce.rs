//! The Produce answer by hand: the one answer, beside Fetch, whose cost counts per message.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
};

use crate::api::ApiKey;
use crate::feature;
use crate::primitives::{LengthError, put_length, put_string, put_unsigned_varint};

/// Whether an answer says nothing in tagged fields; those are left to the generated encoder.
pub(super) fn is_plain(response: &ProduceResponse) -> bool {
    let plain = |partition: &PartitionProduceResponse| {
        partition.current_leader == LeaderIdAndEpoch::default()
            && partition.unknown_tagged_fields.is_empty()
    };
    response.node_endpoints.is_empty()
        && response.unknown_tagged_fields.is_empty()
        && response.responses.iter().all(|topic| {
            topic.unknown_tagged_fields.is_empty() && topic.partition_responses.iter().all(plain)
        })
}

/// What of the newest shape a version has.
#[derive(Clone, Copy)]
struct Layout {
    flexible: bool,
    topic_ids: bool,
    log_start: bool,
    record_errors: bool,
}

/// Appends the body of a plain answer.
pub(super) fn encode(
    response: &ProduceResponse,
    version: i16,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    let layout = Layout {
        flexible: ApiKey::Produce.api().is_flexible(version),
        topic_ids: feature::produce_has_topic_ids(version),
        log_start: version >= 5,
        record_errors: version >= 8,
    };
    put_length(out, layout.flexible, Some(response.responses.len()))?;
    for topic in &response.responses {
        put_topic(topic, layout, out)?;
    }
    out.put_i32(response.throttle_time_ms);
    end(layout, out);
    Ok(())
}

fn put_topic(
    topic: &TopicProduceResponse,
    layout: Layout,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    if layout.topic_ids {
        out.put_slice(topic.topic_id.as_bytes());
    } else {
        put_string(out, layout.flexible, Some(&topic.name))?;
    }
    put_length(out, layout.flexible, Some(topic.partition_responses.len()))?;
    for partition in &topic.partition_responses {
        put_partition(partition, layout, out)?;
    }
    end(layout, out);
    Ok(())
}

fn put_partition(
    partition: &PartitionProduceResponse,
    layout: Layout,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    out.put_i32(partition.index);
    out.put_i16(partition.error_code);
    out.put_i64(partition.base_offset);
    out.put_i64(partition.log_append_time_ms);
    if layout.log_start {
        out.put_i64(partition.log_start_offset);
    }
    if layout.record_errors {
        put_length(out, layout.flexible, Some(partition.record_errors.len()))?;
        for error in &partition.record_errors {
            out.put_i32(error.batch_index);
            put_string(out, layout.flexible, error.batch_index_error_message.as_deref())?;
            end(layout, out);
        }
        put_string(out, layout.flexible, partition.error_message.as_deref())?;
    }
    end(layout, out);
    Ok(())
}

/// Ends a structure without tagged fields.
fn end(layout: Layout, out: &mut BytesMut) {
    if layout.flexible {
        put_unsigned_varint(out, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use uuid::Uuid;

    #[test]
    fn every_version_is_the_generated_encoders_byte_for_byte() {
        let api = ApiKey::Produce.api();
        for version in api.accepted_min..=api.max {
            let mut partition = PartitionProduceResponse::default()
                .with_index(7)
                .with_error_code(87)
                .with_base_offset(1 << 40)
                .with_log_append_time_ms(1234);
            if version >= 5 {
                partition.log_start_offset = 99;
            }
            if version >= 8 {
                let text = |s| Some(StrBytes::from_static_str(s));
                let error = BatchIndexAndErrorMessage::default().with_batch_index(3);
                partition.record_errors =
                    vec![error.clone(), error.with_batch_index_error_message(text("no key"))];
                partition.error_message = text("one record is refused");
            }
            let mut topic = TopicProduceResponse::default()
                .with_partition_responses(vec![partition.clone(), partition]);
            if version >= 13 {
                topic.topic_id = Uuid::from_u128(5);
            } else {
                topic.name = TopicName(StrBytes::from_static_str("orders"));
            }
            let mut response = ProduceResponse::default().with_responses(vec![topic]);
            response.throttle_time_ms = 17;
            assert!(is_plain(&response));
            let (mut by_hand, mut generated) = (BytesMut::new(), BytesMut::new());
            encode(&response, version, &mut by_hand).unwrap();
            response.encode(&mut generated, version).unwrap();
            assert_eq!(by_hand, generated, "version {version}");
        }
    }
}
