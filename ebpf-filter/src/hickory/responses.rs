//! What a response handler does on the way to another one: it adds a cookie, and sees how long responses are.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use hickory_proto::{
    ProtoError,
    op::{Edns, Header, Message, Metadata},
    rr::{
        Record,
        rdata::{
            TSIG,
            opt::{EdnsCode, EdnsOption},
        },
    },
    serialize::binary::{BinDecodable as _, BinDecoder, BinEncoder, DecodeError},
};
use hickory_server::{
    net::{NetError, xfer::Protocol},
    server::{ResponseHandler, ResponseInfo},
    zone_handler::{MessageResponse, MessageResponseBuilder, Queries},
};

use super::cookies::Cookie;

/// Responses to one request.
#[derive(Clone)]
pub(super) struct Responses<R> {
    inner: R,
    protocol: Protocol,
    cookie: Option<[u8; 24]>,
    /// Where the bytes of all responses are summed up, if somebody wants to know.
    size: Option<Arc<AtomicU32>>,
}

impl<R> Responses<R> {
    pub(super) fn new(inner: R, protocol: Protocol, cookie: Cookie, size: Option<Arc<AtomicU32>>) -> Self {
        Self { inner, protocol, cookie: cookie.answer(), size }
    }
}

#[async_trait]
impl<R: ResponseHandler> ResponseHandler for Responses<R> {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let edns = self.cookie.map(|cookie| with_cookie(response.edns(), cookie));
        // Borrowed from both the caller and here from now on.
        let mut response: MessageResponse<'_, 'a, _, _, _, _> = response;
        if let Some(edns) = &edns {
            response.set_edns(edns);
        }
        let Some(size) = &self.size else { return self.inner.send_response(response).await };

        let (id, max) = (response.metadata().id, max_size(self.protocol, response.edns()));
        let copy = match Copied::of(response, max) {
            Ok(copy) => copy,
            Err(error) => {
                tracing::debug!(%error, "a response cannot be encoded");
                Copied::failure(id).map_err(ProtoError::from)?
            }
        };
        let info = copy.send(&mut self.inner).await?;
        size.fetch_add(copy.size, Ordering::Relaxed);
        Ok(info)
    }
}

fn with_cookie(edns: Option<&Edns>, cookie: [u8; 24]) -> Edns {
    let mut edns = edns.cloned().unwrap_or_default();
    edns.options_mut().remove(EdnsCode::Cookie);
    edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::Cookie.into(), cookie.into()));
    edns
}

/// As hickory-server has it.
fn max_size(protocol: Protocol, edns: Option<&Edns>) -> u16 {
    if protocol == Protocol::Udp { edns.map_or(512, Edns::max_payload) } else { u16::MAX }
}

/// A response as it is read from what is sent. hickory-server takes nothing that is encoded already, and what it takes can be
/// encoded only once.
struct Copied {
    metadata: Metadata,
    queries: Queries,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    signature: Option<Box<Record<TSIG>>>,
    size: u32,
}

impl Copied {
    fn of<'a>(
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
        max_size: u16,
    ) -> Result<Self, ProtoError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(max_size);
        response.destructive_emit(&mut encoder)?;
        Ok(Self::read(&bytes)?)
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = BinDecoder::new(bytes);
        let Header { mut metadata, counts } = Header::read(&mut decoder)?;
        let op = metadata.op_code;
        let queries = Queries::read(&mut decoder, counts.queries.into())?;
        let mut records = |count: u16, last| Message::read_records(&mut decoder, count.into(), last, op);
        let (answers, ..) = records(counts.answers, false)?;
        let (authorities, ..) = records(counts.authorities, false)?;
        let (additionals, edns, signature) = records(counts.additionals, true)?;
        if let Some(edns) = &edns {
            metadata.merge_response_code(edns.rcode_high());
        }
        // Of a record that has no room hickory-proto leaves the beginning behind. It is not sent again.
        let size = u32::try_from(decoder.index()).unwrap_or(u32::MAX);
        Ok(Self { metadata, queries, answers, authorities, additionals, edns, signature, size })
    }

    /// What hickory-server sends in place of what it cannot encode: SERVFAIL, and nothing else.
    fn failure(id: u16) -> Result<Self, DecodeError> {
        let [high, low] = id.to_be_bytes();
        Self::read(&[high, low, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    async fn send(&self, handle: &mut impl ResponseHandler) -> Result<ResponseInfo, NetError> {
        let Self { metadata, queries, answers, authorities, additionals, edns, signature, size: _ } = self;
        let builder = MessageResponseBuilder::new(queries, edns.as_ref());
        let mut response = builder.build(*metadata, answers, authorities, iter::empty(), additionals);
        if let Some(signature) = signature {
            response.set_signature(signature.clone());
        }
        handle.send_response(response).await
    }
}
