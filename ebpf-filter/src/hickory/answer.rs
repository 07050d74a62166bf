//! Answers in place of the server.

use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::{
    server::{Request, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

/// Answers without any records.
pub(super) async fn answer(
    request: &Request,
    mut response_handle: impl ResponseHandler,
    code: ResponseCode,
    truncated: bool,
) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = code;
    metadata.truncation = truncated;
    // A response has an OPT record if the request had one (RFC 6891 §6.1.1).
    let edns = request.edns.as_ref().map(|request| {
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload());
        edns.set_dnssec_ok(request.flags().dnssec_ok);
        edns
    });
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = &edns {
        builder.edns(edns);
    }
    match response_handle.send_response(builder.build_no_records(metadata)).await {
        Ok(info) => info,
        Err(error) => {
            tracing::debug!(%error, "an answer in place of the server cannot be sent");
            no_response(request)
        }
    }
}

/// What hickory-server logs and counts of a request that got no answer.
pub(super) fn no_response(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
