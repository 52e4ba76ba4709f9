//! What is known of one watch, and of one connection; and what news mean for it: of whose hand a status is, what a stepped clock moves, what
//! an acknowledged write makes needless.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::{
    access::Claim,
    kept::Kept,
    objects::{ConnectionObject, WatchObject},
    quarantine::Quarantine,
    resolve::Compiled,
    search::Search,
    write::allowance::Allowance,
};
use crate::{
    api::{ConnectionStatus, TaskWatchStatus},
    domain::{
        availability::Availability,
        decide::{Event, Pace},
        target::Target,
    },
    engine::{ConnectionHealth, Report},
    tenancy::pool::Lease,
};

/// A `TaskWatch` and all that is known of it.
#[derive(Debug)]
pub struct WatchEntry {
    pub object: Arc<WatchObject>,
    /// How its task is found; none where it is named.
    pub search: Option<Search>,
    /// Its status as last acknowledged by the API server.
    pub status: Option<Kept>,
    /// The memory that this takes, of its namespace's share.
    room: Lease,
    /// The resource version of that.
    pub version: u64,
    /// What the engine said last; none when the status shows it.
    pub observation: Option<Box<(u64, Report<Timestamp>)>>,
    /// Whether no worker has looked at that yet.
    pub unread: bool,
    /// The ticket of the newest registration, and the refresh request that it stands for.
    pub ticket: u64,
    /// The refresh request that the ticket was made for.
    pub ticket_for: Option<String>,
    /// What the engine was asked for, to tell whether something else is wanted now.
    pub registered: Option<u64>,
    /// Events of a write that was not acknowledged, and the status that it would have made.
    pub unconfirmed: Option<Box<(Kept, Vec<Event>)>>,
    /// Since when the engine has been asked for it without a break.
    pub asking_since: Timestamp,
    /// A `status.notFoundSince` of before the clock was stepped, and what it is by the present one.
    pub not_found_since: Option<Box<(Timestamp, Timestamp)>>,
    /// Writes that failed in a row.
    pub failures: u32,
    /// When it was written lately.
    pub pace: Pace,
    /// What may still be told of it.
    pub allowance: Allowance,
    /// It is left alone, after a panic over it.
    pub quarantine: Option<Quarantine>,
    /// Its last write was put off, for want of a share.
    pub put_off: bool,
    /// Whether it is over with.
    pub finished: bool,
}

/// A connection and all that is known of it.
#[derive(Debug)]
pub struct ConnectionEntry {
    pub object: Arc<ConnectionObject>,
    /// Its status as last acknowledged.
    pub status: Option<ConnectionStatus>,
    /// The resource version of that.
    pub version: u64,
    /// Whether watches may use it; none until its Secret has been looked for.
    pub availability: Option<Availability>,
    /// What the engine said last.
    pub health: Option<ConnectionHealth>,
    /// What its specification comes to, since it was last asked for.
    pub compiled: Option<Arc<Compiled>>,
    /// The identity and bounds that the engine was given, to tell whether they changed.
    pub fingerprint: Option<u64>,
    /// Reconciliations that failed in a row.
    pub failures: u32,
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

impl WatchEntry {
    /// A watch of which nothing is known but the object; what is kept of its status takes `room`.
    pub(super) fn new(object: Arc<WatchObject>, search: Option<Search>, version: u64, room: Lease) -> Self {
        Self {
            object,
            search,
            status: None,
            room,
            version,
            observation: None,
            unread: false,
            ticket: 1,
            ticket_for: None,
            registered: None,
            unconfirmed: None,
            asking_since: Timestamp::UNIX_EPOCH,
            not_found_since: None,
            failures: 0,
            pace: Pace::default(),
            allowance: Allowance::default(),
            quarantine: None,
            put_off: false,
            finished: false,
        }
    }

    /// Which task it is of, as far as that is known.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match (&self.object.spec.task.id, &self.search) {
            (Some(id), _) => Target::Known(id),
            (None, Some(search)) => search.target(),
            // There is always one or the other.
            (None, None) => Target::Known(""),
        }
    }

    /// What it asks of its connection.
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        let claim = self.object.claim();
        match self.target() {
            Target::Known(id) if claim.task.is_none() => {
                Claim { task: Some(id), task_field: "status.task.id", ..claim }
            }
            _ => claim,
        }
    }

    /// Has something done to the search for its task, if there is one.
    pub fn search(&mut self, act: impl FnOnce(&mut Search, &WatchObject)) {
        if let Some(search) = &mut self.search {
            act(search, &self.object);
        }
    }

    /// Whether nothing has been said of it yet.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let is_blank = |status: TaskWatchStatus| status.conditions.is_empty();
        self.status.as_ref().is_none_or(|kept| kept.unpack().is_some_and(is_blank))
    }

    /// When the task was seen, where that is the newest news of it.
    #[must_use]
    pub fn seen(&self) -> Option<Timestamp> {
        match self.observation.as_deref() {
            Some((_, Report::Seen { at, .. })) => Some(*at),
            _ => None,
        }
    }

    /// Since when the upstream has not known the task, by the present clock: what its status says, unless the clock was stepped since.
    #[must_use]
    pub fn not_found_since(&self, status: Option<&TaskWatchStatus>) -> Option<Timestamp> {
        let told = status?.not_found_since.as_ref()?.0;
        Some(match self.not_found_since.as_deref() {
            Some((of, meant)) if *of == told => *meant,
            _ => told,
        })
    }

    /// It is not polled any more. That it cannot be asked for is no news from then on; what was seen of it is.
    pub fn call_off(&mut self) {
        self.registered = None;
        self.search(Search::call_off);
        self.observation = self.observation.take().filter(|seen| matches!(seen.1, Report::Seen { .. }));
    }

    /// Takes over a status that the API server shows.
    pub(super) fn take_status(&mut self, status: Option<Kept>) {
        let is_ours = self.unconfirmed.as_deref().is_some_and(|(written, _)| status.as_ref() == Some(written));
        if !is_ours && self.observation.is_none() {
            // Written by somebody else, or by ourselves when the answer was lost. What it should say is not kept: a fresh look tells.
            self.ticket += 1;
        }
        self.keep(status);
    }

    /// Keeps a status, as far as there is room for it.
    pub fn keep(&mut self, status: Option<Kept>) {
        self.room.shrink_to(0);
        self.status = status.map(|status| status.within(&mut self.room));
    }

    /// The clock by which all of this was noted has been stepped so far.
    pub(super) fn step_clock(&mut self, step: SignedDuration) {
        let status = self.status.as_ref().and_then(Kept::unpack);
        let told = status.as_ref().and_then(|status| status.not_found_since.as_ref());
        let meant = self.not_found_since(status.as_ref()).map(|since| stepped(since, step));
        self.not_found_since = told.zip(meant).map(|(told, meant)| Box::new((told.0, meant)));
        self.asking_since = stepped(self.asking_since, step);
        self.pace.step_clock(step);
        self.search(|search, _| search.step_clock(step));
        if let Some((_, report)) = self.observation.as_deref_mut() {
            for time in report.times_mut() {
                *time = stepped(*time, step);
            }
        }
        // What was concluded by a wrong clock is mended by the next look, even if that shows nothing new.
        self.ticket += 1;
    }

    /// A status is about to be written, with these events: should the answer be lost, the watch of the API server shows whether it arrived.
    pub fn writes(&mut self, status: &Kept, events: &[Event]) {
        self.unconfirmed = Some(Box::new((status.digest(), events.to_vec())));
    }

    /// The API server acknowledged a write.
    pub fn is_written(&mut self, written: Written) {
        if written.version >= self.version {
            self.keep(written.status);
            self.version = written.version;
        }
        self.unconfirmed = None;
        self.failures = 0;
        self.pace = self.pace.written(written.decided);
        self.finished = written.finished;
        // What the status shows need not be kept.
        if written.seen.is_some() && written.seen == self.seen() {
            self.observation = None;
        }
    }

    /// A write found another object, or none.
    pub fn is_gone(&mut self) {
        self.unconfirmed = None;
    }

    /// It could not be brought up to date. Returns how often that has failed in a row.
    pub fn failed(&mut self) -> u32 {
        self.failures += 1;
        self.failures
    }

    /// There was a panic over it: it is left alone. Returns for how long.
    pub fn set_aside(&mut self, now: Instant) -> Duration {
        let quarantine = Quarantine::after(self.quarantine, now);
        self.quarantine = Some(quarantine);
        quarantine.lasts(now).map_or(Duration::ZERO, |until| until - now)
    }

    /// Its connection was closed in the engine, with all that was registered there.
    pub fn disconnected(&mut self) {
        self.registered = None;
    }
}

impl ConnectionEntry {
    /// A connection of which nothing is known but what the API server shows.
    pub(super) fn new(object: Arc<ConnectionObject>, status: Option<ConnectionStatus>, version: u64) -> Self {
        Self {
            object,
            status,
            version,
            availability: None,
            health: None,
            compiled: None,
            fingerprint: None,
            failures: 0,
        }
    }

    /// The API server acknowledged a write.
    pub fn is_written(&mut self, status: ConnectionStatus, version: u64) {
        if version >= self.version {
            (self.status, self.version) = (Some(status), version);
        }
    }

    /// It was looked at: whether it can be used, and what the engine has open of it. Returns whether the former is news.
    pub fn is_settled(&mut self, availability: Availability, fingerprint: Option<u64>) -> bool {
        (self.failures, self.fingerprint) = (0, fingerprint);
        let is_news = self.availability.as_ref() != Some(&availability);
        self.availability = Some(availability);
        is_news
    }

    /// It could not be brought up to date. Returns how often that has failed in a row.
    pub fn failed(&mut self) -> u32 {
        self.failures += 1;
        self.failures
    }
}

fn stepped(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(time)
}
