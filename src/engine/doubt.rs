//! Whose fault a refusal is: that of the connection's credential, or of the one task or scope that was asked for.
//!
//! A credential is given up only after it was refused for something else, too, if there is anything else: best for what it was good for
//! before ([`super::planner`] asks for that at once). Until then nothing is concluded from the refusal. What was refused alone is
//! that task's or scope's own affair.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::tasks::TaskId;
use crate::{domain::failure::Failure, tenancy::Tenant};

/// What is asked for by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Task(TaskId),
    Scope(Arc<str>),
}

/// A refused request whose consequences are not drawn yet.
#[derive(Debug)]
pub(super) struct Refused {
    pub subject: Subject,
    /// The number of the poll's first job.
    pub poll: u64,
    /// Of a list: the first page.
    pub is_first: bool,
    pub failure: Failure,
}

/// The doubt, if there is one, and the refusals of late.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    refused: Vec<Refused>,
    /// Answers to jobs from this one on decide.
    since: u64,
    /// What is asked for to find out.
    witness: Option<Subject>,
    /// The newest one that was found to be its task's or scope's own.
    last: Option<Arc<Failure>>,
    log: VecDeque<(Instant, Tenant)>,
}

/// So long a refusal is remembered: Huawei Cloud locks an access key for 5 minutes after 5 failures (upstreams.md §2.3).
const MEMORY: Duration = Duration::from_mins(5);
/// So many refusals may there be in that time, whatever is asked for.
const MOST: usize = 4;
/// So many may be caused by what has not been good yet: the rest is left for finding out whether the credential is good at all.
const MOST_DOUBTFUL: usize = 3;
/// So many of these by one tenant.
const MOST_OF_TENANT: usize = 2;

impl Doubt {
    /// Whether something was refused and it is not known yet why.
    pub(super) fn is_open(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether the refusal of `subject` is to be doubted together with those that are.
    pub(super) fn is_about(&self, subject: &Subject) -> bool {
        self.refused.iter().any(|refused| refused.subject == *subject)
    }

    /// Whether `subject` is the one that was asked for to find out.
    pub(super) fn is_witness(&self, subject: &Subject) -> bool {
        self.is_open() && self.witness.as_ref() == Some(subject)
    }

    /// Puts a refusal in doubt; `witness` is to be asked for, where nothing is yet.
    pub(super) fn add(&mut self, refused: Refused, witness: Option<Subject>, next_job: u64) {
        if !self.is_open() {
            (self.since, self.witness) = (next_job, witness);
        }
        self.refused.push(refused);
    }

    /// An answer to `job` about `subject` came that shows that the credential is good. Returns what was refused on its own account.
    pub(super) fn is_settled_by(&mut self, job: u64, subject: &Subject) -> Vec<Refused> {
        if job < self.since || self.is_about(subject) { Vec::new() } else { self.close() }
    }

    /// Ends the doubt. Returns what was refused.
    pub(super) fn close(&mut self) -> Vec<Refused> {
        self.witness = None;
        std::mem::take(&mut self.refused)
    }

    /// A credential was refused for a task or scope of `tenant`.
    pub(super) fn note(&mut self, tenant: &Tenant, now: Instant) {
        self.expire(now);
        self.log.push_back((now, tenant.clone()));
    }

    /// A refusal was found to be its task's or scope's own.
    pub(super) fn is_own(&mut self, failure: &Failure) {
        self.last = Some(Arc::new(failure.clone()));
    }

    /// Why what has not been good yet has to wait.
    pub(super) fn last(&self) -> Option<&Arc<Failure>> {
        self.last.as_ref()
    }

    /// Another credential: refusals of the old one do not count.
    pub(super) fn forget(&mut self) {
        self.log.clear();
        self.last = None;
    }

    /// When the last one was.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.log.back().map(|(at, _)| *at)
    }

    /// How many refusals there were of late.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.log.len()
    }

    /// Whether one more refusal, whoever causes it, would be too many.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.count(now) >= MOST
    }

    /// When one more refusal may be risked at all.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let at = self.log.len().checked_sub(MOST)?;
        self.log.get(at).map(|(at, _)| *at + MEMORY)
    }

    /// When something of `tenant` may be asked for that has not been good yet; none for at once.
    pub(super) fn doubtful_ready_at(&self, tenant: &Tenant, now: Instant) -> Option<Instant> {
        let nth_last = |times: &mut dyn DoubleEndedIterator<Item = Instant>, most: usize| times.rev().nth(most - 1);
        let all = nth_last(&mut self.log.iter().map(|(at, _)| *at), MOST_DOUBTFUL);
        let own = self.log.iter().filter(|(_, of)| of == tenant).map(|(at, _)| *at);
        let own = nth_last(&mut own.collect::<Vec<_>>().into_iter(), MOST_OF_TENANT);
        all.max(own).map(|at| at + MEMORY).filter(|at| *at > now)
    }

    fn expire(&mut self, now: Instant) {
        while self.log.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= MEMORY) {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::FailureClass;

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    fn scope(name: &str) -> Subject {
        Subject::Scope(Arc::from(name))
    }

    fn refused(name: &str) -> Refused {
        let failure = Failure::new(FailureClass::AuthenticationFailed, "no");
        Refused { subject: scope(name), poll: 1, is_first: true, failure }
    }

    #[test]
    fn only_a_later_answer_about_something_else_settles_a_doubt() {
        let mut doubt = Doubt::default();
        doubt.add(refused("a"), Some(scope("b")), 5);
        assert!(doubt.is_witness(&scope("b")) && !doubt.is_witness(&scope("c")));
        assert!(doubt.is_settled_by(4, &scope("b")).is_empty(), "asked before the refusal came");
        assert!(doubt.is_settled_by(6, &scope("a")).is_empty(), "the same again");
        assert_eq!(doubt.is_settled_by(6, &scope("b")).len(), 1);
        assert!(!doubt.is_open() && !doubt.is_witness(&scope("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_good_leaves_refusals_to_spare() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        let later = now + Duration::from_secs(10);
        doubt.note(&tenant("a"), now);
        assert_eq!(doubt.doubtful_ready_at(&tenant("a"), now), None);
        doubt.note(&tenant("a"), later);
        assert_eq!(doubt.doubtful_ready_at(&tenant("a"), later), Some(now + MEMORY));
        assert_eq!(doubt.doubtful_ready_at(&tenant("b"), later), None, "another tenant still may");
        doubt.note(&tenant("b"), later);
        assert_eq!(doubt.doubtful_ready_at(&tenant("c"), later), Some(now + MEMORY));
        assert!(!doubt.is_full(later) && doubt.ready_at().is_none());
        doubt.note(&tenant("c"), later);
        assert!(doubt.is_full(later));
        assert_eq!(doubt.ready_at(), Some(now + MEMORY));
        assert!(!doubt.is_full(now + MEMORY));
    }
}
