//! For servers that are built on hickory-server.

use async_trait::async_trait;
use ebpf_prog::decision::Verdict;
use hickory_proto::op::{Header, HeaderCounts, Metadata};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
};

use crate::{BpfFilter, QName, Query};

/// A [`RequestHandler`] that asks the filter before it hands a request to another one. Requests that a rule drops get
/// no answer.
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
        match self.check(request) {
            Verdict::Drop => no_response(request),
            Verdict::Pass => self.inner.handle_request::<R, T>(request, response_handle).await,
        }
    }
}

/// What hickory-server logs and counts of a request that got no answer.
fn no_response(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
