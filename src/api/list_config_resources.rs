//! ListConfigResources v0–1: what has a configuration to describe. v0 knew client metrics only.
//! Error: UNSUPPORTED_VERSION for a type that is none.

use braid_protocol::ErrorCode;
use braid_protocol::messages::list_config_resources_response::ConfigResource as Listed;
use braid_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use braid_raft::command::ConfigResource;

use super::Broker;
use super::config_change::kind;
use super::respond::{brokers_on, text};

const KINDS: [i8; 5] =
    [kind::TOPIC, kind::BROKER, kind::BROKER_LOGGER, kind::CLIENT_METRICS, kind::GROUP];

pub(crate) fn handle(
    broker: &Broker,
    listener: &str,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let asked = &request.resource_types;
    if !asked.iter().all(|kind| KINDS.contains(kind)) {
        return ListConfigResourcesResponse::default()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
    }
    let wanted = |kind: i8| asked.is_empty() || asked.contains(&kind);
    let image = broker.metadata.image();
    let mut resources = Vec::new();
    for kind in [kind::BROKER, kind::BROKER_LOGGER] {
        if wanted(kind) {
            let ids = brokers_on(&image, listener).map(|broker| broker.node_id.0.to_string());
            resources.extend(ids.map(|id| resource(kind, &id)));
        }
    }
    if wanted(kind::TOPIC) {
        resources.extend(image.topics().iter().map(|topic| resource(kind::TOPIC, &topic.name)));
    }
    resources.extend(image.configured_resources().filter_map(|(configured, _)| {
        let (kind, name) = match configured {
            ConfigResource::Group(id) => (kind::GROUP, id),
            ConfigResource::ClientMetrics(name) => (kind::CLIENT_METRICS, name),
        };
        wanted(kind).then(|| resource(kind, name))
    }));
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

fn resource(kind: i8, name: &str) -> Listed {
    Listed::default().with_resource_type(kind).with_resource_name(text(name))
}
