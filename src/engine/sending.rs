//! One job on its way: its request is sent, and what comes is decoded.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;

use super::{
    decoding::Decoder,
    listing::Listing,
    planner::{JobKind, Outcome},
    transport::{Channel, Outgoing},
};
use crate::domain::failure::{Failure, FailureClass, RetryAfter};
use crate::ops::traces::Start;
use crate::ownership::Bucket;
use crate::providers::{Answer, auth::Token, wire::retry};
use crate::tenancy::pool::Lease;

/// A job that can be sent.
pub(super) struct Errand {
    pub(super) channel: Channel,
    pub(super) request: Outgoing,
    pub(super) decoder: Decoder,
    /// For what is read of a list.
    pub(super) lease: Lease,
    pub(super) now: jiff::Timestamp,
}

/// What came of a job, so far.
pub(super) struct Sent<N = News> {
    pub(super) job: u64,
    pub(super) kind: JobKind,
    pub(super) started: Start,
    pub(super) news: N,
}

pub(super) enum News {
    /// The answer, decoded.
    Whole(Box<Whole>),
    /// More of a list; none at its end.
    Part(Box<Listing>, Option<Bytes>),
}

/// An answer, decoded; of a token `T`.
pub(super) struct Whole<T = Token> {
    /// The HTTP status, or why there is none: for the metrics.
    pub(super) code: String,
    /// The size of the body.
    pub(super) bytes: usize,
    /// When it was there, not decoded yet; none where there was no answer.
    pub(super) answered: Option<Instant>,
    /// How long it asks to wait, should it be a good one: a failure says so itself.
    pub(super) hint: Option<RetryAfter>,
    pub(super) outcome: Outcome<T>,
}

/// Sends a job, and decodes its answer; of a list, reads the first part.
pub(super) async fn carry_out(job: u64, kind: JobKind, started: Start, errand: Result<Errand, Failure>) -> Sent {
    let news = match errand {
        Err(failure) => Whole::failed(&kind, failure).into(),
        Ok(errand) => match &kind {
            JobKind::List(scope, _) => open(errand, &kind, scope).await,
            _ => whole(errand, &kind).await.into(),
        },
    };
    Sent { job, kind, started, news }
}

/// Goes on with a job while this replica holds the bucket; none when it does not. What waits for a name, a connection or a handshake when
/// the lease is lost is not sent: by then another replica may be the owner.
pub(super) async fn while_held(bucket: Bucket, job: impl Future<Output = Sent>) -> Option<Sent> {
    let mut job = pin!(job);
    poll_fn(|cx| if bucket.is_held() { job.as_mut().poll(cx).map(Some) } else { Poll::Ready(None) }).await
}

/// Reads the next part of a list.
pub(super) async fn read_on(job: u64, kind: JobKind, started: Start, mut listing: Box<Listing>) -> Sent {
    let news = match listing.read().await {
        Ok(part) => News::Part(listing, part),
        Err(failure) => Whole::failed(&kind, listing.clean_failure(failure)).into(),
    };
    Sent { job, kind, started, news }
}

async fn open(errand: Errand, kind: &JobKind, scope: &Arc<str>) -> News {
    let Errand { channel, request, decoder, lease, now: _ } = errand;
    let result = match Listing::open(&channel, request, scope, decoder.clone(), lease).await {
        Ok(mut listing) => listing.read().await.map(|part| (listing, part)),
        Err(failure) => Err(failure),
    };
    match result {
        Ok((listing, part)) => News::Part(listing, part),
        Err(failure) => Whole::failed(kind, decoder.clean_failure(failure)).into(),
    }
}

async fn whole(errand: Errand, kind: &JobKind) -> Whole {
    let Errand { channel, request, decoder, now, .. } = errand;
    // Held until the answer is decoded.
    let (answer, _lease) = match channel.send(request).await {
        Ok(answer) => answer,
        Err(failure) => return Whole::failed(kind, decoder.clean_failure(failure)),
    };
    let answered = Some(Instant::now());
    let Answer { status, headers, body, .. } = &answer;
    let (code, bytes, hint) = (status.as_str().to_owned(), body.len(), retry::retry_after(headers));
    let clean = |failure| decoder.clean_failure(failure);
    let outcome = match kind {
        JobKind::Authenticate => Outcome::Token(decoder.token(answer, now).await.map_err(clean)),
        JobKind::Get(task) => Outcome::Task(decoder.task(task, answer).await.map_err(clean)),
        JobKind::Subtasks(task) => Outcome::Subtasks(decoder.subtasks(task, answer).await.map_err(clean)),
        JobKind::List(..) => Outcome::List(Err(unsupported("lists of one piece"))),
    };
    Whole { code, bytes, answered, hint, outcome }
}

impl Whole {
    pub(super) fn failed(kind: &JobKind, failure: Failure) -> Self {
        Self {
            code: failure.code.clone(),
            bytes: 0,
            hint: None,
            answered: None,
            outcome: Outcome::failed(kind, failure),
        }
    }
}

impl From<Whole> for News {
    fn from(whole: Whole) -> Self {
        Self::Whole(Box::new(whole))
    }
}

/// A request that the upstream has no form for.
pub(super) fn unsupported(what: &str) -> Failure {
    Failure::new(FailureClass::InvalidRequest, format!("this upstream has no {what}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::ownership::Buckets;

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_lease_is_lost_is_not_sent() {
        let bucket = Buckets::new(1).bucket(0);
        for is_held in [true, false] {
            bucket.hold_until(tokio::time::Instant::now() + Duration::from_secs(10));
            let ((connected, connection), (sends, sent)) = (oneshot::channel(), oneshot::channel());
            let job = while_held(bucket.clone(), async {
                connection.await.unwrap();
                sends.send(()).unwrap();
                let started = Start { at: Instant::now(), context: None };
                let failure = unsupported("test");
                let kind = JobKind::Authenticate;
                Sent { job: 1, news: Whole::failed(&kind, failure).into(), kind, started }
            });
            let connect = async {
                tokio::time::sleep(Duration::from_secs(if is_held { 9 } else { 10 })).await;
                let _ = connected.send(());
            };
            let (done, ()) = tokio::join!(job, connect);
            assert_eq!((done.is_some(), sent.await.is_ok()), (is_held, is_held));
        }
    }
}
