//! ListConfigResources v0–1: what has a configuration to describe. v0 knew client metrics only.
//! Error: UNSUPPORTED_VERSION for a type that is none.

use braid_protocol::ErrorCode;
use braid_protocol::messages::list_config_resources_response::ConfigResource;
use braid_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::Broker;
use super::respond::{brokers_on, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Log levels, client metrics and groups: known types of which there is nothing here.
const WITHOUT_RESOURCES: [i8; 3] = [8, 16, 32];

pub(crate) fn handle(
    broker: &Broker,
    listener: &str,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let asked = &request.resource_types;
    let known = |kind: &i8| matches!(*kind, TOPIC | BROKER) || WITHOUT_RESOURCES.contains(kind);
    if !asked.iter().all(known) {
        return ListConfigResourcesResponse::default()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
    }
    let wanted = |kind: i8| asked.is_empty() || asked.contains(&kind);
    let image = broker.metadata.image();
    let mut resources = Vec::new();
    if wanted(BROKER) {
        let ids = brokers_on(&image, listener).map(|broker| broker.node_id.0.to_string());
        resources.extend(ids.map(|id| resource(BROKER, &id)));
    }
    if wanted(TOPIC) {
        resources.extend(image.topics().iter().map(|topic| resource(TOPIC, &topic.name)));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

fn resource(kind: i8, name: &str) -> ConfigResource {
    ConfigResource::default().with_resource_type(kind).with_resource_name(text(name))
}
