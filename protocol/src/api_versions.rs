//! ApiVersions: the one API whose client does not know yet what the broker speaks.
//!
//! A version outside what is served is answered in the layout of version 0 with error 35, and its
//! body is not even looked at. Version 5 is coded by hand, because the generated codec ends at 4.

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::{Api, ApiKey, SUPPORTED};
use crate::error_code::ErrorCode;
use crate::request::by_hand::{Body, BodyError};

/// The newest shape of the request. Fields a version lacks hold their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    /// What was asked for.
    pub version: i16,
    /// The client's library, from version 3 on.
    pub client_software_name: StrBytes,
    /// And its version.
    pub client_software_version: StrBytes,
    /// The cluster the client means to reach, from version 5 on.
    pub cluster_id: Option<StrBytes>,
    /// The broker it means to reach, or -1.
    pub node_id: i32,
}

/// A feature level range this broker could run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportedFeature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
}

/// A feature level the cluster has agreed on; 0 means switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizedFeature {
    pub name: &'static str,
    pub level: i16,
}

/// What the caller knows about features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    pub supported: Vec<SupportedFeature>,
    pub finalized: Vec<FinalizedFeature>,
    /// Grows whenever `finalized` changes; -1 while it is not known.
    pub finalized_epoch: i64,
}

/// Who this broker is, to tell a client that reached the wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    pub cluster_id: &'a str,
    pub node_id: i32,
}

/// The answer in its newest shape. With no `identity` clients are not checked against it, as behind
/// a shared address.
#[must_use]
pub fn answer(
    request: &ApiVersionsRequest,
    features: &Features,
    identity: Option<Identity<'_>>,
) -> ApiVersionsResponse {
    let own = ApiKey::ApiVersions.api();
    if !own.accepts(request.version) {
        let mut response = refusal(ErrorCode::UNSUPPORTED_VERSION);
        response.api_keys = vec![advertised(own)];
        return response;
    }
    if !request.is_valid() {
        return refusal(ErrorCode::INVALID_REQUEST);
    }
    if identity.is_some_and(|identity| request.means_another(identity)) {
        return refusal(ErrorCode::REBOOTSTRAP_REQUIRED);
    }
    let mut response = ApiVersionsResponse::default();
    response.api_keys = SUPPORTED.iter().map(advertised).collect();
    response.supported_features = features.supported.iter().map(supported).collect();
    response.finalized_features_epoch = features.finalized_epoch;
    response.finalized_features =
        features.finalized.iter().filter(|feature| feature.level != 0).map(finalized).collect();
    response
}

impl ApiVersionsRequest {
    /// Reads the body of `version`; a version that is not served has none.
    pub(crate) fn decode(version: i16, body: &Bytes) -> Result<Self, BodyError> {
        let mut request = Self {
            version,
            client_software_name: StrBytes::new(),
            client_software_version: StrBytes::new(),
            cluster_id: None,
            node_id: -1,
        };
        let own = ApiKey::ApiVersions.api();
        if !own.accepts(version) || !own.is_flexible(version) {
            return Ok(request);
        }
        let mut body = Body::new(body);
        request.client_software_name = body.string()?;
        request.client_software_version = body.string()?;
        if has_identity(version) {
            request.cluster_id = body.nullable_string()?;
            request.node_id = body.i32()?;
        }
        body.tagged_fields()?;
        Ok(request)
    }

    fn is_valid(&self) -> bool {
        if has_identity(self.version) && self.cluster_id.is_some() != (self.node_id != -1) {
            return false;
        }
        !ApiKey::ApiVersions.api().is_flexible(self.version)
            || is_software_text(&self.client_software_name)
                && is_software_text(&self.client_software_version)
    }

    fn means_another(&self, identity: Identity<'_>) -> bool {
        self.cluster_id.as_deref().is_some_and(|cluster_id| {
            cluster_id != identity.cluster_id || self.node_id != identity.node_id
        })
    }
}

/// Both or neither of cluster id and node id are sent.
fn has_identity(version: i16) -> bool {
    version >= 5
}

/// Letters and digits of ASCII, with dashes and dots between them.
fn is_software_text(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

fn refusal(error: ErrorCode) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    response.error_code = error.0;
    response
}

fn advertised(api: &Api) -> ApiVersion {
    let mut row = ApiVersion::default();
    row.api_key = api.key.code();
    row.min_version = api.advertised_min;
    row.max_version = api.max;
    row
}

fn supported(feature: &SupportedFeature) -> SupportedFeatureKey {
    let mut row = SupportedFeatureKey::default();
    row.name = StrBytes::from_static_str(feature.name);
    row.min_version = feature.min;
    row.max_version = feature.max;
    row
}

fn finalized(feature: &FinalizedFeature) -> FinalizedFeatureKey {
    let mut row = FinalizedFeatureKey::default();
    row.name = StrBytes::from_static_str(feature.name);
    row.min_version_level = feature.level;
    row.max_version_level = feature.level;
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity<'_> = Identity { cluster_id: "here", node_id: 1 };

    fn features() -> Features {
        Features {
            supported: vec![
                SupportedFeature { name: "metadata.version", min: 7, max: 25 },
                SupportedFeature { name: "group.version", min: 0, max: 1 },
            ],
            finalized: vec![
                FinalizedFeature { name: "metadata.version", level: 25 },
                FinalizedFeature { name: "group.version", level: 0 },
            ],
            finalized_epoch: 9,
        }
    }

    fn request(version: i16) -> ApiVersionsRequest {
        ApiVersionsRequest {
            version,
            client_software_name: "apache-kafka-java".into(),
            client_software_version: "4.4.0".into(),
            cluster_id: None,
            node_id: -1,
        }
    }

    #[test]
    fn version_5_is_read_with_cluster_and_node() {
        let body = Bytes::from_static(b"\x02j\x044.4\x05here\0\0\0\x01\0");
        let request = ApiVersionsRequest::decode(5, &body).unwrap();
        assert_eq!(request.client_software_name.as_str(), "j");
        assert_eq!(request.client_software_version.as_str(), "4.4");
        assert_eq!((request.cluster_id.as_deref(), request.node_id), (Some("here"), 1));
        let body = Bytes::from_static(b"\x02j\x044.4\0\xff\xff\xff\xff\0");
        let request = ApiVersionsRequest::decode(5, &body).unwrap();
        assert_eq!((request.cluster_id, request.node_id), (None, -1));
    }

    #[test]
    fn the_body_of_an_unsupported_version_is_not_looked_at() {
        for version in [6, i16::MAX, -1] {
            let body = Bytes::from_static(b"\xff\xff\xff\xff\xff");
            let request = ApiVersionsRequest::decode(version, &body).unwrap();
            let response = answer(&request, &features(), None);
            assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
            assert_eq!(response.api_keys.len(), 1);
            assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 5));
        }
    }

    #[test]
    fn every_served_api_is_listed_as_advertised() {
        let response = answer(&request(3), &features(), None);
        assert_eq!(response.error_code, 0);
        let listed = response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version));
        assert!(listed.eq(SUPPORTED.iter().map(|a| (a.key.code(), a.advertised_min, a.max))));
        assert_eq!((response.api_keys[0].min_version, response.api_keys[0].max_version), (0, 13));
        assert_eq!(response.finalized_features_epoch, 9);
        assert_eq!(response.finalized_features.len(), 1, "level 0 is not finalized");
    }

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["a", "0", "librdkafka", "apache-kafka-java", "1.2.3", "a--.b"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "a/1", "\u{e9}", "a\n"] {
            assert!(!is_software_text(bad), "{bad}");
            for version in 3..=5 {
                let mut request = request(version);
                request.client_software_version = StrBytes::from_string(bad.to_owned());
                let response = answer(&request, &features(), None);
                assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST.0);
                assert!(response.api_keys.is_empty());
            }
        }
        let mut old = request(2);
        old.client_software_name = StrBytes::new();
        assert_eq!(answer(&old, &features(), None).error_code, 0);
    }

    #[test]
    fn a_client_of_another_broker_is_told_to_bootstrap_again() {
        for (cluster_id, node_id, error) in [
            (None, -1, ErrorCode::NONE),
            (Some("here"), 1, ErrorCode::NONE),
            (Some("here"), 2, ErrorCode::REBOOTSTRAP_REQUIRED),
            (Some("there"), 1, ErrorCode::REBOOTSTRAP_REQUIRED),
            (Some("here"), -1, ErrorCode::INVALID_REQUEST),
            (None, 1, ErrorCode::INVALID_REQUEST),
        ] {
            let mut request = request(5);
            request.cluster_id = cluster_id.map(StrBytes::from_static_str);
            request.node_id = node_id;
            let response = answer(&request, &features(), Some(IDENTITY));
            assert_eq!(ErrorCode(response.error_code), error, "{cluster_id:?} {node_id}");
            if error == ErrorCode::REBOOTSTRAP_REQUIRED {
                assert_eq!(answer(&request, &features(), None).error_code, 0);
            }
        }
    }
}
