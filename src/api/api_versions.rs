//! ApiVersions v0–5: what is served, and which features are on. Answered before anything else, in
//! the layout of v0 when the asked version is unknown here (KIP-511).

use braid_protocol::api_versions::{
    self as wire, ApiVersionsRequest, Features, FinalizedFeature, Identity, SupportedFeature,
};
use braid_protocol::messages::ApiVersionsResponse;

use super::{Broker, Caller};

/// Feature level of Kafka 4.1's metadata (4.1-IV1), whose behaviour is the one served.
pub(crate) const METADATA_VERSION: i16 = 27;
/// Feature level of transactions: epochs are raised by every end, partitions join with what is
/// written (KIP-890).
pub(crate) const TRANSACTION_VERSION: i16 = 2;

/// The level that a feature is served with, whatever the cluster was formed with: directories from
/// before there was a feature do not name it.
pub(super) fn level_of(feature: &str) -> Option<i16> {
    match feature {
        "metadata.version" => Some(METADATA_VERSION),
        "transaction.version" => Some(TRANSACTION_VERSION),
        _ => None,
    }
}

pub(crate) fn answer(
    broker: &Broker,
    caller: &mut Caller,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    if !request.client_software_name.is_empty() {
        caller.software = Some((
            request.client_software_name.to_string(),
            request.client_software_version.to_string(),
        ));
    }
    let image = broker.metadata.image();
    let features = Features {
        supported: vec![
            // No other levels: nothing here changes them (UpdateFeatures).
            SupportedFeature {
                name: "metadata.version",
                min: METADATA_VERSION,
                max: METADATA_VERSION,
            },
            SupportedFeature {
                name: "transaction.version",
                min: TRANSACTION_VERSION,
                max: TRANSACTION_VERSION,
            },
        ],
        finalized: vec![
            FinalizedFeature { name: "metadata.version", level: METADATA_VERSION },
            FinalizedFeature { name: "transaction.version", level: TRANSACTION_VERSION },
        ],
        finalized_epoch: i64::try_from(image.applied_index()).unwrap_or(i64::MAX),
    };
    let identity = image
        .cluster_id()
        .map(|id| Identity { cluster_id: id.as_str(), node_id: broker.config.node.id.0 });
    wire::answer(request, &features, identity)
}
