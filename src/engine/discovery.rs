//! What it is to discover the tasks of a scope: what is asked for, and what is told.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{WatchKey, health::to_wall};
use crate::{
    domain::{discovery::catalogue::Catalogue, failure::Failure},
    tenancy::Tenant,
};

/// What a discoverer asks of the engine: to be told of all tasks of a scope. They come from the list that serves the watches, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// On whose account.
    pub tenant: Tenant,
    /// Whose tasks.
    pub scope: String,
    /// How often they are to be listed, within the connection's bounds.
    pub period: Duration,
    /// Echoed by whatever is told. A new one asks to be told anew what a list says, and for a list that is not older than the
    /// connection's shortest period.
    pub ticket: u64,
}

/// What became known of the tasks of a scope, at the times of a clock `T`.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<T> {
    /// A whole list has been read.
    Listed {
        /// All that there is, as far as there was room for it.
        catalogue: Arc<Catalogue>,
        /// When the list was at its end.
        at: T,
    },
    /// They could not be listed, or not to the end.
    Trouble {
        failure: Arc<Failure>,
        /// Since when, without a break.
        since: T,
        /// When the newest failure came.
        at: T,
    },
    /// The upstream does not list its tasks.
    Unsupported,
}

/// What one discoverer is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovered<T> {
    /// Who.
    pub key: WatchKey,
    /// The ticket that it is registered with.
    pub ticket: u64,
    pub found: Found<T>,
}

impl Discovered<Instant> {
    /// The same by the wall clock.
    pub(super) fn at_wall(self, now: Instant, wall: Timestamp) -> Discovered<Timestamp> {
        let time = |at| to_wall(at, now, wall);
        let found = match self.found {
            Found::Listed { catalogue, at } => Found::Listed { catalogue, at: time(at) },
            Found::Trouble { failure, since, at } => Found::Trouble { failure, since: time(since), at: time(at) },
            Found::Unsupported => Found::Unsupported,
        };
        Discovered { key: self.key, ticket: self.ticket, found }
    }
}
