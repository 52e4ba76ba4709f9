//! A layer of a client: something is done with each request before it is sent, and with the status of its answer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use tower::Service;

/// Calls `before` with each request that passes, and what that returns with the status of the answer; none where there was no answer.
#[derive(Clone)]
pub(super) struct Around<S, F> {
    pub(super) inner: S,
    pub(super) before: F,
}

impl<S, B, F, A> Service<Request<Body>> for Around<S, F>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
    F: Fn(&mut Request<Body>) -> A,
    A: FnOnce(Option<StatusCode>) + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let after = (self.before)(&mut request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            after(answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}
