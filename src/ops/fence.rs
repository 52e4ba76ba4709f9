//! The fence that each write to the API server passes: a layer of its client that sends no write without a right to it.

use std::{
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Service};

use crate::ownership::{NotOwner, Pass};

/// Sends what only reads, and writes whose [`Pass`] is good at this moment.
#[derive(Clone)]
pub(super) struct Fence<S> {
    pub(super) inner: S,
}

impl<S> Service<Request<Body>> for Fence<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if may_be_sent(&request) { Box::pin(self.inner.call(request)) } else { Box::pin(ready(Err(NotOwner.into()))) }
    }
}

fn may_be_sent<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        || request.extensions().get::<Pass>().is_some_and(Pass::is_good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Buckets;

    #[tokio::test]
    async fn who_holds_no_lease_reads_and_writes_nothing() {
        let (held, other) = (Buckets::alone().bucket(0), Buckets::new(1).bucket(0));
        let may = |method: Method, pass: Option<Pass>| {
            let mut request = Request::builder().method(method).uri("/").body(()).unwrap();
            if let Some(pass) = pass {
                request.extensions_mut().insert(pass);
            }
            may_be_sent(&request)
        };
        assert!(may(Method::GET, None));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(may(method.clone(), Some(Pass::Owner(held.clone()))));
            assert!(may(method.clone(), Some(Pass::Election)) && may(method.clone(), Some(Pass::Review)));
            assert!(!may(method.clone(), Some(Pass::Owner(other.clone()))));
            assert!(!may(method, None), "what is forgotten is not sent");
        }
    }
}
