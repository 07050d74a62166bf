//! For servers that are built on hickory-server.

mod answer;
mod cookies;
mod responses;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use ebpf_prog::decision::Verdict;
use hickory_proto::op::ResponseCode;
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
};

use self::{
    answer::{answer, no_response},
    cookies::Cookie,
    responses::Responses,
};
use crate::{
    BpfFilter, QName, Query,
    dynblock::{DynBlockGroup, QueryEvent, ResponseEvent, Transport},
};

pub use self::cookies::Cookies;

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
///
/// # Dynamic blocks
///
/// [`Guarded::with_dynblocks`] tells a group what the server is asked and what it answers:
///
/// ```
/// use std::time::Duration;
///
/// use ebpf_filter::{
///     BpfFilter,
///     dynblock::{DynBlockGroup, Penalty, Rate},
///     hickory::Guarded,
/// };
/// use hickory_server::{Server, zone_handler::Catalog};
///
/// let filter = BpfFilter::builder().build()?;
/// let group = DynBlockGroup::builder()
///     .query_rate(Rate::per_second(20).over(Duration::from_secs(10)), Penalty::block_for(Duration::from_secs(60)))
///     .filter(filter.clone())
///     .build()?;
/// let server = Server::new(Guarded::new(filter, Catalog::new()).with_dynblocks(group));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Every request counts as a query, one without exactly one question as a query for the root. A response counts with the
/// code that the other handler returns. Responses that the filter or a block makes in its place do not count, nor does
/// hickory-server hand over what it cannot read.
///
/// If the group limits the bytes of responses, each response is encoded here, to see how long it is, read back, and encoded
/// by hickory-server again. Without such a limit there is no extra work.
#[derive(Clone, Debug)]
pub struct Guarded<H> {
    filter: BpfFilter,
    group: Option<DynBlockGroup>,
    cookies: Option<Cookies>,
    cache_hits: Option<CacheHits>,
    inner: H,
}

impl<H> Guarded<H> {
    /// Asks `filter` before `inner`.
    pub const fn new(filter: BpfFilter, inner: H) -> Self {
        Self { filter, group: None, cookies: None, cache_hits: None, inner }
    }

    /// Tells this group about queries and responses, and does with a query what its blocks say. If they go into another filter
    /// than this handler's, both filters are asked.
    #[must_use]
    pub fn with_dynblocks(self, group: DynBlockGroup) -> Self {
        Self { group: Some(group), ..self }
    }

    /// Gives cookies to clients that understand them (RFC 7873), and takes a query over UDP that comes back with one for
    /// proof that its source is not forged: see [`Ladder`](crate::dynblock::Ladder).
    ///
    /// The kernel does not look at cookies: what it drops, it drops with them. A cookie option that is neither a client's
    /// nor a client's and a server's is answered with FORMERR.
    #[must_use]
    pub fn with_cookies(self, cookies: Cookies) -> Self {
        Self { cookies: Some(cookies), ..self }
    }

    /// Asks this about each response, if the group is told about responses: whether it came from a cache, or `None` where that
    /// is not known or does not matter. hickory-server does not say, so without this a cache-miss ratio never blocks anybody.
    ///
    /// It is called right after the other handler has returned, on the same thread.
    #[must_use]
    pub fn cache_hits(
        self,
        hit: impl Fn(&Request, &ResponseInfo) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { cache_hits: Some(CacheHits(Arc::new(hit))), ..self }
    }

    fn check(&self, request: &Request) -> Verdict {
        // Anything but one question is for the inner handler to refuse.
        let Ok(info) = request.request_info() else { return Verdict::Pass };
        let Ok(name) = QName::try_from(info.query.name()) else { return Verdict::Pass };
        let query = Query::new(info.src.ip(), &name, info.query.query_type().into());
        self.filter.check(&if info.protocol == Protocol::Udp { query.over_plain_udp() } else { query })
    }

    /// The same, if the query is one that a group is told about.
    fn observe(&self, group: &DynBlockGroup, query: &QueryEvent<'_>) -> Verdict {
        let verdict = group.observe_query(query);
        if verdict != Verdict::Pass || group.asks(&self.filter) {
            return verdict;
        }
        self.filter.check(&query.query())
    }

    fn observe_response(
        &self,
        group: &DynBlockGroup,
        query: &QueryEvent<'_>,
        (request, info): (&Request, &ResponseInfo),
        size: u32,
    ) {
        let response = ResponseEvent::new(*query, info.response_code.into(), size);
        let hit = self.cache_hits.as_ref().and_then(|CacheHits(hit)| hit(request, info));
        group.observe_response(&hit.map_or(response, |hit| response.cache_hit(hit)));
    }
}

#[async_trait]
impl<H: RequestHandler> RequestHandler for Guarded<H> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        let cookie = self.cookies.as_ref().map_or(Cookie::None, |cookies| cookies.of(request));
        let asked = self.group.as_ref().map(|group| (group, question(request)));
        let watched = asked.as_ref().map(|(group, (name, qtype))| {
            let event = QueryEvent::new(request.src(), name, *qtype).over(transport(request.protocol()));
            (*group, if cookie.is_valid() { event.with_valid_cookie() } else { event })
        });
        let verdict = match &watched {
            Some((group, query)) => self.observe(group, query),
            None => self.check(request),
        };
        let (code, truncated) = match verdict {
            Verdict::Pass if cookie == Cookie::Malformed => (ResponseCode::FormErr, false),
            Verdict::Pass => {
                let responses = watched.filter(|(group, _)| group.observes_responses());
                let size = responses
                    .as_ref()
                    .and_then(|(group, _)| group.observes_sizes().then(Arc::<AtomicU32>::default));
                let info = if size.is_none() && cookie.answer().is_none() {
                    self.inner.handle_request::<R, T>(request, response_handle).await
                } else {
                    let handle = Responses::new(response_handle, request.protocol(), cookie, size.clone());
                    self.inner.handle_request::<Responses<R>, T>(request, handle).await
                };
                if let Some((group, query)) = responses {
                    let size = size.map_or(0, |size| size.load(Ordering::Relaxed));
                    self.observe_response(group, &query, (request, &info), size);
                }
                return info;
            }
            Verdict::Drop => return no_response(request),
            Verdict::Truncate => (ResponseCode::NoError, true),
            Verdict::Refused => (ResponseCode::Refused, false),
            Verdict::NxDomain => (ResponseCode::NXDomain, false),
        };
        let handle = Responses::new(response_handle, request.protocol(), cookie, None);
        answer(request, handle, code, truncated).await
    }
}

/// What is asked. Nothing that can be named counts as the root: whoever sends it is as much trouble.
fn question(request: &Request) -> (QName, u16) {
    request
        .request_info()
        .ok()
        .and_then(|info| Some((QName::try_from(info.query.name()).ok()?, info.query.query_type().into())))
        .unwrap_or_else(|| (QName::root(), 0))
}

/// hickory-server has variants only for what it was built with.
fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Udp => Transport::Udp,
        Protocol::Tcp => Transport::Tcp,
        encrypted => match encrypted.to_string().as_str() {
            "https" => Transport::Https,
            "quic" | "h3" => Transport::Quic,
            _ => Transport::Tls,
        },
    }
}

/// What [`Guarded::cache_hits`] was called with.
#[derive(Clone)]
struct CacheHits(Arc<CacheHit>);

type CacheHit = dyn Fn(&Request, &ResponseInfo) -> Option<bool> + Send + Sync;

impl fmt::Debug for CacheHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheHits")
    }
}
