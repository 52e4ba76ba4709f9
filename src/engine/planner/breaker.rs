//! When a connection must be silent: `Retry-After`, an outage, a refused credential. One silence at a time, the longest.

use std::time::Duration;

use tokio::time::Instant;

use super::wait::Why;
use crate::domain::{
    backoff::Backoff,
    failure::{Failure, FailureClass},
};

/// Wait after the first refusal of a credential; doubles. Huawei Cloud locks an access key for 5 minutes after 5 failures
/// (upstreams.md §2.3), so fewer than five are sent in that time.
const CREDENTIAL: Backoff = Backoff::new(Duration::from_mins(1), Duration::from_mins(15));
/// Wait between the probes of an upstream that is down; doubles.
const OUTAGE: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));
/// Wait after 429 without `Retry-After`; doubles. None of the three upstreams documents the header (upstreams.md §0).
const RATE_LIMIT: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(1));
/// So many failures in a row, without a success between, are taken for an outage of the whole connection.
const OUTAGE_STREAK: u32 = 5;
/// So many failures in a row make the connection say so.
const FAILING_STREAK: u32 = 3;

/// A refusal of the credential is remembered for so long, whatever succeeds meanwhile: this is the span in which they are counted.
const REFUSAL_MEMORY: Duration = Duration::from_mins(5);

/// What a connection knows of its upstream's health, and what follows for sending.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Nothing is sent before then.
    until: Option<Instant>,
    /// What `until` comes from; none until there was a silence.
    why: Option<Why>,
    /// The part of `until` that the upstream itself asked for.
    retry_at: Option<Instant>,
    /// Nothing but one request at a time until one succeeds.
    probing: bool,
    /// Failures in a row, over all tasks of the connection.
    streak: u32,
    /// Failures in a row that look as if nobody were there.
    absences: u32,
    /// Whether one of the failures in a row was of what had been good; and one of those that look as if nobody were there.
    witnessed: bool,
    absence_witnessed: bool,
    /// Silences in a row without a success between.
    attempts: u32,
    /// Refusals of the credential, and when the last one came.
    refusals: Option<(u32, Instant)>,
    trouble: Option<Trouble>,
}

/// What is wrong with a connection, and since when.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The newest failure.
    pub failure: Failure,
    /// When the first of the row was noticed.
    pub since: Instant,
}

/// What is known of a failed request, beside the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// It is believed at once, without a repetition: nothing can be polled without what was asked for.
    pub decisive: bool,
    /// It was of what had been good before, or nothing has been good yet: an outage is not believed without such a one.
    pub witness: bool,
}

impl Breaker {
    /// Nothing may be sent before this time.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|&until| until > now)
    }

    /// The same, and why.
    #[must_use]
    pub fn silence_at(&self, now: Instant) -> Option<(Instant, Why)> {
        debug_assert_eq!(self.until.is_some(), self.why.is_some(), "a silence has its reason");
        self.until(now).zip(self.why)
    }

    /// Until when the upstream itself asked for silence.
    #[must_use]
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|&until| until > now)
    }

    /// Whether only one request may be in flight.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.probing
    }

    /// What the connection should say is wrong with it.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|_| self.attempts > 0 || self.witnessed && self.streak >= FAILING_STREAK)
    }

    /// An answer came that was of use; `asked` is when it was asked for. One that was asked for before a silence does not end it.
    pub fn succeeded(&mut self, asked: Instant) {
        if self.until.is_none_or(|until| asked >= until) {
            let refusals = self.refusals.filter(|(_, last)| asked < *last + REFUSAL_MEMORY);
            *self = Self { refusals, ..Self::default() };
        }
    }

    /// Whether it looks as if nobody were there, but only what has never been good was asked for.
    #[must_use]
    pub fn wants_witness(&self) -> bool {
        self.absences >= OUTAGE_STREAK && !self.absence_witnessed
    }

    /// A request failed; `asked` is when it was sent. Returns whether a silence began.
    ///
    /// A failure of a request that was sent before the present silence ended says nothing new, unless it asks for a longer wait.
    pub fn failed(
        &mut self,
        failure: &Failure,
        asked: Instant,
        evidence: Evidence,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> bool {
        self.witnessed |= evidence.witness;
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { failure: failure.clone(), since });
        let is_news = self.until.is_none_or(|until| asked >= until);
        let wait = if is_news { self.wait_after(failure.class, evidence, retry_after, now) } else { None };
        if let Some((wait, why)) = wait {
            self.attempts += 1;
            self.extend(now + wait, why);
        }
        if let Some(wait) = retry_after {
            self.silence(now + wait);
        }
        is_news && (wait.is_some() || retry_after.is_some())
    }

    /// How long to wait after one more failure, beside what the upstream asks for.
    fn wait_after(
        &mut self,
        class: FailureClass,
        Evidence { decisive, witness }: Evidence,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<(Duration, Why)> {
        self.streak += 1;
        match class {
            FailureClass::AuthenticationFailed => Some((self.refuse(now), Why::Credential)),
            FailureClass::PermissionDenied if decisive => Some((self.refuse(now), Why::Credential)),
            // The first time, the upstream knows best.
            FailureClass::RateLimited if self.attempts == 0 && retry_after.is_some_and(|wait| !wait.is_zero()) => {
                retry_after.map(|wait| (wait, Why::RetryAfter))
            }
            FailureClass::RateLimited => Some((RATE_LIMIT.doubled(self.attempts), Why::RateLimited)),
            FailureClass::PermissionDenied
            | FailureClass::ScopeNotFound
            | FailureClass::InvalidRequest
            | FailureClass::NotFound
                if !decisive =>
            {
                // A plain answer, if not a welcome one: the upstream is there, and others may fare better.
                (self.absences, self.attempts, self.probing, self.absence_witnessed) = (0, 0, false, false);
                None
            }
            _ => {
                self.absences += 1;
                self.absence_witnessed |= witness;
                self.probing |= decisive || self.absence_witnessed && self.absences >= OUTAGE_STREAK;
                self.probing.then(|| (OUTAGE.doubled(self.attempts), Why::Outage))
            }
        }
    }

    fn refuse(&mut self, now: Instant) -> Duration {
        let times = self.refusals.map_or(0, |(times, _)| times);
        self.refusals = Some((times + 1, now));
        self.probing = true;
        CREDENTIAL.doubled(times)
    }

    /// The upstream asks to be left alone until then.
    pub fn silence(&mut self, until: Instant) {
        self.retry_at = self.retry_at.max(Some(until));
        self.extend(until, Why::RetryAfter);
    }

    /// The credential or the endpoint changed: what was held against the old one is void. A `Retry-After` is not: it stands.
    pub fn forgive(&mut self) {
        let why = self.retry_at.map(|_| Why::RetryAfter);
        *self = Self { until: self.retry_at, why, retry_at: self.retry_at, ..Self::default() };
    }

    /// One request may be sent at once, unless the upstream itself asked for silence.
    pub fn probe_now(&mut self) {
        (self.until, self.why) = (self.retry_at, self.retry_at.map(|_| Why::RetryAfter));
        self.probing = true;
    }

    /// Nothing is to be sent before then.
    pub fn extend(&mut self, until: Instant, why: Why) {
        if self.until < Some(until) {
            (self.until, self.why) = (Some(until), Some(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::RetryAfter;

    const WITNESS: Evidence = Evidence { decisive: false, witness: true };

    fn failure(class: FailureClass) -> Failure {
        Failure::new(class, "x")
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_waits_a_minute_and_then_longer() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert!(breaker.failed(&failure(FailureClass::AuthenticationFailed), now, WITNESS, None, now));
            let until = breaker.until(now).unwrap();
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [60, 120, 240, 480, 900, 900]);
        assert!(breaker.is_probing());
        breaker.succeeded(now - Duration::from_secs(1));
        assert!(breaker.is_probing(), "an answer from before the silence does not end it");
        breaker.succeeded(now);
        assert!(!breaker.is_probing());
    }

    #[tokio::test(start_paused = true)]
    async fn many_answers_of_one_refusal_count_once() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..8 {
            breaker.failed(&failure(FailureClass::AuthenticationFailed), now, WITNESS, None, now);
        }
        assert_eq!(breaker.until(now), Some(now + Duration::from_mins(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_believed_after_five_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!breaker.failed(&failure(FailureClass::UpstreamUnavailable), now, WITNESS, None, now));
        }
        assert!(breaker.trouble().is_some(), "the connection shows it before it is silent");
        assert!(breaker.failed(&failure(FailureClass::UpstreamUnavailable), now, WITNESS, None, now));
        assert_eq!(breaker.until(now), Some(now + Duration::from_secs(2)));
        let probe = now + Duration::from_secs(2);
        assert!(breaker.until(probe).is_none() && breaker.is_probing());
        assert!(breaker.failed(&failure(FailureClass::UpstreamUnavailable), probe, WITNESS, None, probe));
        assert_eq!(breaker.until(probe), Some(probe + Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_answer_shows_that_somebody_is_there() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let mut fails = |class, witness| {
            let evidence = Evidence { decisive: false, witness };
            breaker.failed(&failure(class), now, evidence, None, now)
        };
        assert!(!fails(FailureClass::UpstreamUnavailable, true));
        assert!(!fails(FailureClass::PermissionDenied, true));
        // What has never been good says nothing of the rest, and what was seen before the answer counts no more.
        assert!((0..2 * OUTAGE_STREAK).all(|_| !fails(FailureClass::UpstreamUnavailable, false)));
        assert!(breaker.wants_witness() && breaker.until(now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_stands_even_when_the_credential_changes() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let limited = Failure {
            retry_after: Some(RetryAfter::After(Duration::from_secs(30))),
            ..failure(FailureClass::RateLimited)
        };
        breaker.failed(&limited, now, WITNESS, Some(Duration::from_secs(30)), now);
        breaker.failed(&failure(FailureClass::UpstreamUnavailable), now, WITNESS, None, now);
        breaker.forgive();
        assert_eq!(breaker.until(now), Some(now + Duration::from_secs(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn successes_between_do_not_bring_an_access_key_near_its_lock() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        let mut refusals = Vec::new();
        for _ in 0..12 {
            refusals.push(now);
            assert!(breaker.failed(&failure(FailureClass::AuthenticationFailed), now, WITNESS, None, now));
            now = breaker.until(now).unwrap();
            breaker.succeeded(now);
        }
        assert!(refusals.windows(5).all(|five| five[4] - five[0] > Duration::from_mins(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forbidden_is_no_outage() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(&failure(FailureClass::PermissionDenied), now, WITNESS, None, now));
        }
        assert!(breaker.trouble().is_some() && breaker.until(now).is_none());
    }
}
