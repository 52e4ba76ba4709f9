//! May a request be sent now, and if not, when and why: the budget, the breaker, the token, what is in flight, and the numbers of the jobs.
//! Invariants 2, 3 and 6 of design §3 are kept here.

use std::{
    collections::{HashMap, hash_map::Values},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Job, JobKind, Settings, Step,
    breaker::{Breaker, Evidence, Trouble},
    tenants::TenantBudgets,
    token::TokenState,
    wait::{Wait, Why},
};
use crate::domain::{failure::Failure, task::Task};
use crate::engine::budget::Budget;
use crate::tenancy::Tenant;

/// What comes due within this time is sent together, as far as the budget's burst allows: to wake up for each request costs more than
/// the request does.
const GATHER: Duration = Duration::from_millis(20);

/// A job in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) kind: JobKind,
    /// When it was sent: an answer to what was sent before a pause does not end that.
    pub(super) asked: Instant,
    /// The task that a sub-tasks job completes.
    pub(super) partial: Option<Task>,
    /// The number of the poll's first job: what was asked first tells how old the answer is.
    pub(super) poll: u64,
    /// For whom; none for a token.
    pub(super) tenant: Option<Tenant>,
}

/// Between a connection's queue and its upstream.
#[derive(Debug)]
pub(super) struct Gate {
    /// How fast requests may follow each other.
    budget: Budget,
    /// The same for each tenant.
    tenants: TenantBudgets,
    /// Whether the connection must be silent, or try with one request at a time.
    breaker: Breaker,
    /// Whether there is a token, and whether the upstream has taken the credential.
    token: TokenState,
    /// What is in flight, by its number.
    flights: HashMap<u64, Flight>,
    /// Most requests in flight at a time.
    most: usize,
    /// The number of the next job. It is also the clock of answers: what was asked before something happened has a smaller one.
    next_job: u64,
    /// The first job since the credential, or what it is sent to, last changed.
    renewed: u64,
    /// The newest job whose answer was of use: nothing has been good that is not by this one or an older one.
    useful: u64,
    /// A pause has just ended, or is about to: what it held back is then sent evenly, without a burst.
    paused: bool,
    /// When something was last sent: what comes due soon after waits for what follows it.
    sent: Option<Instant>,
    /// When an answer last was of use.
    last_success: Option<Instant>,
}

/// What the queue says of those who ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// Several tenants have requests that wait or are in flight.
    pub(super) is_shared: bool,
    pub(super) care: Care,
}

/// How much may be risked, beside what the gate itself knows of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// As usual.
    Usual,
    /// As few requests as will do: it is not known whose fault a refusal is.
    Few,
    /// Something is asked for at once, beside what is in flight: to find out.
    AtOnce,
}

/// Who may have one more request in flight.
#[derive(Clone, Copy)]
pub(super) struct Places<'p> {
    flights: &'p HashMap<u64, Flight>,
    is_shared: bool,
    limit: usize,
}

impl Places<'_> {
    /// Where there are several tenants, each may have as many in flight as are free: so none of them fills all places with requests that
    /// are not answered.
    pub(super) fn are_free_for(self, tenant: &Tenant) -> bool {
        if !self.is_shared || self.flights.is_empty() {
            return true;
        }
        let own = self.flights.values().filter(|flight| flight.tenant.as_ref() == Some(tenant)).count();
        own < self.limit.saturating_sub(self.flights.len()).max(1)
    }
}

impl Gate {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            budget: Budget::new(settings.requests_per_second, settings.burst, now),
            tenants: TenantBudgets::new(settings.requests_per_second_of_tenant),
            breaker: Breaker::default(),
            token: TokenState::new(settings.exchanges, 1),
            flights: HashMap::new(),
            most: settings.max_in_flight.max(1),
            next_job: 1,
            renewed: 0,
            useful: 0,
            paused: false,
            sent: None,
            last_success: None,
        }
    }

    /// Whoever asked before may have spent all that could be spent.
    pub(super) fn exhaust(&mut self, now: Instant) {
        self.budget.exhaust(now);
        self.tenants.exhaust(now);
    }

    /// Takes over new bounds.
    pub(super) fn resize(&mut self, settings: &Settings, now: Instant) {
        self.budget.resize(settings.requests_per_second, settings.burst, now);
        self.tenants.resize(settings.requests_per_second_of_tenant, now);
        self.most = settings.max_in_flight.max(1);
    }

    /// The credential or what it is sent to is another one: what was held against the old one is void.
    pub(super) fn renew(&mut self, exchanges: bool) {
        self.breaker.forgive();
        self.token = TokenState::new(exchanges, self.next_job);
        self.renewed = self.next_job;
    }

    /// The number of the next job: answers to smaller ones were asked for before now.
    pub(super) fn next_job(&self) -> u64 {
        self.next_job
    }

    /// Whether the job was sent with the present credential, to where it is sent now; 0 is no job.
    pub(super) fn is_current(&self, job: u64) -> bool {
        job > 0 && job >= self.renewed
    }

    /// Whether the present credential has been good for anything yet.
    pub(super) fn has_been_good(&self) -> bool {
        self.is_current(self.useful)
    }

    /// Requests per second in the long run.
    pub(super) fn rate(&self) -> f64 {
        self.budget.rate()
    }

    /// The same for one tenant; none without a limit.
    pub(super) fn rate_of(&self, tenant: &Tenant) -> Option<f64> {
        self.tenants.rate_of(tenant)
    }

    /// What is wrong with the whole connection.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.breaker.trouble()
    }

    /// When an answer last was of use.
    pub(super) fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    /// Until when the upstream asked to be left alone.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.breaker.retry_at(now)
    }

    /// Whether nothing may be sent at all.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.breaker.until(now).is_some()
    }

    /// Whether the connection tries whether its upstream is back.
    pub(super) fn is_probing(&self) -> bool {
        self.breaker.is_probing()
    }

    /// Whether it looks as if nobody were there, but only what has never been good was asked for.
    pub(super) fn wants_witness(&self) -> bool {
        self.breaker.wants_witness()
    }

    /// What is in flight.
    pub(super) fn flights(&self) -> Values<'_, u64, Flight> {
        self.flights.values()
    }

    /// The number of the first job of the poll that the job in flight belongs to.
    pub(super) fn poll_of(&self, job: u64) -> Option<u64> {
        self.flights.get(&job).map(|flight| flight.poll)
    }

    fn limit(&self, asking: Asking) -> usize {
        let is_careful = match asking.care {
            Care::AtOnce => return self.most,
            Care::Few => true,
            Care::Usual => self.breaker.is_probing() || !self.token.is_proven(),
        };
        // Of two tenants each may try: one whose request is not answered does not hold up the other.
        if is_careful { self.most.min(if asking.is_shared { 2 } else { 1 }) } else { self.most }
    }

    /// Who may have one more request in flight.
    pub(super) fn places(&self, asking: Asking) -> Places<'_> {
        Places { flights: &self.flights, is_shared: asking.is_shared, limit: self.limit(asking) }
    }

    /// When a tenant may send one more request; none: not before an answer comes.
    pub(super) fn earliest(&self, places: Places<'_>, tenant: &Tenant, now: Instant) -> Option<Instant> {
        places.are_free_for(tenant).then(|| self.tenants.ready_at(tenant, now))
    }

    /// Why nothing more can be sent before an answer comes.
    pub(super) fn occupied(&self, asking: Asking) -> Option<Why> {
        if self.token.is_waiting() {
            Some(Why::Token)
        } else {
            (self.flights.len() >= self.limit(asking)).then_some(Why::InFlight)
        }
    }

    /// Whether the budget lets one more request through. What a pause held back is sent evenly from now on.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.paused) {
            self.budget.drain(now);
        }
        self.budget.ready_at(now) <= now
    }

    /// Whether a token must be had before anything else can be asked.
    pub(super) fn needs_token(&self, now: Instant) -> bool {
        self.token.needs_token(now)
    }

    /// Pays for a request, and has it in flight.
    pub(super) fn send(&mut self, step: Step, tenant: Option<Tenant>, lag: Duration, now: Instant) -> Job {
        let is_paid = self.budget.take(now);
        debug_assert!(is_paid && self.breaker.until(now).is_none(), "the gate was asked before");
        if let Some(tenant) = &tenant {
            self.tenants.spend(tenant, now);
        }
        let (id, Step { kind, partial, poll }) = (self.next_job, step);
        self.next_job += 1;
        self.sent = Some(now);
        if kind == JobKind::Authenticate {
            self.token.asks(id);
        }
        let poll = if poll == 0 { id } else { poll };
        self.flights.insert(id, Flight { kind: kind.clone(), asked: now, partial, poll, tenant });
        Job { id, kind, lag }
    }

    /// The answer to a job came.
    pub(super) fn land(&mut self, job: u64) -> Option<Flight> {
        self.flights.remove(&job)
    }

    /// No answers will come to what is in flight.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Flight> + use<> {
        if self.flights.values().any(|flight| flight.kind == JobKind::Authenticate) {
            self.token.failed();
        }
        std::mem::take(&mut self.flights).into_values()
    }

    /// An answer to the job `id` came that was of use. Returns whether all is well again.
    pub(super) fn succeeded(&mut self, id: u64, asked: Instant, now: Instant) -> bool {
        let was_probing = self.breaker.is_probing();
        self.breaker.succeeded(asked);
        self.paused |= was_probing && !self.breaker.is_probing();
        (self.last_success, self.useful) = (Some(now), self.useful.max(id));
        self.token.accepted(id);
        !self.breaker.is_probing() && self.breaker.until(now).is_none()
    }

    /// The upstream took the credential of the job `id`.
    pub(super) fn took(&mut self, id: u64) {
        self.token.accepted(id);
    }

    /// A request that was sent at `asked` failed; see [`Breaker::failed`]. Returns whether a silence began.
    pub(super) fn failed(
        &mut self,
        failure: &Failure,
        asked: Instant,
        evidence: Evidence,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> bool {
        let was_probing = self.breaker.is_probing();
        let began = self.breaker.failed(failure, asked, evidence, retry_after, now);
        self.paused |= self.breaker.until(now).is_some() || was_probing && !self.breaker.is_probing();
        began
    }

    /// The upstream asks to be left alone for so long, if it does.
    pub(super) fn silence(&mut self, wait: Option<Duration>, now: Instant) {
        if let Some(wait) = wait {
            self.breaker.silence(now + wait);
            self.paused = true;
        }
    }

    /// One more refusal of the credential may not be risked before then.
    pub(super) fn spare_credential(&mut self, until: Instant) {
        self.breaker.extend(until, Why::Credential);
    }

    /// One request may be sent at once, unless the upstream itself asked for silence.
    pub(super) fn probe_now(&mut self) {
        self.breaker.probe_now();
    }

    /// The token came that was asked for, good for `life`.
    pub(super) fn token_came(&mut self, life: Option<Duration>, now: Instant) {
        self.token.received(life, self.next_job, now);
    }

    /// No token came.
    pub(super) fn no_token_came(&mut self) {
        self.token.failed();
    }

    /// Whether the job `id` was sent with another token than the present one: its refusal says nothing of that.
    pub(super) fn is_of_old_token(&self, id: u64) -> bool {
        self.token.is_outdated(id)
    }

    /// The upstream refused what the job `id` was sent with. Returns whether a new token may cure it.
    pub(super) fn refused(&mut self, id: u64, now: Instant) -> bool {
        self.token.rejected(id, now)
    }

    /// When to ask again, where nothing is to be asked but what waits for an answer.
    pub(super) fn idle(&self) -> Wait {
        Wait { until: None, why: if self.flights.is_empty() { Why::Nothing } else { Why::InFlight } }
    }

    /// When what is due at `work` may be sent.
    pub(super) fn wait_for(&self, work: Instant, why: Why, now: Instant) -> Wait {
        let (mut until, mut why) = if work > now { (work, why) } else { (now, Why::Ready) };
        let mut at_least = |at: Instant, reason: Why| {
            if at > until {
                (until, why) = (at, reason);
            }
            until
        };
        let work = at_least(self.budget.ready_at(now), Why::Budget);
        if work > now
            && let Some(sent) = self.sent
        {
            at_least(sent + GATHER.min(self.budget.slack()), Why::Gathering);
        }
        if let Some((end, reason)) = self.breaker.silence_at(now) {
            at_least(end, reason);
        }
        Wait { until: Some(until), why }
    }

    /// What is in flight, each with its number.
    #[cfg(test)]
    pub(super) fn numbered_flights(&self) -> impl Iterator<Item = (u64, &Flight)> {
        self.flights.iter().map(|(number, flight)| (*number, flight))
    }

    /// Whether a token is being waited for.
    #[cfg(test)]
    pub(super) fn awaits_token(&self) -> bool {
        self.token.is_waiting()
    }
}
