//! What is known of one watch, and of one connection; and what news mean for it: what a stepped clock moves, what an acknowledged write makes
//! needless, what another replica's work does.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    super::{
        access::Claim,
        kept::Kept,
        objects::{ConnectionObject, WatchObject},
        quarantine::Quarantine,
        resolve::Compiled,
        search::Search,
        write::allowance::Allowance,
    },
    interest::Interest,
    published::{Published, Written},
};
use crate::{
    api::{ConnectionStatus, TaskWatchStatus},
    domain::{availability::Availability, target::Target},
    engine::ConnectionHealth,
};

/// A `TaskWatch` and all that is known of it.
#[derive(Debug)]
pub struct WatchEntry {
    pub object: Arc<WatchObject>,
    /// How its task is found; none where it is named.
    pub search: Option<Search>,
    /// What the API server holds of its status.
    pub published: Published,
    /// What the engine was asked about it, and what it said.
    pub interest: Interest,
    /// What may still be told of it.
    pub allowance: Allowance,
    /// A `status.notFoundSince` of before the clock was stepped, and what it is by the present one.
    not_found_since: Option<Box<(Timestamp, Timestamp)>>,
    /// Reconciliations that failed in a row.
    failures: u32,
    /// It is left alone, after a panic over it.
    quarantine: Option<Quarantine>,
    /// Its last write was put off, for want of a share.
    put_off: bool,
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

impl WatchEntry {
    /// A watch of which nothing is known but what the API server shows.
    pub(super) fn new(
        object: Arc<WatchObject>,
        search: Option<Search>,
        published: Published,
        interest: Interest,
    ) -> Self {
        Self {
            object,
            search,
            published,
            interest,
            allowance: Allowance::default(),
            not_found_since: None,
            failures: 0,
            quarantine: None,
            put_off: false,
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

    /// Since when the upstream has not known the task, by the present clock: what its status says, unless the clock was stepped since.
    #[must_use]
    pub fn not_found_since(&self, status: Option<&TaskWatchStatus>) -> Option<Timestamp> {
        let told = status?.not_found_since.as_ref()?.0;
        Some(match self.not_found_since.as_deref() {
            Some((of, meant)) if *of == told => *meant,
            _ => told,
        })
    }

    /// It is not polled any more.
    pub fn call_off(&mut self) {
        self.search(Search::call_off);
        self.interest.call_off();
    }

    /// Takes in a status that the API server shows. What one should say that is not known to be ours is not kept: a fresh look tells.
    pub(super) fn take_in(&mut self, status: Option<Kept>, version: u64) {
        if self.published.take_in(status, version) && self.interest.observation().is_none() {
            self.interest.ask_anew();
        }
    }

    /// The clock by which all of this was noted has been stepped so far.
    pub(super) fn step_clock(&mut self, step: SignedDuration) {
        let status = self.published.status().and_then(Kept::unpack);
        let told = status.as_ref().and_then(|status| status.not_found_since.as_ref());
        let meant = self.not_found_since(status.as_ref()).map(|since| stepped(since, step));
        self.not_found_since = told.zip(meant).map(|(told, meant)| Box::new((told.0, meant)));
        self.published.step_clock(step);
        self.interest.step_clock(step);
        self.search(|search, _| search.step_clock(step));
    }

    /// The API server acknowledged a write.
    pub fn is_written(&mut self, written: Written) {
        self.failures = 0;
        if written.seen.is_some() && written.seen == self.interest.seen() {
            self.interest.is_shown();
        }
        self.published.is_written(written);
    }

    /// Another replica has served it meanwhile: what was learnt before counts no more.
    pub(super) fn begin_anew(&mut self) {
        self.published.begin_anew();
        self.search(Search::call_off);
        self.interest.begin_anew();
        (self.not_found_since, self.failures, self.put_off) = (None, 0, false);
    }

    /// Its write is put off, for want of a share.
    pub(super) fn put_off(&mut self) {
        self.put_off = true;
    }

    /// It is taken up. Returns whether its write had been put off.
    pub(super) fn take_up(&mut self) -> bool {
        std::mem::take(&mut self.put_off)
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

    /// Until when it is left alone.
    #[must_use]
    pub fn aside_until(&self, now: Instant) -> Option<Instant> {
        self.quarantine.and_then(|quarantine| quarantine.lasts(now))
    }

    /// It was planned without a panic.
    pub fn is_sound(&mut self) {
        self.quarantine = None;
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

pub(super) fn stepped(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(time)
}
