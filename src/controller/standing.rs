//! How a watch stands with its connection, in the words that its namespace may be told.
//!
//! Whoever uses a `ClusterTaskConnection` from another namespace than the operator's own learns nothing of it but whether it can be
//! used: not what its Secret or host is called, and not whether one that does not serve the namespace exists at all.

use std::{borrow::Cow, time::Duration};

use super::{
    access::{self, Namespaces},
    index::{ConnectionEntry, Usability},
    objects::WatchObject,
    quotas::Quotas,
};
use crate::{
    api::{ConnectionKind, ConnectionPoll, TaskWatchSpec},
    domain::{decide::ConnectionState, task::TaskRef},
};

/// What the operator sees of a cluster.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Whether cluster-scoped connections are watched.
    pub cluster: bool,
    /// The namespace of their Secrets: who is there may know all about them.
    pub own_namespace: String,
}

/// How a watch stands with its connection.
#[derive(Debug, PartialEq)]
pub enum Standing<'a> {
    /// It may use it.
    Usable {
        /// The scope that it asks for.
        scope: &'a str,
        /// The engine has it open; else its Secret has yet to be looked for.
        open: bool,
        /// The bounds of the periods.
        poll: &'a ConnectionPoll,
    },
    /// There is none, as far as the watch may know.
    NotFound(String),
    /// Its Secret or certificates are not there.
    SecretNotFound(Cow<'a, str>),
    /// It may not be used in this way.
    NotAllowed(String),
    /// It is one of too many.
    LimitExceeded(Cow<'a, str>),
    /// The watch or the connection asks for what cannot be.
    Invalid(Cow<'a, str>),
}

impl Sight {
    /// Whether the watch's namespace may be told all about its connection.
    #[must_use]
    pub fn tells_all(&self, watch: &WatchObject) -> bool {
        watch.spec.connection_ref.kind == ConnectionKind::TaskConnection
            || watch.identity.namespace.as_deref() == Some(self.own_namespace.as_str())
    }

    /// How `watch` stands with `connection`, the one that it names.
    #[must_use]
    pub fn standing<'a>(
        &self,
        watch: &'a WatchObject,
        connection: Option<&'a ConnectionEntry>,
        namespaces: &Namespaces,
        quotas: &Quotas,
    ) -> Standing<'a> {
        let tells_all = self.tells_all(watch);
        let Some(connection) = connection else { return Standing::NotFound(self.not_found(watch)) };
        if let Some(refusal) = access::namespace_refusal(watch, &connection.object, namespaces) {
            return if tells_all { Standing::NotAllowed(refusal) } else { Standing::NotFound(self.not_found(watch)) };
        }
        if let Some(refusal) = quotas.user_refusal(watch) {
            return Standing::LimitExceeded(Cow::Owned(refusal));
        }
        let spec = &connection.object.spec;
        let told = |message: &'a str| if tells_all { Cow::Borrowed(message) } else { Cow::Owned(unusable(watch)) };
        let Some(provider) = spec.provider.member() else {
            return Standing::Invalid(told("the connection names no provider, or more than one"));
        };
        // Of its own specification everybody may know.
        if let Some(refusal) = access::identifier_refusal(watch, provider) {
            return Standing::Invalid(Cow::Owned(refusal));
        }
        if let Some(refusal) = access::scope_refusal(watch, &connection.object) {
            return Standing::NotAllowed(refusal);
        }
        match &connection.usability {
            Some(Usability::SecretNotFound(message)) => Standing::SecretNotFound(told(message)),
            Some(Usability::Invalid(message)) => Standing::Invalid(told(message)),
            Some(Usability::LimitExceeded(message)) => Standing::LimitExceeded(told(message)),
            usability => Standing::Usable {
                scope: watch.spec.task.scope.as_deref().unwrap_or(provider.scope()),
                open: usability.is_some(),
                poll: &spec.poll,
            },
        }
    }

    fn not_found(&self, watch: &WatchObject) -> String {
        let reference = &watch.spec.connection_ref;
        let (kind, name) = (reference.kind.as_str(), &reference.name);
        let namespace = watch.identity.namespace.as_deref().unwrap_or_default();
        match reference.kind {
            ConnectionKind::TaskConnection => format!(
                "{kind} {name} does not exist in namespace {namespace}: create it, or recreate this TaskWatch with another connectionRef"
            ),
            ConnectionKind::ClusterTaskConnection if !self.cluster => format!(
                "{kind} {name} is out of sight: this operator serves no {kind}s (--namespace, or --no-cluster-connections); use a TaskConnection"
            ),
            ConnectionKind::ClusterTaskConnection if self.tells_all(watch) => {
                format!(
                    "{kind} {name} does not exist: create it, or recreate this TaskWatch with another connectionRef"
                )
            }
            ConnectionKind::ClusterTaskConnection => format!(
                "{kind} {name} does not exist or does not serve namespace {namespace}: ask the administrator of the cluster, or recreate this TaskWatch with another connectionRef"
            ),
        }
    }
}

/// What those are told of an unusable connection who may not know why.
fn unusable(watch: &WatchObject) -> String {
    let reference = &watch.spec.connection_ref;
    format!(
        "{} {} cannot be used at the moment; its owner can see why in its status.",
        reference.kind.as_str(),
        reference.name
    )
}

impl Standing<'_> {
    /// As the decision takes it.
    #[must_use]
    pub fn state(&self) -> ConnectionState<'_> {
        match self {
            Self::Usable { scope, .. } => ConnectionState::Usable { scope },
            Self::NotFound(message) => ConnectionState::NotFound { message },
            Self::SecretNotFound(message) => ConnectionState::SecretNotFound { message },
            Self::NotAllowed(message) => ConnectionState::NotAllowed { message },
            Self::LimitExceeded(message) => ConnectionState::LimitExceeded { message },
            Self::Invalid(message) => ConnectionState::Invalid { message },
        }
    }

    /// The periods that the watch asks for, within the connection's bounds.
    #[must_use]
    pub fn periods(&self, spec: &TaskWatchSpec) -> (Duration, Duration) {
        let (period, max) = (spec.period(), spec.max_period());
        match self {
            Self::Usable { poll, .. } => {
                let (floor, ceiling) = (poll.min_period(), poll.max_period().max(poll.min_period()));
                (period.clamp(floor, ceiling), max.clamp(floor, ceiling))
            }
            _ => (period, max),
        }
    }

    /// What to poll, where the engine can.
    #[must_use]
    pub fn task(&self, spec: &TaskWatchSpec) -> Option<TaskRef> {
        match self {
            Self::Usable { scope, open: true, .. } => {
                Some(TaskRef { scope: (*scope).to_owned(), id: spec.task.id.clone() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        api::{ClusterTaskConnection, TaskWatch},
        controller::{index::Index, objects::ConnectionObject},
    };

    const SECRETS: [&str; 4] = ["prod-cloud-admin", "root-password", "internal-api.corp.test", "10.1.2.3"];

    fn watch(namespace: &str) -> Arc<WatchObject> {
        watch_of(namespace, "t")
    }

    fn watch_of(namespace: &str, id: &str) -> Arc<WatchObject> {
        let object: TaskWatch = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": "w", "namespace": namespace, "uid": "u", "generation": 1},
            "spec": {"connectionRef": {"kind": "ClusterTaskConnection", "name": "shared"}, "task": {"id": id}},
        }))
        .unwrap();
        Arc::new(WatchObject::of(&object.metadata, object.spec).unwrap())
    }

    fn entry(index: &mut Index, serves: &[&str], provider: bool, usability: Option<Usability>) {
        let provider = if provider {
            json!({"astraControl": {"endpoint": "https://internal-api.corp.test", "accountID": "own"}})
        } else {
            json!({})
        };
        let object: ClusterTaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "ClusterTaskConnection",
            "metadata": {"name": "shared", "uid": "c"},
            "spec": {"provider": provider, "auth": {"token": {"secretRef": {"name": "prod-cloud-admin"}}},
                "allowedNamespaces": {"names": serves}},
        }))
        .unwrap();
        let object: ConnectionObject = object.into();
        let id = object.id();
        index.put_connection(&id, object, None, 1);
        index.connections.get_mut(&id).unwrap().usability = usability;
    }

    fn words(standing: &Standing<'_>) -> String {
        format!("{standing:?}")
    }

    #[test]
    fn other_namespaces_learn_nothing_of_a_shared_connection_but_that_it_cannot_be_used() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        let why = format!("Secret {} has no key {} at {} {}", SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3]);
        for usability in [Usability::SecretNotFound(why.clone()), Usability::Invalid(why.clone())] {
            for provider in [true, false] {
                let mut index = Index::default();
                entry(&mut index, &["tenant", "taskwatch-system"], provider, Some(usability.clone()));
                let connection = index.connections.values().next();
                let other = watch("tenant");
                let told = words(&sight.standing(&other, connection, &index.namespaces, &Quotas::default()));
                assert!(told.contains("cannot be used at the moment"), "{told}");
                assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
                let own = watch("taskwatch-system");
                let told = words(&sight.standing(&own, connection, &index.namespaces, &Quotas::default()));
                assert!(!provider || told.contains(SECRETS[0]), "the owner is told: {told}");
            }
        }
    }

    /// Whatever else may be wrong, and whether or not that may be told: the identifier is the watch's own affair.
    #[test]
    fn everybody_is_told_of_an_identifier_that_the_provider_cannot_have() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        for usability in [None, Some(Usability::Usable), Some(Usability::SecretNotFound(SECRETS[0].into()))] {
            let mut index = Index::default();
            entry(&mut index, &["tenant"], true, usability);
            let other = watch_of("tenant", "operations/a");
            let standing =
                sight.standing(&other, index.connections.values().next(), &index.namespaces, &Quotas::default());
            assert!(matches!(standing, Standing::Invalid(_)) && standing.task(&other.spec).is_none());
            let told = words(&standing);
            assert!(told.contains("spec.task.id has") && SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
        }
    }

    #[test]
    fn what_does_not_exist_and_what_is_not_allowed_read_alike() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        let usability = [None, Some(Usability::Usable), Some(Usability::Invalid(SECRETS[2].into()))];
        for usability in usability {
            let mut index = Index::default();
            entry(&mut index, &["somebody-else"], true, usability);
            let connection = index.connections.values().next();
            let other = watch("tenant");
            let (absent, refused) = (
                sight.standing(&other, None, &index.namespaces, &Quotas::default()),
                sight.standing(&other, connection, &index.namespaces, &Quotas::default()),
            );
            assert!(matches!(absent, Standing::NotFound(_)), "{absent:?}");
            assert_eq!(absent, refused);
            let own = watch("taskwatch-system");
            let refused = sight.standing(&own, connection, &index.namespaces, &Quotas::default());
            assert!(matches!(refused, Standing::NotAllowed(_)), "the owner is told which: {refused:?}");
        }
    }
}
