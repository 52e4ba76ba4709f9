//! May this object use that connection, and can it be used? In the words that the object's namespace may be told.
//!
//! Whoever uses a `ClusterTaskConnection` from another namespace than the operator's own learns nothing of it but whether it can be
//! used: not what its Secret or host is called, and not whether one that does not serve the namespace exists at all.

use std::time::Duration;

use super::{
    access::{self, Claim, Namespaces},
    index::ConnectionEntry,
};
use crate::{
    api::{ConnectionKind, ConnectionPoll, TaskWatchSpec},
    domain::{
        availability::{Reason, Unavailable},
        task::TaskRef,
    },
    providers::registry::Chosen,
};

/// What the operator sees of a cluster.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Whether cluster-scoped connections are watched.
    pub cluster: bool,
    /// The namespace of their Secrets: who is there may know all about them.
    pub own_namespace: String,
}

/// What an object has of its connection; or why it cannot use it, in the words that its namespace may be told.
pub type ConnectionCheck<'a> = Result<Usable<'a>, Unavailable>;

/// A connection that an object may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usable<'a> {
    /// The scope that is asked for.
    pub scope: &'a str,
    /// The engine has it open; else its Secret has yet to be looked for.
    pub open: bool,
    /// The bounds of the periods.
    pub poll: &'a ConnectionPoll,
}

impl Sight {
    /// Whether the claim's namespace may be told all about its connection.
    #[must_use]
    pub fn tells_all(&self, claim: Claim<'_>) -> bool {
        claim.reference.kind == ConnectionKind::TaskConnection || claim.namespace == self.own_namespace
    }

    /// Whether a claim holds on `connection`, the one that it names, and whether that can be used. `quota` says why the connection does
    /// not serve this one of its users.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check<'a>(
        &self,
        claim: Claim<'a>,
        connection: Option<&'a ConnectionEntry>,
        namespaces: &Namespaces,
        quota: impl FnOnce() -> Option<String>,
    ) -> ConnectionCheck<'a> {
        let tells_all = self.tells_all(claim);
        let not_found = || Unavailable::new(Reason::ConnectionNotFound, self.not_found(claim));
        let Some(connection) = connection else { return Err(not_found()) };
        if let Some(refusal) = access::namespace_refusal(claim.namespace, &connection.object, namespaces) {
            let refused = Unavailable::new(Reason::ConnectionNotAllowed, refusal);
            return Err(if tells_all { refused } else { not_found() });
        }
        if let Some(refusal) = quota() {
            return Err(Unavailable::new(Reason::LimitExceeded, refusal));
        }
        let spec = &connection.object.spec;
        // What is wrong with the connection itself.
        let told = |reason: Reason, message: &str| {
            Unavailable::new(reason, if tells_all { message.to_owned() } else { unusable(claim) })
        };
        let Some(provider) = Chosen::of(&spec.provider) else {
            return Err(told(Reason::InvalidSpec, "the connection names no provider, or more than one"));
        };
        // Of its own specification everybody may know.
        if let Some(refusal) = access::identifier_refusal(claim, provider) {
            return Err(Unavailable::new(Reason::InvalidSpec, refusal));
        }
        if let Some(refusal) = access::scope_refusal(claim, &connection.object) {
            return Err(Unavailable::new(Reason::ConnectionNotAllowed, refusal));
        }
        if let Some(Err(unavailable)) = &connection.availability {
            return Err(told(unavailable.reason, &unavailable.message));
        }
        Ok(Usable {
            scope: claim.scope.unwrap_or(provider.member().scope()),
            open: connection.availability.is_some(),
            poll: &spec.poll,
        })
    }

    fn not_found(&self, claim: Claim<'_>) -> String {
        let Claim { kind: user, namespace, reference, .. } = claim;
        let (kind, name) = (reference.kind.as_str(), &reference.name);
        match reference.kind {
            ConnectionKind::TaskConnection => format!(
                "{kind} {name} does not exist in namespace {namespace}: create it, or recreate this {user} with another connectionRef"
            ),
            ConnectionKind::ClusterTaskConnection if !self.cluster => format!(
                "{kind} {name} is not visible to this operator: it runs with --namespace or --no-cluster-connections; use a TaskConnection"
            ),
            ConnectionKind::ClusterTaskConnection if self.tells_all(claim) => {
                format!("{kind} {name} does not exist: create it, or recreate this {user} with another connectionRef")
            }
            ConnectionKind::ClusterTaskConnection => format!(
                "{kind} {name} does not exist or does not serve namespace {namespace}: ask the administrator of the cluster, or recreate this {user} with another connectionRef"
            ),
        }
    }
}

/// What those are told of an unusable connection who may not know why.
fn unusable(claim: Claim<'_>) -> String {
    let reference = claim.reference;
    format!(
        "{} {} cannot be used at the moment; its owner can see why in its status.",
        reference.kind.as_str(),
        reference.name
    )
}

impl Usable<'_> {
    /// The periods that the watch asks for, within the connection's bounds.
    #[must_use]
    pub fn periods(&self, spec: &TaskWatchSpec) -> (Duration, Duration) {
        let floor = self.poll.min_period();
        let ceiling = self.poll.max_period().max(floor);
        (spec.period().clamp(floor, ceiling), spec.max_period().clamp(floor, ceiling))
    }

    /// What to poll for the task of this identifier, where the engine can.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<TaskRef> {
        self.open.then(|| TaskRef { scope: self.scope.to_owned(), id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        api::{ClusterTaskConnection, TaskWatch},
        controller::{
            index::Index,
            objects::{ConnectionObject, WatchObject},
        },
        domain::availability::Availability,
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

    fn entry(index: &mut Index, serves: &[&str], provider: bool, availability: Option<Availability>) {
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
        index.connections.get_mut(&id).unwrap().availability = availability;
    }

    fn words(check: &ConnectionCheck<'_>) -> String {
        format!("{check:?}")
    }

    #[test]
    fn other_namespaces_learn_nothing_of_a_shared_connection_but_that_it_cannot_be_used() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        let why = format!("Secret {} has no key {} at {} {}", SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3]);
        for reason in [Reason::SecretNotFound, Reason::InvalidSpec] {
            let unavailable = Unavailable::new(reason, why.clone());
            for provider in [true, false] {
                let mut index = Index::default();
                entry(&mut index, &["tenant", "taskwatch-system"], provider, Some(Err(unavailable.clone())));
                let connection = index.connections.values().next();
                let other = watch("tenant");
                let told = words(&sight.check(other.claim(), connection, &index.namespaces, || None));
                assert!(told.contains("cannot be used at the moment"), "{told}");
                assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
                let own = watch("taskwatch-system");
                let told = words(&sight.check(own.claim(), connection, &index.namespaces, || None));
                assert!(!provider || told.contains(SECRETS[0]), "the owner is told: {told}");
            }
        }
    }

    /// Whatever else may be wrong, and whether or not that may be told: the identifier is the watch's own affair.
    #[test]
    fn everybody_is_told_of_an_identifier_that_the_provider_cannot_have() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        for availability in [None, Some(Ok(())), Some(Err(Unavailable::new(Reason::SecretNotFound, SECRETS[0])))] {
            let mut index = Index::default();
            entry(&mut index, &["tenant"], true, availability);
            let other = watch_of("tenant", "operations/a");
            let check = sight.check(other.claim(), index.connections.values().next(), &index.namespaces, || None);
            assert!(matches!(&check, Err(unavailable) if unavailable.reason == Reason::InvalidSpec));
            let told = words(&check);
            assert!(told.contains("spec.task.id has") && SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
        }
    }

    #[test]
    fn what_does_not_exist_and_what_is_not_allowed_read_alike() {
        let sight = Sight { cluster: true, own_namespace: "taskwatch-system".into() };
        let availability = [None, Some(Ok(())), Some(Err(Unavailable::new(Reason::InvalidSpec, SECRETS[2])))];
        for availability in availability {
            let mut index = Index::default();
            entry(&mut index, &["somebody-else"], true, availability);
            let connection = index.connections.values().next();
            let other = watch("tenant");
            let (absent, refused) = (
                sight.check(other.claim(), None, &index.namespaces, || None),
                sight.check(other.claim(), connection, &index.namespaces, || None),
            );
            assert!(matches!(&absent, Err(why) if why.reason == Reason::ConnectionNotFound), "{absent:?}");
            assert_eq!(absent, refused);
            let own = watch("taskwatch-system");
            let refused = sight.check(own.claim(), connection, &index.namespaces, || None);
            assert!(
                matches!(&refused, Err(why) if why.reason == Reason::ConnectionNotAllowed),
                "the owner is told which: {refused:?}"
            );
        }
    }
}
