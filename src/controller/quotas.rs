//! How many objects of one namespace are served, beside all its `TaskWatch` objects: its `TaskConnection` objects
//! (`--max-connections-per-namespace`), and those of its watches that use a `ClusterTaskConnection`
//! (`spec.limits.watchesPerNamespace`). Beyond a limit the older ones are served (`census`).

use std::collections::HashMap;

use super::{
    census::Census,
    objects::{ConnectionObject, WatchObject},
};
use crate::engine::{ConnectionId, WatchKey};

/// Who is within these limits.
#[derive(Debug, Default)]
pub struct Quotas {
    /// The connections of each namespace; none without a limit.
    connections: Option<Census>,
    /// The watches that use a connection of the cluster which sets a limit.
    users: HashMap<ConnectionId, Census>,
}

impl Quotas {
    /// Nobody yet, with room for so many connections of each namespace.
    #[must_use]
    pub fn new(connections: Option<usize>) -> Self {
        Self { connections: connections.map(Census::new), users: HashMap::new() }
    }

    /// How many connections of each namespace are served.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        self.connections.as_ref().map(Census::limit)
    }

    /// Counts a connection. Returns the UID of the one that is not served any more because of it.
    pub fn enter_connection(&mut self, object: &ConnectionObject) -> Option<WatchKey> {
        let (census, namespace) = (self.connections.as_mut()?, object.identity.namespace.as_ref()?);
        census.enter(namespace, object.created, &object.identity.uid).1
    }

    /// Forgets a connection. Returns the UID of the one that is served in its place.
    pub fn leave_connection(&mut self, object: &ConnectionObject) -> Option<WatchKey> {
        self.users.remove(&object.id());
        let (census, namespace) = (self.connections.as_mut()?, object.identity.namespace.as_ref()?);
        census.leave(namespace, object.created, &object.identity.uid)
    }

    /// Why a connection is not served, and what to do about it; none where it is.
    #[must_use]
    pub fn connection_refusal(&self, object: &ConnectionObject) -> Option<String> {
        let (census, namespace) = (self.connections.as_ref()?, object.identity.namespace.as_ref()?);
        (!census.admits(namespace, object.created, &object.identity.uid)).then(|| {
            format!(
                "namespace {namespace} has more than {} TaskConnections, and this is one of the newest: delete some of them, or ask \
                 the administrator of the operator to raise --max-connections-per-namespace",
                census.limit()
            )
        })
    }

    /// Takes in the limit that a connection of the cluster sets. `users` are the watches that name it.
    pub fn limit_users<'a>(&mut self, object: &ConnectionObject, users: impl Iterator<Item = &'a WatchObject>) {
        let id = object.id();
        let limit = object.limits.as_ref().and_then(|limits| limits.watches_per_namespace);
        let Some(limit) = limit.map(|limit| usize::try_from(limit).unwrap_or_default()) else {
            self.users.remove(&id);
            return;
        };
        if self.users.get(&id).is_some_and(|census| census.limit() == limit) {
            return;
        }
        let mut census = Census::new(limit);
        for user in users {
            enter(&mut census, user);
        }
        self.users.insert(id, census);
    }

    /// Counts a watch among the users of its connection. Returns the one that may not use it any more because of it.
    pub fn enter_user(&mut self, watch: &WatchObject) -> Option<WatchKey> {
        enter(self.users.get_mut(&watch.connection())?, watch)
    }

    /// Forgets a user of a connection. Returns the one that may use it in its place.
    pub fn leave_user(&mut self, watch: &WatchObject) -> Option<WatchKey> {
        let census = self.users.get_mut(&watch.connection())?;
        census.leave(watch.identity.namespace.as_ref()?, watch.created, &watch.identity.uid)
    }

    /// Why a watch is not served by its connection, and what to do about it; none where it is.
    #[must_use]
    pub fn user_refusal(&self, watch: &WatchObject) -> Option<String> {
        let (census, namespace) = (self.users.get(&watch.connection())?, watch.identity.namespace.as_ref()?);
        (!census.admits(namespace, watch.created, &watch.identity.uid)).then(|| {
            format!(
                "ClusterTaskConnection {} serves {} TaskWatches of each namespace, and this is one of the newest of {namespace}: delete \
                 some of them, or ask the connection's owner to raise spec.limits.watchesPerNamespace",
                watch.spec.connection_ref.name,
                census.limit()
            )
        })
    }
}

fn enter(census: &mut Census, watch: &WatchObject) -> Option<WatchKey> {
    census.enter(watch.identity.namespace.as_ref()?, watch.created, &watch.identity.uid).1
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ClusterTaskConnection, TaskConnection, TaskWatch};

    fn metadata(uid: &str, namespace: Option<&str>, secs: u32) -> Value {
        json!({"name": uid, "namespace": namespace, "uid": uid, "creationTimestamp": format!("2026-11-27T10:00:{secs:02}Z")})
    }

    fn spec() -> Value {
        json!({"provider": {"astraControl": {"endpoint": "https://a", "accountID": "own"}}, "auth": {"token": {"secretRef": {"name": "s"}}}})
    }

    fn connection(uid: &str, namespace: &str, secs: u32) -> ConnectionObject {
        let object = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": metadata(uid, Some(namespace), secs), "spec": spec()});
        serde_json::from_value::<TaskConnection>(object).unwrap().into()
    }

    fn shared(limit: Option<i32>) -> ConnectionObject {
        let mut spec = spec();
        spec["limits"] = json!({"watchesPerNamespace": limit});
        let object = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "ClusterTaskConnection",
            "metadata": metadata("shared", None, 0), "spec": spec});
        serde_json::from_value::<ClusterTaskConnection>(object).unwrap().into()
    }

    fn user(uid: &str, namespace: &str, secs: u32) -> WatchObject {
        let spec = json!({"connectionRef": {"kind": "ClusterTaskConnection", "name": "shared"}, "task": {"id": "t"}});
        let object = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": metadata(uid, Some(namespace), secs), "spec": spec});
        let object: TaskWatch = serde_json::from_value(object).unwrap();
        WatchObject::of(&object.metadata, object.spec).unwrap()
    }

    #[test]
    fn there_is_a_limit_where_one_is_given() {
        assert_eq!((Quotas::new(Some(3)).limit(), Quotas::new(None).limit()), (Some(3), None));
    }

    fn key(uid: &str) -> WatchKey {
        WatchKey(Arc::from(uid))
    }

    #[test]
    fn of_a_namespaces_connections_the_older_ones_are_served() {
        let mut quotas = Quotas::new(Some(1));
        let [old, new, other] = [connection("old", "n", 1), connection("new", "n", 2), connection("other", "m", 3)];
        for (object, displaced) in [(&new, None), (&old, Some(key("new"))), (&other, None), (&old, None)] {
            assert_eq!(quotas.enter_connection(object), displaced);
        }
        let why = quotas.connection_refusal(&new).unwrap();
        assert!(why.contains("namespace n has more than 1 TaskConnections"), "{why}");
        assert!(quotas.connection_refusal(&old).is_none() && quotas.connection_refusal(&other).is_none());
        assert_eq!(quotas.enter_connection(&shared(None)), None, "one of the cluster is nobody's");
        assert!(quotas.connection_refusal(&shared(None)).is_none());
        assert_eq!(quotas.leave_connection(&old), Some(key("new")));
        assert!(quotas.connection_refusal(&new).is_none());
        assert!(Quotas::new(None).connection_refusal(&new).is_none());
    }

    #[test]
    fn a_shared_connection_serves_the_older_watches_of_each_namespace() {
        let mut quotas = Quotas::default();
        let [old, new, other] = [user("old", "n", 1), user("new", "n", 2), user("other", "m", 3)];
        assert_eq!(quotas.enter_user(&new), None);
        // The limit comes after one of them.
        quotas.limit_users(&shared(Some(1)), [&new].into_iter());
        assert_eq!(quotas.enter_user(&other), None);
        assert_eq!(quotas.enter_user(&old), Some(key("new")));
        let why = quotas.user_refusal(&new).unwrap();
        assert!(why.contains("shared serves 1 TaskWatches of each namespace") && why.contains("newest of n"), "{why}");
        assert!(quotas.user_refusal(&old).is_none() && quotas.user_refusal(&other).is_none());
        assert_eq!(quotas.leave_user(&old), Some(key("new")));
        assert!(quotas.user_refusal(&new).is_none());
        // It is raised, and taken away.
        quotas.enter_user(&old);
        quotas.limit_users(&shared(Some(2)), [&old, &new, &other].into_iter());
        assert!(quotas.user_refusal(&new).is_none());
        quotas.limit_users(&shared(None), std::iter::empty());
        assert!(quotas.users.is_empty());
    }
}
