//! Which `TaskWatch` may use which connection (design §4). Checked at each reconcile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::core::{Selector, SelectorExt};

use super::objects::{ConnectionObject, WatchObject};

/// The labels of the namespaces that the operator sees.
pub type Namespaces = HashMap<Arc<str>, BTreeMap<String, String>>;

/// Why a watch may not use a connection from its namespace, and what to do about it; none where it may.
#[must_use]
pub fn namespace_refusal(
    watch: &WatchObject,
    connection: &ConnectionObject,
    namespaces: &Namespaces,
) -> Option<String> {
    let name = &connection.identity.name;
    let namespace = watch.identity.namespace.as_deref().unwrap_or_default();
    let serves = connection.identity.namespace.is_some() || allows_namespace(connection, namespace, namespaces);
    (!serves).then(|| {
        format!(
            "ClusterTaskConnection {name} does not serve namespace {namespace}: its owner can add it to spec.allowedNamespaces"
        )
    })
}

/// Why a watch may not ask for its scope through a connection, and what to do about it; none where it may.
#[must_use]
pub fn scope_refusal(watch: &WatchObject, connection: &ConnectionObject) -> Option<String> {
    let name = &connection.identity.name;
    let scope = watch.spec.task.scope.as_deref()?;
    (!connection.spec.allows_scope(scope)).then(|| {
        format!("connection {name} does not allow scope {scope}: leave spec.task.scope out, or have it added to the connection's spec.allowedScopes")
    })
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
    use crate::controller::index::Index;

    fn watch(namespace: &str, scope: Option<&str>) -> Arc<WatchObject> {
        let object: TaskWatch = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": "w", "namespace": namespace, "uid": "u", "generation": 1},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t", "scope": scope}},
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
                let refusal = namespace_refusal(&watch(namespace, None), &connection, &namespaces);
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
            let refusal = scope_refusal(&watch("n", scope), &object.into());
            assert_eq!(refusal.is_none(), expected, "{allowed:?} {scope:?} {refusal:?}");
        }
    }
}
