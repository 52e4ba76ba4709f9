//! Which `TaskWatch` may use which connection (design §4). Checked at each reconcile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::core::{Selector, SelectorExt};

use super::index::{ConnectionObject, WatchObject};

/// The labels of the namespaces that the operator sees.
pub type Namespaces = HashMap<Arc<str>, BTreeMap<String, String>>;

/// Why a watch may not use a connection, and what to do about it; none where it may.
#[must_use]
pub fn refusal(watch: &WatchObject, connection: &ConnectionObject, namespaces: &Namespaces) -> Option<String> {
    let name = &connection.identity.name;
    if connection.identity.namespace.is_none() {
        let namespace = watch.identity.namespace.as_deref().unwrap_or_default();
        if !allows_namespace(connection, namespace, namespaces) {
            return Some(format!(
                "ClusterTaskConnection {name} does not serve namespace {namespace}: its owner can add it to spec.allowedNamespaces"
            ));
        }
    }
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
