//! The operator's own token, from a file in which it is replaced from time to time.
//!
//! The client's own way of doing this measures by the wall clock when to read the file again: after a step of that clock it would
//! go on for as long as the step was with a token that may be worth nothing any more.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use kube::{client::Body, config::AuthInfo};

use crate::sync::lock;

/// How long what was read is taken for the present token; less, when it is refused.
const FRESH: Duration = Duration::from_secs(30);

/// A file with a token.
#[derive(Clone)]
pub(super) struct TokenFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    read: Mutex<Read>,
}

struct Read {
    header: HeaderValue,
    /// None once it was refused.
    at: Option<Instant>,
}

impl TokenFile {
    /// Takes the file out of a configuration, where it is what counts there.
    pub(super) fn take(auth: &mut AuthInfo) -> Result<Option<Self>> {
        if auth.token.is_some() || auth.username.is_some() {
            return Ok(None);
        }
        let Some(path) = auth.token_file.take().map(PathBuf::from) else { return Ok(None) };
        let header = read(&path)?;
        Ok(Some(Self(Arc::new(Inner { path, read: Mutex::new(Read { header, at: Some(Instant::now()) }) }))))
    }

    /// Signs a request. What is returned is to be told the status of its answer.
    pub(super) fn sign(&self, request: &mut Request<Body>) -> impl FnOnce(Option<StatusCode>) + Send + 'static + use<> {
        let (token, header) = (self.clone(), self.header());
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        move |status| {
            if status == Some(StatusCode::UNAUTHORIZED) {
                token.refused(&header);
            }
        }
    }

    /// The value for `Authorization`. The last one that could be read, where the file cannot be.
    fn header(&self) -> HeaderValue {
        let mut known = lock(&self.0.read);
        if known.at.is_none_or(|at| at.elapsed() >= FRESH) {
            match read(&self.0.path) {
                Ok(header) => *known = Read { header, at: Some(Instant::now()) },
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        known.header.clone()
    }

    /// The API server has refused this value.
    fn refused(&self, header: &HeaderValue) {
        let mut known = lock(&self.0.read);
        if known.header == *header {
            known.at = None;
        }
    }
}

fn read(path: &PathBuf) -> Result<HeaderValue> {
    let what = || format!("cannot read the token in {}", path.display());
    let token = std::fs::read_to_string(path).with_context(what)?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim())).with_context(what)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tower::{Service, ServiceExt, service_fn};

    use super::*;
    use crate::ops::around::Around;

    /// Answers 401 to every token but this one.
    fn server(
        right: &'static str,
    ) -> impl Service<Request<Body>, Response = Response<()>, Error = String, Future: Send> {
        service_fn(move |request: Request<Body>| async move {
            let is_right = request.headers().get(AUTHORIZATION).is_some_and(|value| value == right);
            let status = if is_right { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            Response::builder().status(status).body(()).map_err(|error| error.to_string())
        })
    }

    async fn ask(token: &TokenFile, right: &'static str) -> StatusCode {
        let service = Around { inner: server(right), before: |request: &mut Request<Body>| token.sign(request) };
        service.oneshot(Request::new(Body::empty())).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_refused_token_is_read_again_at_once() {
        let path = std::env::temp_dir().join(format!("taskwatch-token-{}", std::process::id()));
        std::fs::write(&path, "one\n").unwrap();
        let mut auth = AuthInfo { token_file: Some(path.display().to_string()), ..AuthInfo::default() };
        let token = TokenFile::take(&mut auth).unwrap().unwrap();
        assert!(auth.token_file.is_none());
        assert_eq!(ask(&token, "Bearer one").await, StatusCode::OK);
        std::fs::write(&path, "two\n").unwrap();
        // What was read is fresh, and good, until it is refused.
        assert_eq!(ask(&token, "Bearer one").await, StatusCode::OK);
        assert_eq!(ask(&token, "Bearer two").await, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&token, "Bearer two").await, StatusCode::OK);
        // A file that is away for a moment changes nothing.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask(&token, "Bearer three").await, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&token, "Bearer two").await, StatusCode::OK);
    }

    #[test]
    fn a_file_beside_what_goes_before_it_is_left() {
        let mut auth =
            AuthInfo { token_file: Some("f".to_owned()), token: Some("t".to_owned().into()), ..AuthInfo::default() };
        assert!(TokenFile::take(&mut auth).unwrap().is_none());
        assert!(auth.token_file.is_some());
    }
}
