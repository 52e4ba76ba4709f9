//! Which collections of the API server are followed, and what becomes of their objects in the index.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use tokio::sync::Semaphore;
use tracing::warn;

use super::{
    Controller,
    follow::{Means, Target, follow},
    index::ConnectionNews,
    objects::{ConnectionObject, version},
    readable::{Kind, NamespaceLabels},
};
use crate::{
    api::{ClusterTaskConnection, ConnectionStatus, TaskConnection, TaskWatch},
    engine::{ConnectionId, WatchKey},
    ops::{guard::Guard, health::Readiness},
};

/// Follows all collections; each as long as the process lives.
pub(super) fn start(
    controller: &Arc<Controller>,
    client: &Client,
    guard: &Guard,
    namespaces: &[String],
    ready: impl Fn(&'static str) -> Readiness,
) {
    let means = Means {
        client: client.clone(),
        metrics: controller.metrics.clone(),
        guard: guard.clone(),
        one_large: Arc::new(Semaphore::new(1)),
    };
    if namespaces.is_empty() {
        begin(controller, &means, None, Watches(None), ready("taskwatches"));
        begin(controller, &means, None, Connections(None), ready("taskconnections"));
    }
    if controller.sight.cluster {
        begin(controller, &means, None, ClusterConnections, ready("clustertaskconnections"));
        begin(controller, &means, None, Namespaces, ready("namespaces"));
    }
    for namespace in namespaces {
        let own = Some(Arc::from(namespace.as_str()));
        begin(controller, &means, Some(namespace), Watches(own.clone()), ready("taskwatches"));
        begin(controller, &means, Some(namespace), Connections(own), ready("taskconnections"));
    }
}

fn begin<K: Kind, S>(
    controller: &Arc<Controller>,
    means: &Means,
    namespace: Option<&String>,
    source: S,
    ready: Readiness,
) where
    (Arc<Controller>, S): Target<K>,
    S: Send + Sync + 'static,
{
    tokio::spawn(follow(means.clone(), namespace.cloned(), (Arc::clone(controller), source), ready));
}

/// The `TaskWatch` objects of one namespace, or of all.
struct Watches(Option<Arc<str>>);
/// The `TaskConnection` objects of one namespace, or of all.
struct Connections(Option<Arc<str>>);
/// The `ClusterTaskConnection` objects.
struct ClusterConnections;
/// The labels of the namespaces, which say who may use a `ClusterTaskConnection`.
struct Namespaces;

impl Target<TaskWatch> for (Arc<Controller>, Watches) {
    type Key = WatchKey;

    fn put(&self, object: TaskWatch) -> Option<WatchKey> {
        let going = object.metadata.deletion_timestamp.is_some();
        let key = self.key(&object.metadata)?;
        if going {
            self.remove(&key);
            return None;
        }
        let put = self.0.shared.index().put_watch(object);
        self.0.rearrange();
        let (key, is_news) = put?;
        if is_news {
            self.0.shared.look_at([key.clone()]);
        }
        Some(key)
    }

    fn remove(&self, key: &WatchKey) {
        let (look, removed) = {
            let mut index = self.0.shared.index();
            (index.look(key.clone()), index.remove_watch(key))
        };
        if let Some(look) = look {
            self.0.shared.watches.remove(&look);
        }
        self.0.rearrange();
        let Some(entry) = removed else { return };
        if entry.registered.is_some() {
            self.0.engine.forget(&entry.object.connection(), key.clone());
        }
    }

    fn key(&self, meta: &ObjectMeta) -> Option<WatchKey> {
        meta.uid.as_deref().map(|uid| WatchKey(Arc::from(uid)))
    }

    fn keys(&self) -> Vec<WatchKey> {
        self.0.shared.index().keys(self.1.0.as_ref())
    }

    fn known_version(&self, key: &WatchKey) -> Option<u64> {
        self.0.shared.index().watches.get(key).map(|entry| entry.version)
    }

    fn history_replaced(&self) {
        self.0.shared.index().history_replaced();
    }
}

impl Controller {
    fn put_connection(&self, object: ConnectionObject, status: Option<ConnectionStatus>, version: u64) -> ConnectionId {
        let id = object.id();
        let news = self.shared.index().put_connection(&id, object, status, version);
        self.rearrange();
        if news != ConnectionNews::Nothing {
            self.shared.connections.add(id.clone());
        }
        if news == ConnectionNews::Object {
            // Who may use it, and for which scopes, may have changed.
            let users = self.shared.index().users(&id);
            self.shared.look_at(users);
        }
        id
    }

    fn remove_connection(&self, id: &ConnectionId) {
        self.shared.index().remove_connection(id);
        self.rearrange();
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

    fn known_version(&self, key: &ConnectionId) -> Option<u64> {
        self.0.shared.index().connections.get(key).map(|entry| entry.version)
    }

    fn history_replaced(&self) {
        self.0.shared.index().history_replaced();
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

    fn known_version(&self, key: &ConnectionId) -> Option<u64> {
        self.0.shared.index().connections.get(key).map(|entry| entry.version)
    }

    fn history_replaced(&self) {
        self.0.shared.index().history_replaced();
    }
}

impl Target<NamespaceLabels> for (Arc<Controller>, Namespaces) {
    type Key = Arc<str>;

    fn put(&self, object: NamespaceLabels) -> Option<Arc<str>> {
        let name: Arc<str> = Arc::from(object.name);
        let mut index = self.0.shared.index();
        let old = match object.labels {
            Some(labels) if index.namespaces.get(&name) == Some(&labels) => return Some(name),
            Some(labels) => index.namespaces.insert(Arc::clone(&name), labels),
            None => {
                warn!(
                    namespace = &*name,
                    "it has more labels than are read: no selector of a ClusterTaskConnection serves it"
                );
                index.namespaces.remove(&name)
            }
        };
        drop((index, old));
        self.0.access_changed(&name);
        Some(name)
    }

    fn remove(&self, key: &Arc<str>) {
        self.0.shared.index().namespaces.remove(key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<Arc<str>> {
        meta.name.as_deref().map(Arc::from)
    }

    fn keys(&self) -> Vec<Arc<str>> {
        self.0.shared.index().namespaces.keys().cloned().collect()
    }

    fn known_version(&self, _: &Arc<str>) -> Option<u64> {
        None
    }

    fn history_replaced(&self) {}
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
        self.shared.look_at(concerned);
    }
}
