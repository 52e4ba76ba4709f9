//! Whose fault a refusal is: that of the connection's credential, or of the one task or scope that was asked for.
//!
//! A credential is given up only after it was refused for something else, too, if there is anything else: best for what it was good for
//! before ([`super::refusals`] asks for that at once). Until then nothing is concluded from the refusal. What was refused alone is
//! that task's or scope's own affair.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{gate::Care, tasks::TaskId};
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
    /// Until when it may be decided.
    until: Option<Instant>,
    /// What is asked for to find out.
    witness: Option<Subject>,
    /// The newest one that was found to be its task's or scope's own.
    last: Option<Arc<Failure>>,
    log: VecDeque<(Instant, Tenant)>,
    /// Jobs from this one on were asked for after the last refusal.
    noted: u64,
    /// What is asked for before all else, to find out whether a failure is the connection's.
    ask_first: Option<Subject>,
    /// What the connection's present silence comes from: it is not what is asked first afterwards.
    held_for: Option<Subject>,
    /// Whose refusal alone it comes from, where nothing of another tenant could be asked for.
    unconfirmed: Option<Tenant>,
}

/// So long a refusal is remembered: Huawei Cloud locks an access key for 5 minutes after 5 failures (upstreams.md §2.3).
const MEMORY: Duration = Duration::from_mins(5);
/// So many refusals may there be in that time, whatever is asked for.
const MOST: usize = 4;
/// So many may be caused by what has not been good yet: the rest is left for finding out whether the credential is good at all.
const MOST_DOUBTFUL: usize = 3;
/// A doubt is open no longer than this: so many of them in a row, each of one refusal, are no more than may be.
pub(super) const LONGEST: Duration = Duration::from_secs(75);
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
    pub(super) fn add(&mut self, refused: Refused, witness: Option<Subject>, next_job: u64, now: Instant) {
        if !self.is_open() {
            (self.since, self.witness, self.until) = (next_job, witness, Some(now + LONGEST));
        }
        self.refused.push(refused);
    }

    /// An answer to `job` about `subject` came that shows that the credential is good. Returns what was refused on its own account.
    pub(super) fn is_settled_by(&mut self, job: u64, subject: &Subject) -> Vec<Refused> {
        if job < self.since || self.is_about(subject) { Vec::new() } else { self.close() }
    }

    /// Ends the doubt. Returns what was refused.
    pub(super) fn close(&mut self) -> Vec<Refused> {
        (self.witness, self.until) = (None, None);
        std::mem::take(&mut self.refused)
    }

    /// When it ends undecided; none where there is no doubt.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The first job whose answer could have decided it.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// A credential was refused for a task or scope of `tenant`.
    pub(super) fn note(&mut self, tenant: &Tenant, next_job: u64, now: Instant) {
        self.expire(now);
        self.noted = next_job;
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
        (self.held_for, self.ask_first, self.unconfirmed) = (None, None, None);
    }

    /// How careful requests have to be for what is in doubt.
    pub(super) fn care(&self) -> Care {
        if self.ask_first.is_some() {
            Care::AtOnce
        } else if self.is_open() {
            Care::Few
        } else {
            Care::Usual
        }
    }

    /// Whether something is to be asked for before all else.
    pub(super) fn asks_first(&self) -> bool {
        self.ask_first.is_some()
    }

    /// Has this asked for before all else; with none, nothing is.
    pub(super) fn ask_first(&mut self, subject: Option<Subject>) {
        self.ask_first = subject;
    }

    /// What is to be asked for before all else: once.
    pub(super) fn take_first(&mut self) -> Option<Subject> {
        self.ask_first.take()
    }

    /// The connection's silence comes from this.
    pub(super) fn blame(&mut self, subject: &Subject) {
        self.held_for = Some(subject.clone());
    }

    /// The silence is over.
    pub(super) fn absolve(&mut self) {
        self.held_for = None;
    }

    /// What the silence comes from.
    pub(super) fn blamed(&self) -> Option<&Subject> {
        self.held_for.as_ref()
    }

    /// The connection is silent for what this tenant alone has met with; none where another has, too.
    pub(super) fn rests_upon(&mut self, tenant: Option<Tenant>) {
        self.unconfirmed = tenant;
    }

    /// Whether it became silent without a word of this tenant.
    pub(super) fn may_be_settled_by(&self, tenant: &Tenant) -> bool {
        self.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed != tenant)
    }

    /// Whether `job` was on its way already when the last refusal came.
    pub(super) fn was_asked_before(&self, job: u64) -> bool {
        !self.log.is_empty() && job < self.noted
    }

    /// Whether one more refusal, whoever causes it, would be too many. `is_shared`: not those of one tenant alone decide that.
    pub(super) fn is_full(&mut self, is_shared: bool, now: Instant) -> bool {
        self.expire(now);
        let each = if is_shared { MOST - 1 } else { MOST };
        self.latest(each).count() >= MOST
    }

    /// When one more refusal may be risked at all.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let at = self.log.len().checked_sub(MOST)?;
        self.log.get(at).map(|(at, _)| *at + MEMORY)
    }

    /// When something of `tenant` may be asked for that has not been good yet; none for at once.
    pub(super) fn doubtful_ready_at(&self, tenant: &Tenant, now: Instant) -> Option<Instant> {
        let all = self.latest(MOST_OF_TENANT).nth(MOST_DOUBTFUL - 1);
        let own = self.log.iter().rev().filter(|(_, of)| of == tenant).nth(MOST_OF_TENANT - 1);
        all.max(own.map(|(at, _)| *at)).map(|at| at + MEMORY).filter(|at| *at > now)
    }

    /// The refusals, newest first, and no more than `each` of a tenant: requests that were on their way together may all be refused, and
    /// that is no reason to let others wait.
    fn latest(&self, each: usize) -> impl Iterator<Item = Instant> {
        let mut counts = HashMap::new();
        self.log.iter().rev().filter_map(move |(at, tenant)| {
            let count = counts.entry(tenant).or_insert(0);
            *count += 1;
            (*count <= each).then_some(*at)
        })
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
        doubt.add(refused("a"), Some(scope("b")), 5, Instant::now());
        assert!(doubt.is_witness(&scope("b")) && !doubt.is_witness(&scope("c")));
        assert!(doubt.is_settled_by(4, &scope("b")).is_empty(), "asked before the refusal came");
        assert!(doubt.is_settled_by(6, &scope("a")).is_empty(), "the same again");
        assert_eq!(doubt.is_settled_by(6, &scope("b")).len(), 1);
        assert!(!doubt.is_open() && !doubt.is_witness(&scope("b")));
    }

    #[test]
    fn what_was_on_its_way_when_a_refusal_came_is_told_from_what_was_not() {
        let mut doubt = Doubt::default();
        assert!(!doubt.was_asked_before(0), "there was none");
        doubt.note(&tenant("a"), 5, Instant::now());
        assert!(doubt.was_asked_before(4) && !doubt.was_asked_before(5));
        doubt.forget();
        assert!(!doubt.was_asked_before(4));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_good_leaves_refusals_to_spare() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        let later = now + Duration::from_secs(10);
        doubt.note(&tenant("a"), 1, now);
        assert_eq!(doubt.doubtful_ready_at(&tenant("a"), now), None);
        doubt.note(&tenant("a"), 1, later);
        assert_eq!(doubt.doubtful_ready_at(&tenant("a"), later), Some(now + MEMORY));
        assert_eq!(doubt.doubtful_ready_at(&tenant("b"), later), None, "another tenant still may");
        doubt.note(&tenant("b"), 1, later);
        assert_eq!(doubt.doubtful_ready_at(&tenant("c"), later), Some(now + MEMORY));
        assert!(!doubt.is_full(true, later) && doubt.ready_at().is_none());
        doubt.note(&tenant("c"), 1, later);
        assert!(doubt.is_full(true, later));
        assert_eq!(doubt.ready_at(), Some(now + MEMORY));
        assert!(!doubt.is_full(true, now + MEMORY));
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_tenant_sent_at_once_does_not_count_against_others() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        for _ in 0..8 {
            doubt.note(&tenant("a"), 1, now);
        }
        assert_eq!(doubt.doubtful_ready_at(&tenant("b"), now), None);
        assert!(
            doubt.is_full(false, now) && !doubt.is_full(true, now),
            "what others see succeed is not given up for one of them"
        );
        assert_eq!(doubt.doubtful_ready_at(&tenant("a"), now), Some(now + MEMORY));
        doubt.note(&tenant("b"), 1, now);
        assert_eq!(doubt.doubtful_ready_at(&tenant("c"), now), Some(now + MEMORY));
        assert!(doubt.is_full(true, now));
    }
}
