//! The part of the planner that takes answers in: what each means for the connection, for its task, and for those who watch it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Planner, Step,
    breaker::Evidence,
    gate::Flight,
    job::{JobKind, Outcome},
    polled_task::{Place, PolledTask},
    refusals::Consequence,
    tasks::TaskId,
};
use crate::domain::{
    failure::{Failure, FailureClass},
    task::Task,
};
use crate::providers::Page;

impl Planner {
    /// Takes in what a job brought; `body` is the size of the answer in bytes. `retry_after` is how long it asks to wait: of a failure,
    /// with everything on this connection; of a good answer, with the next look at the one task that it is about. A list is about no one
    /// task: what it asks is not heeded, since whoever waits for the list, of whichever tenant, would wait with it.
    pub fn done(&mut self, id: u64, outcome: Outcome, body: usize, retry_after: Option<Duration>, now: Instant) {
        let Some(job) = self.gate.land(id) else { return };
        let (retry_after, hint) = match outcome.failure() {
            Some(_) => (retry_after, None),
            None => (None, retry_after.map(|wait| now + wait)),
        };
        if !self.gate.is_current(id) {
            // Asked with another credential, or of another endpoint: only the wish for silence still counts.
            self.gate.silence(retry_after, now);
            return self.ask_again(job.kind, now);
        }
        let consequence = match outcome.failure() {
            Some(failure) => self.refused(id, &job, failure, retry_after, now),
            None if job.kind == JobKind::Authenticate => Consequence::Told,
            None => {
                self.succeeded(id, &job, now);
                Consequence::Told
            }
        };
        if consequence == Consequence::Open {
            return;
        }
        let again = consequence == Consequence::AskAgain;
        match (job.kind, outcome) {
            (JobKind::Authenticate, Outcome::Token(Ok(life))) => self.gate.token_came(life, now),
            (JobKind::Authenticate, Outcome::Token(Err(_))) => self.gate.no_token_came(),
            (JobKind::Get(task), Outcome::Task(result)) => {
                let Some(id) = self.tasks.id(&task) else { return };
                if let Some(polled) = self.tasks.get_mut(id) {
                    polled.set_hint(hint);
                }
                match result {
                    Ok(found) => self.found(id, found, job.poll, body, now),
                    Err(failure) => {
                        self.failed(id, &failure, again, job.poll, now);
                        if let Some(wait) = retry_after {
                            self.not_before(id, now + wait);
                        }
                    }
                }
            }
            (JobKind::Subtasks(task), Outcome::Subtasks(page)) => {
                let Some(id) = self.tasks.id(&task) else { return };
                if let Some(polled) = self.tasks.get_mut(id) {
                    polled.add_hint(hint);
                }
                self.subtasks_came(id, job.partial, page, again, job.poll, now);
            }
            (JobKind::List(scope, _), Outcome::List(Ok(page))) => self.page_came(&scope, page, body, job.poll, now),
            (JobKind::List(scope, cursor), Outcome::List(Err(failure))) => {
                self.page_failed(&scope, cursor.is_none(), &failure, again, job.poll, now);
            }
            (kind, outcome) => {
                debug_assert!(false, "{kind:?} has no {outcome:?}");
                if kind == JobKind::Authenticate {
                    self.gate.no_token_came();
                }
                self.ask_again(kind, now);
            }
        }
    }

    /// The answers to what is in flight will not come: it is asked for anew.
    pub fn abandon_all(&mut self, now: Instant) {
        for refused in self.doubt.close() {
            self.settle_refused(&refused, true, now);
        }
        for job in self.gate.abandon() {
            self.ask_again(job.kind, now);
        }
    }

    /// What a failure means for the connection, and for what was asked.
    fn refused(
        &mut self,
        id: u64,
        job: &Flight,
        failure: &Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Consequence {
        let Some(subject) = self.subject(&job.kind) else { return self.no_token(job, failure, retry_after, now) };
        match failure.class {
            FailureClass::NotFound => {
                self.succeeded(id, job, now);
                return Consequence::Told;
            }
            FailureClass::AuthenticationFailed => {
                return self.credential_refused(id, job, failure, retry_after, now);
            }
            FailureClass::PermissionDenied | FailureClass::ScopeNotFound | FailureClass::InvalidRequest => {
                // A plain answer, if not a welcome one: how long to wait is that task's or scope's affair.
                self.gate.took(id);
                self.held(&subject, failure, job, None, now);
                return Consequence::Told;
            }
            FailureClass::RateLimited | FailureClass::UpstreamUnavailable | FailureClass::InvalidAnswer => {}
        }
        let is_own = !self.is_good(&subject) && self.has_good_beside(&subject);
        self.held(&subject, failure, job, retry_after, now);
        if failure.class == FailureClass::RateLimited && !is_own { Consequence::AskAgain } else { Consequence::Told }
    }

    /// The exchange of the credential for a token failed: nothing can be asked without one.
    fn no_token(
        &mut self,
        job: &Flight,
        failure: &Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Consequence {
        let evidence = Evidence { decisive: true, witness: true };
        if self.gate.failed(failure, job.asked, evidence, retry_after, now) {
            self.spread_trouble(failure, now);
        }
        Consequence::AskAgain
    }

    fn succeeded(&mut self, id: u64, job: &Flight, now: Instant) {
        if self.gate.succeeded(id, job.asked, now) {
            self.doubt.absolve();
        }
        self.is_proven(id, &job.kind, now);
    }

    /// Tells every subscriber of a trouble of the connection: while it lasts, hardly anything is polled.
    pub(super) fn spread_trouble(&mut self, failure: &Failure, now: Instant) {
        let failure = Arc::new(failure.clone());
        for polled in self.tasks.values_mut().filter(|polled| polled.is_polled()) {
            polled.troubled(&failure, self.gate.next_job(), now, &mut self.out);
        }
        self.tell_all_discoverers(&failure, now);
    }

    fn found(&mut self, id: TaskId, found: Task, poll: u64, body: usize, now: Instant) {
        let asks_subtasks = self.settings.subtasks && !self.subtasks_refused && found.parent_id.is_none();
        let Some(polled) = self.tasks.get(id) else { return };
        if let Some(scope) = self.scopes.get_mut(&polled.task().scope) {
            scope.get_took(1 + u32::from(asks_subtasks), body);
        }
        if asks_subtasks && polled.is_watched() {
            let kind = JobKind::Subtasks(Arc::clone(polled.task()));
            self.schedule.put_step(polled.lane(), Step { kind, partial: Some(found), poll });
        } else {
            self.observe(id, Arc::new(found), poll, now);
        }
    }

    fn subtasks_came(
        &mut self,
        id: TaskId,
        partial: Option<Task>,
        page: Result<Page, Failure>,
        again: bool,
        poll: u64,
        now: Instant,
    ) {
        let Some(mut found) = partial else { return self.settle(id, true, now) };
        match page {
            Ok(page) => {
                let is_part = |part: &Arc<Task>| part.parent_id.as_ref() == Some(&found.id);
                found.adopt(page.tasks.into_iter().filter(is_part).map(Arc::unwrap_or_clone).collect());
            }
            // An upstream that cannot filter has its task shown without parts, and is not asked again.
            Err(failure) if failure.class == FailureClass::InvalidRequest => self.subtasks_refused = true,
            Err(failure) => match failure.class {
                // The task itself was seen: that its parts cannot be read hides it from nobody.
                FailureClass::NotFound
                | FailureClass::ScopeNotFound
                | FailureClass::PermissionDenied
                | FailureClass::InvalidAnswer
                | FailureClass::InvalidRequest => {}
                FailureClass::AuthenticationFailed | FailureClass::RateLimited | FailureClass::UpstreamUnavailable => {
                    return self.failed(id, &failure, again, poll, now);
                }
            },
        }
        self.observe(id, Arc::new(found), poll, now);
    }

    /// Applies an observation, unless it may be older than what has been applied; says where the task waits next.
    pub(super) fn observe(&mut self, id: TaskId, found: Arc<Task>, poll: u64, now: Instant) {
        let Some(polled) = self.tasks.get_mut(id) else { return };
        if polled.is_news(poll) {
            polled.seen(found, poll, self.gate.next_job(), now, &mut self.out);
        }
        self.settle(id, false, now);
    }

    /// A poll of one task failed. `again`: for want of a token, or by a rate limit.
    pub(super) fn failed(&mut self, id: TaskId, failure: &Failure, again: bool, poll: u64, now: Instant) {
        if again {
            return self.settle(id, true, now);
        }
        let Some(polled) = self.tasks.get_mut(id) else { return };
        if polled.is_news(poll) {
            if failure.class == FailureClass::NotFound {
                polled.missing(failure, poll, self.gate.next_job(), now, &mut self.out);
            } else {
                // Whether an absent upstream is back is for the breaker to find out: the task is not to blame, unless others are answered.
                let is_others =
                    failure.class == FailureClass::UpstreamUnavailable && self.gate.last_success() < polled.asked();
                if !is_others {
                    polled.failed();
                }
                polled.troubled(&Arc::new(failure.clone()), poll, now, &mut self.out);
            }
        }
        self.settle(id, false, now);
    }

    /// Says where a task waits after an answer; `again`: one that does not count, so that it is asked as soon as may be.
    fn settle(&mut self, id: TaskId, again: bool, now: Instant) {
        if self.sweep(id) {
            return;
        }
        if self.is_settled(id) {
            self.put(id, Place::Done);
        } else if self.is_owing(id) {
            // Registered while this was in flight: not for it.
            self.look_soon(id, now);
        } else if again {
            self.put(id, Place::Due(now));
        } else {
            self.await_turn(id, now);
        }
    }

    /// The question has had no answer that counts: it is asked again, if anybody still wants to know.
    pub(super) fn ask_again(&mut self, kind: JobKind, now: Instant) {
        match kind {
            // Whoever needs a token asks for one.
            JobKind::Authenticate => {}
            JobKind::List(scope, _) => self.restart_run(&scope, now),
            JobKind::Get(task) | JobKind::Subtasks(task) => {
                if let Some(id) = self.tasks.id(&task) {
                    self.settle(id, true, now);
                }
            }
        }
    }

    pub(super) fn is_settled(&self, id: TaskId) -> bool {
        self.tasks.get(id).is_some_and(PolledTask::is_settled)
    }

    fn is_owing(&self, id: TaskId) -> bool {
        self.tasks.get(id).is_some_and(PolledTask::is_owing)
    }
}
