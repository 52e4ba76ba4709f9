//! What the API server holds of a watch's status, and what of our own writing it has not acknowledged yet.

use jiff::{SignedDuration, Timestamp};

use super::super::kept::Kept;
use crate::{
    domain::decide::{Event, Pace},
    tenancy::pool::Lease,
};

/// The status of a watch as it was last acknowledged, or shown.
#[derive(Debug)]
pub struct Published {
    status: Option<Kept>,
    /// The memory that this takes, of its namespace's share.
    room: Lease,
    /// The resource version of the object with that status.
    version: u64,
    /// Events of a write that was not acknowledged, and the status that it would have made.
    unconfirmed: Option<Box<(Kept, Vec<Event>)>>,
    /// When it was written lately.
    pace: Pace,
    /// Whether it says that the watch is over.
    is_finished: bool,
}

/// A write that the API server acknowledged.
#[derive(Debug)]
pub struct Written {
    /// The status, as far as it can be kept.
    pub status: Option<Kept>,
    /// Its resource version.
    pub version: u64,
    /// When it was decided.
    pub decided: Timestamp,
    /// When what it shows was seen.
    pub seen: Option<Timestamp>,
    /// Whether it says that the watch is over.
    pub finished: bool,
}

impl Published {
    /// The status of an object of this version, kept in `room`.
    pub(super) fn new(status: Option<Kept>, version: u64, room: Lease) -> Self {
        let mut published =
            Self { status: None, room, version, unconfirmed: None, pace: Pace::default(), is_finished: false };
        published.keep(status);
        published
    }

    /// The status, or its digest; none where there is none.
    #[must_use]
    pub fn status(&self) -> Option<&Kept> {
        self.status.as_ref()
    }

    /// The resource version of the object with that status.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was written lately.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether it says that the watch is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether nothing has been said of the watch yet.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.status.as_ref().is_none_or(|kept| kept.unpack().is_some_and(|status| status.conditions.is_empty()))
    }

    /// Events of a write that was not acknowledged, of which the status shows that it arrived.
    #[must_use]
    pub fn arrived(&self) -> &[Event] {
        match self.unconfirmed.as_deref() {
            Some((written, events)) if self.status.as_ref() == Some(written) => events,
            _ => &[],
        }
    }

    /// Keeps a status, as far as there is room for it.
    pub fn keep(&mut self, status: Option<Kept>) {
        self.room.shrink_to(0);
        self.status = status.map(|status| status.within(&mut self.room));
    }

    /// Takes in what the watch of the API server shows, which may lag behind our own writes. Returns whether it is a status that is not known
    /// to be ours: somebody else's, or our own when the answer to the write was lost.
    pub(super) fn take_in(&mut self, status: Option<Kept>, version: u64) -> bool {
        if version < self.version {
            return false;
        }
        self.version = version;
        if status == self.status {
            return false;
        }
        let is_ours = self.unconfirmed.as_deref().is_some_and(|(written, _)| status.as_ref() == Some(written));
        self.keep(status);
        !is_ours
    }

    /// The API server tells another history: any version is news.
    pub(super) fn history_replaced(&mut self) {
        self.version = 0;
    }

    /// A status is about to be written, with these events: should the answer be lost, the watch of the API server shows whether it arrived.
    pub fn is_sent(&mut self, status: &Kept, events: &[Event]) {
        self.unconfirmed = Some(Box::new((status.digest(), events.to_vec())));
    }

    /// The API server acknowledged a write.
    pub(super) fn is_written(&mut self, written: Written) {
        if written.version >= self.version {
            self.keep(written.status);
            self.version = written.version;
        }
        self.unconfirmed = None;
        self.pace = self.pace.written(written.decided);
        self.is_finished = written.finished;
    }

    /// A write found another object, or none.
    pub fn is_gone(&mut self) {
        self.unconfirmed = None;
    }

    /// It was looked at: what arrived is told, and whether the watch is over is known.
    pub fn is_looked_at(&mut self, finished: bool) {
        (self.unconfirmed, self.is_finished) = (None, finished);
    }

    /// Another replica has written meanwhile.
    pub(super) fn begin_anew(&mut self) {
        (self.unconfirmed, self.pace) = (None, Pace::default());
    }

    /// The clock was stepped so far.
    pub(super) fn step_clock(&mut self, step: SignedDuration) {
        self.pace.step_clock(step);
    }
}
