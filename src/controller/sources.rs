//! The watches of the API server, each a task that keeps the index current.

use std::{collections::HashSet, hash::Hash, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tracing::{debug, warn};

use super::{
    Controller,
    index::ConnectionNews,
    objects::{ConnectionObject, version},
    readable::{Kind, Readable},
};
use crate::{
    api::{ClusterTaskConnection, ConnectionStatus, TaskConnection, TaskWatch},
    engine::{ConnectionId, WatchKey},
    ops::{health::Readiness, metrics::WatchMetrics},
};

/// Objects a page of the first list: more make a higher peak of memory, fewer a slower start.
const PAGE: u32 = 250;
/// Load balancers drop idle connections silently after 240 s; a watch ends by itself before that.
const WATCH_SECONDS: u32 = 200;
/// A stream that fails says so in the log at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// What a stream of objects changes.
trait Target<K>: Send + Sync {
    type Key: Hash + Eq + Clone + Send;
    /// Takes in an object; its key, where it is one to keep.
    fn put(&self, object: K) -> Option<Self::Key>;
    /// Forgets an object.
    fn remove(&self, key: &Self::Key);
    /// The key of an object with this metadata.
    fn key(&self, meta: &ObjectMeta) -> Option<Self::Key>;
    /// All keys that came by this stream.
    fn keys(&self) -> Vec<Self::Key>;
}

/// Follows a collection for ever; `ready` once its first list is in.
async fn follow<K: Kind, T: Target<K>>(api: Api<Readable<K>>, target: T, ready: Readiness, heard: WatchMetrics) {
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut listed = HashSet::new();
    let mut complained: Option<tokio::time::Instant> = None;
    while let Some(event) = stream.next().await {
        if event.is_ok() {
            heard.now();
        }
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(take(&target, object)),
            Ok(Event::InitDone) => {
                for key in target.keys() {
                    if !listed.contains(&key) {
                        target.remove(&key);
                    }
                }
                listed = HashSet::new();
                ready.done();
                debug!(kind = %K::kind(&()), "listed");
            }
            Ok(Event::Apply(object)) => drop(take(&target, object)),
            Ok(Event::Delete(object)) => {
                if let Some(key) = target.key(object.meta()) {
                    target.remove(&key);
                }
            }
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                    complained = Some(tokio::time::Instant::now());
                    warn!(kind = %K::kind(&()), %error, "the watch of the API server failed; trying again");
                }
            }
        }
    }
}

/// Takes in an object, unless it cannot be read: then what is known of it stays, until it is deleted.
fn take<K: Kind, T: Target<K>>(target: &T, object: Readable<K>) -> Option<T::Key> {
    match object.0 {
        Ok(object) => target.put(object),
        Err(invalid) => {
            let (namespace, name) = (invalid.metadata.namespace.as_deref(), invalid.metadata.name.as_deref());
            warn!(kind = %K::kind(&()), namespace, name, error = %invalid.error, "an object cannot be read; correct it");
            target.key(&invalid.metadata)
        }
    }
}

/// Starts all watches; each ends with the process.
pub(super) fn start(
    controller: &Arc<Controller>,
    client: &Client,
    namespaces: &[String],
    ready: impl Fn(&'static str) -> Readiness,
) {
    if namespaces.is_empty() {
        watch(controller, Api::all(client.clone()), Watches(None), ready("taskwatches"));
        watch(controller, Api::all(client.clone()), Connections(None), ready("taskconnections"));
    }
    if controller.sees_cluster {
        watch(controller, Api::all(client.clone()), ClusterConnections, ready("clustertaskconnections"));
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        tokio::spawn(follow_namespaces(Arc::clone(controller), api, ready("namespaces")));
    }
    for namespace in namespaces {
        let (client, own) = (client.clone(), Some(Arc::from(namespace.as_str())));
        watch(controller, Api::namespaced(client.clone(), namespace), Watches(own.clone()), ready("taskwatches"));
        watch(controller, Api::namespaced(client, namespace), Connections(own), ready("taskconnections"));
    }
}

fn watch<K: Kind, S>(controller: &Arc<Controller>, api: Api<Readable<K>>, source: S, ready: Readiness)
where
    (Arc<Controller>, S): Target<K>,
    S: Send + Sync + 'static,
{
    let heard = controller.metrics.watch(K::plural(&()).into_owned());
    tokio::spawn(follow(api, (Arc::clone(controller), source), ready, heard));
}

/// The `TaskWatch` objects of one namespace, or of all.
struct Watches(Option<Arc<str>>);
/// The `TaskConnection` objects of one namespace, or of all.
struct Connections(Option<Arc<str>>);
/// The `ClusterTaskConnection` objects.
struct ClusterConnections;

impl Target<TaskWatch> for (Arc<Controller>, Watches) {
    type Key = WatchKey;

    fn put(&self, object: TaskWatch) -> Option<WatchKey> {
        let going = object.metadata.deletion_timestamp.is_some();
        let key = self.key(&object.metadata)?;
        if going {
            self.remove(&key);
            return None;
        }
        let (key, is_news) = self.0.shared.index().put_watch(object)?;
        if is_news {
            self.0.shared.watches.add(key.clone());
        }
        Some(key)
    }

    fn remove(&self, key: &WatchKey) {
        let removed = self.0.shared.index().remove_watch(key);
        self.0.shared.watches.remove(key);
        if let Some(entry) = removed.filter(|entry| entry.registered.is_some()) {
            self.0.engine.forget(&entry.object.connection(), key.clone());
        }
    }

    fn key(&self, meta: &ObjectMeta) -> Option<WatchKey> {
        meta.uid.as_deref().map(|uid| WatchKey(Arc::from(uid)))
    }

    fn keys(&self) -> Vec<WatchKey> {
        let index = self.0.shared.index();
        let ours = |namespace: &Option<Arc<str>>| self.1.0.is_none() || self.1.0 == *namespace;
        index
            .watches
            .iter()
            .filter(|(_, entry)| ours(&entry.object.identity.namespace))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl Controller {
    fn put_connection(&self, object: ConnectionObject, status: Option<ConnectionStatus>, version: u64) -> ConnectionId {
        let id = object.id();
        let news = self.shared.index().put_connection(&id, object, status, version);
        if news != ConnectionNews::Nothing {
            self.shared.connections.add(id.clone());
        }
        if news == ConnectionNews::Object {
            // Who may use it, and for which scopes, may have changed.
            for key in self.shared.index().users(&id) {
                self.shared.watches.add(key);
            }
        }
        id
    }

    fn remove_connection(&self, id: &ConnectionId) {
        self.shared.index().connections.remove(id);
        self.shared.connections.add(id.clone());
    }

    fn connection_ids(&self, ours: impl Fn(&ConnectionId) -> bool) -> Vec<ConnectionId> {
        self.shared.index().connections.keys().filter(|id| ours(id)).cloned().collect()
    }
}

impl Target<TaskConnection> for (Arc<Controller>, Connections) {
    type Key = ConnectionId;

    fn put(&self, object: TaskConnection) -> Option<ConnectionId> {
        let (status, version) = (object.status.clone(), version(&object.metadata));
        Some(self.0.put_connection(object.into(), status, version))
    }

    fn remove(&self, key: &ConnectionId) {
        self.0.remove_connection(key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<ConnectionId> {
        Some(ConnectionId {
            namespace: meta.namespace.as_deref().map(Arc::from),
            name: Arc::from(meta.name.as_deref()?),
        })
    }

    fn keys(&self) -> Vec<ConnectionId> {
        self.0.connection_ids(|id| id.namespace.is_some() && (self.1.0.is_none() || self.1.0 == id.namespace))
    }
}

impl Target<ClusterTaskConnection> for (Arc<Controller>, ClusterConnections) {
    type Key = ConnectionId;

    fn put(&self, object: ClusterTaskConnection) -> Option<ConnectionId> {
        let (status, version) = (object.status.clone(), version(&object.metadata));
        Some(self.0.put_connection(object.into(), status, version))
    }

    fn remove(&self, key: &ConnectionId) {
        self.0.remove_connection(key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<ConnectionId> {
        Some(ConnectionId { namespace: None, name: Arc::from(meta.name.as_deref()?) })
    }

    fn keys(&self) -> Vec<ConnectionId> {
        self.0.connection_ids(|id| id.namespace.is_none())
    }
}

/// Follows the labels of the namespaces, which say who may use a `ClusterTaskConnection`.
async fn follow_namespaces(controller: Arc<Controller>, api: Api<PartialObjectMeta<Namespace>>, ready: Readiness) {
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let mut stream = pin!(watcher(api, config).default_backoff());
    let heard = controller.metrics.watch("namespaces".to_owned());
    loop {
        let event = stream.try_next().await;
        if event.is_ok() {
            heard.now();
        }
        match event {
            Ok(Some(Event::InitDone)) => ready.done(),
            Ok(Some(Event::InitApply(object) | Event::Apply(object))) => {
                let name: Arc<str> = Arc::from(object.name_any());
                let labels = object.metadata.labels.unwrap_or_default();
                let old = controller.shared.index().namespaces.insert(Arc::clone(&name), labels.clone());
                if old.as_ref() != Some(&labels) {
                    controller.access_changed(&name);
                }
            }
            Ok(Some(Event::Delete(object))) => {
                controller.shared.index().namespaces.remove(object.name_any().as_str());
            }
            Ok(Some(Event::Init)) => {}
            Ok(None) => return,
            Err(error) => debug!(%error, "the watch of the namespaces failed; trying again"),
        }
    }
}

impl Controller {
    /// Has the watches of a namespace that use cluster-scoped connections decide anew.
    fn access_changed(&self, namespace: &str) {
        let concerned: Vec<_> = {
            let index = self.shared.index();
            let uses = index.watches.iter().filter(|(_, entry)| {
                entry.object.identity.namespace.as_deref() == Some(namespace)
                    && entry.object.connection().namespace.is_none()
            });
            uses.map(|(key, _)| key.clone()).collect()
        };
        for key in concerned {
            self.shared.watches.add(key);
        }
    }
}
