//! DescribeCluster v0–2. v1 adds the endpoint type (only brokers have one here), v2 fenced
//! brokers.

use braid_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use braid_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use braid_protocol::{ErrorCode, StrBytes};

use super::Broker;
use super::respond::{ALL_CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, controller_id, seen, text};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(
    broker: &Broker,
    listener: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let answer = DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_authorized_operations(OPERATIONS_NOT_ASKED);
    if request.endpoint_type != BROKERS {
        let (code, why) = if request.endpoint_type == CONTROLLERS {
            (
                ErrorCode::MISMATCHED_ENDPOINT_TYPE,
                "The request was sent to an endpoint of the wrong type.",
            )
        } else {
            (ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "Unsupported endpoint type.")
        };
        return answer.with_error_code(code.0).with_error_message(Some(text(why)));
    }
    let image = broker.metadata.image();
    let shown = image.brokers().filter(|broker| request.include_fenced_brokers || !broker.fenced);
    let brokers = shown
        .filter_map(|broker| Some((broker.fenced, seen(broker, listener)?)))
        .map(|(fenced, b)| {
            DescribeClusterBroker::default()
                .with_is_fenced(fenced)
                .with_broker_id(b.node_id)
                .with_host(b.host)
                .with_port(b.port)
                .with_rack(b.rack)
        })
        .collect();
    let answer = answer
        .with_cluster_id(image.cluster_id().map_or_else(StrBytes::new, |id| text(id.as_str())))
        .with_controller_id(controller_id(broker, &image))
        .with_brokers(brokers);
    if request.include_cluster_authorized_operations {
        return answer.with_cluster_authorized_operations(ALL_CLUSTER_OPERATIONS);
    }
    answer
}
