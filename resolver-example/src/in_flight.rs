//! Knows which queries are still being answered, so that a stopping server can wait for them.
//!
//! hickory's own shutdown does not: when its token is cancelled, the tasks of a socket are aborted with the answers
//! they have not sent. So the server first drains this, and only then cancels hickory.

use std::sync::Arc;

use hickory_server::{
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
};
use tokio_util::task::TaskTracker;

/// A handler that counts the queries inside it; clones share the count.
pub(crate) struct InFlight<H> {
    inner: Arc<H>,
    queries: TaskTracker,
}

impl<H> InFlight<H> {
    /// Counts the queries that `inner` handles.
    pub(crate) fn new(inner: H) -> Self {
        Self { inner: Arc::new(inner), queries: TaskTracker::new() }
    }

    /// How many queries are inside.
    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// Waits until every query that is inside now is handled. Later ones are still handled, but not waited for:
    /// under load there would always be one.
    pub(crate) async fn drain(&self) {
        self.queries.close();
        self.queries.wait().await;
    }
}

impl<H> Clone for InFlight<H> {
    fn clone(&self) -> Self {
        let Self { inner, queries } = self;
        Self { inner: Arc::clone(inner), queries: queries.clone() }
    }
}

#[async_trait::async_trait]
impl<H: RequestHandler> RequestHandler for InFlight<H> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response: R,
    ) -> ResponseInfo {
        let _counted = (!self.queries.is_closed()).then(|| self.queries.token());
        self.inner.handle_request::<R, T>(request, response).await
    }
}
