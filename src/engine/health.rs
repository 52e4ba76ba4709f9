//! How a connection fares, as the controller is told; and from the runtime's clock to the wall's.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Report, coalesce::Mode, planner::Planner};
use crate::domain::failure::Failure;

/// How a connection fares.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionHealth {
    /// What is wrong, and since when.
    pub trouble: Option<(Failure, Timestamp)>,
    /// When an answer last was of use.
    pub last_success: Option<Timestamp>,
    /// Until when the upstream asked to be left alone, in whole seconds; only where others should know: see [`RETRY_WORTH_TELLING`].
    pub retry_at: Option<Timestamp>,
    /// How most of its tasks are polled.
    pub mode: Option<Mode>,
    /// By how much the periods are stretched, for want of budget; 1 is not at all.
    pub stretch: f64,
    /// Its tenant was delayed of late: its upstreams' answers took more than its share of the processing time.
    pub throttled: bool,
    /// What is sent, its credential included, can be read on the way.
    pub insecure: bool,
}

/// A shorter silence is over before anybody else could break it.
const RETRY_WORTH_TELLING: Duration = Duration::from_secs(10);
/// How much newer the last success must be to be told again.
const SUCCESS_STEP: SignedDuration = SignedDuration::from_secs(60);

impl ConnectionHealth {
    pub(super) fn of(planner: &Planner, throttled: bool, insecure: bool, now: Instant, wall: Timestamp) -> Self {
        Self {
            trouble: planner.trouble().map(|trouble| (trouble.failure.clone(), to_wall(trouble.since, now, wall))),
            last_success: planner.last_success().map(|at| to_wall(at, now, wall)),
            retry_at: planner.retry_at(now).and_then(|at| told_ahead(at - now, wall)),
            mode: planner.mode(),
            stretch: planner.stretch(),
            throttled,
            insecure,
        }
    }

    /// Whether it is worth telling after `told`.
    pub(super) fn is_news(&self, told: &Self) -> bool {
        let trouble = |health: &Self| health.trouble.as_ref().map(|(f, _)| (f.class, f.code.clone()));
        let stretched = (self.stretch / told.stretch - 1.0).abs() > 0.2;
        let success = match (self.last_success, told.last_success) {
            (Some(new), Some(old)) => new.duration_since(old) >= SUCCESS_STEP,
            (new, old) => new.is_some() != old.is_some(),
        };
        let moded = self.mode != told.mode || self.throttled != told.throttled || self.insecure != told.insecure;
        let silent = match (self.retry_at, told.retry_at) {
            // The same one, by another rounding.
            (Some(new), Some(old)) => new.duration_since(old).abs() > SignedDuration::from_secs(2),
            (new, _) => new.is_some(),
        };
        trouble(self) != trouble(told) || silent || moded || stretched || success
    }
}

/// The time so far ahead, by the wall's clock; none where that is not worth telling.
fn told_ahead(ahead: Duration, wall: Timestamp) -> Option<Timestamp> {
    let worth = ahead >= RETRY_WORTH_TELLING;
    let at = wall.checked_add(ahead).ok()?;
    worth.then(|| Timestamp::from_second(at.as_second() + 1).ok())?
}

impl Report<Instant> {
    /// The same by the wall clock.
    pub(super) fn at_wall(self, now: Instant, wall: Timestamp) -> Report<Timestamp> {
        let time = |at| to_wall(at, now, wall);
        match self {
            Self::Seen { task, at } => Report::Seen { task, at: time(at) },
            Self::Missing { failure, since, at } => Report::Missing { failure, since: time(since), at: time(at) },
            Self::Trouble { failure, since, at } => Report::Trouble { failure, since: time(since), at: time(at) },
        }
    }
}

/// A time of the runtime's clock by the wall's.
pub(super) fn to_wall(at: Instant, now: Instant, wall: Timestamp) -> Timestamp {
    let ago = SignedDuration::try_from(now.saturating_duration_since(at)).unwrap_or_default();
    wall.checked_sub(ago).unwrap_or(wall)
}
