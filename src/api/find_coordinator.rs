//! FindCoordinator v0–6. The broker that leads a partition of `__consumer_offsets` coordinates the groups
//! in it, and the one that leads a partition of `__transaction_state` its transactional ids; the answer
//! is its address on the listener that was asked. v4 asks for many keys at once; v6 adds share keys.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::StrBytes;
use braid_protocol::messages::find_coordinator_response::Coordinator;
use braid_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::Broker;
use super::create_topics::{OFFSETS_TOPIC, auto_create};
use super::respond::{Seen, seen, text};
use super::transactions::{TRANSACTIONS_TOPIC, has_topic};
use crate::partition::partition_for;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    listener: &str,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    // As in Kafka the offsets topic comes into being when the first group asks.
    if request.key_type == GROUP && broker.metadata.image().topic(OFFSETS_TOPIC).is_none() {
        auto_create(broker, &[OFFSETS_TOPIC.to_owned()]).await;
    }
    if request.key_type == TRANSACTION {
        has_topic(broker).await;
    }
    let coordinators = request
        .coordinator_keys
        .into_iter()
        .map(|key| coordinator(broker, listener, request.key_type, key))
        .collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

/// Why there is no coordinator to be told, if so.
fn refused(broker: &Broker, key_type: i8, key: &str) -> Option<(ErrorCode, &'static str)> {
    match key_type {
        // The empty group id is one: simple consumers of old commit offsets under it.
        GROUP if broker.metadata.image().topic(OFFSETS_TOPIC).is_none() => Some((
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "The topic of group offsets could not be created yet.",
        )),
        GROUP => None,
        TRANSACTION if key.is_empty() => {
            Some((ErrorCode::INVALID_REQUEST, "A transactional id must not be empty."))
        }
        TRANSACTION if broker.metadata.image().topic(TRANSACTIONS_TOPIC).is_none() => Some((
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "The topic of transactions could not be created yet.",
        )),
        TRANSACTION => None,
        SHARE if is_share_key(key) => Some((
            ErrorCode::UNSUPPORTED_VERSION,
            "Share groups are not served by this version of Braid.",
        )),
        SHARE => Some((
            ErrorCode::INVALID_REQUEST,
            "The key of a share partition is GROUP:TOPIC_ID:PARTITION.",
        )),
        _ => Some((
            ErrorCode::INVALID_REQUEST,
            "Key types are groups (0), transactions (1) and share partitions (2).",
        )),
    }
}

/// A group's name, a topic's id in Kafka's writing, and a partition.
fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().is_some_and(|part| part.parse::<i32>().is_ok());
    let is_digit = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let topic = parts.next().is_some_and(|id| id.len() == 22 && id.bytes().all(is_digit));
    partition && topic && parts.next().is_some_and(|group| !group.trim().is_empty())
}

fn coordinator(broker: &Broker, listener: &str, key_type: i8, key: StrBytes) -> Coordinator {
    let refused = refused(broker, key_type, &key);
    let answer = Coordinator::default().with_key(key);
    let found = match refused {
        Some(refused) => Err(refused),
        None => who(broker, listener, key_type, &answer.key),
    };
    match found {
        Ok(found) => answer.with_node_id(found.node_id).with_host(found.host).with_port(found.port),
        Err((code, why)) => answer
            .with_error_code(code.0)
            .with_error_message(Some(text(why)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

/// The broker that leads the partition of a key.
fn who(
    broker: &Broker,
    listener: &str,
    key_type: i8,
    key: &str,
) -> Result<Seen, (ErrorCode, &'static str)> {
    let unavailable = |why| (ErrorCode::COORDINATOR_NOT_AVAILABLE, why);
    let image = broker.metadata.image();
    let name = if key_type == TRANSACTION { TRANSACTIONS_TOPIC } else { OFFSETS_TOPIC };
    let topic = image.topic(name).ok_or(unavailable("The coordinators' topic is gone."))?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = topic.partition(partition_for(key, count));
    let leader = partition.and_then(|partition| image.broker(image.leader(partition)?));
    let leader = leader.ok_or(unavailable("The broker of this coordinator is not heard of."))?;
    seen(leader, listener)
        .ok_or(unavailable("The coordinator has no address on the asked listener."))
}

#[cfg(test)]
mod tests {
    use super::is_share_key;

    #[test]
    fn a_share_partition_is_named_by_group_topic_and_number() {
        for good in ["g:AAAAAAAAAAAAAAAAAAAAAA:0", "a:b:5L6g3nShT-eMCtK--X86sw:12"] {
            assert!(is_share_key(good), "{good}");
        }
        for bad in [
            "",
            "nonsense",
            "g:x:1",
            "g:AAAAAAAAAAAAAAAAAAAAAA",
            "g:AAAAAAAAAAAAAAAAAAAAAA:x",
            " :AAAAAAAAAAAAAAAAAAAAAA:0",
            "AAAAAAAAAAAAAAAAAAAAAA:0",
        ] {
            assert!(!is_share_key(bad), "{bad}");
        }
    }
}
