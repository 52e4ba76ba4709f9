//! The part of the planner that finds out whose fault a failure is: before the whole connection is silenced, something that was good is
//! asked for, and after a silence it is never what caused it that is asked for first.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Planner, Step,
    breaker::Evidence,
    doubt::{LONGEST, Refused, Subject},
    gate::Flight,
    job::JobKind,
    lists::Scope,
    polled_task::{Place, PolledTask},
    tasks::TaskId,
};
use crate::{
    domain::{
        backoff::Backoff,
        failure::{Failure, FailureClass},
    },
    tenancy::Tenant,
};

/// How long a task waits after a refusal of its own.
const OWN_REFUSAL: Backoff = Backoff::new(Duration::from_mins(1), Duration::from_mins(15));

/// What follows from a failed request for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It is told.
    Told,
    /// It is asked for again as soon as may be: the failure was the connection's.
    AskAgain,
    /// None yet: it is not known whose fault it was.
    Open,
}

/// How well something would bear witness; the greatest is asked.
type Rank = (bool, bool, u64);

impl Planner {
    /// What a request is about; none for a token.
    pub(super) fn subject(&self, kind: &JobKind) -> Option<Subject> {
        match kind {
            JobKind::Authenticate => None,
            JobKind::Get(task) | JobKind::Subtasks(task) => self.tasks.id(task).map(Subject::Task),
            JobKind::List(scope, _) => Some(Subject::Scope(Arc::clone(scope))),
        }
    }

    /// Whether the present credential has been good for it.
    pub(super) fn is_good(&self, subject: &Subject) -> bool {
        let good = match subject {
            Subject::Task(id) => self.tasks.get(*id).map_or(0, PolledTask::good),
            Subject::Scope(name) => self.scopes.good(name),
        };
        self.gate.is_current(good)
    }

    /// Whether there is anything else that the credential has been good for.
    pub(super) fn has_good_beside(&self, subject: &Subject) -> bool {
        // With a credential that has never been good all that there is would be gone through, for each failure.
        if !self.gate.has_been_good() {
            return false;
        }
        let task = |(id, polled): (TaskId, &PolledTask)| {
            polled.is_polled() && self.gate.is_current(polled.good()) && *subject != Subject::Task(id)
        };
        let scope = |(name, scope): (&Arc<str>, &Scope)| {
            scope.is_awaited() && self.gate.is_current(scope.good()) && *subject != Subject::Scope(Arc::clone(name))
        };
        self.scopes.iter().any(scope) || self.tasks.iter().any(task)
    }

    /// The answer to `job` shows that the credential is good for what was asked: what was refused meanwhile was refused alone.
    pub(super) fn is_proven(&mut self, job: u64, kind: &JobKind, now: Instant) {
        let Some(subject) = self.subject(kind) else { return };
        match &subject {
            Subject::Task(id) => {
                if let Some(polled) = self.tasks.get_mut(*id) {
                    polled.is_proven(job);
                }
            }
            Subject::Scope(name) => self.scopes.set_good(name, job),
        }
        for refused in self.doubt.is_settled_by(job, &subject) {
            self.settle_refused(&refused, false, now);
        }
    }

    /// The credential was refused for what `job` asked for.
    pub(super) fn credential_refused(
        &mut self,
        id: u64,
        job: &Flight,
        failure: &Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Consequence {
        let Some(subject) = self.subject(&job.kind).filter(|_| !self.gate.is_of_old_token(id)) else {
            return Consequence::AskAgain;
        };
        let tenant = job.tenant.clone().unwrap_or_else(Tenant::shared);
        let is_good = self.is_good(&subject);
        // What was good and was on its way already when the last refusal came is the same refusal.
        if !is_good || !self.doubt.was_asked_before(id) {
            self.doubt.note(&tenant, self.gate.next_job(), now);
        }
        let is_shared = self.asking().is_shared;
        let is_confirmed = self.gate.is_probing()
            || self.doubt.is_witness(&subject)
            || (is_good || !is_shared) && self.doubt.is_full(is_shared, now)
            || is_good && self.doubt.is_open() && !self.doubt.is_about(&subject);
        if !is_confirmed {
            let witness = if self.doubt.is_open() { None } else { self.witness(&subject, &tenant, false) };
            if self.doubt.is_open() || witness.is_some() || self.has_good_beside(&subject) {
                let is_first = matches!(&job.kind, JobKind::List(_, None));
                if witness.is_some() {
                    self.doubt.ask_first(witness.clone());
                }
                let refused = Refused { subject, poll: job.poll, is_first, failure: failure.clone() };
                self.doubt.add(refused, witness, self.gate.next_job(), now);
                return Consequence::Open;
            }
        }
        self.doubt.ask_first(None);
        for refused in self.doubt.close() {
            self.settle_refused(&refused, true, now);
        }
        if self.gate.refused(id, now) {
            self.gate.silence(retry_after, now);
            return Consequence::AskAgain;
        }
        self.held(&subject, failure, job, retry_after, now);
        self.doubt.rests_upon((!is_confirmed).then_some(tenant));
        // A token that is refused brings no key nearer to its lock.
        if let Some(at) = self.doubt.ready_at().filter(|_| !self.settings.exchanges) {
            self.gate.spare_credential(at);
        }
        Consequence::AskAgain
    }

    /// A watch or a discoverer of another tenant comes while the connection is silent only because nothing but one tenant's could be asked
    /// for: what it wants bears witness.
    pub(super) fn newcomer_bears_witness(&mut self, lane: &Tenant, wanted: Subject, now: Instant) {
        let is_others = self.doubt.may_be_settled_by(lane);
        if is_others && self.gate.is_silent(now) && self.doubt.doubtful_ready_at(lane, now).is_none() {
            self.doubt.rests_upon(None);
            self.gate.probe_now();
            self.doubt.ask_first(Some(wanted));
        }
    }

    /// A failure that may be the connection's.
    pub(super) fn held(
        &mut self,
        subject: &Subject,
        failure: &Failure,
        job: &Flight,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        // What the administrator does not let out will not be let out at the next try.
        let decisive = failure.by_policy().is_some();
        let witness = self.is_good(subject) || !self.has_good_beside(subject);
        let tenant = job.tenant.clone().unwrap_or_else(Tenant::shared);
        if self.gate.failed(failure, job.asked, Evidence { decisive, witness }, retry_after, now) {
            self.doubt.blame(subject);
            self.doubt.rests_upon((!self.asking().is_shared).then(|| tenant.clone()));
            self.spread_trouble(failure, now);
        } else if self.gate.wants_witness() && !self.doubt.asks_first() {
            self.doubt.ask_first(self.witness(subject, &tenant, false));
        }
    }

    /// Draws the consequences of a refusal; `again` where it was the connection's.
    pub(super) fn settle_refused(&mut self, refused: &Refused, again: bool, now: Instant) {
        let Refused { subject, poll, is_first, failure } = refused;
        let own = Failure {
            class: FailureClass::PermissionDenied,
            message: own_words(failure),
            advice: Box::default(),
            ..failure.clone()
        };
        if !again {
            self.doubt.is_own(&own);
        }
        match subject {
            Subject::Scope(name) => {
                let failure = if again { failure } else { &own };
                if !again {
                    self.scopes.set_good(name, 0);
                }
                self.page_failed(name, *is_first, failure, again, *poll, now);
            }
            Subject::Task(id) if again => self.failed(*id, failure, true, *poll, now),
            Subject::Task(id) => {
                let times = self.tasks.get_mut(*id).map_or(0, PolledTask::refused);
                self.failed(*id, &own, false, *poll, now);
                self.not_before(*id, now + OWN_REFUSAL.doubled(times));
            }
        }
    }

    /// Ends a doubt that was not decided in time, or that nothing is left to decide: what was asked to find out did not tell, and nothing
    /// else is asked for. What was refused is asked for again, later, and with another token where there are tokens: that is cheap.
    pub(super) fn end_undecided_doubt(&mut self, now: Instant) {
        let Some(until) = self.doubt.until() else { return };
        let is_asking = self.doubt.asks_first()
            || self.gate.flights().len() > 0
            || self.schedule.next_at(now, |_| Some(now)).is_some();
        if is_asking && now < until {
            return;
        }
        self.gate.refused(self.doubt.since(), now);
        for refused in self.doubt.close() {
            self.settle_refused(&refused, true, now);
            match &refused.subject {
                Subject::Task(id) => self.not_before(*id, now + LONGEST),
                Subject::Scope(name) => self.list_not_before(name, now + LONGEST),
            }
        }
    }

    /// Has a task that waits by itself wait until `at` at least.
    pub(super) fn not_before(&mut self, id: TaskId, at: Instant) {
        if matches!(self.place(id), Place::Due(due) if due < at) {
            self.put(id, Place::Due(at));
        }
    }

    /// Whether a task that the credential has not been good for has to wait, since others like it were refused of late; if so, its
    /// subscribers are told.
    pub(super) fn put_off(&mut self, id: TaskId, now: Instant) -> bool {
        let Some(polled) = self.tasks.get(id) else { return false };
        if self.gate.is_current(polled.good()) && !polled.is_refused() {
            return false;
        }
        let Some(at) = self.doubt.doubtful_ready_at(polled.lane(), now) else { return false };
        let reason = self.doubt.last().cloned();
        self.put(id, Place::Due(at));
        if let (Some(reason), Some(polled)) = (reason, self.tasks.get_mut(id)) {
            polled.troubled(&reason, self.gate.next_job(), now, &mut self.out);
        }
        true
    }

    /// The same for a scope's list.
    pub(super) fn put_off_doubtful_list(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let Some(scope) = self.scopes.get(name).filter(|scope| !self.gate.is_current(scope.good())) else {
            return false;
        };
        let Some(at) = self.doubt.doubtful_ready_at(scope.lane(), now) else { return false };
        self.put_off_list_until(name, at);
        if let Some(reason) = self.doubt.last().cloned() {
            self.tell_discoverers(name, &reason, now);
        }
        true
    }

    /// What bears witness whether a failure of `cause` is the connection's: best what was good, of another tenant, most recently. What
    /// has not been good yet is asked where `any` will do, or where it is another tenant's.
    fn witness(&self, cause: &Subject, tenant: &Tenant, any: bool) -> Option<Subject> {
        let is_fit = |subject: &Subject| subject != cause && !self.doubt.is_about(subject);
        let rank = |good: u64, lane: &Tenant| -> Option<Rank> {
            let (was_good, is_others) = (self.gate.is_current(good), lane != tenant);
            (was_good || is_others || any).then_some((was_good, is_others, good))
        };
        let tasks = self.tasks.iter().filter(|(_, polled)| polled.is_waiting() && !polled.is_refused());
        let tasks = tasks.filter_map(|(id, polled)| Some((rank(polled.good(), polled.lane())?, Subject::Task(id))));
        let scopes = self.scopes.iter().filter(|(_, scope)| scope.may_be_listed());
        let scopes = scopes
            .filter_map(|(name, scope)| Some((rank(scope.good(), scope.lane())?, Subject::Scope(Arc::clone(name)))));
        let fit = tasks.chain(scopes).filter(|(_, subject)| is_fit(subject));
        fit.max_by_key(|(rank, _)| *rank).map(|(_, subject)| subject)
    }

    /// The request that is to find out whether a failure was the connection's, or whether a silence is over.
    pub(super) fn witness_step(&mut self, now: Instant) -> Option<(Step, Tenant)> {
        let asked = self.doubt.take_first();
        let probe = || {
            let cause = self.doubt.blamed().filter(|_| self.gate.is_probing())?;
            self.witness(cause, &Tenant::shared(), true)
        };
        match asked.or_else(probe)? {
            Subject::Task(id) => {
                let lane = self.tasks.get(id).filter(|polled| polled.is_waiting())?.lane().clone();
                Some((self.get(id, now)?, lane))
            }
            Subject::Scope(name) => {
                let lane = self.scopes.get(&name).filter(|scope| scope.may_be_listed())?.lane().clone();
                self.begin_run(&name, now);
                Some((Step::first(JobKind::List(name, None)), lane))
            }
        }
    }
}

/// A refusal of the credential, where it turned out to be that of a single task or scope.
fn own_words(failure: &Failure) -> String {
    format!("The upstream rejects this request, while it accepts the same credential for others. {}", failure.message)
}
