//! UnregisterBroker v0: brokers that are gone could be forgotten, but the only one is the one that
//! answers. Errors: BROKER_ID_NOT_REGISTERED, INVALID_REQUEST for a broker that is registered.

use braid_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use braid_protocol::{ErrorCode, StrBytes};

use super::Broker;
use crate::model::BrokerId;

pub(crate) fn handle(
    broker: &Broker,
    request: &UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let id = request.broker_id.0;
    let (code, why) = if broker.metadata.image().broker(BrokerId(id)).is_some() {
        (
            ErrorCode::INVALID_REQUEST,
            format!("Broker {id} is the only one of this cluster and holds its data."),
        )
    } else {
        (ErrorCode::BROKER_ID_NOT_REGISTERED, format!("Broker ID {id} is not currently registered"))
    };
    UnregisterBrokerResponse::default()
        .with_error_code(code.0)
        .with_error_message(Some(StrBytes::from_string(why)))
}
