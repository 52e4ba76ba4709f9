//! What the controller knows: the watches and connections of the API server, what the engine said of them, what was written last.
//! All of it can be rebuilt; nothing here waits.

mod connections;
mod creation;
mod entries;
mod handover;
mod interest;
mod published;
pub mod sets;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub use self::{
    entries::{ConnectionEntry, WatchEntry},
    handover::Belongings,
    published::Written,
};
use self::{interest::Interest, published::Published, sets::Sets};
use super::{
    census::Census,
    kept::Kept,
    look::Look,
    objects::{Identity, WatchObject, version},
    quotas::Quotas,
    search::Search,
    unread::Unread,
};
use crate::{
    api::TaskWatch,
    domain::decide,
    engine::{ConnectionId, Delivery, Discovered, WatchKey},
    tenancy::pool::Pool,
};

/// A watch beyond the limit of its namespace.
#[derive(Debug)]
struct Outside {
    identity: Identity,
    created: Timestamp,
    /// What the engine was asked for while it was served, until a worker calls that off.
    polled: Option<Polled>,
}

/// What the engine was asked for.
#[derive(Debug)]
struct Polled {
    connection: ConnectionId,
    ticket: u64,
    print: u64,
}

/// Who has passed the limit of a namespace.
#[derive(Debug, Default)]
pub struct Moved {
    /// Who is served from now on, or may use its connection from now on, or not any more.
    pub watches: Vec<WatchKey>,
    /// Which connections are served from now on, or not any more.
    pub connections: Vec<ConnectionId>,
    /// Which sets have other children than before.
    pub sets: Vec<WatchKey>,
}

/// Who wanted to know of all tasks of a scope.
#[derive(Debug)]
pub enum Discoverer {
    /// A watch that does not name its task.
    Watch(Look),
    /// A set.
    Set(Look),
}

/// What is new of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionNews {
    /// Nothing.
    Nothing,
    /// The status is not the one that is known: an early echo, a lost answer, or somebody else's hand.
    Status,
    /// It is another one, or asks for something else.
    Object,
}

/// The index.
#[derive(Debug)]
pub struct Index {
    /// The memory for statuses.
    room: Pool,
    /// Who is served; all, where there is no limit.
    census: Option<Census>,
    /// Those beyond the limit: nothing is kept of them but who they are.
    outside: HashMap<WatchKey, Outside>,
    moved: Moved,
    /// Which connections are served, and which watches by theirs.
    pub quotas: Quotas,
    /// By UID.
    pub watches: HashMap<WatchKey, Box<WatchEntry>>,
    /// By kind and name.
    pub connections: HashMap<ConnectionId, ConnectionEntry>,
    users: HashMap<ConnectionId, HashSet<WatchKey>>,
    /// The sets, and whose children the watches are.
    pub sets: Sets,
    /// Observations that no worker has looked at yet.
    unread: Unread,
    /// The labels of the namespaces; empty when the operator may not see them.
    pub namespaces: HashMap<Arc<str>, BTreeMap<String, String>>,
}

impl Outside {
    /// A watch that was served until now.
    fn displaced(entry: &WatchEntry) -> Self {
        let ticket = entry.interest.ticket();
        let polled =
            entry.interest.registered().map(|print| Polled { connection: entry.object.connection(), ticket, print });
        Self { identity: entry.object.identity.clone(), created: entry.object.created, polled }
    }
}

impl Default for Index {
    /// Room for the statuses of some thousand watches.
    fn default() -> Self {
        Self::new(Pool::new(64 << 20, 1 << 20), None, Quotas::default())
    }
}

impl Index {
    /// An index of nothing yet, which keeps statuses in `room`, and no more watches than `limit` of each namespace.
    #[must_use]
    pub fn new(room: Pool, limit: Option<usize>, quotas: Quotas) -> Self {
        Self {
            room,
            census: limit.map(Census::new),
            outside: HashMap::new(),
            moved: Moved::default(),
            watches: HashMap::new(),
            connections: HashMap::new(),
            users: HashMap::new(),
            sets: Sets::new(quotas.limit()),
            quotas,
            unread: Unread::default(),
            namespaces: HashMap::new(),
        }
    }

    /// The watch of this key, where it is beyond the limit of its namespace.
    #[must_use]
    pub fn outside(&self, key: &WatchKey) -> Option<Identity> {
        self.outside.get(key).map(|outside| outside.identity.clone())
    }

    /// How many watches of each namespace are served.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        self.census.as_ref().map(Census::limit)
    }

    /// Who has passed the limit, in one way or the other, since this was last asked.
    pub fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// All watches of a namespace, or of all.
    #[must_use]
    pub fn keys(&self, namespace: Option<&Arc<str>>) -> Vec<WatchKey> {
        let inside = self.watches.iter().map(|(key, entry)| (key, &entry.object.identity));
        let outside = self.outside.iter().map(|(key, outside)| (key, &outside.identity));
        let all = inside.chain(outside);
        let ours = all.filter(|(_, identity)| namespace.is_none() || identity.namespace.as_ref() == namespace);
        ours.map(|(key, _)| key.clone()).collect()
    }

    /// Counts a watch. Returns whether it is served.
    fn admit(&mut self, object: &WatchObject) -> bool {
        let (Some(census), Some(namespace)) = (&mut self.census, &object.identity.namespace) else { return true };
        let (is_within, displaced) = census.enter(namespace, object.created, &object.identity.uid);
        if let Some(entry) = displaced.and_then(|key| self.take_out(&key)) {
            let key = entry.object.identity.uid.clone();
            self.moved.watches.push(key.clone());
            self.outside.insert(key, Outside::displaced(&entry));
        }
        is_within
    }

    /// Which watch's status has to be read again: only its digest is kept.
    #[must_use]
    pub fn let_go(&self, key: &WatchKey) -> Option<Identity> {
        let entry = self.watches.get(key)?;
        entry.published.status().filter(|status| status.is_let_go()).map(|_| entry.object.identity.clone())
    }

    /// The clock was stepped so far: times go with it. Returns who is to be looked at.
    pub fn step_clock(&mut self, step: SignedDuration) -> Vec<WatchKey> {
        self.watches.values_mut().for_each(|entry| entry.step_clock(step));
        self.sets.step_clock(step);
        self.watches.keys().cloned().collect()
    }

    /// The API server tells another history: the versions that are known mean nothing in it, and whatever it shows next is news.
    pub fn history_replaced(&mut self) {
        self.watches.values_mut().for_each(|entry| entry.published.history_replaced());
        self.connections.values_mut().for_each(|entry| entry.version = 0);
    }

    /// Takes in a `TaskWatch` as the API server shows it. Returns its key, and whether it says anything new; none for one that is
    /// being deleted or has no UID.
    pub fn put_watch(&mut self, watch: TaskWatch) -> Option<(WatchKey, bool)> {
        if watch.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let mut object = WatchObject::of(&watch.metadata, watch.spec)?;
        let key = object.identity.uid.clone();
        let before = self.watches.get(&key).and_then(|entry| entry.object.requested.as_deref());
        let handled = watch.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        if let Some(requested) = &mut object.requested {
            requested.settle(before, handled);
        }
        let object = Arc::new(object);
        self.moved.sets.extend(self.sets.put_watch(&object, watch.status.as_ref()));
        let version = version(&watch.metadata);
        if !self.admit(&object) {
            let is_told = watch.status.as_ref().is_some_and(|status| decide::tells_of_limit(status, object.generation));
            let polled = self.outside.remove(&key).and_then(|outside| outside.polled);
            let outside = Outside { identity: object.identity.clone(), created: object.created, polled };
            self.outside.insert(key.clone(), outside);
            return Some((key, !is_told));
        }
        let polled = self.outside.remove(&key).and_then(|outside| outside.polled);
        let status = watch.status.as_ref().and_then(Kept::pack);
        self.users.entry(object.connection()).or_default().insert(key.clone());
        self.moved.watches.extend(self.quotas.enter_user(&object));
        let is_news = if let Some(entry) = self.watches.get_mut(&key) {
            // What is the same stays where it is: to replace all objects one by one, as the echoes of a cold start come, would leave
            // the heap full of holes.
            let is_changed = entry.object != object;
            // An event of the version that we wrote ourselves is the echo of that.
            let is_news = version != entry.published.version() || is_changed;
            if is_changed {
                let is_requested = entry.object.requested != object.requested;
                entry.object = object;
                if is_requested {
                    entry.search(|search, _| search.is_requested());
                }
            }
            entry.search(|search, object| search.is_shown(object, watch.status.as_ref()));
            entry.take_in(status, version);
            is_news
        } else {
            let room = self.room.lease(&object.tenant());
            let search = Search::of(&object, watch.status.as_ref());
            let published = Published::new(status, version, room);
            let interest = polled
                .map_or_else(Interest::default, |Polled { ticket, print, .. }| Interest::inherited(ticket, print));
            let entry = WatchEntry::new(object, search, published, interest);
            self.watches.insert(key.clone(), Box::new(entry));
            true
        };
        Some((key, is_news))
    }

    /// Takes in a watch beyond the limit as it was read again. Returns whether it is still one: it may be served by now, or gone, and what is
    /// gone is not brought back by what was read before.
    pub fn put_outside(&mut self, watch: TaskWatch) -> bool {
        let Some(key) = watch.metadata.uid.as_deref().map(|uid| WatchKey(Arc::from(uid))) else { return false };
        if self.outside.contains_key(&key) {
            self.put_watch(watch);
        }
        self.outside.contains_key(&key)
    }

    /// The connection through which a watch beyond the limit is polled still, which the caller calls off.
    pub fn take_polled(&mut self, key: &WatchKey) -> Option<ConnectionId> {
        Some(self.outside.get_mut(key)?.polled.take()?.connection)
    }

    /// Forgets a `TaskWatch`. Returns the connection through which it is polled, where it is: the caller calls that off.
    pub fn remove_watch(&mut self, key: &WatchKey) -> Option<ConnectionId> {
        self.moved.sets.extend(self.sets.remove_watch(key));
        let gone = match self.take_out(key) {
            Some(entry) => Outside::displaced(&entry),
            None => self.outside.remove(key)?,
        };
        if let (Some(census), Some(namespace)) = (&mut self.census, &gone.identity.namespace) {
            self.moved.watches.extend(census.leave(namespace, gone.created, key));
        }
        gone.polled.map(|polled| polled.connection)
    }

    fn take_out(&mut self, key: &WatchKey) -> Option<Box<WatchEntry>> {
        let entry = self.watches.remove(key)?;
        let connection = entry.object.connection();
        self.moved.watches.extend(self.quotas.leave_user(&entry.object));
        if entry.interest.is_unread() {
            self.unread.remove(&entry.object.payer());
        }
        if let Some(users) = self.users.get_mut(&connection) {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&connection);
            }
        }
        Some(entry)
    }

    /// The place in the work queue of a watch that is known.
    #[must_use]
    pub fn look(&self, key: WatchKey) -> Option<Look> {
        let inside = self.watches.get(&key).map(|entry| entry.object.tenant());
        let tenant = inside.or_else(|| self.outside.get(&key).map(|outside| outside.identity.tenant()))?;
        Some(Look { tenant, key })
    }

    /// Takes in what the engine says of a task. Returns who is to be looked at, where anybody still wants to know.
    pub fn observe(&mut self, delivery: Delivery<Timestamp>) -> Option<Look> {
        let entry = self.watches.get_mut(&delivery.key)?;
        if entry.interest.observe(delivery.ticket, delivery.report) {
            self.unread.add(entry.object.payer());
        }
        Some(entry.object.look())
    }

    /// Takes in what the engine says of all tasks of a scope. Returns who is to be looked at, where anybody still wants to know.
    pub fn discovered(&mut self, news: Discovered<Timestamp>) -> Option<Discoverer> {
        if let Some(entry) = self.watches.get_mut(&news.key) {
            entry.search(|search, object| search.observe(object, news.found));
            return Some(Discoverer::Watch(entry.object.look()));
        }
        self.sets.observe(news).map(Discoverer::Set)
    }

    /// Until when a watch without a status waits because its set creates more; none where it need not.
    pub fn gives_way(&mut self, key: &WatchKey, now: Instant) -> Option<Instant> {
        let watch = self.watches.get(key)?;
        let set = self.sets.get_mut(&watch.object.parent.as_ref()?.set)?;
        // Whoever may write a watch may say of it whose child it is.
        let is_child = watch.object.identity.namespace == set.object.identity.namespace;
        let until = set.creation.until(now).filter(|_| is_child && watch.published.is_blank())?;
        set.creation.put_off(key.clone());
        Some(until)
    }

    /// The write of a watch is put off, for want of a share.
    pub fn put_off(&mut self, key: &WatchKey) {
        if let Some(entry) = self.watches.get_mut(key) {
            entry.put_off();
        }
    }

    /// A watch is taken up; whether its write had been put off.
    pub fn take_up(&mut self, key: &WatchKey) -> bool {
        self.read(key);
        self.watches.get_mut(key).is_some_and(|entry| entry.take_up())
    }

    /// A worker looks at what is known of a watch.
    pub fn read(&mut self, key: &WatchKey) {
        if let Some(entry) = self.watches.get_mut(key)
            && entry.interest.read()
        {
            self.unread.remove(&entry.object.payer());
        }
    }

    /// The engine was asked to poll a watch, and took that (`accepted`) or not. Returns whether that is still wanted; else it has to be told
    /// to forget it.
    pub fn registered(&mut self, key: &WatchKey, print: u64, accepted: bool) -> bool {
        let Some(entry) = self.watches.get_mut(key).filter(|entry| entry.interest.registered() == Some(print)) else {
            return false;
        };
        if !accepted {
            entry.call_off();
        }
        accepted
    }

    /// Observations that no worker has looked at yet.
    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }
}

#[cfg(test)]
mod tests;
