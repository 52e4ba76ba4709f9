//! Kubernetes glue: objects in, statuses and events out. It never polls: it registers watches with the engine and forgets them.
//!
//! | module | what it does |
//! |---|---|
//! | [`run`] | the life of the process: caches, workers, stop |
//! | [`sources`], [`follow`], [`readable`], [`objects`] | what the API server has, into the index; what is read of an object |
//! | [`index`], [`kept`] | what is known, and how statuses are kept |
//! | [`queue`], `unread` | who is to be looked at; how much of what was seen nobody has looked at yet |
//! | [`reconcile`] | one kind a file: what is to be done about an object, and doing it |
//! | [`write`] | all that is written to the API server, and how much |
//! | [`resolve`] | from a connection's specification and Secret to the engine's terms |
//! | `search` | how the task of a watch is found that does not name it |
//! | [`access`], [`check`] | which watch may use which connection, and what it is told of it |
//! | `permits` | what a connection may use |
//! | [`requested`] | a request to look now, by annotation |
//! | `election` | which connections are this replica's: the Leases |
//! | `agenda` | what `/debug/connections` tells |
//! | [`census`], [`quotas`] | how many objects of a namespace are served |
//! | [`quarantine`] | objects that are left alone after a panic |
//!
//! # One more kind
//!
//! Its type is in `api`, and what its status says is decided in `domain`. Here it has a source (a [`follow::Target`] in [`sources`]), its
//! entries in the [`index`], a queue in [`Shared`], and a file in [`reconcile`], which is started in [`run`]. It shares the rest.

pub mod access;
mod agenda;
mod apiserver;
mod census;
mod check;
mod election;
mod follow;
pub mod index;
pub mod kept;
mod look;
pub mod objects;
mod permits;
mod quarantine;
pub mod queue;
mod quotas;
pub mod readable;
mod reconcile;
mod requested;
mod resolve;
mod run;
mod search;
mod sources;
#[cfg(test)]
mod tests;
mod unread;
mod write;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::time::timeout;

pub use self::run::run;
use self::{
    check::Sight,
    index::{Belongings, Discoverer, Index},
    look::Look,
    permits::{Destinations, Permits},
    queue::Queue,
    write::Writer,
};
use crate::{
    domain::decide,
    engine::{ConnectionHealth, ConnectionId, Delivery, Discovered, Engine, Sink, WatchKey},
    ops::{clock::Clock, guard::Guard, metrics::Metrics, traces::Traces},
    ownership::{Bucket, Buckets, NotOwner},
    sync::lock,
    tenancy::{Tenant, ceiling::Ceiling},
};

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("the API server: {0}")]
    Api(#[source] kube::Error),
    /// What a connection names may not be read.
    #[error("{0}")]
    Forbidden(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    TimedOut,
    /// The object is not there any more, or another one of its name is.
    #[error("the object is gone")]
    Gone,
    /// Another replica writes this, or may by now.
    #[error("this replica does not hold the lease for it")]
    NotOwner,
    /// What is to be written cannot be put into words; a defect.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// A request cannot be made of it; a defect.
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    /// The same.
    #[error(transparent)]
    Parameters(#[from] kube::core::request::Error),
}

impl Error {
    /// A word for it, for traces.
    fn class(&self) -> &'static str {
        match self {
            Self::Api(_) => "Api",
            Self::Forbidden(_) => "Forbidden",
            Self::TimedOut => "TimedOut",
            Self::Gone => "Gone",
            Self::NotOwner => "NotOwner",
            Self::Encode(_) | Self::Request(_) | Self::Parameters(_) => "Defect",
        }
    }
}

/// How long one call of the API server may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A call of the API server, with a limit: the client itself waits for an answer for ever.
async fn call<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    timeout(CALL_TIMEOUT, answer).await.map_err(|_| Error::TimedOut)?.map_err(|error| match error {
        kube::Error::Service(error) if error.is::<NotOwner>() => Error::NotOwner,
        error => Error::Api(error),
    })
}

/// What the watches of the API server, the engine and the workers share.
struct Shared {
    index: Mutex<Index>,
    watches: Queue<Look>,
    sets: Queue<Look>,
    connections: Queue<ConnectionId>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Has these watches looked at soon, as far as they are known.
    fn look_at(&self, keys: impl IntoIterator<Item = WatchKey>) {
        let looks: Vec<_> = {
            let index = self.index();
            keys.into_iter().filter_map(|key| index.look(key)).collect()
        };
        for look in looks {
            self.watches.add(look);
        }
    }

    /// Has these sets looked at soon, as far as they are known.
    fn look_at_sets(&self, keys: impl IntoIterator<Item = WatchKey>) {
        let looks: Vec<_> = {
            let index = self.index();
            keys.into_iter().filter_map(|key| index.sets.look(&key)).collect()
        };
        for look in looks {
            self.sets.add(look);
        }
    }

    /// Has all looked at that use a connection, of which something has changed.
    fn look_at_users(&self, id: &ConnectionId) {
        let (watches, sets) = {
            let index = self.index();
            (index.users(id), index.sets.users(id))
        };
        self.look_at(watches);
        self.look_at_sets(sets);
    }
}

impl Shared {
    /// Has those looked at that have passed a limit, in one way or the other. The engine is told nothing here: what is told of a watch keeps
    /// its order because the worker tells it that has the watch.
    fn rearrange(&self) {
        let moved = self.index().take_moved();
        self.look_at(moved.watches);
        self.look_at_sets(moved.sets);
        moved.connections.into_iter().for_each(|id| self.connections.add(id));
    }
}

impl Sink for Shared {
    fn deliver(&self, delivery: Delivery<Timestamp>) {
        let look = self.index().observe(delivery);
        if let Some(look) = look {
            self.watches.add(look);
        }
    }

    fn discovered(&self, news: Discovered<Timestamp>) {
        let look = self.index().discovered(news);
        match look {
            Some(Discoverer::Watch(look)) => self.watches.add(look),
            Some(Discoverer::Set(look)) => self.sets.add(look),
            None => {}
        }
    }

    fn room(&self, tenant: &Tenant) -> usize {
        self.index().unread().room(tenant)
    }

    fn connection(&self, id: &ConnectionId, health: ConnectionHealth) {
        if let Some(entry) = self.index().connections.get_mut(id) {
            entry.health = Some(health);
        }
        self.connections.add(id.clone());
    }
}

struct Controller {
    client: Client,
    shared: Arc<Shared>,
    engine: Engine,
    writer: Writer,
    /// How many children of sets may be created.
    creates: Ceiling,
    /// What this replica is the owner of.
    buckets: Buckets,
    guard: Guard,
    metrics: Metrics,
    traces: Traces,
    clock: Clock,
    settings: decide::Settings,
    secret_refresh: Duration,
    /// Whether sets are served.
    discovery: bool,
    permits: Permits,
    destinations: Destinations,
    /// What of the cluster is seen.
    sight: Sight,
}

impl Controller {
    /// The bucket of what names this connection.
    fn bucket(&self, connection: &ConnectionId) -> Bucket {
        self.buckets.of(&connection.to_string())
    }

    /// The bucket of what names this connection, for work that begins now; none where this replica is not its owner.
    fn owned(&self, connection: &ConnectionId) -> Option<Bucket> {
        self.bucket(connection).at_work()
    }

    fn belongings(&self, bucket: u16) -> Belongings {
        self.shared.index().belongings(|id| self.bucket(id).number() == bucket)
    }

    /// Has all looked at that belongs to a bucket.
    fn look_at_bucket(&self, bucket: u16) {
        let Belongings { connections, watches, sets } = self.belongings(bucket);
        for id in connections {
            self.shared.connections.add(id);
        }
        self.shared.look_at(watches);
        self.shared.look_at_sets(sets);
    }

    /// This replica is the owner of a bucket from now on.
    fn take_over(&self, bucket: u16) {
        let belongings = self.belongings(bucket);
        self.shared.index().begin_anew(&belongings);
        self.look_at_bucket(bucket);
    }

    /// This replica is the owner of a bucket no more: nothing is asked on its account.
    fn hand_over(&self, bucket: u16) {
        for id in self.belongings(bucket).connections {
            self.engine.disconnect(&id);
            self.destinations.forget(&id);
        }
    }
}
