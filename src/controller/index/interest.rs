//! What the engine was asked about a watch, and what it said last.

use jiff::{SignedDuration, Timestamp};

use super::entries::stepped;
use crate::engine::Report;

/// What is wanted of the engine for a watch, and what came of it.
#[derive(Debug)]
pub struct Interest {
    /// What the engine was asked for, to tell whether something else is wanted now.
    registered: Option<u64>,
    /// The ticket of the newest registration: what was asked for with an older one is not delivered.
    ticket: u64,
    /// The refresh request that the ticket was made for.
    requested: Option<String>,
    /// Since when the engine has been asked without a break.
    since: Timestamp,
    /// What it said last, and for which ticket; none when the status shows it.
    observation: Option<Box<(u64, Report<Timestamp>)>>,
    /// Whether no worker has looked at that yet.
    is_unread: bool,
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            registered: None,
            ticket: 1,
            requested: None,
            since: Timestamp::UNIX_EPOCH,
            observation: None,
            is_unread: false,
        }
    }
}

impl Interest {
    /// What the engine was asked for before the watch was taken in again. Whether that is still wanted, the next plan says; what was reported
    /// meanwhile went to nobody.
    pub(super) fn inherited(ticket: u64, print: u64) -> Self {
        Self { ticket: ticket + 1, registered: Some(print), ..Self::default() }
    }

    /// What the engine was asked for.
    #[must_use]
    pub fn registered(&self) -> Option<u64> {
        self.registered
    }

    /// The ticket of the newest registration.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The refresh request that the ticket was made for.
    #[must_use]
    pub fn requested(&self) -> Option<&str> {
        self.requested.as_deref()
    }

    /// Since when the engine has been asked without a break.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// What the engine said last, and for which ticket; none when the status shows it.
    #[must_use]
    pub fn observation(&self) -> Option<&(u64, Report<Timestamp>)> {
        self.observation.as_deref()
    }

    /// Whether no worker has looked yet at what the engine said last.
    #[must_use]
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// When the task was seen, where that is the newest news of it.
    #[must_use]
    pub fn seen(&self) -> Option<Timestamp> {
        match self.observation() {
            Some((_, Report::Seen { at, .. })) => Some(*at),
            _ => None,
        }
    }

    /// The engine says this. Returns whether all that it said before had been read.
    pub(super) fn observe(&mut self, ticket: u64, report: Report<Timestamp>) -> bool {
        self.observation = Some(Box::new((ticket, report)));
        !std::mem::replace(&mut self.is_unread, true)
    }

    /// A worker looks at it. Returns whether it is the first.
    pub(super) fn read(&mut self) -> bool {
        std::mem::take(&mut self.is_unread)
    }

    /// The status shows what was observed: it need not be kept.
    pub fn is_shown(&mut self) {
        self.observation = None;
    }

    /// What was asked for until now is not delivered any more, unless it has been already.
    pub(super) fn ask_anew(&mut self) {
        self.ticket += 1;
    }

    /// It is planned with this ticket, made for that request where there is one, and asked since then.
    pub fn is_planned(&mut self, ticket: u64, requested: Option<&String>, since: Timestamp) {
        (self.ticket, self.since) = (ticket, since);
        if requested.is_some() {
            self.requested = requested.cloned();
        }
    }

    /// The engine is asked for this. Returns whether it had been asked for nothing.
    pub fn register(&mut self, print: u64) -> bool {
        self.registered.replace(print).is_none()
    }

    /// The engine is asked for the task itself: where it had been asked for nothing, its answer is awaited from now on.
    pub fn register_task(&mut self, print: u64, now: Timestamp) {
        if self.register(print) {
            self.since = now;
        }
    }

    /// The connection was closed in the engine, with all that was registered there.
    pub fn disconnected(&mut self) {
        self.registered = None;
    }

    /// The engine is asked for nothing any more. That it cannot look is no news from then on; what was seen is.
    pub(super) fn call_off(&mut self) {
        self.registered = None;
        self.observation = self.observation.take().filter(|seen| matches!(seen.1, Report::Seen { .. }));
    }

    /// Another replica has asked meanwhile: what was asked for before is not delivered.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { ticket: self.ticket + 1, since: self.since, ..Self::default() };
    }

    /// The clock was stepped so far. What was concluded by a wrong one is mended by the next look, even if that shows nothing new.
    pub(super) fn step_clock(&mut self, step: SignedDuration) {
        self.since = stepped(self.since, step);
        if let Some((_, report)) = self.observation.as_deref_mut() {
            for time in report.times_mut() {
                *time = stepped(*time, step);
            }
        }
        self.ask_anew();
    }
}
