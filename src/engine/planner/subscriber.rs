//! One of those who watch a task: what is owed to it, and what it has been told.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::{Delivery, Report, Subscription, WatchKey};
use crate::{domain::cadence::Bounds, tenancy::Tenant};

/// One subscriber of a task.
#[derive(Debug)]
pub struct Subscriber {
    key: WatchKey,
    /// On whose account.
    tenant: Tenant,
    /// What to echo.
    ticket: u64,
    /// Answers to jobs with a smaller number were asked for before this watch existed.
    from_job: u64,
    /// Whether the next report is due to it even if it says nothing new.
    owed: bool,
    /// Whether it has been told that the task is finished: nothing follows that but for a new ticket.
    settled: bool,
    /// The period at the start.
    period: Duration,
    /// The longest period.
    max_period: Duration,
}

impl Subscriber {
    /// A subscriber that is registered now, when the next job will be `next_job`: it is owed the first report.
    pub fn new(key: WatchKey, wanted: &Subscription, next_job: u64) -> Self {
        Self {
            key,
            tenant: wanted.tenant.clone(),
            ticket: wanted.ticket,
            from_job: next_job,
            owed: true,
            settled: false,
            period: wanted.period,
            max_period: wanted.max_period,
        }
    }

    /// It wants something else. Returns whether that is a fresh look, by a new ticket.
    pub fn change(&mut self, wanted: &Subscription, next_job: u64) -> bool {
        (self.period, self.max_period) = (wanted.period, wanted.max_period);
        let is_new = self.ticket != wanted.ticket;
        if is_new {
            (self.ticket, self.from_job, self.owed, self.settled) = (wanted.ticket, next_job, true, false);
        }
        is_new
    }

    /// Who it is.
    pub fn key(&self) -> &WatchKey {
        &self.key
    }

    /// Whether it is this one.
    pub fn is(&self, key: &WatchKey) -> bool {
        self.key == *key
    }

    /// On whose account it watches.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Whether it waits for a report that it has been promised.
    pub fn is_owed(&self) -> bool {
        self.owed
    }

    /// Whether it knows that the task is finished.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// There is news. It is owed that, even where the answer that brought it is too old for it.
    pub fn owe(&mut self) {
        self.owed |= !self.settled;
    }

    /// Whether it may have the answer to a poll that began with this job: it was registered before.
    pub fn may_have(&self, poll: u64) -> bool {
        self.from_job <= poll
    }

    /// It may have answers to what was asked from this job on, though it was registered later.
    pub fn may_have_since(&mut self, job: u64) {
        self.from_job = self.from_job.min(job);
    }

    /// Whether it is owed that answer.
    pub fn awaits(&self, poll: u64) -> bool {
        self.owed && self.may_have(poll)
    }

    /// It is told.
    pub fn tell(&mut self, report: Report<Instant>) -> Delivery<Instant> {
        debug_assert!(self.owed, "nobody is told what it was told before");
        self.owed = false;
        self.settled = matches!(&report, Report::Seen { task, .. } if task.state.is_finished());
        Delivery { key: self.key.clone(), ticket: self.ticket, report }
    }

    /// The bounds of its periods, within those of the connection.
    pub fn bounds(&self, floor: Duration, ceiling: Duration) -> Bounds {
        Bounds { start: self.period, max: self.max_period, floor, ceiling }
    }
}
