//! What the controller knows: the watches and connections of the API server, what the engine said of them, what was written last.
//! All of it can be rebuilt; nothing here waits.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kept::Kept;
use crate::{
    api::{
        ALLOW_TTL, ClusterTaskConnection, ConnectionKind, ConnectionStatus, FLUX_REQUESTED_AT, REQUESTED_AT,
        TaskConnection, TaskConnectionSpec, TaskWatch, TaskWatchSpec, connection::AllowedNamespaces,
    },
    domain::decide::Event,
    engine::{ConnectionHealth, ConnectionId, Delivery, Report, WatchKey},
};

/// Labels and annotations by which GitOps tools mark what they track.
const TRACKERS: &[&str] = &[
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "app.kubernetes.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
    "meta.helm.sh/release-name",
];

/// What identifies an object, of its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// None for a cluster-scoped object.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: WatchKey,
}

/// A `TaskWatch`, less what is not needed.
#[derive(Debug, PartialEq)]
pub struct WatchObject {
    /// Which.
    pub identity: Identity,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// A refresh that is asked for by annotation.
    pub requested_at: Option<String>,
    /// Whether Argo CD, Flux or Helm tracks it.
    pub tracked: bool,
    /// Whether the TTL may delete it all the same.
    pub allow_ttl: bool,
    /// The specification.
    pub spec: TaskWatchSpec,
}

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
    /// Writes that failed in a row.
    pub failures: u32,
    /// Whether it is over with.
    pub finished: bool,
}

/// A connection object of either kind.
#[derive(Debug)]
pub struct ConnectionObject {
    /// Which.
    pub identity: Identity,
    /// `metadata.generation`.
    pub generation: i64,
    /// The specification, without who may use it.
    pub spec: TaskConnectionSpec,
    /// Who may use it, of a `ClusterTaskConnection`.
    pub allowed_namespaces: Option<AllowedNamespaces>,
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

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    /// By UID.
    pub watches: HashMap<WatchKey, Box<WatchEntry>>,
    /// By kind and name.
    pub connections: HashMap<ConnectionId, ConnectionEntry>,
    users: HashMap<ConnectionId, HashSet<WatchKey>>,
    /// How many observations no worker has looked at yet.
    unread: usize,
    /// The labels of the namespaces; empty when the operator may not see them.
    pub namespaces: HashMap<Arc<str>, BTreeMap<String, String>>,
}

impl WatchObject {
    /// The connection that it names.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        let reference = &self.spec.connection_ref;
        let namespace = match reference.kind {
            ConnectionKind::TaskConnection => self.identity.namespace.clone(),
            ConnectionKind::ClusterTaskConnection => None,
        };
        ConnectionId { namespace, name: Arc::from(reference.name.as_str()) }
    }
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
}

impl Index {
    /// Takes in a `TaskWatch` as the API server shows it. Returns its key, and whether it says anything new; none for one that is
    /// being deleted or has no UID.
    pub fn put_watch(&mut self, watch: TaskWatch) -> Option<(WatchKey, bool)> {
        let identity = identity(&watch.metadata)?;
        let key = identity.uid.clone();
        if watch.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let object = Arc::new(WatchObject {
            identity,
            generation: watch.metadata.generation.unwrap_or_default(),
            created: watch.metadata.creation_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0),
            requested_at: annotation(&watch.metadata, REQUESTED_AT)
                .or_else(|| annotation(&watch.metadata, FLUX_REQUESTED_AT)),
            tracked: is_tracked(&watch.metadata),
            allow_ttl: annotation(&watch.metadata, ALLOW_TTL).is_some_and(|value| value == "true"),
            spec: watch.spec,
        });
        let version = version(&watch.metadata);
        let status = watch.status.as_ref().and_then(Kept::pack);
        self.users.entry(object.connection()).or_default().insert(key.clone());
        let is_news = if let Some(entry) = self.watches.get_mut(&key) {
            // An event of the version that we wrote ourselves is the echo of that.
            let is_news = version != entry.version || entry.object != object;
            // The watch may lag behind our own writes.
            if version >= entry.version {
                (entry.status, entry.version) = (status, version);
            }
            entry.object = object;
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
        self.unread -= usize::from(entry.unread);
        let connection = entry.object.connection();
        if let Some(users) = self.users.get_mut(&connection) {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&connection);
            }
        }
        Some(entry)
    }

    /// Takes in a connection. Returns whether anything but its status changed.
    pub fn put_connection(
        &mut self,
        id: &ConnectionId,
        object: ConnectionObject,
        status: Option<ConnectionStatus>,
        version: u64,
    ) -> bool {
        let object = Arc::new(object);
        match self.connections.get_mut(id) {
            Some(entry) if entry.object.identity.uid == object.identity.uid => {
                if version >= entry.version {
                    (entry.status, entry.version) = (status, version);
                }
                let changed = entry.object.generation != object.generation;
                entry.object = object;
                changed
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
                true
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
        self.unread += usize::from(!std::mem::replace(&mut entry.unread, true));
        true
    }

    /// A worker looks at what is known of a watch.
    pub fn read(&mut self, key: &WatchKey) {
        if let Some(entry) = self.watches.get_mut(key) {
            self.unread -= usize::from(std::mem::take(&mut entry.unread));
        }
    }

    /// How many observations no worker has looked at yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.unread
    }
}

impl From<TaskConnection> for ConnectionObject {
    fn from(object: TaskConnection) -> Self {
        let identity = identity(&object.metadata).unwrap_or_else(Identity::unknown);
        let generation = object.metadata.generation.unwrap_or_default();
        Self { identity, generation, spec: object.spec, allowed_namespaces: None }
    }
}

impl From<ClusterTaskConnection> for ConnectionObject {
    fn from(object: ClusterTaskConnection) -> Self {
        let identity = identity(&object.metadata).unwrap_or_else(Identity::unknown);
        let generation = object.metadata.generation.unwrap_or_default();
        Self { identity, generation, spec: object.spec.connection, allowed_namespaces: object.spec.allowed_namespaces }
    }
}

impl Identity {
    fn unknown() -> Self {
        Self { namespace: None, name: Arc::from(""), uid: WatchKey(Arc::from("")) }
    }
}

impl ConnectionObject {
    /// The key of this connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        ConnectionId { namespace: self.identity.namespace.clone(), name: Arc::clone(&self.identity.name) }
    }
}

/// The resource version as a number: it rises with each write of the same object.
#[must_use]
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn identity(meta: &ObjectMeta) -> Option<Identity> {
    Some(Identity {
        namespace: meta.namespace.as_deref().map(Arc::from),
        name: Arc::from(meta.name.as_deref()?),
        uid: WatchKey(Arc::from(meta.uid.as_deref()?)),
    })
}

fn annotation(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(name).cloned()
}

fn is_tracked(meta: &ObjectMeta) -> bool {
    let has =
        |map: &Option<BTreeMap<String, String>>, name: &str| map.as_ref().is_some_and(|map| map.contains_key(name));
    let managed_by_helm = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/managed-by"))
        .is_some_and(|manager| manager == "Helm");
    managed_by_helm || TRACKERS.iter().any(|name| has(&meta.labels, name) || has(&meta.annotations, name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::TaskWatchStatus;

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
    fn those_who_track_an_object_are_recognised() {
        for (metadata, expected) in [
            (json!({}), false),
            (json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), true),
            (json!({"labels": {"app.kubernetes.io/managed-by": "me"}}), false),
            (json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}), true),
            (json!({"annotations": {"argocd.argoproj.io/tracking-id": "app:…"}}), true),
        ] {
            let mut index = Index::default();
            let (key, _) = index.put_watch(watch("u", 1, &metadata)).unwrap();
            assert_eq!(index.watches[&key].object.tracked, expected, "{metadata}");
        }
    }

    #[test]
    fn our_own_refresh_annotation_goes_before_that_of_flux() {
        let mut index = Index::default();
        let both = json!({"annotations": {REQUESTED_AT: "ours", FLUX_REQUESTED_AT: "theirs"}});
        let (key, _) = index.put_watch(watch("u", 1, &both)).unwrap();
        assert_eq!(index.watches[&key].object.requested_at.as_deref(), Some("ours"));
    }
}
