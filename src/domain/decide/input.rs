//! What a decision rests on: the object, the news of its task, and the operator's settings.

use std::time::Duration;

use jiff::Timestamp;

use super::{contract::is_finished, pace::Pace};
use crate::{
    api::{TaskWatchSpec, TaskWatchStatus, bounds},
    domain::{
        availability::Unavailable,
        cadence::later,
        conditions::{self, find},
        failure::Failure,
        target::Target,
        task::Task,
    },
};

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Of the object's metadata.
    pub meta: Meta<'a>,
    /// What is asked for.
    pub spec: &'a TaskWatchSpec,
    /// The status that the API server acknowledged last; the schema's default counts as none.
    pub status: Option<&'a TaskWatchStatus>,
    /// The scope that the task is asked for in, the watch's or else the connection's own; or why the connection cannot be used.
    pub connection: Result<&'a str, &'a Unavailable>,
    /// Which task that is.
    pub task: Target<'a>,
    /// The latest news of the task in this process; of a task that is looked for, that it cannot be looked for.
    pub observation: Observation<'a>,
    /// The observation, good or bad, was asked for after the present [`Meta::requested_at`] was set.
    pub refreshed: bool,
    /// Since when this process has been asking for the task: its start, or when the connection became usable or the watch was resumed.
    pub asking_since: Timestamp,
    /// Since when the upstream has not known the task: `status.notFoundSince`, by the clock of now should it have been stepped.
    pub not_found_since: Option<Timestamp>,
    /// The present poll period.
    pub period: Duration,
    /// When the status was written lately.
    pub pace: Pace,
    /// The operator's settings.
    pub settings: Settings,
}

impl<'a> Input<'a> {
    /// The status that the operator wrote last; the schema's default is none.
    pub(super) fn written(&self) -> Option<&'a TaskWatchStatus> {
        self.status.filter(|status| status.observed_generation.is_some_and(|generation| generation >= 0))
    }

    /// Whether the upstream is being asked: else what was observed before says nothing of now.
    pub(super) fn is_asking(&self) -> bool {
        !self.spec.suspend && self.connection.is_ok() && matches!(self.task, Target::Known(_))
    }

    /// Whether it is to be found out which task it is.
    #[must_use]
    pub fn is_seeking(&self, now: Timestamp) -> bool {
        matches!(self.task, Target::Sought(_))
            && !self.spec.suspend
            && self.connection.is_ok()
            && !self.is_overdue(now)
            && !self.written().is_some_and(is_finished)
    }

    /// The task's identifier, where the specification does not give it and the status does not show it yet: nobody could tell after a
    /// restart which task it was.
    pub(super) fn is_untold(&self) -> bool {
        let shown = self.written().and_then(|status| status.task.as_ref()?.id.as_deref());
        matches!(self.task, Target::Known(id) if self.spec.task.id.is_none() && shown != Some(id))
    }

    /// When the watch's time is up.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.spec.active_deadline().map(|limit| later(self.meta.created, limit))
    }

    /// Whether the watch's time is up.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// When the object may go: the time to live counts from when it became finished.
    pub(super) fn ttl_end(&self, status: Option<&TaskWatchStatus>) -> Option<Timestamp> {
        let ttl = self.spec.ttl().filter(|_| !self.keeps_ttl())?;
        let finished =
            find(&status?.conditions, conditions::FINISHED).filter(|condition| condition.status == conditions::TRUE)?;
        Some(later(finished.last_transition_time.0, ttl))
    }

    /// Whether the time to live is not acted upon, because whoever tracks the object would make it again.
    pub(super) fn keeps_ttl(&self) -> bool {
        self.meta.tracked && !self.meta.allow_ttl
    }

    /// Whether the look that was requested has been had, with whatever result.
    pub(super) fn has_looked(&self) -> bool {
        self.refreshed && !matches!(self.observation, Observation::None)
    }

    /// Whether a look is requested that has not been acted upon yet.
    pub(super) fn wants_refresh(&self) -> bool {
        let handled = self.status.and_then(|status| status.last_handled_reconcile_at.as_deref());
        self.requested().is_some_and(|requested| Some(requested) != handled)
    }

    /// The request to look, as far as it is echoed.
    pub(super) fn requested(&self) -> Option<&'a str> {
        self.meta.requested_at.map(|value| &value[..value.floor_char_boundary(bounds::ANNOTATION)])
    }
}

/// What counts of an object's metadata.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// `metadata.generation`
    pub generation: i64,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// `metadata.uid`: spreads what many objects would do at the same time.
    pub uid: &'a str,
    /// Of the annotations `taskwatch.dev/requestedAt` and `reconcile.fluxcd.io/requestedAt`, the one that changed last.
    pub requested_at: Option<&'a str>,
    /// Argo CD, Flux or Helm tracks the object and would make it again.
    pub tracked: bool,
    /// The annotation `taskwatch.dev/allow-ttl` is `"true"`.
    pub allow_ttl: bool,
}

/// The latest news of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation<'a> {
    /// None since this process began to ask.
    None,
    /// The upstream showed it.
    Seen {
        task: &'a Task,
        /// When it was asked for.
        at: Timestamp,
    },
    /// The upstream said that it does not know it.
    NotFound {
        /// The first time in a row, trouble in between not counted.
        since: Timestamp,
        /// The last time.
        at: Timestamp,
        /// In which words.
        failure: &'a Failure,
    },
    /// The upstream could not be asked, or gave no usable answer.
    Trouble {
        /// The last failure.
        failure: &'a Failure,
        /// The first one in a row.
        since: Timestamp,
        /// The last one.
        at: Timestamp,
    },
}

/// Settings of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Progress alone is written at most once in this time.
    pub progress_every: Duration,
    /// Progress alone is written in steps of so many points.
    pub progress_step: i32,
    /// So long a first answer is waited for before the status says that one is awaited.
    pub first_answer: Duration,
    /// So long, or three periods, trouble must last before the status shows it.
    pub trouble: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_every: Duration::from_secs(30),
            progress_step: 5,
            first_answer: Duration::from_secs(2),
            trouble: Duration::from_secs(30),
        }
    }
}
