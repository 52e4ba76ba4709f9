//! Who may read a page: whoever the API server knows by its token (`TokenReview`), and allows to `get` the path (`SubjectAccessReview`), as
//! kube-rbac-proxy and controller-runtime have it.
//!
//! Answers are kept for a while. What is asked of the API server is bounded, and divided by who asks: a flood of bad tokens costs it a few
//! requests a second, and does not shut out others.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use crate::{
    ownership::Pass,
    sync::lock,
    tenancy::{Tenant, ceiling::Ceiling, pool::Pool},
};

/// Most tokens that are reviewed a second; those that are known to be good count as one peer.
const REVIEWS_PER_SECOND: f64 = 10.0;
/// Most reviews at a time.
const REVIEWS_AT_A_TIME: usize = 8;
/// How long both calls may take together.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(3);
/// Who was allowed is allowed for so long: a right that is taken away holds on for it.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// Who was not is not for so long: a right that is given takes that time.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Who was allowed is known for so long.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Most answers that are kept, of either kind.
const KEPT: usize = 128;
/// That reviews fail is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What the API server says of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It is known, and may not.
    Forbidden,
    /// It is not known.
    Unknown,
}

/// Why the API server was not asked, or did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVerdict {
    /// It has been asked enough.
    TooMany,
    /// It cannot be reached, or does not let the operator ask.
    Failed,
}

/// Asks the API server. Clones share what they know.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

struct Inner {
    client: Client,
    rate: Ceiling,
    places: Pool,
    verdicts: Mutex<Verdicts>,
    complained: Mutex<Option<Instant>>,
}

impl Authorizer {
    /// One that asks by `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            rate: Ceiling::new(REVIEWS_PER_SECOND, f64::INFINITY, Instant::now()),
            places: Pool::new(REVIEWS_AT_A_TIME, 1),
            verdicts: Mutex::default(),
            complained: Mutex::default(),
        }))
    }

    /// What was said lately of this token and path.
    pub(super) fn known(&self, token: &str, path: &str) -> Option<Verdict> {
        lock(&self.0.verdicts).get(&digest(token, path), Instant::now())
    }

    /// What the API server says of `token`, which came from `peer`.
    ///
    /// # Errors
    /// It was not asked, or did not say.
    pub(super) async fn judge(&self, token: &str, path: &str, peer: IpAddr) -> Result<Verdict, NoVerdict> {
        let (inner, of) = (&self.0, digest(token, path));
        let is_old_friend = lock(&inner.verdicts).has_allowed(&of, Instant::now());
        // A slash cannot be part of an address.
        let name = if is_old_friend { "/known".to_owned() } else { peer.to_string() };
        let tenant = Tenant::namespace(&name.into());
        let mut place = inner.places.lease(&tenant);
        if !place.try_grow(1) || inner.rate.take(&tenant, Instant::now()).is_err() {
            return Err(NoVerdict::TooMany);
        }
        let said = timeout(REVIEW_TIMEOUT, inner.review(token, path)).await;
        let said = said.map_err(|_| "it did not answer in time".to_owned()).flatten();
        match said {
            Ok(verdict) => {
                lock(&inner.verdicts).put(of, verdict, Instant::now());
                Ok(verdict)
            }
            Err(error) => {
                inner.complain(&error);
                Err(NoVerdict::Failed)
            }
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Review<T> {
    status: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenStatus {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: Value,
}

#[derive(Deserialize)]
struct AccessStatus {
    allowed: bool,
}

impl Inner {
    async fn review(&self, token: &str, path: &str) -> Result<Verdict, String> {
        let TokenStatus { authenticated, user } =
            self.ask("authentication.k8s.io", "TokenReview", &json!({"token": token})).await?;
        if !authenticated {
            return Ok(Verdict::Unknown);
        }
        let spec = json!({
            "user": user["username"],
            "uid": user["uid"],
            "groups": user["groups"],
            "extra": user["extra"],
            "nonResourceAttributes": {"path": path, "verb": "get"},
        });
        let AccessStatus { allowed } = self.ask("authorization.k8s.io", "SubjectAccessReview", &spec).await?;
        Ok(if allowed { Verdict::Allowed } else { Verdict::Forbidden })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, group: &str, kind: &str, spec: &Value) -> Result<T, String> {
        let body = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
        let path = format!("/apis/{group}/v1/{}s", kind.to_lowercase());
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        let mut request = request.body(body.to_string().into_bytes()).map_err(|error| error.to_string())?;
        // Nothing is changed by it.
        request.extensions_mut().insert(Pass::Review);
        let review: Review<T> = self.client.request(request).await.map_err(|error| error.to_string())?;
        Ok(review.status)
    }

    fn complain(&self, error: &str) {
        let mut complained = lock(&self.complained);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            tracing::warn!(
                "who asks for metrics cannot be reviewed: {error}. The operator has to be allowed to create tokenreviews and \
                 subjectaccessreviews: apply deploy/components/metrics-authorization/"
            );
        }
    }
}

type Of = [u8; 32];

fn digest(token: &str, path: &str) -> Of {
    // A path has no NUL.
    Sha256::new().chain_update(path).chain_update([0]).chain_update(token).finalize().into()
}

/// What was said lately.
#[derive(Debug, Default)]
struct Verdicts {
    /// When each was said.
    allowed: HashMap<Of, Instant>,
    refused: HashMap<Of, (Verdict, Instant)>,
}

impl Verdicts {
    fn get(&self, of: &Of, now: Instant) -> Option<Verdict> {
        if self.allowed.get(of).is_some_and(|at| *at + ALLOWED_FOR > now) {
            return Some(Verdict::Allowed);
        }
        self.refused.get(of).filter(|(_, at)| *at + REFUSED_FOR > now).map(|(verdict, _)| *verdict)
    }

    /// Whether it has been allowed of late, be that over by now.
    fn has_allowed(&self, of: &Of, now: Instant) -> bool {
        self.allowed.get(of).is_some_and(|at| *at + KNOWN_FOR > now)
    }

    fn put(&mut self, of: Of, verdict: Verdict, now: Instant) {
        self.allowed.remove(&of);
        self.refused.remove(&of);
        if verdict == Verdict::Allowed {
            make_room(&mut self.allowed, |at| *at);
            self.allowed.insert(of, now);
        } else {
            make_room(&mut self.refused, |(_, at)| *at);
            self.refused.insert(of, (verdict, now));
        }
    }
}

/// Lets go of the oldest where there are as many as are kept.
fn make_room<T>(kept: &mut HashMap<Of, T>, at: impl Fn(&T) -> Instant) {
    if kept.len() >= KEPT
        && let Some(oldest) = kept.iter().min_by_key(|(_, one)| at(one)).map(|(of, _)| *of)
    {
        kept.remove(&oldest);
    }
}

#[cfg(test)]
mod tests;
