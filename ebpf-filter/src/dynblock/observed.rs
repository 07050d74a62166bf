//! What the group is told: queries and responses.

use std::net::{IpAddr, SocketAddr};

use crate::{QName, Query};

/// What carried a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Plain DNS over UDP: the source may be forged.
    Udp,
    /// Plain DNS over TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
    /// DNS over QUIC (RFC 9250).
    Quic,
}

/// A query as the server has read it.
///
/// ```
/// use ebpf_filter::{QName, dynblock::{QueryEvent, Transport}};
///
/// let name: QName = "www.example".parse()?;
/// let client = "192.0.2.1:4242".parse()?;
/// let over_udp = QueryEvent::new(client, &name, 1);
/// let over_tcp = QueryEvent::new(client, &name, 1).over(Transport::Tcp);
/// assert!(over_tcp.is_proven() && !over_udp.is_proven());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct QueryEvent<'a> {
    source: SocketAddr,
    name: &'a QName,
    qtype: u16,
    transport: Transport,
    valid_cookie: bool,
}

impl<'a> QueryEvent<'a> {
    /// A query over UDP from `source` for `name` and the type with the number `qtype`. If the query came through a proxy,
    /// the source is the client that the proxy speaks for.
    #[inline]
    pub fn new(source: SocketAddr, name: &'a QName, qtype: u16) -> Self {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        Self { source, name, qtype, transport: Transport::Udp, valid_cookie: false }
    }

    /// The same query over another transport.
    #[must_use]
    pub const fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// The same query with a DNS cookie in it that the server has made for this very source (RFC 7873 §5.2, RFC 9018).
    #[must_use]
    pub const fn with_valid_cookie(self) -> Self {
        Self { valid_cookie: true, ..self }
    }

    /// Whether the source is who it says: nobody can forge it over TCP or QUIC, or with a valid cookie.
    pub const fn is_proven(&self) -> bool {
        self.valid_cookie || !matches!(self.transport, Transport::Udp)
    }

    /// Where the query came from; never a v4-mapped address.
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// The name that is asked for.
    pub const fn name(&self) -> &'a QName {
        self.name
    }

    /// The type that is asked for.
    pub const fn qtype(&self) -> u16 {
        self.qtype
    }

    /// What carried it.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) const fn client(&self) -> IpAddr {
        self.source.ip()
    }

    /// The query as the rules of a filter see it.
    pub(crate) fn query(&self) -> Query<'a> {
        let query = Query::new(self.client(), self.name, self.qtype);
        if self.transport == Transport::Udp { query.over_plain_udp() } else { query }
    }
}

/// A response as the server sends it.
#[derive(Clone, Copy, Debug)]
pub struct ResponseEvent<'a> {
    pub(super) query: QueryEvent<'a>,
    pub(super) rcode: u16,
    pub(super) size: u32,
    pub(super) cache_hit: Option<bool>,
}

impl<'a> ResponseEvent<'a> {
    /// The response to `query` with this response code (RFC 1035 §4.1.1, RFC 6895 §2.3), `size` bytes of DNS message.
    pub const fn new(query: QueryEvent<'a>, rcode: u16, size: u32) -> Self {
        Self { query, rcode, size, cache_hit: None }
    }

    /// The same response, and whether it came from a cache. Without, it counts for no cache-miss ratio.
    #[must_use]
    pub const fn cache_hit(self, hit: bool) -> Self {
        Self { cache_hit: Some(hit), ..self }
    }
}
