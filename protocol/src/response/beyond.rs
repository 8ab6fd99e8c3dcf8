//! Answers in versions that the generated codec does not know: its last layout and what came after.
//!
//! What is new in them follows from the rest: the text of an error from its code, and no log
//! directory here is ever cordoned.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DeleteGroupsResponse, DescribeLogDirsResponse};
use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::primitives::{LengthError, put_length, put_string, put_unsigned_varint};
use crate::transactions::TxnOffsetCommitAnswer;

/// All of them are flexible.
const COMPACT: bool = true;

/// Version 3: an error has a text.
pub(super) fn delete_groups(
    response: &DeleteGroupsResponse,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    out.put_i32(response.throttle_time_ms);
    put_length(out, COMPACT, Some(response.results.len()))?;
    for result in &response.results {
        put_string(out, COMPACT, Some(&result.group_id))?;
        out.put_i16(result.error_code);
        put_string(out, COMPACT, ErrorCode(result.error_code).message())?;
        end(out);
    }
    end(out);
    Ok(())
}

/// Version 5: a directory may be cordoned.
pub(super) fn describe_log_dirs(
    response: &DescribeLogDirsResponse,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    out.put_i32(response.throttle_time_ms);
    out.put_i16(response.error_code);
    put_length(out, COMPACT, Some(response.results.len()))?;
    for result in &response.results {
        put_dir(result, out)?;
    }
    end(out);
    Ok(())
}

fn put_dir(result: &DescribeLogDirsResult, out: &mut BytesMut) -> Result<(), LengthError> {
    const CORDONED: u8 = 0;
    out.put_i16(result.error_code);
    put_string(out, COMPACT, Some(&result.log_dir))?;
    put_length(out, COMPACT, Some(result.topics.len()))?;
    for topic in &result.topics {
        put_topic(topic, out)?;
    }
    out.put_i64(result.total_bytes);
    out.put_i64(result.usable_bytes);
    out.put_u8(CORDONED);
    end(out);
    Ok(())
}

fn put_topic(topic: &DescribeLogDirsTopic, out: &mut BytesMut) -> Result<(), LengthError> {
    put_string(out, COMPACT, Some(&topic.name))?;
    put_length(out, COMPACT, Some(topic.partitions.len()))?;
    for partition in &topic.partitions {
        out.put_i32(partition.partition_index);
        out.put_i64(partition.partition_size);
        out.put_i64(partition.offset_lag);
        out.put_u8(u8::from(partition.is_future_key));
        end(out);
    }
    end(out);
    Ok(())
}

/// Version 6: topics are named by id.
pub(super) fn txn_offset_commit(
    answer: &TxnOffsetCommitAnswer,
    out: &mut BytesMut,
) -> Result<(), LengthError> {
    let TxnOffsetCommitAnswer { response, topic_ids } = answer;
    out.put_i32(response.throttle_time_ms);
    put_length(out, COMPACT, Some(response.topics.len()))?;
    let ids = topic_ids.iter().copied().chain(std::iter::repeat(Uuid::nil()));
    for (topic, id) in response.topics.iter().zip(ids) {
        out.put_slice(id.as_bytes());
        put_length(out, COMPACT, Some(topic.partitions.len()))?;
        for partition in &topic.partitions {
            out.put_i32(partition.partition_index);
            out.put_i16(partition.error_code);
            end(out);
        }
        end(out);
    }
    end(out);
    Ok(())
}

/// Ends a structure without tagged fields.
fn end(out: &mut BytesMut) {
    put_unsigned_varint(out, 0);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
    use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsPartition;
    use kafka_protocol::messages::txn_offset_commit_response::{
        TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    };
    use kafka_protocol::messages::{TopicName, TxnOffsetCommitResponse};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    /// The generated codec's last layout with `insert` put in before the byte `at` from the end.
    fn with(message: &impl Encodable, version: i16, at: usize, insert: &[u8]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes, version).unwrap();
        let (head, tail) = bytes.split_at(bytes.len() - at);
        [head, insert, tail].concat()
    }

    #[test]
    fn a_deleted_group_is_as_before_with_a_text_behind_its_code() {
        let id = StrBytes::from_static_str("g").into();
        let result = DeletableGroupResult::default().with_group_id(id);
        for (code, text) in [(0, &[0][..]), (69, &b"\x1dThe group id does not exist."[..])] {
            let response = DeleteGroupsResponse::default()
                .with_throttle_time_ms(7)
                .with_results(vec![result.clone().with_error_code(code)]);
            let mut out = BytesMut::new();
            delete_groups(&response, &mut out).unwrap();
            // Behind it the tagged fields of the result and of the answer.
            assert_eq!(out.len(), with(&response, 2, 2, text).len(), "{out:?}");
            assert_eq!(out, with(&response, 2, 2, text));
        }
    }

    #[test]
    fn offsets_of_a_transaction_are_answered_as_before_but_for_the_id_of_a_topic() {
        let partition =
            TxnOffsetCommitResponsePartition::default().with_partition_index(2).with_error_code(3);
        let topic = TxnOffsetCommitResponseTopic::default().with_partitions(vec![partition]);
        let response = TxnOffsetCommitResponse::default()
            .with_throttle_time_ms(7)
            .with_topics(vec![topic.clone(), topic]);
        let topic_ids = vec![Uuid::from_u128(8), Uuid::from_u128(9)];
        let mut out = BytesMut::new();
        let answer = TxnOffsetCommitAnswer { response, topic_ids };
        txn_offset_commit(&answer, &mut out).unwrap();
        let partitions: &[u8] = &[2, 0, 0, 0, 2, 0, 3, 0, 0];
        let [eight, nine] = [8, 9].map(|id| Uuid::from_u128(id).into_bytes());
        let expected = [&[0, 0, 0, 7, 3][..], &eight, partitions, &nine, partitions, &[0]];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_directory_is_as_before_with_whether_it_is_cordoned_behind_its_sizes() {
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(1)
            .with_partition_size(2)
            .with_offset_lag(3)
            .with_is_future_key(true);
        let topic = DescribeLogDirsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let dir = DescribeLogDirsResult::default()
            .with_error_code(56)
            .with_log_dir(StrBytes::from_static_str("/data"))
            .with_topics(vec![topic])
            .with_total_bytes(9)
            .with_usable_bytes(8);
        let response = DescribeLogDirsResponse::default()
            .with_throttle_time_ms(7)
            .with_error_code(5)
            .with_results(vec![dir]);
        let mut out = BytesMut::new();
        describe_log_dirs(&response, &mut out).unwrap();
        assert_eq!(out, with(&response, 4, 2, &[0]));
    }
}
