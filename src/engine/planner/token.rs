//! Whether a connection may ask: the token that its credential is exchanged for, and whether the upstream has taken it yet.

use std::time::Duration;

use tokio::time::Instant;

/// A token is renewed so long before its end, or at half its life where that is shorter.
const RENEW_MARGIN: Duration = Duration::from_mins(1);
/// A token is used for at least so long, whatever life it claims: a clock that is wrong must not make each request need a new one.
const SHORTEST_LIFE: Duration = Duration::from_secs(30);
/// A token that was good and is refused is exchanged at once, but only once in so long: what a new token does not cure must wait.
const RENEW_AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// The credential's state.
#[derive(Debug)]
pub struct TokenState {
    exchanges: bool,
    state: State,
    /// The first job that is sent with the present credential or token.
    first_job: u64,
    /// Whether the upstream has taken it. Until then one request at a time is sent: each refusal counts towards a lock.
    proven: bool,
    /// When a refused token was last exchanged at once.
    pardoned: Option<Instant>,
    /// When the present token ends by its own word; none where it gave none, or was over from the start (a clock is wrong then).
    ends: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Nothing to exchange, or a token that is good until then.
    Open(Option<Instant>),
    NeedsToken,
    /// By the job of this number.
    Authenticating(u64),
}

impl TokenState {
    /// With a credential that has not been used; `next_job` is the first that will be sent with it.
    #[must_use]
    pub fn new(exchanges: bool, next_job: u64) -> Self {
        let state = if exchanges { State::NeedsToken } else { State::Open(None) };
        Self { exchanges, state, first_job: next_job, proven: false, pardoned: None, ends: None }
    }

    /// Whether the upstream has taken the present credential or token.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether a token is being waited for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Authenticating(_))
    }

    /// Whether a token must be had before anything else can be asked.
    #[must_use]
    pub fn needs_token(&self, now: Instant) -> bool {
        match self.state {
            State::Open(renew_at) => renew_at.is_some_and(|at| at <= now),
            State::NeedsToken => true,
            State::Authenticating(_) => false,
        }
    }

    /// A token is asked for by the job `id`.
    pub fn asks(&mut self, id: u64) {
        self.state = State::Authenticating(id);
    }

    /// The token that the job `id` asked for came, good for `life`; jobs from `next_job` on use it.
    pub fn received(&mut self, life: Option<Duration>, next_job: u64, now: Instant) {
        let use_for = |life: Duration| life.saturating_sub(RENEW_MARGIN.min(life / 2)).max(SHORTEST_LIFE);
        self.state = State::Open(life.and_then(|life| now.checked_add(use_for(life))));
        (self.first_job, self.proven) = (next_job, false);
        self.ends = life.filter(|life| !life.is_zero()).and_then(|life| now.checked_add(life));
    }

    /// No token came.
    pub fn failed(&mut self) {
        self.state = State::NeedsToken;
    }

    /// The upstream took what the job `id` was sent with.
    pub fn accepted(&mut self, id: u64) {
        self.proven |= id >= self.first_job && matches!(self.state, State::Open(_));
    }

    /// Whether the job `id` was sent with another credential or token than the present one: its refusal says nothing of that.
    #[must_use]
    pub fn is_outdated(&self, id: u64) -> bool {
        self.exchanges && (id < self.first_job || !matches!(self.state, State::Open(_)))
    }

    /// The upstream refused what the job `id` was sent with. Returns whether a new token may cure it, so that the request is simply
    /// sent again; else the credential itself is refused.
    pub fn rejected(&mut self, id: u64, now: Instant) -> bool {
        if !self.exchanges {
            return false;
        }
        if id < self.first_job || !matches!(self.state, State::Open(_)) {
            return true;
        }
        self.state = State::NeedsToken;
        // It was good and is over, as it said it would be: that is no refusal of the credential.
        if self.proven && self.ends.is_some_and(|end| end <= now) {
            return true;
        }
        let curable = self.proven && self.pardoned.is_none_or(|at| now >= at + RENEW_AT_MOST_EVERY);
        if curable {
            self.pardoned = Some(now);
        }
        curable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_token_that_lives_for_seconds_is_renewed_at_each_end() {
        let mut now = Instant::now();
        let mut token = TokenState::new(true, 0);
        for job in 1..20 {
            assert!(token.needs_token(now));
            token.received(Some(8 * SECOND), job, now);
            token.accepted(job);
            now += 8 * SECOND;
            assert!(!token.needs_token(now), "it is used until it is refused");
            assert!(token.rejected(job, now), "over, as it said");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_nothing_of_another_token_than_it_was_sent_with() {
        let now = Instant::now();
        let mut token = TokenState::new(true, 0);
        token.received(None, 5, now);
        assert!(token.is_outdated(4) && !token.is_outdated(5));
        token.asks(6);
        assert!(token.is_outdated(5), "there is none until the next one comes");
        assert!(!TokenState::new(false, 5).is_outdated(4), "a key is always the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_refused_before_its_end_is_pardoned_once_a_minute() {
        let mut now = Instant::now();
        let mut token = TokenState::new(true, 0);
        let mut pardons = Vec::new();
        for job in 1..20 {
            token.received(Some(3600 * SECOND), job, now);
            token.accepted(job);
            now += 10 * SECOND;
            pardons.push(token.rejected(job, now));
        }
        assert_eq!(pardons.iter().filter(|pardon| **pardon).count(), 4, "{pardons:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_over_from_the_start_is_no_excuse() {
        let now = Instant::now();
        let mut token = TokenState::new(true, 0);
        let mut pardons = 0;
        for job in 1..5 {
            token.received(Some(Duration::ZERO), job, now);
            token.accepted(job);
            pardons += u32::from(token.rejected(job, now + SECOND));
        }
        assert_eq!(pardons, 1, "a clock is wrong: not a token for each request");
    }
}
