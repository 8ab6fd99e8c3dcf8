//! ListPartitionReassignments v0: with one broker nothing ever moves, so none is under way.

use braid_protocol::messages::ListPartitionReassignmentsResponse;

pub(crate) fn handle() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
