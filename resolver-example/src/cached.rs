//! Knows which forwarded answers came from the cache, which hickory does not say: those that were there at once. One that comes
//! from an upstream has to be waited for.

use std::{cell::Cell, future::poll_fn};

use hickory_server::{
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
};

thread_local! {
    /// Whether the answer that this thread has come by last had to be waited for.
    static WAITED: Cell<bool> = const { Cell::new(false) };
}

/// A handler that sees whether another one waits.
pub(crate) struct Waited<H> {
    inner: H,
}

impl<H> Waited<H> {
    pub(crate) const fn new(inner: H) -> Self {
        Self { inner }
    }
}

#[async_trait::async_trait]
impl<H: RequestHandler> RequestHandler for Waited<H> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response: R,
    ) -> ResponseInfo {
        let mut answer = self.inner.handle_request::<R, T>(request, response);
        let mut waited = false;
        let info = poll_fn(|context| {
            let poll = answer.as_mut().poll(context);
            waited |= poll.is_pending();
            poll
        })
        .await;
        WAITED.set(waited);
        info
    }
}

/// Whether a response came from the cache, right after [`Waited`] has returned; `None` if it was not forwarded.
pub(crate) fn cache_hit(_: &Request, info: &ResponseInfo) -> Option<bool> {
    let forwarded = info.recursion_available && !info.authoritative;
    forwarded.then(|| !WAITED.get())
}
