//! How often the status of one watch may be written: a task that changes with every look costs the API server no more than any other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{contract::is_finished, mirror::has_seen};
use crate::{api::TaskWatchStatus, domain::cadence::later};

/// The least time between two writes, after so many that followed quickly upon one another.
const INTERVALS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
];

/// When the status was written lately. It is not in the status itself: a restart forgets it, and writes nothing by itself for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    last: Option<Timestamp>,
    /// Writes in a row that came within twice the interval of the one before; an index of [`INTERVALS`].
    quick: u8,
}

impl Pace {
    /// When the next write is due, where that is later than `now`.
    #[must_use]
    pub fn due(self, now: Timestamp) -> Option<Timestamp> {
        // A write in the future is of a clock that was ahead: it says nothing of how long ago it is.
        let last = self.last.filter(|last| *last <= now)?;
        Some(later(last, self.interval())).filter(|due| *due > now)
    }

    /// The pace after a write.
    #[must_use]
    pub fn written(self, now: Timestamp) -> Self {
        let calm = |last: Timestamp| last > now || later(last, self.interval() * 2) <= now;
        let quick = if self.last.is_none_or(calm) { 0 } else { (self.quick + 1).min(MOST_QUICK) };
        Self { last: Some(now), quick }
    }

    /// Whether few writes have followed quickly upon one another: one more would make no flood.
    #[must_use]
    pub fn is_calm(self) -> bool {
        self.quick < 2
    }

    /// The clock was stepped so far since the last write.
    pub fn step_clock(&mut self, step: SignedDuration) {
        self.last = self.last.map(|last| last.checked_add(step).unwrap_or(last));
    }

    fn interval(self) -> Duration {
        INTERVALS.get(usize::from(self.quick)).copied().unwrap_or(Duration::from_mins(1))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "there are five")]
const MOST_QUICK: u8 = INTERVALS.len() as u8 - 1;

/// Whether a reader must not be kept waiting for what is new: an end, which task it is, a first observation, the answer to a change of the
/// specification or to a requested look.
pub(super) fn cannot_wait(old: &TaskWatchStatus, new: &TaskWatchStatus) -> bool {
    let id = |status: &TaskWatchStatus| status.task.as_ref().and_then(|task| task.id.clone());
    is_finished(new)
        || !has_seen(old) && has_seen(new)
        || id(old).is_none() && id(new).is_some()
        || old.observed_generation != new.observed_generation
        || old.last_handled_reconcile_at != new.last_handled_reconcile_at
}
