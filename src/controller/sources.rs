//! Which collections of the API server are followed, and what becomes of their objects in the index.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use tokio::sync::Semaphore;
use tracing::warn;

use super::{
    Controller, Shared,
    follow::{Means, Target, follow},
    index::ConnectionNews,
    objects::{ConnectionObject, version},
    readable::{Kind, NamespaceLabels},
};
use crate::{
    api::{ClusterTaskConnection, ConnectionStatus, TaskConnection, TaskWatch, TaskWatchSet},
    engine::{ConnectionId, WatchKey},
    ops::{guard::Guard, health::Readiness},
};

/// Follows all collections; each as long as the process lives.
pub(super) fn start(
    controller: &Arc<Controller>,
    client: &Client,
    guard: &Guard,
    namespaces: &[String],
    mut ready: impl FnMut(&'static str) -> Readiness,
) {
    let means = Means {
        client: client.clone(),
        metrics: controller.metrics.clone(),
        guard: guard.clone(),
        one_large: Arc::new(Semaphore::new(1)),
    };
    if namespaces.is_empty() {
        begin::<TaskWatch>(controller, &means, None, ready("taskwatches"));
        begin::<TaskConnection>(controller, &means, None, ready("taskconnections"));
        if controller.discovery {
            begin::<TaskWatchSet>(controller, &means, None, ready("taskwatchsets"));
        }
    }
    if controller.sight.cluster {
        begin::<ClusterTaskConnection>(controller, &means, None, ready("clustertaskconnections"));
        begin::<NamespaceLabels>(controller, &means, None, ready("namespaces"));
    }
    for namespace in namespaces {
        begin::<TaskWatch>(controller, &means, Some(namespace), ready("taskwatches"));
        begin::<TaskConnection>(controller, &means, Some(namespace), ready("taskconnections"));
        if controller.discovery {
            begin::<TaskWatchSet>(controller, &means, Some(namespace), ready("taskwatchsets"));
        }
    }
}

fn begin<K: Kind>(controller: &Arc<Controller>, means: &Means, namespace: Option<&String>, ready: Readiness)
where
    Source: Target<K>,
{
    let source =
        Source { controller: Arc::clone(controller), namespace: namespace.map(|name| Arc::from(name.as_str())) };
    tokio::spawn(follow::<K, Source>(means.clone(), namespace.cloned(), source, ready));
}

/// Where the objects of one collection go; of namespaced kinds those of one namespace, or of all.
struct Source {
    controller: Arc<Controller>,
    namespace: Option<Arc<str>>,
}

impl Target<TaskWatch> for Source {
    type Key = WatchKey;

    fn put(&self, object: TaskWatch) -> Option<WatchKey> {
        let going = object.metadata.deletion_timestamp.is_some();
        let key = Target::<TaskWatch>::key(self, &object.metadata)?;
        if going {
            Target::<TaskWatch>::remove(self, &key);
            return None;
        }
        let put = self.controller.shared.index().put_watch(object);
        self.controller.shared.rearrange();
        let (key, is_news) = put?;
        if is_news {
            self.controller.shared.look_at([key.clone()]);
        }
        Some(key)
    }

    fn remove(&self, key: &WatchKey) {
        let (look, polled) = {
            let mut index = self.controller.shared.index();
            (index.look(key.clone()), index.remove_watch(key))
        };
        if let Some(look) = look {
            self.controller.shared.watches.remove(&look);
        }
        self.controller.shared.rearrange();
        if let Some(connection) = polled {
            self.controller.engine.forget(&connection, key.clone());
        }
    }

    fn key(&self, meta: &ObjectMeta) -> Option<WatchKey> {
        meta.uid.as_deref().map(|uid| WatchKey(Arc::from(uid)))
    }

    fn keys(&self) -> Vec<WatchKey> {
        self.controller.shared.index().keys(self.namespace.as_ref())
    }

    fn known_version(&self, key: &WatchKey) -> Option<u64> {
        self.controller.shared.index().watches.get(key).map(|entry| entry.published.version())
    }

    fn history_replaced(&self) {
        self.controller.shared.index().history_replaced();
    }
}

impl Target<TaskWatchSet> for Source {
    type Key = WatchKey;

    fn put(&self, object: TaskWatchSet) -> Option<WatchKey> {
        let going = object.metadata.deletion_timestamp.is_some();
        let key = Target::<TaskWatchSet>::key(self, &object.metadata)?;
        if going {
            // Its children go or stay as whoever deletes it has said.
            Target::<TaskWatchSet>::remove(self, &key);
            return None;
        }
        let (key, is_news) = self.controller.shared.index().sets.put(object)?;
        if is_news {
            self.controller.shared.look_at_sets([key.clone()]);
        }
        Some(key)
    }

    fn remove(&self, key: &WatchKey) {
        let (look, listed) = {
            let mut index = self.controller.shared.index();
            (index.sets.look(key), index.sets.remove(key))
        };
        if let Some(look) = look {
            self.controller.shared.sets.remove(&look);
        }
        if let Some(connection) = listed {
            self.controller.engine.forget(&connection, key.clone());
        }
    }

    fn key(&self, meta: &ObjectMeta) -> Option<WatchKey> {
        meta.uid.as_deref().map(|uid| WatchKey(Arc::from(uid)))
    }

    fn keys(&self) -> Vec<WatchKey> {
        self.controller.shared.index().sets.keys(self.namespace.as_ref())
    }

    fn known_version(&self, key: &WatchKey) -> Option<u64> {
        self.controller.shared.index().sets.version(key)
    }

    fn history_replaced(&self) {
        self.controller.shared.index().sets.history_replaced();
    }
}

fn put_connection(
    controller: &Controller,
    object: ConnectionObject,
    status: Option<ConnectionStatus>,
    version: u64,
) -> ConnectionId {
    let id = object.id();
    let news = controller.shared.index().put_connection(&id, object, status, version);
    controller.shared.rearrange();
    if news != ConnectionNews::Nothing {
        controller.shared.connections.add(id.clone());
    }
    if news == ConnectionNews::Object {
        // Who may use it, and for which scopes, may have changed.
        controller.shared.look_at_users(&id);
    }
    id
}

fn remove_connection(controller: &Controller, id: &ConnectionId) {
    controller.shared.index().remove_connection(id);
    controller.shared.rearrange();
    controller.shared.connections.add(id.clone());
}

fn connection_ids(shared: &Shared, ours: impl Fn(&ConnectionId) -> bool) -> Vec<ConnectionId> {
    shared.index().connections.keys().filter(|id| ours(id)).cloned().collect()
}

impl Target<TaskConnection> for Source {
    type Key = ConnectionId;

    fn put(&self, object: TaskConnection) -> Option<ConnectionId> {
        let (status, version) = (object.status.clone(), version(&object.metadata));
        Some(put_connection(&self.controller, object.into(), status, version))
    }

    fn remove(&self, key: &ConnectionId) {
        remove_connection(&self.controller, key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<ConnectionId> {
        Some(ConnectionId {
            namespace: meta.namespace.as_deref().map(Arc::from),
            name: Arc::from(meta.name.as_deref()?),
        })
    }

    fn keys(&self) -> Vec<ConnectionId> {
        connection_ids(&self.controller.shared, |id| {
            id.namespace.is_some() && (self.namespace.is_none() || self.namespace == id.namespace)
        })
    }

    fn known_version(&self, key: &ConnectionId) -> Option<u64> {
        self.controller.shared.index().connections.get(key).map(|entry| entry.version)
    }

    fn history_replaced(&self) {
        self.controller.shared.index().history_replaced();
    }
}

impl Target<ClusterTaskConnection> for Source {
    type Key = ConnectionId;

    fn put(&self, object: ClusterTaskConnection) -> Option<ConnectionId> {
        let (status, version) = (object.status.clone(), version(&object.metadata));
        Some(put_connection(&self.controller, object.into(), status, version))
    }

    fn remove(&self, key: &ConnectionId) {
        remove_connection(&self.controller, key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<ConnectionId> {
        Some(ConnectionId { namespace: None, name: Arc::from(meta.name.as_deref()?) })
    }

    fn keys(&self) -> Vec<ConnectionId> {
        connection_ids(&self.controller.shared, |id| id.namespace.is_none())
    }

    fn known_version(&self, key: &ConnectionId) -> Option<u64> {
        self.controller.shared.index().connections.get(key).map(|entry| entry.version)
    }

    fn history_replaced(&self) {
        self.controller.shared.index().history_replaced();
    }
}

impl Target<NamespaceLabels> for Source {
    type Key = Arc<str>;

    fn put(&self, object: NamespaceLabels) -> Option<Arc<str>> {
        let name: Arc<str> = Arc::from(object.name);
        let mut index = self.controller.shared.index();
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
        access_changed(&self.controller.shared, &name);
        Some(name)
    }

    fn remove(&self, key: &Arc<str>) {
        self.controller.shared.index().namespaces.remove(key);
    }

    fn key(&self, meta: &ObjectMeta) -> Option<Arc<str>> {
        meta.name.as_deref().map(Arc::from)
    }

    fn keys(&self) -> Vec<Arc<str>> {
        self.controller.shared.index().namespaces.keys().cloned().collect()
    }

    fn known_version(&self, _: &Arc<str>) -> Option<u64> {
        None
    }

    fn history_replaced(&self) {}
}

/// Has the watches of a namespace that use cluster-scoped connections decide anew.
fn access_changed(shared: &Shared, namespace: &str) {
    let concerned: Vec<_> = {
        let index = shared.index();
        let uses = index.watches.iter().filter(|(_, entry)| {
            entry.object.identity.namespace.as_deref() == Some(namespace)
                && entry.object.connection().namespace.is_none()
        });
        uses.map(|(key, _)| key.clone()).collect()
    };
    shared.look_at(concerned);
    let sets: Vec<_> = {
        let index = shared.index();
        let all = index.sets.keys(Some(&Arc::from(namespace)));
        let is_shared =
            |key: &WatchKey| index.sets.get(key).is_some_and(|entry| entry.object.connection().namespace.is_none());
        all.into_iter().filter(is_shared).collect()
    };
    shared.look_at_sets(sets);
}
