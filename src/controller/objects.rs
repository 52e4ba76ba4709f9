//! Objects of the API server, less what is not needed of them.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::{access::Claim, look::Look, requested::Requested};
use crate::{
    api::{
        ALLOW_TTL, ClusterTaskConnection, ConnectionKind, ConnectionReference, FLUX_REQUESTED_AT, GROUP, REQUESTED_AT,
        TaskConnection, TaskConnectionSpec, TaskWatchSet, TaskWatchSetSpec, TaskWatchSpec,
        connection::{AllowedNamespaces, ClusterTaskConnectionSpec, ConnectionLimits},
    },
    domain::{
        decide::Meta,
        discovery::child::{TEMPLATE, hash_in},
    },
    engine::{ConnectionId, WatchKey},
    providers::registry,
    tenancy::Tenant,
};

/// Labels and annotations by which GitOps tools mark what they track.
const TRACKERS: &[&str] = LOOKED_AT.split_at(6).0;
/// Which tool manages an object, by a convention of Kubernetes.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The labels and annotations that are looked at; those of [`TRACKERS`] first.
pub const LOOKED_AT: &[&str] = &[
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "app.kubernetes.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
    "meta.helm.sh/release-name",
    MANAGED_BY,
    REQUESTED_AT,
    FLUX_REQUESTED_AT,
    ALLOW_TTL,
    TEMPLATE,
];

/// What identifies an object, of its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// None for a cluster-scoped object.
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
    pub uid: WatchKey,
}

/// A `TaskWatch`, less what is not needed.
#[derive(Debug, PartialEq)]
pub struct WatchObject {
    pub identity: Identity,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// A refresh that is asked for by annotation.
    pub requested: Option<Box<Requested>>,
    /// Whether Argo CD, Flux or Helm tracks it.
    pub tracked: bool,
    /// Whether the TTL may delete it all the same.
    pub allow_ttl: bool,
    /// The set that it belongs to.
    pub parent: Option<Box<Parent>>,
    /// The specification.
    pub spec: TaskWatchSpec,
}

/// The `TaskWatchSet` that a `TaskWatch` belongs to: its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its UID.
    pub set: WatchKey,
    /// Of which template the watch was made; empty where that is not known.
    pub template: Box<str>,
}

/// A `TaskWatchSet`, less what is not needed.
#[derive(Debug, PartialEq)]
pub struct SetObject {
    pub identity: Identity,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// The specification.
    pub spec: TaskWatchSetSpec,
}

impl WatchObject {
    /// What is needed of it; none without a UID.
    #[must_use]
    pub fn of(metadata: &ObjectMeta, mut spec: TaskWatchSpec) -> Option<Self> {
        cut_identifiers(spec.task.id.iter_mut().chain(&mut spec.task.scope));
        Some(Self {
            identity: identity(metadata)?,
            generation: metadata.generation.unwrap_or_default(),
            created: created(metadata),
            requested: Requested::of(metadata),
            tracked: is_tracked(metadata),
            allow_ttl: annotation(metadata, ALLOW_TTL).is_some_and(|value| value == "true"),
            parent: parent(metadata).map(Box::new),
            spec,
        })
    }

    /// The request to look that counts, by its value.
    #[must_use]
    pub fn requested_at(&self) -> Option<&str> {
        self.requested.as_deref().and_then(Requested::value)
    }

    /// What a decision takes of its metadata.
    #[must_use]
    pub fn meta(&self) -> Meta<'_> {
        Meta {
            generation: self.generation,
            created: self.created,
            uid: &self.identity.uid.0,
            requested_at: self.requested_at(),
            tracked: self.tracked,
            allow_ttl: self.allow_ttl,
        }
    }

    /// On whose account it is looked at.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        self.identity.tenant()
    }

    /// On whose account its upstream is asked: its own, or that of the connection where that is shared.
    #[must_use]
    pub fn payer(&self) -> Tenant {
        self.connection().tenant()
    }

    /// Its place in the work queue.
    #[must_use]
    pub fn look(&self) -> Look {
        Look { tenant: self.tenant(), key: self.identity.uid.clone() }
    }

    /// The connection that it names.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.identity.connection(&self.spec.connection_ref)
    }

    /// What it asks of that, where it names its task.
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        Claim {
            kind: "TaskWatch",
            namespace: self.identity.namespace.as_deref().unwrap_or_default(),
            reference: &self.spec.connection_ref,
            task: self.spec.task.id.as_deref(),
            task_field: "spec.task.id",
            scope: self.spec.task.scope.as_deref(),
            scope_field: "spec.task.scope",
        }
    }
}

impl SetObject {
    /// What is needed of it; none without a UID.
    #[must_use]
    pub fn of(metadata: &ObjectMeta, mut spec: TaskWatchSetSpec) -> Option<Self> {
        cut_identifiers(&mut spec.scope);
        Some(Self {
            identity: identity(metadata)?,
            generation: metadata.generation.unwrap_or_default(),
            created: created(metadata),
            spec,
        })
    }

    /// Its place in the work queue.
    #[must_use]
    pub fn look(&self) -> Look {
        Look { tenant: self.identity.tenant(), key: self.identity.uid.clone() }
    }

    /// The connection that it names.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.identity.connection(&self.spec.connection_ref)
    }

    /// What it asks of that.
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        Claim {
            kind: "TaskWatchSet",
            namespace: self.identity.namespace.as_deref().unwrap_or_default(),
            reference: &self.spec.connection_ref,
            task: None,
            task_field: "",
            scope: self.spec.scope.as_deref(),
            scope_field: "spec.scope",
        }
    }
}

/// A connection object of either kind.
#[derive(Debug)]
pub struct ConnectionObject {
    pub identity: Identity,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// The specification, without who may use it.
    pub spec: TaskConnectionSpec,
    /// Who may use it, of a `ClusterTaskConnection`.
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How much each namespace may use of it, of a `ClusterTaskConnection`.
    pub limits: Option<ConnectionLimits>,
}

impl From<TaskConnection> for ConnectionObject {
    fn from(object: TaskConnection) -> Self {
        Self::of(&object.metadata, object.spec)
    }
}

impl From<ClusterTaskConnection> for ConnectionObject {
    fn from(object: ClusterTaskConnection) -> Self {
        let ClusterTaskConnectionSpec { connection, allowed_namespaces, limits } = object.spec;
        Self { allowed_namespaces, limits, ..Self::of(&object.metadata, connection) }
    }
}

impl Identity {
    /// On whose account a namespaced object is looked at.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        // A TaskWatch is namespaced: the API server serves none without.
        self.namespace.as_ref().map_or_else(|| Tenant::namespace(&Arc::from("")), Tenant::namespace)
    }

    /// The connection that a namespaced object refers to.
    fn connection(&self, reference: &ConnectionReference) -> ConnectionId {
        let namespace = match reference.kind {
            ConnectionKind::TaskConnection => self.namespace.clone(),
            ConnectionKind::ClusterTaskConnection => None,
        };
        ConnectionId { namespace, name: Arc::from(reference.name.as_str()) }
    }

    fn unknown() -> Self {
        Self { namespace: None, name: Arc::from(""), uid: WatchKey(Arc::from("")) }
    }
}

impl ConnectionObject {
    fn of(metadata: &ObjectMeta, mut spec: TaskConnectionSpec) -> Self {
        cut_identifiers(&mut spec.allowed_scopes);
        Self {
            identity: identity(metadata).unwrap_or_else(Identity::unknown),
            generation: metadata.generation.unwrap_or_default(),
            created: created(metadata),
            spec,
            allowed_namespaces: None,
            limits: None,
        }
    }

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

fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0)
}

/// The set that controls an object.
fn parent(meta: &ObjectMeta) -> Option<Parent> {
    let is_set = |owner: &&OwnerReference| {
        let group = owner.api_version.split('/').next();
        owner.controller == Some(true) && owner.kind == TaskWatchSet::kind(&()) && group == Some(GROUP)
    };
    let owner = meta.owner_references.iter().flatten().find(is_set)?;
    let template = annotation(meta, TEMPLATE).as_deref().and_then(hash_in).map(Box::from).unwrap_or_default();
    Some(Parent { set: WatchKey(Arc::from(owner.uid.as_str())), template })
}

fn annotation(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(name).cloned()
}

/// Of identifiers that are too long for any provider no more is kept than shows that: the schema lets a tenant have thousands, of some
/// kilobytes each.
pub fn cut_identifiers<'a>(identifiers: impl IntoIterator<Item = &'a mut String>) {
    let most = registry::longest_identifier() + 1;
    for identifier in identifiers {
        if identifier.len() > most {
            *identifier = identifier.chars().take(most).collect();
        }
    }
}

fn is_tracked(meta: &ObjectMeta) -> bool {
    let has =
        |map: &Option<BTreeMap<String, String>>, name: &str| map.as_ref().is_some_and(|map| map.contains_key(name));
    let managed_by_helm =
        meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == "Helm");
    managed_by_helm || TRACKERS.iter().any(|name| has(&meta.labels, name) || has(&meta.annotations, name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn watch(metadata: &Value) -> WatchObject {
        let mut whole = json!({"name": "w", "namespace": "n", "uid": "u"});
        whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let spec = json!({"connectionRef": {"name": "c"}, "task": {"id": "t"}});
        WatchObject::of(&serde_json::from_value(whole).unwrap(), serde_json::from_value(spec).unwrap()).unwrap()
    }

    #[test]
    fn of_an_identifier_that_is_too_long_for_all_no_more_is_kept_than_shows_that() {
        let longest = registry::longest_identifier();
        let kept = |length: usize| {
            let text = "ж".repeat(length);
            let spec = json!({"connectionRef": {"name": "c"}, "task": {"id": text, "scope": text}});
            let metadata = serde_json::from_value(json!({"name": "w", "namespace": "n", "uid": "u"})).unwrap();
            let task = WatchObject::of(&metadata, serde_json::from_value(spec).unwrap()).unwrap().spec.task;
            [task.id.unwrap(), task.scope.unwrap()].map(|text| text.chars().count())
        };
        assert_eq!(kept(longest), [longest; 2], "it may be some provider's");
        assert_eq!((kept(longest + 1), kept(1024)), ([longest + 1; 2], [longest + 1; 2]));
        let connection: TaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection", "metadata": {"name": "c", "uid": "c"},
            "spec": {"provider": {}, "auth": {}, "allowedScopes": ["*", "s".repeat(1024)]},
        }))
        .unwrap();
        let scopes = ConnectionObject::from(connection).spec.allowed_scopes;
        assert_eq!(scopes, ["*".to_owned(), "s".repeat(longest + 1)]);
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
            assert_eq!(watch(&metadata).tracked, expected, "{metadata}");
        }
    }
}
