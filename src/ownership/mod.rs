//! Which replica does what. Connections are hashed into buckets; a replica holds some of them, by a Lease each, and only who holds the
//! bucket of a connection asks its upstream and writes about the objects that name it. All replicas follow all objects, so that each can
//! take over at once.
//!
//! A bucket is held until a time of this machine's clock, well before others may take it: whoever was stopped, or cannot reach the API
//! server, has ended by then. Each write asks once more when it is sent ([`Pass`]).
//!
//! | module | what it says |
//! |---|---|
//! | [`elect`] | which buckets a replica takes, renews and lets go of |
//! | [`record`] | what a Lease says, and how it is written |

pub mod elect;
pub mod record;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::hash::fnv1a;

/// Held without an end.
const FOR_EVER: u64 = u64::MAX;

/// The buckets, and until when this replica holds each. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Buckets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// By number.
    tenures: Box<[Tenure]>,
}

/// How a bucket is held.
#[derive(Debug)]
struct Tenure {
    /// In milliseconds from the start; 0 is not held.
    until: AtomicU64,
    /// What is under way on its account; closed when no more may begin.
    work: TaskTracker,
}

impl Buckets {
    /// So many, none of which is held.
    #[must_use]
    pub fn new(count: u16) -> Self {
        Self::all_until(count, 0)
    }

    /// One, which is held for ever: there are no other replicas.
    #[must_use]
    pub fn alone() -> Self {
        Self::all_until(1, FOR_EVER)
    }

    fn all_until(count: u16, until: u64) -> Self {
        let tenure = |_| Tenure { until: AtomicU64::new(until), work: TaskTracker::new() };
        Self(Arc::new(Inner { start: Instant::now(), tenures: (0..count.max(1)).map(tenure).collect() }))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.tenures.len()
    }

    /// How many of them this replica holds at this moment.
    #[must_use]
    pub fn held(&self) -> usize {
        let numbers = 0..u16::try_from(self.count()).unwrap_or(u16::MAX);
        numbers.filter(|number| self.bucket(*number).is_held()).count()
    }

    /// The bucket of this number.
    #[must_use]
    pub fn bucket(&self, number: u16) -> Bucket {
        Bucket { buckets: self.clone(), number, _work: None }
    }

    /// The bucket that a connection of this name is in; the same on all replicas, and in each version.
    #[must_use]
    pub fn of(&self, name: &str) -> Bucket {
        let count = u64::try_from(self.count()).unwrap_or(1);
        self.bucket(u16::try_from(fnv1a(name) % count).unwrap_or(0))
    }
}

/// One of the [`Buckets`].
#[derive(Clone, Debug)]
pub struct Bucket {
    buckets: Buckets,
    number: u16,
    /// Where this is held by work that is under way.
    _work: Option<TaskTrackerToken>,
}

impl Bucket {
    /// Which one.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether this replica holds it at this moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let until = self.tenure().until.load(Relaxed);
        until == FOR_EVER || self.millis(Instant::now()) < until
    }

    /// The bucket for work that begins now and is under way until this and its clones are dropped; none where this replica does not hold it,
    /// or is about to let go of it.
    #[must_use]
    pub fn at_work(self) -> Option<Self> {
        // Counted before it is asked: whoever waits for the end of all work does not miss it.
        let work = self.tenure().work.token();
        self.is_open().then_some(Self { _work: Some(work), ..self })
    }

    /// Whether this replica holds it, and is not about to let go of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.tenure().work.is_closed() && self.is_held()
    }

    /// This replica holds it until then.
    pub fn hold_until(&self, until: Instant) {
        self.tenure().until.store(self.millis(until), Relaxed);
        self.tenure().work.reopen();
    }

    /// No more work may begin.
    pub fn close(&self) {
        self.tenure().work.close();
    }

    /// Waits until no work is under way any more. To be closed before.
    pub async fn is_idle(&self) {
        self.tenure().work.wait().await;
    }

    /// This replica does not hold it any more.
    pub fn let_go(&self) {
        self.tenure().until.store(0, Relaxed);
    }

    fn tenure(&self) -> &Tenure {
        &self.buckets.0.tenures[usize::from(self.number)]
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.buckets.0.start).as_millis()).unwrap_or(FOR_EVER - 1)
    }
}

/// By what right something is written to the API server; an extension of the request. The client sends no write without it.
#[derive(Clone, Debug)]
pub enum Pass {
    /// As the owner of this bucket.
    Owner(Bucket),
    /// To become, to stay, or not to be one.
    Election,
    /// It only asks who somebody is, and what they may do: nothing is changed by it.
    Review,
}

impl Pass {
    /// Whether it is good at this moment.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self {
            Self::Owner(bucket) => bucket.is_held(),
            Self::Election | Self::Review => true,
        }
    }
}

/// A write was not sent, for want of a good [`Pass`]: another replica is the owner, or may be by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not hold the lease for it")]
pub struct NotOwner;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_held_until_the_time_and_no_longer() {
        let buckets = Buckets::new(2);
        let (one, other) = (buckets.bucket(0), buckets.bucket(1));
        assert!(!one.is_held(), "not at the start");
        one.hold_until(Instant::now() + Duration::from_secs(10));
        let pass = Pass::Owner(one.clone());
        assert!(one.is_held() && pass.is_good() && !other.is_held());
        assert_eq!((buckets.count(), buckets.held()), (2, 1));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(one.is_held());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(buckets.held(), 0);
        assert!(!one.is_held() && !pass.is_good(), "a stopped process finds it out when it goes on");
        one.hold_until(Instant::now() + Duration::from_secs(10));
        one.let_go();
        assert!(!one.is_held());
        assert!(Pass::Election.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_may_end_before_a_bucket_is_let_go_of() {
        let bucket = Buckets::new(1).bucket(0);
        let begun = || bucket.clone().at_work();
        assert!(begun().is_none(), "it is not held");
        bucket.hold_until(Instant::now() + Duration::from_secs(10));
        let work = begun().unwrap();
        let event = work.clone();
        bucket.close();
        assert!(begun().is_none(), "no more begins");
        assert!(Pass::Owner(work.clone()).is_good(), "what has begun may be written");
        let idle = |limit| tokio::time::timeout(Duration::from_secs(limit), bucket.is_idle());
        drop(work);
        assert!(idle(1).await.is_err(), "an event of it waits");
        drop(event);
        assert!(idle(1).await.is_ok());
        bucket.hold_until(Instant::now() + Duration::from_secs(10));
        assert!(begun().is_some(), "it is this replica's again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_holds_everything() {
        let bucket = Buckets::alone().of("ns/name");
        tokio::time::advance(Duration::from_secs(1 << 30)).await;
        assert!(bucket.is_held());
    }

    #[test]
    fn connections_are_spread_and_stay_where_they_are() {
        let buckets = Buckets::new(16);
        let mut counts = [0; 16];
        for number in 0..1600 {
            counts[usize::from(buckets.of(&format!("team-{}/connection-{number}", number % 7)).number())] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
        // Pinned: another version of the operator must find the same.
        assert_eq!(buckets.of("team-a/astra").number(), u16::try_from(fnv1a("team-a/astra") % 16).unwrap());
    }
}
