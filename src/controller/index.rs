//! What the controller knows: the watches and connections of the API server, what the engine said of them, what was written last.
//! All of it can be rebuilt; nothing here waits.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    kept::Kept,
    objects::{ConnectionObject, WatchObject, version},
    unread::Unread,
};
use crate::{
    api::{ConnectionStatus, TaskWatch, TaskWatchStatus},
    domain::decide::Event,
    engine::{ConnectionHealth, ConnectionId, Delivery, Report, WatchKey},
    tenancy::Tenant,
};

/// A `TaskWatch` and all that is known of it.
#[derive(Debug)]
pub struct WatchEntry {
    /// The object.
    pub object: Arc<WatchObject>,
    /// Its status as last acknowledged by the API server.
    pub status: Option<Kept>,
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
    /// Whether it is over with.
    pub finished: bool,
}

/// Whether a connection can be used at all; else why not, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usability {
    /// It can.
    Usable,
    /// Its Secret or its certificates are not there (yet).
    SecretNotFound(String),
    /// It asks for what cannot be.
    Invalid(String),
}

/// A connection and all that is known of it.
#[derive(Debug)]
pub struct ConnectionEntry {
    /// The object.
    pub object: Arc<ConnectionObject>,
    /// Its status as last acknowledged.
    pub status: Option<ConnectionStatus>,
    /// The resource version of that.
    pub version: u64,
    /// Whether watches may use it; none until its Secret has been looked for.
    pub usability: Option<Usability>,
    /// What the engine said last.
    pub health: Option<ConnectionHealth>,
    /// The identity and bounds that the engine was given, to tell whether they changed.
    pub fingerprint: Option<u64>,
    /// Reconciliations that failed in a row.
    pub failures: u32,
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
#[derive(Debug, Default)]
pub struct Index {
    /// By UID.
    pub watches: HashMap<WatchKey, Box<WatchEntry>>,
    /// By kind and name.
    pub connections: HashMap<ConnectionId, ConnectionEntry>,
    users: HashMap<ConnectionId, HashSet<WatchKey>>,
    /// How many observations no worker has looked at yet.
    unread: Unread,
    /// The labels of the namespaces; empty when the operator may not see them.
    pub namespaces: HashMap<Arc<str>, BTreeMap<String, String>>,
}

impl WatchEntry {
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

    /// Takes over a status that the API server shows.
    fn take_status(&mut self, status: Option<Kept>) {
        let is_ours = self.unconfirmed.as_deref().is_some_and(|(written, _)| status.as_ref() == Some(written));
        if !is_ours && self.observation.is_none() {
            // Written by somebody else, or by ourselves when the answer was lost. What it should say is not kept: a fresh look tells.
            self.ticket += 1;
        }
        self.status = status;
    }

    /// The clock by which all of this was noted has been stepped so far.
    fn step_clock(&mut self, step: SignedDuration) {
        let status = self.status.as_ref().and_then(Kept::unpack);
        let told = status.as_ref().and_then(|status| status.not_found_since.as_ref());
        let meant = self.not_found_since(status.as_ref()).map(|since| stepped(since, step));
        self.not_found_since = told.zip(meant).map(|(told, meant)| Box::new((told.0, meant)));
        self.asking_since = stepped(self.asking_since, step);
        if let Some((_, report)) = self.observation.as_deref_mut() {
            for time in report.times_mut() {
                *time = stepped(*time, step);
            }
        }
        // What was concluded by a wrong clock is mended by the next look, even if that shows nothing new.
        self.ticket += 1;
    }
}

fn stepped(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(time)
}

impl Index {
    /// The clock was stepped so far: times go with it. Returns who is to be looked at.
    pub fn step_clock(&mut self, step: SignedDuration) -> Vec<WatchKey> {
        self.watches.values_mut().for_each(|entry| entry.step_clock(step));
        self.watches.keys().cloned().collect()
    }

    /// The API server tells another history: the versions that are known mean nothing in it, and whatever it shows next is news.
    pub fn history_replaced(&mut self) {
        self.watches.values_mut().for_each(|entry| entry.version = 0);
        self.connections.values_mut().for_each(|entry| entry.version = 0);
    }

    /// Takes in a `TaskWatch` as the API server shows it. Returns its key, and whether it says anything new; none for one that is
    /// being deleted or has no UID.
    pub fn put_watch(&mut self, watch: TaskWatch) -> Option<(WatchKey, bool)> {
        if watch.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let object = Arc::new(WatchObject::of(&watch.metadata, watch.spec)?);
        let key = object.identity.uid.clone();
        let version = version(&watch.metadata);
        let status = watch.status.as_ref().and_then(Kept::pack);
        self.users.entry(object.connection()).or_default().insert(key.clone());
        let is_news = if let Some(entry) = self.watches.get_mut(&key) {
            // What is the same stays where it is: to replace all objects one by one, as the echoes of a cold start come, would leave
            // the heap full of holes.
            let is_changed = entry.object != object;
            // An event of the version that we wrote ourselves is the echo of that.
            let is_news = version != entry.version || is_changed;
            if is_changed {
                entry.object = object;
            }
            // The watch may lag behind our own writes.
            if version >= entry.version {
                entry.version = version;
                if status != entry.status {
                    entry.take_status(status);
                }
            }
            is_news
        } else {
            let entry = WatchEntry {
                object,
                status,
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
                finished: false,
            };
            self.watches.insert(key.clone(), Box::new(entry));
            true
        };
        Some((key, is_news))
    }

    /// Forgets a `TaskWatch`; what the engine was asked for is returned, to be called off.
    pub fn remove_watch(&mut self, key: &WatchKey) -> Option<Box<WatchEntry>> {
        let entry = self.watches.remove(key)?;
        let connection = entry.object.connection();
        if entry.unread {
            self.unread.remove(&connection.tenant());
        }
        if let Some(users) = self.users.get_mut(&connection) {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&connection);
            }
        }
        Some(entry)
    }

    /// Takes in a connection, as the API server shows it.
    pub fn put_connection(
        &mut self,
        id: &ConnectionId,
        object: ConnectionObject,
        status: Option<ConnectionStatus>,
        version: u64,
    ) -> ConnectionNews {
        let object = Arc::new(object);
        match self.connections.get_mut(id) {
            Some(entry) if entry.object.identity.uid == object.identity.uid => {
                let mut news = ConnectionNews::Nothing;
                if version >= entry.version {
                    if entry.status != status {
                        news = ConnectionNews::Status;
                    }
                    (entry.status, entry.version) = (status, version);
                }
                if entry.object.generation != object.generation {
                    news = ConnectionNews::Object;
                }
                entry.object = object;
                news
            }
            _ => {
                let entry = ConnectionEntry {
                    object,
                    status,
                    version,
                    usability: None,
                    health: None,
                    fingerprint: None,
                    failures: 0,
                };
                self.connections.insert(id.clone(), entry);
                ConnectionNews::Object
            }
        }
    }

    /// The watches that name a connection.
    #[must_use]
    pub fn users(&self, id: &ConnectionId) -> Vec<WatchKey> {
        self.users.get(id).map(|users| users.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many watches of a connection are not finished, and how many are.
    #[must_use]
    pub fn counts(&self, id: &ConnectionId) -> (usize, usize) {
        let users = self.users.get(id).into_iter().flatten();
        let finished = users.filter(|key| self.watches.get(*key).is_some_and(|entry| entry.finished)).count();
        (self.users.get(id).map_or(0, HashSet::len) - finished, finished)
    }

    /// Takes in what the engine says of a task. Returns whether anybody still wants to know.
    pub fn observe(&mut self, delivery: Delivery<Timestamp>) -> bool {
        let Some(entry) = self.watches.get_mut(&delivery.key) else { return false };
        entry.observation = Some(Box::new((delivery.ticket, delivery.report)));
        if !std::mem::replace(&mut entry.unread, true) {
            self.unread.add(entry.object.connection().tenant());
        }
        true
    }

    /// A worker looks at what is known of a watch.
    pub fn read(&mut self, key: &WatchKey) {
        if let Some(entry) = self.watches.get_mut(key)
            && std::mem::take(&mut entry.unread)
        {
            self.unread.remove(&entry.object.connection().tenant());
        }
    }

    /// How many observations no worker has looked at yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.unread.total()
    }

    /// How many more there may be on a tenant's account.
    #[must_use]
    pub fn room(&self, tenant: &Tenant) -> usize {
        self.unread.room(tenant)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::TaskConnection,
        domain::failure::{Failure, FailureClass},
    };

    fn watch(uid: &str, version: u64, extra: &Value) -> TaskWatch {
        let mut object = json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": "w", "namespace": "n", "uid": uid, "resourceVersion": version.to_string(),
                "creationTimestamp": "2026-11-22T10:12:25Z"},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t"}},
        });
        if let (Value::Object(meta), Value::Object(extra)) = (&mut object["metadata"], extra) {
            meta.extend(extra.clone());
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_late_event_does_not_undo_what_was_acknowledged() {
        let mut index = Index::default();
        let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
        let entry = index.watches.get_mut(&key).unwrap();
        (entry.status, entry.version) = (Kept::pack(&TaskWatchStatus::default()), 7);
        for (version, kept, is_news) in [(6, true, true), (7, false, false), (8, false, true)] {
            assert_eq!(index.put_watch(watch("u", version, &json!({}))), Some((key.clone(), is_news)));
            assert_eq!(index.watches[&key].status.is_some(), kept, "version {version}");
        }
    }

    #[test]
    fn in_another_history_older_versions_are_news() {
        let mut index = Index::default();
        let status = |state: &str| TaskWatchStatus { state: Some(state.to_owned()), ..TaskWatchStatus::default() };
        let event = |version, state: &str| TaskWatch { status: Some(status(state)), ..watch("u", version, &json!({})) };
        let (key, _) = index.put_watch(event(50, "Succeeded")).unwrap();
        let shown = |index: &Index| index.watches[&key].status.as_ref().and_then(Kept::unpack).unwrap().state;
        index.put_watch(event(40, "Running"));
        assert_eq!(shown(&index).as_deref(), Some("Succeeded"), "late");
        index.history_replaced();
        let ticket = index.watches[&key].ticket;
        assert_eq!(index.put_watch(event(40, "Running")), Some((key.clone(), true)));
        assert_eq!(shown(&index).as_deref(), Some("Running"));
        assert!(index.watches[&key].ticket > ticket, "a fresh look brings it up to date");
    }

    #[test]
    fn a_status_that_is_not_ours_asks_for_a_fresh_look() {
        let status = |state: &str| TaskWatchStatus { state: Some(state.to_owned()), ..TaskWatchStatus::default() };
        let event = |version, state: &str| TaskWatch { status: Some(status(state)), ..watch("u", version, &json!({})) };
        let mut index = Index::default();
        let (key, _) = index.put_watch(event(5, "Pending")).unwrap();
        let mut fresh = |version, state: &str, written: Option<&str>| {
            let entry = index.watches.get_mut(&key).unwrap();
            entry.unconfirmed =
                written.and_then(|state| Kept::pack(&status(state))).map(|kept| Box::new((kept, Vec::new())));
            let before = entry.ticket;
            index.put_watch(event(version, state)).unwrap();
            index.watches[&key].ticket > before
        };
        assert!(!fresh(6, "Pending", None), "the status is as it was");
        assert!(!fresh(7, "Running", Some("Running")), "the echo of a write, before its answer");
        assert!(fresh(8, "Failed", None), "somebody else's, or the answer was lost");
        assert!(!fresh(7, "Running", None), "late");
    }

    #[test]
    fn a_successor_of_the_same_name_is_another_entry() {
        let mut index = Index::default();
        let (old, _) = index.put_watch(watch("u1", 5, &json!({}))).unwrap();
        let (new, _) = index.put_watch(watch("u2", 9, &json!({}))).unwrap();
        index.remove_watch(&old);
        assert!(index.watches.contains_key(&new));
        let id = index.watches[&new].object.connection();
        assert_eq!(index.users(&id), std::slice::from_ref(&new));
        index.remove_watch(&new);
        assert!(index.users(&id).is_empty());
    }

    #[test]
    fn what_is_new_of_a_connection_is_told_apart() {
        let object = |uid: &str, generation| {
            let object = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
                "metadata": {"name": "c", "namespace": "n", "uid": uid, "generation": generation},
                "spec": {"provider": {"astraControl": {"endpoint": "https://astra.example", "accountID": "a"}},
                    "auth": {"token": {"secretRef": {"name": "s"}}}}});
            ConnectionObject::from(serde_json::from_value::<TaskConnection>(object).unwrap())
        };
        let status = || Some(ConnectionStatus { observed_generation: Some(1), ..ConnectionStatus::default() });
        let (mut index, id) = (Index::default(), object("u", 1).id());
        let mut put = |object, status, version| index.put_connection(&id, object, status, version);
        assert_eq!(put(object("u", 1), None, 1), ConnectionNews::Object);
        assert_eq!(put(object("u", 1), None, 2), ConnectionNews::Nothing);
        assert_eq!(put(object("u", 1), status(), 3), ConnectionNews::Status);
        assert_eq!(put(object("u", 1), None, 2), ConnectionNews::Nothing, "late");
        assert_eq!(put(object("u", 2), None, 4), ConnectionNews::Object);
        assert_eq!(put(object("v", 2), None, 5), ConnectionNews::Object);
    }

    #[test]
    fn a_step_of_the_clock_moves_what_is_measured_from() {
        let time = |minute: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        let status =
            |minute| TaskWatchStatus { not_found_since: Some(Time(time(minute))), ..TaskWatchStatus::default() };
        let failure = Arc::new(Failure::new(FailureClass::NotFound, "no such task"));
        let report = |since, at| Report::Missing { failure: Arc::clone(&failure), since: time(since), at: time(at) };
        let mut index = Index::default();
        let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
        let entry = index.watches.get_mut(&key).unwrap();
        (entry.status, entry.asking_since) = (Kept::pack(&status(50)), time(40));
        entry.observation = Some(Box::new((0, report(51, 52))));
        let ticket = entry.ticket;
        assert_eq!(index.step_clock(SignedDuration::from_mins(30)), std::slice::from_ref(&key));
        index.step_clock(SignedDuration::from_mins(-10));
        let entry = &index.watches[&key];
        assert_eq!(entry.not_found_since(Some(&status(50))), Some(time(70)));
        assert_eq!(entry.asking_since, time(60));
        assert_eq!(entry.observation.as_deref(), Some(&(0, report(71, 72))));
        assert!(entry.ticket > ticket);
        // What was written since is by the present clock.
        assert_eq!(entry.not_found_since(Some(&status(70))), Some(time(70)));
        assert_eq!(entry.not_found_since(Some(&TaskWatchStatus::default())), None);
    }
}
