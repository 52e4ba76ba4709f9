//! The sets of the index: what is known of each, its children, and what of them is under way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    super::{
        census::Census,
        look::Look,
        objects::{Identity, SetObject, WatchObject, version},
    },
    creation::Creation,
};
use crate::{
    api::{TaskWatchSet, TaskWatchSetStatus, TaskWatchStatus},
    domain::{
        backoff::Backoff,
        conditions::{FINISHED, TRUE, find},
        decide::Pace,
        discovery::{
            catalogue::Catalogue,
            child,
            filter::Filter,
            status::{Turn, Why},
        },
        failure::Failure,
    },
    engine::{ConnectionId, Discovered, Found, WatchKey},
};

/// So long the API server may take to tell of a child that was created.
const ECHO: Duration = Duration::from_secs(30);
/// How long to wait before a child that was refused is tried again.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(5));

/// All sets, and the watches that belong to them.
#[derive(Debug, Default)]
pub struct Sets {
    entries: HashMap<WatchKey, Box<SetEntry>>,
    /// By set, also for one that is not known (yet).
    children: HashMap<WatchKey, HashMap<WatchKey, Child>>,
    /// Whose child each watch is.
    parents: HashMap<WatchKey, WatchKey>,
    users: HashMap<ConnectionId, HashSet<WatchKey>>,
    /// Who is served; all, where there is no limit.
    census: Option<Census>,
}

/// A `TaskWatch` that belongs to a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub identity: Identity,
    /// Its task.
    pub task: Arc<str>,
    /// Of which template it was made.
    pub template: Box<str>,
    /// When it ended, where it has.
    pub ended: Option<Timestamp>,
}

/// A set and all that is known of it.
#[derive(Debug)]
pub struct SetEntry {
    pub object: Arc<SetObject>,
    /// Its status as last acknowledged.
    pub status: Option<TaskWatchSetStatus>,
    /// The resource version of that.
    version: u64,
    /// Which tasks match.
    pub filter: Arc<Filter>,
    /// The template's hash, by which children are known that are up to date.
    pub template: Box<str>,
    /// What the engine was asked for, to tell whether something else is wanted now.
    registered: Option<u64>,
    /// What the scope has, by its last whole list.
    listed: Option<(Arc<Catalogue>, Timestamp)>,
    /// What came in the place of a list, where the newest news is no list.
    fault: Option<Fault>,
    /// Children that were created and are not told of yet, by task; until when that is waited for.
    awaited: HashMap<Arc<str>, Instant>,
    /// Children that could not be created, by name.
    refused: BTreeMap<String, Refused>,
    /// Until when nothing is done about it: its namespace has had its share of what is written.
    put_off: Option<Instant>,
    /// Whether it goes on creating children, for whose end the new ones wait.
    pub creation: Creation,
    /// When the status was written lately.
    pub pace: Pace,
    /// How Ready stood when that was decided last.
    pub turn: Turn,
    /// Reconciliations that failed in a row.
    failures: u32,
}

/// Why there is no list.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The upstream has none.
    Unsupported,
    /// It cannot be had, since then.
    Trouble { failure: Arc<Failure>, since: Timestamp },
}

/// A child that could not be created.
#[derive(Clone, Debug)]
struct Refused {
    why: Why,
    times: u32,
    /// When it is tried again.
    again: Instant,
}

impl Sets {
    /// No sets yet, with room for so many of each namespace.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Self {
        Self { census: limit.map(Census::new), ..Self::default() }
    }

    /// A set.
    #[must_use]
    pub fn get(&self, key: &WatchKey) -> Option<&SetEntry> {
        self.entries.get(key).map(|entry| &**entry)
    }

    /// A set, to be changed.
    pub fn get_mut(&mut self, key: &WatchKey) -> Option<&mut SetEntry> {
        self.entries.get_mut(key).map(|entry| &mut **entry)
    }

    /// All sets of a namespace, or of all.
    #[must_use]
    pub fn keys(&self, namespace: Option<&Arc<str>>) -> Vec<WatchKey> {
        let ours = |entry: &SetEntry| namespace.is_none() || entry.object.identity.namespace.as_ref() == namespace;
        self.entries.iter().filter(|(_, entry)| ours(entry)).map(|(key, _)| key.clone()).collect()
    }

    /// The place in the work queue of a set that is known.
    #[must_use]
    pub fn look(&self, key: &WatchKey) -> Option<Look> {
        self.get(key).map(|entry| entry.object.look())
    }

    /// The sets that name a connection.
    #[must_use]
    pub fn users(&self, id: &ConnectionId) -> Vec<WatchKey> {
        self.users.get(id).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    /// The resource version by which a set is known.
    #[must_use]
    pub fn version(&self, key: &WatchKey) -> Option<u64> {
        self.get(key).map(|entry| entry.version)
    }

    /// The clock was stepped so far: times go with it.
    pub fn step_clock(&mut self, step: SignedDuration) {
        self.entries.values_mut().for_each(|entry| entry.step_clock(step));
    }

    /// The API server tells another history.
    pub fn history_replaced(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.version = 0);
    }

    /// Whether a set is beyond the limit of its namespace; the limit then.
    #[must_use]
    pub fn beyond(&self, object: &SetObject) -> Option<usize> {
        let (census, namespace) = (self.census.as_ref()?, object.identity.namespace.as_ref()?);
        (!census.admits(namespace, object.created, &object.identity.uid)).then(|| census.limit())
    }

    /// Takes in a set as the API server shows it. Returns its key, and whether it says anything new.
    pub fn put(&mut self, set: TaskWatchSet) -> Option<(WatchKey, bool)> {
        let version = version(&set.metadata);
        let object = Arc::new(SetObject::of(&set.metadata, set.spec)?);
        let key = object.identity.uid.clone();
        if let (Some(census), Some(namespace)) = (&mut self.census, &object.identity.namespace) {
            census.enter(namespace, object.created, &key);
        }
        self.users.entry(object.connection()).or_default().insert(key.clone());
        let Some(entry) = self.entries.get_mut(&key) else {
            self.entries.insert(key.clone(), Box::new(SetEntry::new(object, set.status, version)));
            return Some((key, true));
        };
        let is_changed = entry.object != object;
        if is_changed {
            entry.change(object);
        }
        let is_news = version != entry.version || is_changed;
        if version >= entry.version {
            (entry.status, entry.version) = (set.status, version);
        }
        Some((key, is_news))
    }

    /// Forgets a set. Returns the connection through which its tasks are listed, where they are: the caller calls that off.
    pub fn remove(&mut self, key: &WatchKey) -> Option<ConnectionId> {
        let entry = self.entries.remove(key)?;
        let object = &entry.object;
        if let (Some(census), Some(namespace)) = (&mut self.census, &object.identity.namespace) {
            census.leave(namespace, object.created, key);
        }
        let connection = object.connection();
        if let Some(users) = self.users.get_mut(&connection) {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&connection);
            }
        }
        entry.registered.map(|_| connection)
    }

    /// The children of a set. Whoever may write a watch may say of it whose child it is: one of another namespace is none.
    pub fn children(&self, set: &WatchKey) -> impl Iterator<Item = &Child> {
        let namespace = self.get(set).and_then(|entry| entry.object.identity.namespace.as_ref());
        let all = self.children.get(set).into_iter().flat_map(HashMap::values);
        all.filter(move |child| child.identity.namespace.as_ref() == namespace)
    }

    /// Takes in a watch as the API server shows it. Returns the sets for which that is news.
    pub fn put_watch(&mut self, watch: &WatchObject, status: Option<&TaskWatchStatus>) -> Vec<WatchKey> {
        let key = &watch.identity.uid;
        // One that does not name its task is nobody's child: no set makes such.
        let (Some(parent), Some(task)) = (&watch.parent, &watch.spec.task.id) else {
            return self.remove_watch(key).into_iter().collect();
        };
        let child = Child {
            identity: watch.identity.clone(),
            task: Arc::from(task.as_str()),
            template: parent.template.clone(),
            ended: status.and_then(ended),
        };
        let is_ours = |entry: &&mut Box<SetEntry>| entry.object.identity.namespace == child.identity.namespace;
        if let Some(entry) = self.entries.get_mut(&parent.set).filter(is_ours) {
            entry.awaited.remove(&child.task);
        }
        let children = self.children.entry(parent.set.clone()).or_default();
        if children.get(key) == Some(&child) {
            return Vec::new();
        }
        children.insert(key.clone(), child);
        let former = self.parents.insert(key.clone(), parent.set.clone()).filter(|former| *former != parent.set);
        if let Some(former) = &former {
            self.disown(former, key);
        }
        former.into_iter().chain([parent.set.clone()]).collect()
    }

    /// Forgets a watch. Returns the set to which it belonged.
    pub fn remove_watch(&mut self, key: &WatchKey) -> Option<WatchKey> {
        let set = self.parents.remove(key)?;
        self.disown(&set, key);
        Some(set)
    }

    fn disown(&mut self, set: &WatchKey, child: &WatchKey) {
        if let Some(children) = self.children.get_mut(set) {
            children.remove(child);
            if children.is_empty() {
                self.children.remove(set);
            }
        }
    }

    /// Takes in what the engine says of a scope. Returns who is to be looked at, where anybody still wants to know.
    pub fn observe(&mut self, news: Discovered<Timestamp>) -> Option<Look> {
        let entry = self.get_mut(&news.key)?;
        match news.found {
            Found::Listed { catalogue, at } => (entry.listed, entry.fault) = (Some((catalogue, at)), None),
            Found::Trouble { failure, since, .. } => entry.fault = Some(Fault::Trouble { failure, since }),
            Found::Unsupported => entry.fault = Some(Fault::Unsupported),
        }
        Some(entry.object.look())
    }
}

impl SetEntry {
    fn new(object: Arc<SetObject>, status: Option<TaskWatchSetStatus>, version: u64) -> Self {
        let filter = Arc::new(filter(&object));
        let template = child::template_hash(&object.spec).into();
        Self {
            object,
            template,
            status,
            version,
            filter,
            registered: None,
            listed: None,
            fault: None,
            awaited: HashMap::new(),
            refused: BTreeMap::new(),
            put_off: None,
            creation: Creation::default(),
            pace: Pace::default(),
            turn: Turn::default(),
            failures: 0,
        }
    }

    /// The object is another one.
    fn change(&mut self, object: Arc<SetObject>) {
        self.filter = Arc::new(filter(&object));
        self.template = child::template_hash(&object.spec).into();
        // What was refused may be granted to what is wanted now.
        self.refused.clear();
        self.object = object;
    }

    fn step_clock(&mut self, step: SignedDuration) {
        self.pace.step_clock(step);
        self.turn.step_clock(step);
        let listed = self.listed.as_mut().map(|(_, at)| at);
        let troubled = self.fault.as_mut().and_then(|fault| match fault {
            Fault::Trouble { since, .. } => Some(since),
            Fault::Unsupported => None,
        });
        for time in listed.into_iter().chain(troubled) {
            *time = time.checked_add(step).unwrap_or(*time);
        }
    }

    /// What the engine was asked for.
    #[must_use]
    pub fn registered(&self) -> Option<u64> {
        self.registered
    }

    /// The engine has been asked for this, or for nothing; what it said of something else counts no more.
    pub fn set_registered(&mut self, print: Option<u64>) {
        if print != self.registered {
            (self.registered, self.listed, self.fault) = (print, None, None);
        }
    }

    /// Its connection was closed in the engine. What was listed stays known.
    pub fn disconnected(&mut self) {
        self.registered = None;
    }

    /// What the scope has, and when that was listed.
    #[must_use]
    pub fn listed(&self) -> Option<&(Arc<Catalogue>, Timestamp)> {
        self.listed.as_ref()
    }

    /// Why there is no newer list.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// A child for this task was created, or is there.
    pub fn created(&mut self, task: &Arc<str>, now: Instant) {
        self.awaited.insert(Arc::clone(task), now + ECHO);
    }

    /// A child of this name could not be created, or changed.
    pub fn refuse(&mut self, name: String, why: Why, now: Instant) {
        let times = self.refused.get(&name).map_or(0, |refused| refused.times + 1);
        self.refused.insert(name, Refused { why, times, again: now + REFUSED.doubled(times) });
    }

    /// The tasks whose children were created and are not among these yet.
    pub fn awaited<'a>(&'a self, children: &[&Child], now: Instant) -> impl Iterator<Item = &'a str> {
        let is_awaited = |child: &&&Child| self.awaited.contains_key(&child.task);
        let there: HashSet<Arc<str>> =
            children.iter().filter(is_awaited).map(|child| Arc::clone(&child.task)).collect();
        let is_awaited = move |(task, until): &(&Arc<str>, &Instant)| **until > now && !there.contains(*task);
        self.awaited.iter().filter(is_awaited).map(|(task, _)| &**task)
    }

    /// Nothing is done about it until then, where anything is to be done yet.
    pub fn put_off(&mut self, until: Option<Instant>) {
        self.put_off = until;
    }

    /// Until when nothing is to be done about it; none for now.
    #[must_use]
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.put_off.filter(|until| *until > now)
    }

    /// Whether the child of this name may be created or changed now: it was not refused of late.
    #[must_use]
    pub fn may_try(&self, name: &str, now: Instant) -> bool {
        self.refused.get(name).is_none_or(|refused| refused.again <= now)
    }

    /// Why children could not be created, by name.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Why)> {
        self.refused.iter().map(|(name, refused)| (name.as_str(), &refused.why))
    }

    /// Forgets the refusals of children that are not wanted any more, and what was waited for in vain.
    pub fn forget(&mut self, unwanted: &[String], now: Instant) {
        for name in unwanted {
            self.refused.remove(name);
        }
        self.awaited.retain(|_, until| *until > now);
    }

    /// When something that was put off is to be tried again.
    #[must_use]
    pub fn again_at(&self) -> Option<Instant> {
        let refused = self.refused.values().map(|refused| refused.again);
        refused.chain(self.awaited.values().copied()).min()
    }

    /// The API server acknowledged a write.
    pub fn is_written(&mut self, status: TaskWatchSetStatus, version: u64, decided: Timestamp) {
        if version >= self.version {
            (self.status, self.version) = (Some(status), version);
        }
        (self.pace, self.failures) = (self.pace.written(decided), 0);
    }

    /// It could not be brought up to date. Returns how often that has failed in a row.
    pub fn failed(&mut self) -> u32 {
        self.failures += 1;
        self.failures
    }
}

fn filter(object: &SetObject) -> Filter {
    object.spec.r#match.as_ref().map_or_else(Filter::default, Filter::new)
}

/// When a watch ended: its task, by the upstream's clock, else the watch itself.
fn ended(status: &TaskWatchStatus) -> Option<Timestamp> {
    let finished = find(&status.conditions, FINISHED).filter(|finished| finished.status == TRUE)?;
    Some(status.completion_time.as_ref().unwrap_or(&finished.last_transition_time).0)
}
