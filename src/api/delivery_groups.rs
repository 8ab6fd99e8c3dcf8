//! Names of groups that messages are delivered to one by one: Kafka's groups cannot have them, and
//! their offsets say only how far they are, so that nobody can move them by a commit.
//!
//! What is answered is what Kafka answers about a share group of that name: INCONSISTENT_GROUP_PROTOCOL
//! to who joins, GROUP_ID_NOT_FOUND to who commits or deletes offsets. Clients take both for final.

use super::Broker;
use crate::delivery::Unavailable;
use crate::group::GroupError;

/// Refuses a name that deliveries use, with `why`.
pub(super) fn check_free(broker: &Broker, group: &str, why: GroupError) -> Result<(), GroupError> {
    match broker.deliveries.is_used(group) {
        Ok(true) => Err(why),
        Ok(false) => Ok(()),
        Err(unavailable) => Err(unknown(unavailable)),
    }
}

/// Forgets a group that deliveries use; says whether there was one.
pub(super) async fn delete(broker: &Broker, group: &str) -> Result<bool, GroupError> {
    broker.deliveries.delete_group(group).await.map_err(unknown)
}

/// Whether deliveries use the name cannot be said now.
fn unknown(unavailable: Unavailable) -> GroupError {
    match unavailable {
        Unavailable::Loading | Unavailable::Busy => GroupError::CoordinatorLoadInProgress,
        Unavailable::Stopped => GroupError::CoordinatorNotAvailable,
    }
}
