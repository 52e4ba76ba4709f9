//! The polling core: one actor per connection owns its HTTP client, its token, its budget and its queue. It knows nothing of
//! Kubernetes but keys, and keeps nothing on disk: all can be rebuilt from the objects and the upstream.
//!
//! | module | what it decides or does |
//! |---|---|
//! | [`planner`] | what to ask next, and what an answer means for the queue: sans-IO, the invariants of design §3 live here |
//! | [`budget`] | requests per second |
//! | [`coalesce`] | list or single requests |
//! | [`sieve`] | lets go of what is known of a list, while it arrives |
//! | [`transport`], [`egress`] | requests over HTTP: bounded, and only to where the operator lets them go |
//! | [`actor`], `inbox` | runs a planner: sends its jobs, delivers the reports; what it is to do |
//! | `quota`, `sending`, `listing` | whether the tenant may send one more; one job on its way; a list that is being read |
//! | `decoding`, `secrets` | from an answer to what it says, guarded; what must not be in it |
//! | [`discovery`] | what those ask, and are told, who want to know of all tasks of a scope |
//! | [`health`], `agenda` | how a connection fares; what it does next, and why it waits |

pub mod actor;
mod agenda;
pub mod budget;
pub mod coalesce;
mod decoding;
pub mod discovery;
pub mod egress;
pub mod health;
mod inbox;
mod listing;
pub mod planner;
mod planted;
mod quota;
mod secrets;
mod sending;
pub mod sieve;
pub mod transport;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;
use url::Url;

use self::{
    actor::{Actor, Shared},
    inbox::{Inbox, Wish},
    planner::Settings,
    transport::{Channel, SettingsError, TlsSettings, Transport},
};
pub use self::{
    agenda::ConnectionAgenda,
    discovery::{Discovered, Discovery, Found},
    health::ConnectionHealth,
};
use crate::{
    domain::{
        failure::Failure,
        task::{Task, TaskRef},
    },
    ops::{clock::Clock, guard::Guard, metrics::Metrics, traces::Traces},
    ownership::Buckets,
    providers::{Provider, auth::Credential},
    sync::lock,
    tenancy::{Tenant, pool::Lease, shares::Shares},
};

/// Who watches a task, or discovers tasks: the UID of an object. An object of the same name that is made later has another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey(pub Arc<str>);

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a subscriber asks of the engine: to have a task polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// On whose account.
    pub tenant: Tenant,
    /// What to poll.
    pub task: TaskRef,
    /// The period at the start.
    pub period: Duration,
    /// What the period grows to with the task's age.
    pub max_period: Duration,
    /// How long the task has been watched without a change.
    pub age: Duration,
    /// Whether the subscriber already has an observation: then its next poll takes its turn, else it comes first.
    pub known: bool,
    /// Whether somebody has asked to look now: what a list has shown before will not do.
    pub requested: bool,
    /// Echoed by each delivery. Answers to what was asked before the watch was registered with this ticket are not delivered.
    pub ticket: u64,
}

impl Subscription {
    /// A number that differs where the engine would do something else.
    #[must_use]
    pub fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.task, self.period, self.max_period, self.ticket).hash(&mut hasher);
        hasher.finish()
    }
}

/// What became known of a task, at the times of a clock `T`.
#[derive(Clone, Debug, PartialEq)]
pub enum Report<T> {
    /// The upstream showed it.
    Seen {
        task: Arc<Task>,
        /// When the answer came.
        at: T,
    },
    /// The upstream says that it does not know it.
    Missing {
        /// In its words.
        failure: Arc<Failure>,
        /// When it first said so, without a break.
        since: T,
        /// When the answer came.
        at: T,
    },
    /// Nothing could be learnt.
    Trouble {
        failure: Arc<Failure>,
        /// Since when, without a break.
        since: T,
        /// When the newest failure came.
        at: T,
    },
}

impl<T> Report<T> {
    /// Why the task was not seen.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Seen { .. } => None,
            Self::Missing { failure, .. } | Self::Trouble { failure, .. } => Some(failure),
        }
    }

    /// All its times.
    pub fn times_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let times = match self {
            Self::Seen { at, .. } => [Some(at), None],
            Self::Missing { since, at, .. } | Self::Trouble { since, at, .. } => [Some(since), Some(at)],
        };
        times.into_iter().flatten()
    }
}

/// A report for one subscriber.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery<T> {
    /// For whom.
    pub key: WatchKey,
    /// The ticket that the watch was registered with when this was asked for.
    pub ticket: u64,
    pub report: Report<T>,
}

/// Which connection: its namespace (none for a `ClusterTaskConnection`) and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// None for a cluster-scoped one.
    pub namespace: Option<Arc<str>>,
    /// The object's name.
    pub name: Arc<str>,
}

impl ConnectionId {
    /// On whose account it is served: its namespace's, or its own where namespaces share it.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        match &self.namespace {
            Some(namespace) => Tenant::namespace(namespace),
            None => Tenant::cluster_connection(&self.name),
        }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// All that is needed to poll through a connection.
#[derive(Debug)]
pub struct Connection {
    /// The dialect.
    pub provider: Arc<dyn Provider>,
    /// Where requests go; their paths are appended.
    pub endpoint: Url,
    /// What they are signed with.
    pub credential: Credential,
    /// Whom to trust.
    pub tls: TlsSettings,
    /// Its bounds; what the provider and the credential determine is filled in by [`Self::settings`].
    pub bounds: Settings,
    /// The time-out of a request, in all.
    pub request_timeout: Duration,
    /// Differs when endpoint, provider, credential or TLS do: refusals are held against this.
    pub identity: u64,
}

/// A connection and its ways to the upstream.
#[derive(Debug)]
struct Open {
    connection: Connection,
    channel: Channel,
    /// To where the credential is exchanged for a token.
    token_channel: Option<Channel>,
}

impl Open {
    /// Whether what is sent, the credential included, can be read on the way.
    fn is_insecure(&self) -> bool {
        self.channel.is_insecure() || self.token_channel.as_ref().is_some_and(Channel::is_insecure)
    }
}

impl Connection {
    /// Its bounds, with what provider and credential determine.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            max_in_flight: self.bounds.max_in_flight.min(self.credential.most_in_flight()),
            lists: self.provider.list_request(self.provider.default_scope(), None).is_some(),
            subtasks: self.provider.subtasks_request(&TaskRef::default()).is_some(),
            exchanges: self.credential.token_request().is_some(),
            ..self.bounds.clone()
        }
    }
}

/// What is known of whoever polled a connection before: another replica, or a process that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Predecessor {
    /// There was one, and it may have sent as much as the budget allows just now.
    pub has_polled: bool,
    /// Until when the upstream asked it for silence.
    pub retry_at: Option<Timestamp>,
}

/// Where reports go. Called by the actors: must not block.
pub trait Sink: Send + Sync + 'static {
    /// A report for a subscriber.
    fn deliver(&self, delivery: Delivery<Timestamp>);
    /// How many more reports may be delivered on a tenant's account before those that were are taken up: lists are not read faster than
    /// that.
    fn room(&self, tenant: &Tenant) -> usize;
    /// News for a discoverer.
    fn discovered(&self, news: Discovered<Timestamp>);
    /// News of a connection.
    fn connection(&self, id: &ConnectionId, health: ConnectionHealth);
}

/// The connections and their actors.
pub struct Engine {
    transport: Transport,
    shared: Shared,
    opened: Mutex<HashMap<ConnectionId, Opened>>,
}

/// An actor, as it is reached.
#[derive(Debug)]
struct Opened {
    inbox: Arc<Inbox>,
    /// For its credential.
    room: Lease,
}

impl Engine {
    /// An engine without connections. Through one whose bucket is not held nothing is asked.
    #[must_use]
    pub fn new(
        transport: Transport,
        sink: Arc<dyn Sink>,
        clock: Clock,
        metrics: Metrics,
        guard: Guard,
        shares: Shares,
        buckets: Buckets,
    ) -> Self {
        Self {
            transport,
            shared: Shared { sink, clock, metrics, traces: Traces::default(), guard, shares, buckets },
            opened: Mutex::default(),
        }
    }

    /// The same, which sends traces of its polls there.
    #[must_use]
    pub fn traced(mut self, traces: Traces) -> Self {
        self.shared.traces = traces;
        self
    }

    /// Opens a connection, or gives an open one its new configuration. To be called within a tokio runtime. One that is opened goes on
    /// where `before` has ended.
    ///
    /// # Errors
    /// Where no request can be sent with this endpoint or TLS configuration; what was open stays so.
    pub fn connect(
        &self,
        id: &ConnectionId,
        mut connection: Connection,
        before: Predecessor,
    ) -> Result<(), SettingsError> {
        let transport = &self.transport;
        let tenant = id.tenant();
        let channel = transport.channel(&tenant, &connection.endpoint, &connection.tls)?;
        let token_channel = match connection.credential.token_request() {
            None => None,
            Some(request) if request.url.origin() == connection.endpoint.origin() => Some(channel.clone()),
            // The server name is the endpoint's; the authorities are trusted for both.
            Some(request) => {
                let tls = TlsSettings { server_name: None, ..connection.tls.clone() };
                Some(transport.channel(&tenant, &transport::root(&request.url), &tls)?)
            }
        };
        // The channels have it; kept by each connection, it would be most of what a connection takes up.
        connection.tls.ca_bundle = None;
        let open = Arc::new(Open { connection, channel, token_channel });
        let size = open.connection.credential.size();
        match self.opened().entry(id.clone()) {
            Entry::Occupied(mut opened) => {
                let Opened { inbox, room } = opened.get_mut();
                if !room.try_resize(size) {
                    return Err(SettingsError::NoRoom);
                }
                inbox.configure(open);
            }
            Entry::Vacant(slot) => {
                let mut room = self.shared.shares.settings.lease(&tenant);
                if !room.try_grow(size) {
                    return Err(SettingsError::NoRoom);
                }
                let inbox = Arc::clone(&slot.insert(Opened { inbox: Arc::default(), room }).inbox);
                let mut actor = Actor::new(id.clone(), &tenant, open, inbox, self.shared.clone());
                actor.succeed(before);
                tokio::spawn(actor.run());
            }
        }
        Ok(())
    }

    /// Closes a connection; its watches are forgotten.
    pub fn disconnect(&self, id: &ConnectionId) {
        if let Some(opened) = self.opened().remove(id) {
            opened.inbox.close();
        }
    }

    /// Registers a watch, or changes it. Returns false where there is no such connection.
    pub fn watch(&self, id: &ConnectionId, key: WatchKey, wanted: Subscription) -> bool {
        self.opened().get(id).map(|opened| opened.inbox.wish(key, Some(Wish::Watch(wanted)))).is_some()
    }

    /// Registers a discoverer, or changes what it wants: from now on it is told what the lists of a scope show. Returns false where there
    /// is no such connection.
    pub fn discover(&self, id: &ConnectionId, key: WatchKey, wanted: Discovery) -> bool {
        self.opened().get(id).map(|opened| opened.inbox.wish(key, Some(Wish::Discover(wanted)))).is_some()
    }

    /// Forgets a watch, or a discoverer.
    pub fn forget(&self, id: &ConnectionId, key: WatchKey) {
        if let Some(opened) = self.opened().get(id) {
            opened.inbox.wish(key, None);
        }
    }

    /// Asks a connection what it does next; none where there is no such connection.
    pub fn agenda(&self, id: &ConnectionId) -> Option<oneshot::Receiver<ConnectionAgenda>> {
        self.opened().get(id).map(|opened| opened.inbox.ask())
    }

    /// Closes all connections: nothing is asked from then on.
    pub fn close(&self) {
        for (_, opened) in self.opened().drain() {
            opened.inbox.close();
        }
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<ConnectionId, Opened>> {
        lock(&self.opened)
    }
}

#[cfg(test)]
pub(crate) mod tests;
