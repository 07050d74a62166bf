//! For servers that are built on hickory-server.

use async_trait::async_trait;
use ebpf_prog::decision::Verdict;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

use crate::{BpfFilter, QName, Query};

/// A [`RequestHandler`] that asks the filter before it hands a request to another one. Requests that a rule drops get
/// no answer; those that a rule truncates, refuses or denies get that answer, with the question and no records in it.
///
/// A request over UDP that a rule truncates is answered with TC=1, so that a client that is real asks again over TCP
/// (RFC 7766 §5), where the rule lets it through; so is every so many-th of those that [`Action::Slip`](crate::Action::Slip)
/// drops. An answer is as long as the request at most, so it amplifies nothing.
///
/// That covers what the kernel does not see: names over TCP, TLS, HTTPS and QUIC, names that a client hides from the
/// kernel behind a compression pointer, and everything if user space enforces the rules.
///
/// ```
/// use ebpf_filter::{BpfFilter, hickory::Guarded};
/// use hickory_server::{Server, zone_handler::Catalog};
///
/// let filter = BpfFilter::builder().build()?;
/// let server = Server::new(Guarded::new(filter.clone(), Catalog::new()));
/// # Ok::<(), ebpf_filter::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Guarded<H> {
    filter: BpfFilter,
    inner: H,
}

impl<H> Guarded<H> {
    /// Asks `filter` before `inner`.
    pub const fn new(filter: BpfFilter, inner: H) -> Self {
        Self { filter, inner }
    }

    fn check(&self, request: &Request) -> Verdict {
        // Anything but one question is for the inner handler to refuse.
        let Ok(info) = request.request_info() else { return Verdict::Pass };
        let Ok(name) = QName::try_from(info.query.name()) else { return Verdict::Pass };
        let query = Query::new(info.src.ip(), &name, info.query.query_type().into());
        self.filter.check(&if info.protocol == Protocol::Udp { query.over_plain_udp() } else { query })
    }
}

#[async_trait]
impl<H: RequestHandler> RequestHandler for Guarded<H> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        let (code, truncated) = match self.check(request) {
            Verdict::Pass => return self.inner.handle_request::<R, T>(request, response_handle).await,
            Verdict::Drop => return no_response(request),
            Verdict::Truncate => (ResponseCode::NoError, true),
            Verdict::Refused => (ResponseCode::Refused, false),
            Verdict::NxDomain => (ResponseCode::NXDomain, false),
        };
        answer(request, response_handle, code, truncated).await
    }
}

/// Answers without any records.
async fn answer(
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
fn no_response(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
