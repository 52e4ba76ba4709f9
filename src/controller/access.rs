//! Which `TaskWatch` may use which connection (design §4). Checked at each reconcile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::core::{Selector, SelectorExt};

use super::objects::ConnectionObject;
use crate::{
    api::{ConnectionReference, TaskConnectionSpec},
    providers::registry::Chosen,
};

/// The labels of the namespaces that the operator sees.
pub type Namespaces = HashMap<Arc<str>, BTreeMap<String, String>>;

/// What an object asks of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The object's kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: &'a str,
    /// The connection that it names.
    pub reference: &'a ConnectionReference,
    /// The identifier of its task; none where it asks for a whole scope, or that is not known yet.
    pub task: Option<&'a str>,
    /// The field that gives that.
    pub task_field: &'static str,
    /// The scope; none for the connection's own.
    pub scope: Option<&'a str>,
    /// The field that gives the scope.
    pub scope_field: &'static str,
}

/// Why a connection may not be used from a namespace, and what to do about it; none where it may.
#[must_use]
pub fn namespace_refusal(namespace: &str, connection: &ConnectionObject, namespaces: &Namespaces) -> Option<String> {
    let name = &connection.identity.name;
    let serves = connection.identity.namespace.is_some() || allows_namespace(connection, namespace, namespaces);
    (!serves).then(|| {
        format!(
            "ClusterTaskConnection {name} does not serve namespace {namespace}: its owner can add it to spec.allowedNamespaces"
        )
    })
}

/// Why a scope may not be asked for through a connection, and what to do about it; none where it may.
#[must_use]
pub fn scope_refusal(claim: Claim<'_>, connection: &ConnectionObject) -> Option<String> {
    let (name, field) = (&connection.identity.name, claim.scope_field);
    let scope = claim.scope?;
    (!connection.spec.allows_scope(scope)).then(|| {
        format!("connection {name} does not allow scope {scope}: leave {field} out, or have it added to the connection's spec.allowedScopes")
    })
}

/// Why a claim names what its provider has no task or scope by, and what to do about it; none where it does not.
#[must_use]
pub fn identifier_refusal(claim: Claim<'_>, provider: Chosen<'_>) -> Option<String> {
    let (rules, name) = (provider.identifiers(), provider.member().name());
    let of_task = claim.task.and_then(|task| rules.task.refusal(task, claim.task_field, name));
    let refusal = of_task.or_else(|| rules.scope.refusal(claim.scope?, claim.scope_field, name))?;
    Some(format!(
        "{refusal}. Nothing is sent: delete the {} and create it with such an identifier, or with another connectionRef",
        claim.kind
    ))
}

/// Why a connection names scopes that its provider cannot have, and what to do about it; none where it does not.
#[must_use]
pub fn connection_identifier_refusal(connection: &ConnectionObject, provider: Chosen<'_>) -> Option<String> {
    let (rule, member) = (provider.identifiers().scope, provider.member());
    let own = format!("spec.provider.{}.{}", member.name(), member.scope_field());
    let refusal = rule.refusal(member.scope(), &own, member.name()).or_else(|| {
        let allowed = connection.spec.allowed_scopes.iter().enumerate();
        allowed
            .filter(|(_, scope)| *scope != TaskConnectionSpec::ANY_SCOPE)
            .find_map(|(n, scope)| rule.refusal(scope, &format!("spec.allowedScopes[{n}]"), member.name()))
    })?;
    Some(format!("{refusal}. Correct it"))
}

fn allows_namespace(connection: &ConnectionObject, namespace: &str, namespaces: &Namespaces) -> bool {
    let Some(allowed) = &connection.allowed_namespaces else { return false };
    if allowed.names.iter().any(|name| name == namespace) {
        return true;
    }
    let (Some(selector), Some(labels)) = (&allowed.selector, namespaces.get(namespace)) else { return false };
    // A selector that cannot be read selects nothing.
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClusterTaskConnection, TaskConnection, TaskWatch};
    use crate::controller::{index::Index, objects::WatchObject};
    use crate::providers::{registration::Registration, registry::PROVIDERS};

    fn watch(namespace: &str, scope: Option<&str>) -> Arc<WatchObject> {
        watch_of(namespace, "t", scope)
    }

    fn watch_of(namespace: &str, id: &str, scope: Option<&str>) -> Arc<WatchObject> {
        let object: TaskWatch = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": "w", "namespace": namespace, "uid": "u", "generation": 1},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": id, "scope": scope}},
        }))
        .unwrap();
        let mut index = Index::default();
        let (key, _) = index.put_watch(object).unwrap();
        Arc::clone(&index.watches[&key].object)
    }

    fn spec(allowed_scopes: &[&str]) -> serde_json::Value {
        json!({
            "provider": {"astraControl": {"endpoint": "https://a", "accountID": "own"}},
            "auth": {"token": {"secretRef": {"name": "s"}}},
            "allowedScopes": allowed_scopes,
        })
    }

    fn shared(allowed_namespaces: serde_json::Value) -> ConnectionObject {
        let mut spec = spec(&[]);
        spec["allowedNamespaces"] = allowed_namespaces;
        let object: ClusterTaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "ClusterTaskConnection",
            "metadata": {"name": "c", "uid": "c"}, "spec": spec,
        }))
        .unwrap();
        object.into()
    }

    #[test]
    fn a_cluster_connection_serves_the_namespaces_that_it_names_and_no_others() {
        let labels = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let namespaces = Namespaces::from([(Arc::from("red"), labels("red")), (Arc::from("blue"), labels("blue"))]);
        let by_label = json!({"selector": {"matchLabels": {"team": "red"}}});
        let by_expression =
            json!({"selector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["red"]}]}});
        for (allowed, red, blue, unseen) in [
            (json!(null), false, false, false),
            (json!({}), false, false, false),
            (json!({"names": ["red"]}), true, false, false),
            (json!({"names": ["unseen"]}), false, false, true),
            (by_label, true, false, false),
            (by_expression, true, false, false),
            (json!({"selector": {}}), true, true, false),
            (json!({"names": ["blue"], "selector": {"matchLabels": {"team": "red"}}}), true, true, false),
        ] {
            let connection = shared(allowed.clone());
            for (namespace, expected) in [("red", red), ("blue", blue), ("unseen", unseen)] {
                let refusal = namespace_refusal(namespace, &connection, &namespaces);
                assert_eq!(refusal.is_none(), expected, "{allowed} {namespace} {refusal:?}");
            }
        }
    }

    #[test]
    fn a_watch_names_only_scopes_that_its_connection_allows() {
        for (allowed, scope, expected) in [
            (&[][..], None, true),
            (&[], Some("own"), true),
            (&[], Some("other"), false),
            (&["other"], Some("other"), true),
            (&["other"], Some("third"), false),
            (&["*"], Some("third"), true),
        ] {
            let object: TaskConnection = serde_json::from_value(json!({
                "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
                "metadata": {"name": "c", "namespace": "n", "uid": "c"}, "spec": spec(allowed),
            }))
            .unwrap();
            let refusal = scope_refusal(watch("n", scope).claim(), &object.into());
            assert_eq!(refusal.is_none(), expected, "{allowed:?} {scope:?} {refusal:?}");
        }
    }

    /// The connection of each provider, whose own scope and allowed ones are these.
    fn of_each_provider(own: &str, allowed: &[&str]) -> Vec<ConnectionObject> {
        let of = |entry: &&Registration| {
            let provider = json!({entry.name(): {"endpoint": "https://a", entry.member.scope_field: own}});
            let object: TaskConnection = serde_json::from_value(json!({
                "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
                "metadata": {"name": "c", "namespace": "n", "uid": "c"},
                "spec": {"provider": provider, "auth": {"token": {"secretRef": {"name": "s"}}}, "allowedScopes": allowed},
            }))
            .unwrap();
            object.into()
        };
        PROVIDERS.iter().map(of).collect()
    }

    #[test]
    fn each_provider_takes_its_own_identifiers_and_says_what_is_wrong_with_others() {
        let connections = of_each_provider("own", &["*"]);
        let refused = |id: &str, scope: Option<&str>| {
            let watch = watch_of("n", id, scope);
            let refusal = |connection: &ConnectionObject| {
                identifier_refusal(watch.claim(), Chosen::of(&connection.spec.provider).unwrap()).unwrap_or_default()
            };
            connections.iter().map(refusal).collect::<Vec<_>>()
        };
        let longest = "a".repeat(128);
        for good in ["4010a32d535527910153552b492c0002", "c7a2f8d0-1b3e-4c5d-8e9f-0a1b2c3d4e01", "a.b_c:d", &longest] {
            assert!([refused(good, None), refused("t", Some(good))].concat().iter().all(String::is_empty), "{good}");
        }
        for (bad, fault) in [
            ("manual__2026-01-02T03:04:05+00:00", "has \"+\" in it"),
            ("UPID:pve:0003:u@pam!t:", "has \"@\" in it"),
            ("ZXJnb24=:b", "has \"=\" in it"),
            ("operations/acat.p2-1", "has \"/\" in it"),
            ("/subscriptions/0b1f", "begins with \"/\""),
            (".hidden", "begins with \".\""),
            ("*", "begins with \"*\""),
            ("a' or 'b", "has \"'\" in it"),
            ("%2e%2e", "begins with \"%\""),
            (&"a".repeat(129), "has more than 128 characters"),
        ] {
            for told in refused(bad, None) {
                assert!(told.starts_with(&format!("spec.task.id {fault}. An identifier of ")), "{told}");
                assert!(told.contains("delete the TaskWatch and create it"), "{told}");
            }
            for told in refused("t", Some(bad)) {
                assert!(told.starts_with(&format!("spec.task.scope {fault}. ")), "{told}");
            }
        }
        for (told, entry) in refused("a/b", None).iter().zip(PROVIDERS) {
            let example = entry.identifiers.task.example;
            assert!(told.contains(&format!("An identifier of {} ", entry.name())), "{told}");
            assert!(told.contains(&format!("as {example}")), "{told}");
        }
    }

    #[test]
    fn a_connection_is_told_which_of_its_scopes_cannot_be() {
        let refused = |own: &str, allowed: &[&str]| {
            let refusal = |connection: &ConnectionObject| {
                let provider = Chosen::of(&connection.spec.provider).unwrap();
                connection_identifier_refusal(connection, provider).unwrap_or_default()
            };
            of_each_provider(own, allowed).iter().map(refusal).collect::<Vec<_>>()
        };
        assert!(refused("own", &["*", "a.b"]).iter().all(String::is_empty));
        for (told, entry) in refused("a/b", &[]).iter().zip(PROVIDERS) {
            let field = format!("spec.provider.{}.{} has", entry.name(), entry.member.scope_field);
            assert!(told.starts_with(&field), "{told}");
        }
        for told in refused("own", &["*", "good", "a=b"]) {
            assert!(
                told.starts_with("spec.allowedScopes[2] has \"=\" in it") && told.ends_with("Correct it"),
                "{told}"
            );
        }
    }
}
